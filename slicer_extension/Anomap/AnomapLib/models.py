"""The model bundles on this computer: list, import from a file, delete what was imported.

Nothing is downloaded. A bundle is a folder with ``configs/metadata.json`` whose section "anomap" holds the SHA-256 of
every weight file and of itself; `importModel` checks them all before the model appears under its name. The program
that runs the analysis checks them again. It can't be asked here: this file must work before anomap is installed.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FORMAT = "anomap.bundle/1"
METADATA = "configs/metadata.json"
MAX_METADATA_BYTES = 1 << 20
MAX_BUNDLE_BYTES = 4 << 30
WEIGHT_FILE = r"models/[A-Za-z0-9_.-]+\.safetensors"
# What belongs to a bundle; anything else in a chosen folder or zip stays where it is.
PARTS = rf"configs/[a-z]+\.json|{WEIGHT_FILE}|docs/[A-Za-z0-9_.-]+|LICENSE"
MARK = "imported-by-slicer"  # only a folder with this file in it is ever deleted


@dataclass(frozen=True)
class Model:
    """A bundle as its metadata describe it.

    Attributes:
        name: The name it is chosen by.
        version: For people, e.g. "0.1.0".
        modalities: DICOM modalities it was made for, e.g. ("CR", "DX").
        bodyPart: DICOM Body Part Examined, "" when any.
        population: One sentence on the training images.
        license: Of the weights, "" when the bundle doesn't say.
        path: The folder of the bundle.
        removable: Whether `deleteModel` may delete it, i.e. `importModel` made it.
    """

    name: str
    version: str
    modalities: tuple[str, ...]
    bodyPart: str
    population: str
    license: str
    path: Path
    removable: bool


def modelFolders() -> list[Path]:
    """Where imported models lie: $ANOMAP_MODELS, else ``~/.anomap/models``, so that a new Slicer finds them again."""
    chosen = os.environ.get("ANOMAP_MODELS")
    return [Path(chosen) if chosen else Path.home() / ".anomap" / "models"]


def shippedFolder() -> Path | None:
    """The models that came with anomap, when it is installed in this Python; it is looked up, not imported."""
    spec = importlib.util.find_spec("anomap")
    for package in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(package).parent / "models", Path(package) / "models"):  # a checkout; an installed wheel
            if any(folder.glob(f"*/{METADATA}")):
                return folder
    return None


def listModels(folder: Path) -> list[Model]:
    """The bundles in a folder, by name. Only their metadata are read; what is no valid bundle is left out."""
    models = []
    for metadata in sorted(folder.glob(f"*/{METADATA}")):
        try:
            models.append(_describe(metadata.parent.parent))
        except ValueError:
            continue
    return models


def importModel(source: Path, folder: Path) -> Model:
    """Copy a bundle into a model folder, after every hash was checked.

    Args:
        source: A bundle folder, its ``metadata.json``, or a zip of a bundle.
        folder: The model folder; made when it doesn't exist.

    Raises:
        ValueError: One line for people: no bundle, altered, already there, or not to be read or written.
    """
    if source.name == "metadata.json":
        source = source.parent.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One level deeper than a bundle lies: whoever lists the folder meanwhile doesn't take it for one.
        with tempfile.TemporaryDirectory(suffix=".part", dir=folder, ignore_cleanup_errors=True) as staging:
            part = Path(staging) / "bundle"
            part.mkdir()
            _copy(source, part)
            name = str(verify(part)["name"])
            target = folder / name
            if target.exists():
                raise ValueError(f"a model named {name} is already there; delete it first")
            (part / MARK).touch()
            part.rename(target)  # appears at once and whole, or not at all
    except OSError as error:
        raise ValueError(f"the model can't be copied: {error.strerror or error}") from error
    return _describe(target)


def deleteModel(model: Model) -> None:
    """Delete a model that was imported, never one that came with anomap or was put there by hand.

    Raises:
        ValueError: It is not one of ours, or it can't be deleted.
    """
    if not _removable(model.path):
        raise ValueError(f"{model.name} was not imported by this module, so it is not deleted here")
    try:
        shutil.rmtree(model.path)
    except OSError as error:
        raise ValueError(f"{model.name} can't be deleted: {error.strerror or error}") from error


def verify(bundle: Path) -> dict:
    """Compare a bundle with its hashes, as `anomap.bundle` does.

    Returns:
        The section "anomap" of its metadata, with "name", "version" and "license" of the bundle added.

    Raises:
        ValueError: One line for people: what is missing, invalid or altered.
    """
    section = _section(bundle)
    own = {key: value for key, value in section.items() if key not in {"sha256", "name", "version", "license"}}
    text = json.dumps(own, sort_keys=True, separators=(",", ":"))
    if hashlib.sha256(text.encode()).hexdigest() != section.get("sha256"):
        raise ValueError("the metadata of this model were altered: they do not match their own hash")
    for name, expected in section["files"].items():
        if not re.fullmatch(WEIGHT_FILE, name):
            raise ValueError("this model lists a file that is no weight file")
        path = bundle / name
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"this model lacks {name}")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ValueError(f"{name} was altered: it does not match its hash")
    return section


def _section(bundle: Path) -> dict:
    path = bundle / METADATA
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise ValueError(f"the metadata of this model are larger than {MAX_METADATA_BYTES} bytes")
        metadata = json.loads(path.read_text(encoding="utf-8"))
        section = dict(metadata["anomap"])
        identity = {"name": metadata["name"], "version": metadata["version"], "license": metadata.get("license", "")}
        known = section["format"] == FORMAT and isinstance(section["files"], dict)
        expected = all(key in section for key in ("modalities", "body_part", "population"))
    except FileNotFoundError as error:
        raise ValueError(f"this is no model bundle: it has no {METADATA}") from error
    except (OSError, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError("the metadata of this model are not valid") from error
    if not (known and expected and section["files"]):
        raise ValueError(f"this is no model bundle of the format {FORMAT}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", str(identity["name"])):
        raise ValueError("the name of this model is no plain file name")
    return {**section, **identity}


def _describe(bundle: Path) -> Model:
    section = _section(bundle)
    return Model(
        name=str(section["name"]),
        version=str(section["version"]),
        modalities=tuple(section["modalities"]),
        bodyPart=str(section["body_part"]),
        population=str(section["population"]),
        license=str(section["license"]),
        path=bundle,
        removable=_removable(bundle),
    )


def _removable(bundle: Path) -> bool:
    return (bundle / MARK).is_file() and not bundle.is_symlink()


def _copy(source: Path, target: Path) -> None:
    """Copy the parts of a bundle, and nothing else, from a folder or a zip."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source).as_posix()
            if re.fullmatch(PARTS, name) and path.is_file() and not path.is_symlink():
                (target / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target / name)
        return
    try:
        with zipfile.ZipFile(source) as archive:
            _unpack(archive, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError("this is neither a model bundle nor a zip of one") from error


def _unpack(archive: zipfile.ZipFile, target: Path) -> None:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise ValueError("this zip holds a path that leads out of it; nothing was imported")
    tops = [entry.filename.removesuffix(METADATA) for entry in entries if entry.filename.endswith(METADATA)]
    if len(tops) != 1:
        raise ValueError(f"this zip holds {len(tops)} model bundles, expected one")
    parts = {entry.filename.removeprefix(tops[0]): entry for entry in entries if entry.filename.startswith(tops[0])}
    parts = {name: entry for name, entry in parts.items() if re.fullmatch(PARTS, name)}
    if sum(entry.file_size for entry in parts.values()) > MAX_BUNDLE_BYTES:
        raise ValueError(f"this zip unpacks to more than {MAX_BUNDLE_BYTES >> 30} GiB")
    for name, entry in parts.items():
        (target / name).parent.mkdir(exist_ok=True)
        # A zip can't deliver more than it declares: zipfile stops at file_size. Links arrive as plain files.
        with archive.open(entry) as packed, (target / name).open("wb") as file:
            shutil.copyfileobj(packed, file)
