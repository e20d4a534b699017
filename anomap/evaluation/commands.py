"""`anomap evaluate`. Imports no torch before it runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from anomap.console import print_line
from anomap.errors import AnomapError, ExitStatus


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model on labelled images: AUROC with intervals, baselines, planted anomalies, a page with galleries."""

    model: str  # name of a bundle, or the path of its folder
    data: Path  # folder with manifest.csv, or with normal/ and a folder for each category (docs/evaluation.md)
    out: Path  # folder for evaluation.json, .md and .html
    protocol: Literal["clustered", "paper"] = "clustered"  # paper: adds the seed paper's own statistics
    split: Literal["val", "test"] = "test"  # of the manifest
    synthetic: bool = False  # plant anomalies with known truth into normal images
    synthetic_images: int = 40  # normal images that receive them, one a patient
    cap: int | None = None  # at most so many images of a category, chosen by the hash of their names
    cap_normal: int | None = None  # the same of the normal images
    mean: tuple[str, ...] = ()  # categories to form a mean over, with an interval
    seeds: int = 1  # projections an image for the scores over seeds (the paper took 5)
    preset: Literal["fast", "paper"] = "fast"  # see anomap analyze
    steps: int | None = None  # projection steps, instead of the preset's
    device: str = "cpu"  # auto, cpu, cuda, cuda:N or mps
    cache: Path | None = None  # folder for reconstructions: a run that was cut off goes on, another one is quick
    overwrite: bool = False  # replace an earlier evaluation in --out
    models: Annotated[Path | None, arg(help="folder of model bundles; else $ANOMAP_MODELS, else those of anomap")] = (
        None
    )
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.evaluation.publish import check_output, publish
        from anomap.evaluation.report import evaluation_files

        check_output(self.out, overwrite=self.overwrite)
        files = evaluation_files(self, self.bundle_folder(), _tell)
        publish(files, self.out, overwrite=self.overwrite)
        print_line(files["evaluation.md"])
        print_line(f"{self.out / 'evaluation.html'}: curves, tables, best and worst cases (images of patients)")
        return ExitStatus.OK

    def bundle_folder(self) -> Path:
        """Where the model lies.

        Raises:
            AnomapError: E300 when there is none of that name.
        """
        from anomap.bundle import METADATA
        from anomap.cli import model_folder

        for folder in (model_folder(self.models) / self.model, Path(self.model)):
            if (folder / METADATA).is_file():
                return folder
        raise AnomapError("E300", f"no bundle named {Path(self.model).name!r}")


def _tell(name: str, done: int, total: int) -> None:
    print_line(f"{name}: {done} of {total} images", sys.stderr)
