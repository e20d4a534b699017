"""Seconds per image by stage, of projection, of scores beside scipy; seconds and memory of whole CT series.

python -m benchmarks.speed                 # the models in models/, phantoms as input
python -m benchmarks.speed --device cuda

Writes benchmarks/results/<device>.json. What is compared is measured alternately in one run; medians are given.
Preset paper is timed over a few of its 1000 steps, which all cost the same, and stated per 1000 (--paper-steps 1000
times it in full). The scipy loop is timed over a few rows of windows and stated for all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from anomap.bundle import Bundle, list_bundles, load_bundle
from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.evaluation.machine import describe_machine, result_name
from anomap.pipeline import analyze_series, write_series
from anomap.projection.schedule import PAPER, preset
from anomap.study import resolve_device
from benchmarks import projection
from benchmarks import scoring as scores
from benchmarks import series as whole_series
from benchmarks.projection import Networks, PresetTimes, Rates, StepFloor

ROOT = Path(__file__).resolve().parents[1]
FORMAT = "anomap.speed/1"
STAGES = ("read", "prepare", "project", "score", "calibrate", "overlays", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """One bundle with one preset.

    Attributes:
        bundle: Its name.
        model_px: Side of the model image.
        source_px: Rows and columns of the source images.
        images: How many were analysed: slices of one CT series together, radiographs one after the other.
        preset: Name.
        steps: Projection steps the seconds stand for.
        steps_timed: Steps that were timed; the projection's seconds are scaled by their ratio.
        seconds: Stage -> median seconds per image.
        total: Their sum.
    """

    bundle: str
    model_px: int
    source_px: tuple[int, int]
    images: int
    preset: str
    steps: int
    steps_timed: int
    seconds: dict[str, float]
    total: float


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--threads", type=int, help="processor threads; torch's own choice when omitted")
    parser.add_argument("--slices", type=int, default=8, help="slices of the CT phantom")
    parser.add_argument(
        "--series", type=int, nargs="*", default=[24, 100, 300], help="slices of the CT phantoms analysed as a whole"
    )
    parser.add_argument("--radiographs", type=int, default=2, help="radiographs analysed, one after the other")
    parser.add_argument("--repeats", type=int, default=3, help="rounds; medians over them")
    parser.add_argument("--paper-steps", type=int, default=10, help="steps of preset paper that are timed")
    parser.add_argument(
        "--sides", type=int, nargs="*", default=[64, 128, 256, 512], help="image sides for patch scoring"
    )
    parser.add_argument(
        "--networks", nargs="*", default=["64:4096", "128:4096", "256:4096", "512:4096"], metavar="SIZE:BASE",
        help="untrained networks, of which preset fast and the plain way are timed",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=32, help="images that preset fast fits together at 64 px")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--scipy-rows", type=int, default=2, help="rows of windows that the scipy loop is timed on")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args(words)


def time_stages(options: argparse.Namespace, device: str) -> list[StageTimes]:
    """All bundles with both presets, alternating."""
    bundles = [load_bundle(info.folder, device) for info in list_bundles(options.models)]
    if not bundles:
        raise AnomapError("E300", f"no bundle in {options.models.name!r}")
    configs = [
        AnalyzeConfig(preset="fast", device=device),
        AnalyzeConfig(preset="paper", steps=options.paper_steps, device=device),
    ]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_ct_phantom(work / "CT", slices=options.slices, rows=512, columns=512, spacing_mm=(5.0, 0.75, 0.75))
        write_radiograph_phantom(work / "DX", rows=2048, columns=1680, images=options.radiographs)
        cases = [(bundle, config) for bundle in bundles for config in configs]
        for number, (bundle, _) in enumerate(cases):  # first use pays for libraries and caches
            _analyse(bundle, AnalyzeConfig(steps=1, device=device), work, work / f"first{number}")
        rounds = [
            [_analyse(bundle, config, work, work / f"out{number}-{place}") for place, (bundle, config) in _told(cases)]
            for number in range(options.repeats)
        ]
    return [
        _summary(bundle, config, [times[place] for times in rounds]) for place, (bundle, config) in enumerate(cases)
    ]


def _told(cases: Sequence[tuple[Bundle, AnalyzeConfig]]) -> Iterator[tuple[int, tuple[Bundle, AnalyzeConfig]]]:
    for place, (bundle, config) in enumerate(cases):
        print(f"{bundle.info.name}, preset {config.preset} ...", file=sys.stderr)
        yield place, (bundle, config)


def _analyse(bundle: Bundle, config: AnalyzeConfig, work: Path, out: Path) -> dict[str, Any]:
    """One run over a bundle's phantom: seconds by stage of all images, and their number and size."""
    start = time.perf_counter()
    study = read_study(work / ("CT" if "CT" in bundle.info.modalities else "DX"))
    seconds = dict.fromkeys(STAGES, 0.0)
    seconds["read"] = time.perf_counter() - start
    out.mkdir()
    images = 0
    for number, series in enumerate(study.series):
        analysis = analyze_series(series, bundle, config)
        write_series(analysis, out / f"{number}", config)
        images += len(series.pixels)
        for stage, value in analysis.result.provenance["seconds"].items():
            seconds[stage] += value
    return {"seconds": seconds, "images": images, "source_px": study.series[0].pixels.shape[1:]}


