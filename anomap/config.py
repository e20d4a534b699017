"""What `anomap analyze` can be told. The same object is the command line and is stored with every result.

It stands apart from `anomap.pipeline` so that ``anomap --help`` imports neither torch nor pydicom.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from anomap.errors import AnomapError

OutputName = Literal["sr", "seg", "pm", "sc", "png"]
DEFAULT_OUTPUTS: tuple[OutputName, ...] = ("sr", "seg", "pm", "png")
# These change no byte of a DICOM object (the device counts as what "auto" became).
_WITHOUT_EFFECT = ("batch_size", "device", "overwrite", "identified", "time_limit_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeConfig:
    """How a study is analysed. The defaults need no thought."""

    model: str = "auto"  # name of a bundle, or "auto": chosen for each series by modality and body part
    preset: Literal["fast", "paper"] = "fast"  # fast: about 30 steps; paper: the published 1000-step projection
    steps: int | None = None  # projection steps, instead of the preset's
    batch_size: int | None = None  # images fitted together; for speed and memory, results differ by rounding
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    outputs: tuple[OutputName, ...] = DEFAULT_OUTPUTS  # report, regions, residual map (CT), colour capture, preview
    overwrite: bool = False  # replace an earlier anomap result in OUTPUT
    allow_gaps: bool = False  # accept CT series with missing or unevenly spaced slices
    identified: bool = False  # write UIDs and file names in clear into result.json and messages
    time_limit_s: float | None = None  # give up after so many seconds
    cohort: tuple[str, ...] = ()  # files of `anomap calibrate`, one a model; without them there is no verdict
    alpha_review: float = 0.05  # at or below this p-value a series is to be reviewed
    alpha_reject: float = 0.01  # at or below this p-value it is rejected
    score_weights: tuple[tuple[str, float], ...] = ()  # weight of scores in the verdict, 1 where not named

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 0:
            raise AnomapError("E200", f"steps must be at least 0, got {self.steps}")
        if self.batch_size is not None and self.batch_size < 1:
            raise AnomapError("E200", f"batch size must be at least 1, got {self.batch_size}")
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise AnomapError("E200", f"the time limit must be positive, got {self.time_limit_s}")
        check_alphas(self.alpha_review, self.alpha_reject)
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise AnomapError("E200", f"device must be auto, cpu, cuda, cuda:N or mps, got {self.device!r}")
        unknown = set(self.outputs) - {"sr", "seg", "pm", "sc", "png"}
        if unknown:
            raise AnomapError("E200", f"unknown outputs {', '.join(sorted(unknown))}; known: sr, seg, pm, sc, png")

    @classmethod
    def from_dict(cls, values: Any) -> AnalyzeConfig:
        """The way back from `as_dict`, also for a settings file.

        Raises:
            AnomapError: E200 for what is no mapping, an unknown field, or a value of the wrong type.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise AnomapError("E200", f"the settings of an analysis are {', '.join(sorted(known))}, nothing else")
        try:
            arguments: dict[str, Any] = {k: tuple(v) if k in ("outputs", "cohort") else v for k, v in values.items()}
            if "score_weights" in values:
                arguments["score_weights"] = tuple((str(k), float(v)) for k, v in values["score_weights"])
            return cls(**arguments)
        except (TypeError, ValueError) as error:
            raise AnomapError("E200", f"a setting of the analysis has the wrong type: {error}") from error

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        lists = {"outputs": list(self.outputs), "cohort": list(self.cohort)}
        return {**asdict(self), **lists, "score_weights": [list(pair) for pair in self.score_weights]}

    def sha256(self, device: str) -> str:
        """Hash of everything here that can change a result.

        Args:
            device: The device "auto" became: the last digits depend on it.
        """
        values = {name: value for name, value in self.as_dict().items() if name not in _WITHOUT_EFFECT}
        values["cohort"] = [_content_sha256(Path(path)) for path in self.cohort]
        text = json.dumps({**values, "device": device, "outputs": sorted(set(self.outputs))}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_alphas(review: float, reject: float) -> None:
    """Raise E200 unless whatever is rejected would also be reviewed."""
    if not 0 < reject <= review < 1:
        raise AnomapError("E200", "expected 0 < alpha_reject <= alpha_review < 1")


def _content_sha256(path: Path) -> str:
    """Hash of a file, wherever it lies; "" when it can't be read, which reading it says better."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
