"""Models on this computer: nothing altered or hostile gets in, nothing but what was imported is deleted."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from anomap.bundle import METADATA, bundle_sha256, list_bundles, read_info, verify
from anomap.errors import AnomapError

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "models"
NAMES = sorted(path.parent.parent.name for path in SHIPPED.glob(f"*/{METADATA}"))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "slicer_extension" / "Anomap"))
    monkeypatch.delenv("ANOMAP_MODELS", raising=False)
    import AnomapLib.models

    return AnomapLib.models


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own" / "models"


@pytest.fixture
def bundle(toy_models: Path, tmp_path: Path) -> Path:
    """A copy of the toy CT bundle that a test may spoil."""
    return Path(shutil.copytree(toy_models / "toy-ct", tmp_path / "chosen"))


def zip_of(bundle: Path, path: Path, top: str = "", **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, top + file.relative_to(bundle).as_posix())
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def spoil_metadata(bundle: Path, seal: bool, **section: object) -> None:
    """Change the section "anomap"; `seal` also makes its own hash fit."""
    path = bundle / METADATA
    metadata = json.loads(path.read_text())
    metadata["anomap"] |= section
    if seal:
        metadata["anomap"]["sha256"] = bundle_sha256(metadata["anomap"])
    path.write_text(json.dumps(metadata))


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_shipped_models_are_found_without_importing_anomap(models: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "anomap")
    folder = models.shippedFolder()
    assert "anomap" not in sys.modules
    assert folder == SHIPPED
    found = models.listModels(folder)
    assert [model.name for model in found] == NAMES
    assert found[0].modalities == ("CT",)
    assert found[0].bodyPart == "CHESTABDOMEN"
    assert "28 mostly oncological" in found[0].population
    assert not any(model.removable for model in found)


@pytest.mark.parametrize("name", NAMES)
def test_a_list_says_what_anomap_reads(models: ModuleType, name: str):
    model = next(model for model in models.listModels(SHIPPED) if model.name == name)
    info = read_info(SHIPPED / name)
    assert (model.name, model.version, model.modalities) == (info.name, info.version, info.modalities)
    assert (model.bodyPart, model.population) == (info.body_part, info.population)


@pytest.mark.parametrize("kind", ["folder", "metadata.json", "zip", "zip with a folder"])
def test_an_imported_model_is_one_that_anomap_takes(models: ModuleType, bundle: Path, own: Path, kind: str):
    source = {
        "folder": lambda: bundle,
        "metadata.json": lambda: bundle / METADATA,
        "zip": lambda: zip_of(bundle, own.parent.parent / "a.zip"),
        "zip with a folder": lambda: zip_of(bundle, own.parent.parent / "a.zip", "downloads/toy-ct/"),
    }[kind]()
    model = models.importModel(source, own)
    assert (model.name, model.path, model.removable) == ("toy-ct", own / "toy-ct", True)
    assert left(own) == ["toy-ct"], "nothing half-done is left"
    (info,) = list_bundles(own)
    verify(info)
    assert (model.path / "configs" / "cohort.json").read_bytes() == (bundle / "configs" / "cohort.json").read_bytes()


def test_a_shipped_model_can_be_imported_under_its_name_and_deleted_again(models: ModuleType, own: Path):
    model = models.importModel(SHIPPED / "ct-64", own)
    assert (model.path / "LICENSE").is_file()
    assert [m.removable for m in models.listModels(own)] == [True]
    models.deleteModel(model)
    assert left(own) == []
    assert (SHIPPED / "ct-64" / METADATA).is_file()


ALTERED = {
    "weights": lambda b: (b / "models" / "model.safetensors").open("ab").write(b"x"),
    "metadata": lambda b: spoil_metadata(b, seal=False, population="the healthy"),
    "missing weights": lambda b: (b / "models" / "discriminator.safetensors").unlink(),
    "other format": lambda b: spoil_metadata(b, seal=True, format="anomap.bundle/9"),
    "lists a file outside": lambda b: spoil_metadata(b, seal=True, files={"../../.bashrc": "0" * 64}),
    "no JSON": lambda b: (b / METADATA).write_text("{"),
    "no section": lambda b: (b / METADATA).write_text('{"name": "a", "version": "1"}'),
    "huge metadata": lambda b: (b / METADATA).write_text(" " * (1 << 20) + (b / METADATA).read_text()),
}


@pytest.mark.parametrize("change", sorted(ALTERED))
def test_both_verifications_refuse_an_altered_bundle(models: ModuleType, bundle: Path, own: Path, change: str):
    models.verify(bundle)
    verify(read_info(bundle))
    ALTERED[change](bundle)
    with pytest.raises(AnomapError):
        verify(read_info(bundle))
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        models.verify(bundle)
    for source in (bundle, zip_of(bundle, own.parent.parent / "a.zip")):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            models.importModel(source, own)
    assert left(own) == []


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", "..\\escaped", "C:\\escaped"])
def test_a_zip_with_a_path_that_leads_out_is_refused(models: ModuleType, bundle: Path, own: Path, name: str):
    with pytest.raises(ValueError, match="leads out"):
        models.importModel(zip_of(bundle, own.parent.parent / "a.zip", **{name: b"x"}), own)
    assert left(own) == []
    assert not list(own.parent.parent.rglob("*escaped*"))


def test_a_zip_brings_nothing_but_the_parts_of_a_bundle(models: ModuleType, bundle: Path, own: Path):
    more = {"setup.py": b"print()", "models/run.py": b"", "configs/.hidden": b"", models.MARK: b""}
    model = models.importModel(zip_of(bundle, own.parent.parent / "a.zip", **more), own)
    names = {path.relative_to(model.path).as_posix() for path in model.path.rglob("*") if path.is_file()}
    assert names == {
        "configs/metadata.json",
        "configs/cohort.json",
        "models/model.safetensors",
        "models/discriminator.safetensors",
        models.MARK,
    }


def test_a_zip_that_unpacks_to_too_much_is_refused(
    models: ModuleType, bundle: Path, own: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(models, "MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(ValueError, match="unpacks to more"):
        models.importModel(zip_of(bundle, own.parent.parent / "a.zip"), own)
    assert left(own) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"text"])
def test_what_is_no_zip_is_refused(models: ModuleType, tmp_path: Path, own: Path, content: bytes):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match="neither"):
        models.importModel(tmp_path / "a.zip", own)


def test_two_bundles_in_a_zip_and_none_are_refused(models: ModuleType, bundle: Path, tmp_path: Path, own: Path):
    path = zip_of(bundle, tmp_path / "a.zip", "one/", **{"two/configs/metadata.json": b"{}"})
    with pytest.raises(ValueError, match="holds 2 model bundles"):
        models.importModel(path, own)
    with pytest.raises(ValueError, match="no model bundle"):
        models.importModel(tmp_path, own)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a" * 65, "nul\x00"])
def test_a_name_that_is_no_file_name_is_refused(models: ModuleType, bundle: Path, own: Path, name: str):
    metadata = json.loads((bundle / METADATA).read_text())
    (bundle / METADATA).write_text(json.dumps(metadata | {"name": name}))
    with pytest.raises(ValueError, match="no plain file name"):
        models.importModel(bundle, own)


def test_a_model_is_never_overwritten(models: ModuleType, bundle: Path, own: Path):
    model = models.importModel(bundle, own)
    before = (model.path / METADATA).stat().st_mtime_ns
    with pytest.raises(ValueError, match="already there"):
        models.importModel(bundle, own)
    assert (model.path / METADATA).stat().st_mtime_ns == before
    assert left(own) == ["toy-ct"]


def test_only_what_was_imported_is_deleted(models: ModuleType, bundle: Path, own: Path):
    by_hand = Path(shutil.copytree(bundle, own / "toy-ct"))
    (model,) = models.listModels(own)
    assert not model.removable
    with pytest.raises(ValueError, match="not imported"):
        models.deleteModel(model)
    assert by_hand.is_dir()


def test_a_link_is_not_followed_to_delete(models: ModuleType, bundle: Path, own: Path, tmp_path: Path):
    real = models.importModel(bundle, own)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "toy-ct").symlink_to(real.path)
    (linked,) = models.listModels(tmp_path / "other")
    with pytest.raises(ValueError, match="not imported"):
        models.deleteModel(linked)
    assert (real.path / METADATA).is_file()


def test_a_broken_bundle_does_not_hide_the_others(models: ModuleType, bundle: Path, own: Path):
    models.importModel(bundle, own)
    (own / "broken" / "configs").mkdir(parents=True)
    (own / "broken" / METADATA).write_text("{")
    assert [model.name for model in models.listModels(own)] == ["toy-ct"]
    assert models.listModels(own / "nowhere") == []


def test_the_folder_is_that_of_the_environment_or_of_the_user(
    models: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert models.modelFolders() == [Path.home() / ".anomap" / "models"]
    monkeypatch.setenv("ANOMAP_MODELS", str(tmp_path))
    assert models.modelFolders() == [tmp_path]


def test_a_folder_that_can_not_be_written_is_one_line(models: ModuleType, bundle: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^the model can't be copied: [^\n]+$"):
        models.importModel(bundle, tmp_path / "file" / "models")
