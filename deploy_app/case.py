"""What travels between the operators: one series, filled in from stage to stage, or the reason why it can't be."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anomap.bundle import Bundle
from anomap.calibration import SiteCohort
from anomap.errors import AnomapError
from anomap.pipeline import Analysis
from anomap.report import Json
from anomap.study import StudyRun
from anomap.types import AnomalyResult, Cohort, ImageSeries, Prepared, Reconstruction, ScoreMap


@dataclass(slots=True)
class Halt:
    """Shared by all operators of a run: set to what makes going on pointless (no model, full disk, time-out).

    An exception would do as well, but Holoscan prints the traceback of one, and a traceback may quote a patient.
    """

    error: AnomapError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One series on its way.

    Attributes:
        name: Of its folder in the output.
        series: The images.
        study: Books of the run.
        halt: Of the run.
        bundle, choice: The model and why it is the one; None when `error` says why not.
        cohort: What its scores will be compared with, if there is anything.
        prepared, reconstruction, score_map, result: What the stages before have made.
        segmentation, entries: What `WriteOverlaysOperator` has written.
        seconds: Duration of each stage; shared, not copied.
        error: What stopped this series; the operators after it hand it on to `WriteReportOperator`, which records it.
    """

    name: str
    series: ImageSeries
    study: StudyRun
    halt: Halt
    bundle: Bundle | None = None
    choice: str = ""
    cohort: Cohort | SiteCohort | None = None
    prepared: Prepared | None = None
    reconstruction: Reconstruction | None = None
    score_map: ScoreMap | None = None
    result: AnomalyResult | None = None
    segmentation: Any = None
    entries: tuple[Json, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return self.study.folder / self.name

    def need(self, *names: str) -> None:
        """Make sure that the operators before have done their part.

        Raises:
            AnomapError: E501 naming what is missing.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise AnomapError("E501", f"no operator has filled in {', '.join(missing)}")

    def analysis(self) -> Analysis:
        """Everything there is, for the writers.

        Raises:
            AnomapError: E501 when a stage was left out.
        """
        made = ("prepared", "reconstruction", "score_map", "result")
        self.need(*made)
        return Analysis(series=self.series, choice=self.choice, **{name: getattr(self, name) for name in made})
