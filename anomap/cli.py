"""The command line. Each command is a frozen dataclass with a `run` method; tyro turns fields into options.

Help, `info` and `models` import no torch: they answer in well under half a second.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, arg

import anomap
from anomap.config import AnalyzeConfig
from anomap.console import Event, begin, listening, print_error, print_line, print_result, silence, skipped_lines
from anomap.curation.commands import SUBCOMMANDS as CURATE_COMMANDS
from anomap.curation.commands import Curate
from anomap.errors import AnomapError, ExitStatus
from anomap.evaluation.commands import Evaluate
from anomap.gate.commands import Calibrate, DriftWatch, Gate
from anomap.service.commands import Serve, Status
from anomap.viewer.commands import Viewer

if TYPE_CHECKING:
    from anomap.bundle import BundleInfo

ModelFolder = Annotated[Path | None, arg(help="folder of model bundles; else $ANOMAP_MODELS, else those of anomap")]
AsJson = Annotated[bool, arg(name="json", help="JSON lines on stdout instead of text")]


@dataclass(frozen=True, kw_only=True)
class Analyze:
    """Analyse a DICOM study or a NIfTI CT: report, regions, residual map, preview and result.json."""

    source: Annotated[Positional[Path], arg(metavar="INPUT", help="DICOM folder, zip or file; NIfTI file")]
    output: Annotated[Positional[Path], arg(metavar="OUTPUT", help="folder to make; must be empty or missing")]
    config: OmitArgPrefixes[AnalyzeConfig] = field(default_factory=AnalyzeConfig)
    models: ModelFolder = None
    dry_run: bool = False  # say what would be analysed with which model, and write nothing
    as_json: AsJson = False
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        models = model_folder(self.models)
        if self.dry_run:
            return _dry_run(self, models)
        return _analyze(self.source, self.output, models, self.config, as_json=self.as_json, debug=self.debug)


_DEMO = (
    "Both images are unlike the training images (a cut-out of 8 cm, a drawing), so scores are high all over. "
    "That is what an image outside a model's world looks like."
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Analyse a real CT image (from pydicom) and a generated radiograph phantom with a needle."""

    output: Annotated[Positional[Path], arg(metavar="OUTPUT", help="folder for the two results")] = Path("anomap_demo")
    overwrite: bool = False  # replace an earlier demo
    preset: Literal["fast", "paper"] = "fast"  # see anomap analyze
    models: ModelFolder = None
    as_json: AsJson = False
    debug: bool = False  # show tracebacks

    def run(self) -> int:
        """Do it; the exit status."""
        from pydicom.data import get_testdata_file

        from anomap.dicom.phantom import write_radiograph_phantom

        models = model_folder(self.models)
        config = AnalyzeConfig(overwrite=self.overwrite, preset=self.preset)
        states = []
        with tempfile.TemporaryDirectory(prefix="anomap-demo-") as name:
            ct, radiograph = Path(name) / "ct", Path(name) / "radiograph"
            ct.mkdir()
            shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), ct)
            write_radiograph_phantom(radiograph, needle=True)
            for source in (ct, radiograph):
                output = self.output / source.name
                states.append(_analyze(source, output, models, config, as_json=self.as_json, debug=self.debug))
        if not self.as_json:
            for result in (self.output / "ct", self.output / "radiograph"):
                for line in _where(result):
                    print_line(line)
            print_line(_DEMO)
        return max(states)