def _summary(bundle: Bundle, config: AnalyzeConfig, rounds: list[dict[str, Any]]) -> StageTimes:
    fitting = preset(config.preset, steps=config.steps)
    steps = PAPER.steps if config.preset == "paper" else fitting.steps
    images = rounds[0]["images"]
    seconds = {stage: median(times["seconds"][stage] for times in rounds) / images for stage in STAGES}
    seconds["project"] *= steps / fitting.steps
    rows, columns = rounds[0]["source_px"]
    return StageTimes(
        bundle=bundle.info.name,
        model_px=bundle.spec.size,
        source_px=(rows, columns),
        images=images,
        preset=config.preset,
        steps=steps,
        steps_timed=fitting.steps,
        seconds={stage: round(value, 5) for stage, value in seconds.items()},
        total=round(sum(seconds.values()), 4),
    )


def time_projection(options: argparse.Namespace, device: str) -> tuple[list[PresetTimes], list[StepFloor], Rates]:
    """The shipped bundles and untrained networks of several sizes."""
    rates = projection.machine_rates(device)
    presets, floors = [], []
    for networks in _networks(options, device):
        size = networks.generator.config.resolution
        print(f"{networks.name}, {size} px ...", file=sys.stderr)
        few = max(1, options.batch * 64**2 // size**2)  # as much work and memory at any size
        presets.append(
            projection.time_presets(networks, few, max(2, options.paper_steps * 64 // size), options.repeats)
        )
        batches = options.batches if networks.encoder is not None or size <= 128 else [1, few]
        floors += projection.time_floor(networks, sorted(set(batches)), options.repeats, rates)
    return presets, floors, rates


def _networks(options: argparse.Namespace, device: str) -> Iterator[Networks]:
    for info in list_bundles(options.models):
        bundle = load_bundle(info.folder, device)
        if bundle.discriminator is not None:
            yield Networks(
                name=info.name,
                generator=bundle.generator,
                discriminator=bundle.discriminator,
                encoder=bundle.encoder,
                cloud=bundle.w_statistics,
                device=device,
            )
    for case in options.networks:
        yield projection.random_networks(*map(int, case.split(":")), device)


def report(stages: Sequence[StageTimes]) -> str:
    """The figures as text."""
    lines = [
        "seconds per image",
        f"{'bundle':16}{'preset':8}" + "".join(f"{stage:>11}" for stage in (*STAGES, "total")),
    ]
    for times in stages:
        values = [*(times.seconds[stage] for stage in STAGES), times.total]
        note = (
            "" if times.steps == times.steps_timed else f"   project: {times.steps_timed} steps timed, x{times.steps}"
        )
        lines.append(f"{times.bundle:16}{times.preset:8}" + "".join(f"{value:11.4f}" for value in values) + note)
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = arguments(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    start = time.perf_counter()
    try:
        device = resolve_device(options.device)
        stages = time_stages(options, device)
    except AnomapError as error:
        print(error, file=sys.stderr)
        return int(error.status)
    compiler = scores.time_compiler()
    scoring = [scores.time_scoring(side, options.scipy_rows, options.repeats, device) for side in options.sides]
    presets, floors, rates = time_projection(options, device)
    with tempfile.TemporaryDirectory() as name:
        whole = whole_series.time_series(options.series, options.repeats, device, options.models, Path(name))
    texts = (
        report(stages), whole_series.report(whole), projection.report(presets, floors, rates), scores.report(scoring)
    )  # fmt: skip
    print("\n\n".join(texts))
    content = {
        "format": FORMAT,
        "machine": describe_machine(device, ROOT),
        "stages": [asdict(times) for times in stages],
        "series": [asdict(found) for found in whole],
        "compiler_seconds": compiler,
        "scoring": [asdict(found) for found in scoring],
        "projection": [asdict(times) for times in presets],
        "rates": asdict(rates),
        "steps": [asdict(found) for found in floors],
        "repeats": options.repeats,
        "seconds": round(time.perf_counter() - start, 1),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{result_name(device)}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"\n{path.name} written to {options.output.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