@dataclass(frozen=True, kw_only=True)
class Info:
    """Version, models and their training populations. Imports no torch."""

    models: ModelFolder = None
    as_json: AsJson = False

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.bundle import list_bundles

        folder = model_folder(self.models)
        infos = list_bundles(folder)
        if self.as_json:
            facts = {
                "version": anomap.__version__,
                "notice": anomap.NOT_A_DIAGNOSIS,
                "python": platform.python_version(),
            }
            print_line(json.dumps({**facts, "models": [_model(info) for info in infos]}))
            return ExitStatus.OK
        print_line(f"anomap {anomap.__version__} · Python {platform.python_version()}")
        print_line(anomap.NOT_A_DIAGNOSIS)
        print_line(f"models in {folder}:" if infos else f"no models in {folder}")
        for info in infos:
            print_line(f"  {info.name} {info.version}: {'/'.join(info.modalities)} {info.body_part.lower()}".rstrip())
            print_line(f"    made from {info.population}")
        return ExitStatus.OK


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the model bundles, or verify that no weight file was changed. See also `anomap models import --help`."""

    action: Positional[Literal["list", "verify"]] = "list"
    models: ModelFolder = None
    as_json: AsJson = False

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.bundle import list_bundles, verify

        infos = list_bundles(model_folder(self.models))
        status = ExitStatus.OK
        for info in infos:
            state = "not checked"
            if self.action == "verify":
                try:
                    verify(info)
                    state = "ok"
                except AnomapError as error:
                    state, status = str(error), ExitStatus.FAILED
            if self.as_json:
                print_line(json.dumps({**_model(info), "state": state}))
            else:
                size = f"{info.spec.size} px, window {info.window} px"
                where = f"{'/'.join(info.modalities)} {info.body_part.lower()}".rstrip()
                print_line(f"{info.name} {info.version}: {where}, {size}, sha256 {info.sha256[:12]}, weights {state}")
        if not infos:
            raise AnomapError("E300", "the model folder holds no bundle")
        return status


@dataclass(frozen=True, kw_only=True)
class ModelsImport:
    """Make a bundle of a StyleGAN2-ADA pickle (NVlabs, PyTorch). Nothing in the file is executed."""

    file: Annotated[Positional[Path], arg(metavar="FILE.pkl", help="snapshot with G_ema and, for preset paper, D")]
    name: str  # of the bundle
    models: ModelFolder = None
    kind: Literal["radiograph", "ct"] = "radiograph"  # what the training images were
    version: str = "0.1.0"  # of the bundle
    body_part: str = ""  # DICOM Body Part Examined the model is for; empty: any
    population: str = "not described"  # one sentence on the training images, for the model card
    fit: Literal["pad", "squeeze", "body"] = "pad"  # how a frame meets the square, as in the training
    window: int = 0  # side of the scored windows in model pixels; 0: a sixteenth of the side
    encoder_kimg: float = 0.0  # train an encoder on so many thousand generated pictures, which takes long on a CPU
    as_json: AsJson = False
    debug: bool = False  # show tracebacks

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.training.foreign import Foreign, import_pickle

        settings = {name: getattr(self, name) for name in Foreign.__dataclass_fields__ if name != "models"}
        wanted = Foreign(**settings, models=model_folder(self.models))
        info = import_pickle(wanted, _figures if not self.as_json else lambda _: None)
        if self.as_json:
            print_line(json.dumps({**_model(info), "imported": info.training["imported"]}))
            return ExitStatus.OK
        print_line(
            f"bundle {info.name} {info.version}, sha256 {info.sha256[:12]}: complete its docs/README.md and LICENSE"
        )
        print_line("no cohort: verdicts will be UNCALIBRATED until one is measured")
        if not self.encoder_kimg:
            print_line("no encoder: preset fast starts at the mean of W; consider more --steps")
        return ExitStatus.OK


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check this installation: Python, torch, devices, codecs, models, disk space, temporary folder."""

    models: ModelFolder = None
    as_json: AsJson = False

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.doctor import examine

        findings = examine(model_folder(self.models))
        for finding in findings:
            if self.as_json:
                print_line(json.dumps(asdict(finding)))
            else:
                mark = "ok  " if finding.ok else "FAIL" if finding.needed else "none"
                print_line(f"{mark}  {finding.name}: {finding.detail}")
        return ExitStatus.FAILED if any(f.needed and not f.ok for f in findings) else ExitStatus.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (`anomap.errors.ExitStatus`)."""
    begin()
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json, debug = "--json" in words, "--debug" in words
    try:
        if words == ["--version"]:
            print_line(anomap.__version__)
            return ExitStatus.OK
        return int(_parse(words).run())
    except BrokenPipeError:  # the reader of the help has seen enough
        silence(sys.stdout)
        return ExitStatus.FAILED
    except (Exception, KeyboardInterrupt) as error:
        return int(print_error(error, as_json=as_json, debug=debug).status)


def model_folder(wanted: Path | None) -> Path:
    """Where the bundles are: as asked, as the environment says, or those that came with anomap."""
    if wanted is not None:
        return wanted
    if os.environ.get("ANOMAP_MODELS"):
        return Path(os.environ["ANOMAP_MODELS"])
    package = Path(anomap.__file__).resolve().parent
    for place in (package.parent / "models", package / "models"):  # a checkout; an installed wheel
        if place.is_dir():
            return place
    return Path("models")


def _parse(words: list[str]) -> Any:
    parts: dict[Any, Any] = {("models", "import"): ModelsImport}
    parts |= {("curate", name): command for name, command in CURATE_COMMANDS.items()}
    if (part := parts.get(tuple(words[:2]))) is not None:
        return tyro.cli(part, prog=f"anomap {' '.join(words[:2])}", args=words[2:], config=(FlagCreatePairsOff,))
    commands: dict[str, Any] = {
        "analyze": Analyze,
        "gate": Gate,
        "calibrate": Calibrate,
        "drift": DriftWatch,
        "curate": Curate,
        "demo": Demo,
        "train": _train_command(words),
        "evaluate": Evaluate,
        "info": Info,
        "models": Models,
        "doctor": Doctor,
        "serve": Serve,
        "status": Status,
        "viewer": Viewer,
    }
    about = f"Finds what does not belong in a medical image, and shows where. {anomap.NOT_A_DIAGNOSIS}"
    command = tyro.extras.subcommand_cli_from_dict(
        commands, prog="anomap", description=about, args=words, config=(FlagCreatePairsOff,)
    )
    return command if hasattr(command, "run") else _Train(command)


def _train_command(words: list[str]) -> Any:
    """The real command when it is wanted, else a stand-in with its summary: training imports torch.

    The preset sets the defaults of the other options, so it is looked for first.
    """
    if words[:1] != ["train"]:
        return _TrainSummary
    from anomap.training.config import PRESETS
    from anomap.training.recipe import Recipe

    given = dict(pairwise(words)) | dict(w.split("=", 1) for w in words if "=" in w)
    name: Any = given.get("--preset")
    name = name if name in PRESETS else "cpu-64"  # tyro refuses an unknown one
    missing: Any = tyro.MISSING
    defaults = Recipe(data=missing, name=missing, preset=name, training=PRESETS[name].training)

    def command(recipe: Any = defaults) -> Any:
        return recipe

    command.__doc__ = _TrainSummary.__doc__
    command.__annotations__["recipe"] = Annotated[Recipe, arg(name="")]
    return command


@dataclass(frozen=True)
class _TrainSummary:
    """Train a model on your own images and write it as a bundle; the same command resumes."""


@dataclass(frozen=True)
class _Train:
    recipe: Any

    def run(self) -> int:
        from anomap.training.recipe import run

        info = run(self.recipe, _figures)
        if info is not None:
            print_line(f"bundle {info.name} {info.version}, sha256 {info.sha256[:12]}")
        return ExitStatus.OK


def _figures(figures: dict[str, float]) -> None:
    print_line(" ".join(f"{k}={v:.6g}" for k, v in figures.items()))


def _analyze(
    source: Path, output: Path, models: Path, config: AnalyzeConfig, *, as_json: bool, debug: bool
) -> ExitStatus:
    """Analyse, say how it went, and give the exit status."""
    from anomap.study import analyze

    with listening(as_json=as_json) as listener:
        outcome = analyze(source, output, models, config, listener)
    print_result(outcome.content, str(output), as_json=as_json)
    for error in outcome.errors:
        print_error(error, as_json=as_json, debug=debug)
    if outcome.status is ExitStatus.UNUSABLE_INPUT and not outcome.errors:
        for reason in _why_nothing(outcome.content):
            print_error(reason, as_json=as_json, debug=False)
    return outcome.status


def _why_nothing(content: Event) -> list[AnomapError]:
    """Nothing was eligible: each reason once, as an error with its way out."""
    reasons = [(item["code"], item["reason"]) for item in content["skipped"]]
    reasons += [(entry["error"]["code"], entry["error"]["message"]) for entry in content["series"] if entry["error"]]
    return [AnomapError(code, reason) for code, reason in dict.fromkeys(reasons)]


def _dry_run(command: Analyze, models: Path) -> ExitStatus:
    from anomap.bundle import list_bundles
    from anomap.dicom.read import ReadConfig
    from anomap.domain import choose_bundle
    from anomap.report import skipped_entry
    from anomap.source import read_source

    infos = list_bundles(models)
    study = read_source(command.source, ReadConfig(allow_gaps=command.config.allow_gaps))
    skipped = [skipped_entry(item, identified=command.config.identified) for item in study.skipped]
    eligible = 0
    for series in study.series:
        facts = {"modality": series.modality, "frames": len(series.pixels)}
        try:
            info, reason = choose_bundle(series, infos, command.config.model)
        except AnomapError as error:
            facts |= {"model": None, "reason": str(error)}
        else:
            eligible += 1
            facts |= {"model": info.name, "reason": reason}
        text = f"{facts['modality']}, {facts['frames']} image(s): {facts['reason']}"
        print_line(json.dumps({"event": "would_analyse", **facts}) if command.as_json else text)
    for line in [json.dumps({"event": "skipped", **s}) for s in skipped] if command.as_json else skipped_lines(skipped):
        print_line(line)
    return ExitStatus.OK if eligible else ExitStatus.UNUSABLE_INPUT


def _where(output: Path) -> list[str]:
    """The files of a result with what they are."""
    from anomap.console import FILES

    return [f"{path}: {FILES[path.stem]}" for path in sorted(output.glob("*/*")) if path.stem in FILES]


def _model(info: BundleInfo) -> Event:
    return {
        "name": info.name,
        "version": info.version,
        "modalities": list(info.modalities),
        "body_part": info.body_part,
        "population": info.population,
        "size_px": info.spec.size,
        "window_px": info.window,
        "sha256": info.sha256,
    }


if __name__ == "__main__":
    sys.exit(main())
