"""`anomap calibrate`, `anomap gate`, `anomap drift`. Imports no torch before one of them runs."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from anomap.config import AnalyzeConfig
from anomap.console import listening, print_error, print_line, print_result
from anomap.errors import AnomapError, ExitStatus, require_extra

if TYPE_CHECKING:
    from anomap.calibration import SiteCohort

ModelFolder = Annotated[Path | None, arg(help="folder of model bundles; else $ANOMAP_MODELS, else those of anomap")]
PolicyFile = Annotated[Path | None, arg(help="policy in TOML (docs/gate.md); without it only scores count")]
Config = OmitArgPrefixes[AnalyzeConfig]
AsJson = Annotated[bool, arg(name="json", help="JSON lines on stdout instead of text")]
_MIN_HALF = 5  # patients in each half of a reliability plot


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Measure this site's own normal patients: the cohort that verdicts are given by."""

    normals: Annotated[Positional[Path], arg(metavar="NORMALS", help="folder; one entry a patient")]
    output: Annotated[Path, arg(aliases=["-o"], help="cohort file to write (.json); plots go beside it")]
    model: str  # name of the model bundle
    policy: PolicyFile = None
    strata: tuple[Literal["modality", "body_part", "slices", "manufacturer", "kernel"], ...] = (
        "modality", "body_part", "slices",
    )  # fmt: skip
    preset: Literal["fast", "paper"] = "fast"  # as studies will be analysed
    steps: int | None = None  # as studies will be analysed
    device: str = "auto"  # auto, cpu, cuda, cuda:N or mps
    allow_gaps: bool = False  # accept CT series with missing or unevenly spaced slices
    overwrite: bool = False  # replace an earlier cohort
    models: ModelFolder = None
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.bundle import load_bundle
        from anomap.cli import model_folder
        from anomap.gate.calibrate import measure_site, summary
        from anomap.gate.policy import Policy, read_policy
        from anomap.gate.site import write_site
        from anomap.study import resolve_device

        if self.output.exists() and not self.overwrite:
            raise AnomapError("E201", "the cohort file exists")
        require_extra("plots", "matplotlib")
        policy = read_policy(self.policy) if self.policy else Policy()
        config = AnalyzeConfig(
            model=self.model, preset=self.preset, steps=self.steps, device=self.device, allow_gaps=self.allow_gaps
        )
        bundle = load_bundle(model_folder(self.models) / self.model, resolve_device(self.device))
        site = measure_site(
            self.normals, bundle, config, policy, self.strata, lambda line: print_line(line, sys.stderr)
        )
        _plot_later_half(self.output, site, policy.weights)
        write_site(self.output, site)
        print_line(f"{self.output}: {site.images.description}")
        for line in summary(site, policy.alpha_review, policy.alpha_reject):
            print_line(line)
        return ExitStatus.OK


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Let a study pass or not. Exit 0 pass, 10 review, 20 reject, 2 usage, 3 unusable input, 4 failed."""

    source: Annotated[Positional[Path], arg(metavar="INPUT", help="DICOM folder, zip or file; NIfTI file")]
    out: Annotated[Path, arg(help="folder to make; must be empty or missing")]
    config: Config = field(default_factory=AnalyzeConfig)
    policy: PolicyFile = None
    quick: int | None = None  # CT: look at one slice in N first, at all of them only when these look odd
    mode: Literal["enforce", "shadow"] = "enforce"  # shadow: record the decision and exit with 0
    models: ModelFolder = None
    as_json: AsJson = False
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        from anomap.cli import model_folder
        from anomap.gate.policy import policy_for
        from anomap.gate.run import gate
        from anomap.gate.tiers import Quick

        policy = policy_for(self.policy, self.config)
        if self.quick is not None:
            policy = replace(policy, quick=replace(policy.quick or Quick(), every=self.quick))
        with listening(as_json=self.as_json) as listener:
            verdict = gate(self.source, self.out, model_folder(self.models), self.config, policy, self.mode, listener)
        if verdict.outcome is None:
            print_error(verdict.error, as_json=self.as_json, debug=self.debug)
            kept = verdict.status in (ExitStatus.USAGE, ExitStatus.CANCELLED)  # nothing recorded, or a person must act
            return ExitStatus.OK if self.mode == "shadow" and not kept else verdict.status
        print_result(verdict.outcome.content, str(self.out), as_json=self.as_json)
        for failure in verdict.outcome.errors:
            print_error(failure, as_json=self.as_json, debug=self.debug)
        return ExitStatus.OK if self.mode == "shadow" else verdict.status


@dataclass(frozen=True, kw_only=True)
class DriftWatch:
    """Test whether the p-values of past results are still what the cohort promises. Exit 10 when not."""

    results: Annotated[Positional[Path], arg(metavar="RESULTS", help="folder with results of analyze, gate or serve")]
    last: int = 100  # newest results that count
    level: float = 0.01  # call it drift at or below this p-value
    plot: Annotated[Path | None, arg(help="draw PLOT.png and PLOT.svg")] = None
    as_json: AsJson = False

    def run(self) -> int:
        """Do it; the exit status."""
        from dataclasses import asdict

        from anomap.gate.drift import lines, records, watch
        from anomap.gate.plot import plot_reliability

        if self.last < 1 or not 0 < self.level < 1:
            raise AnomapError("E200", "--last must be positive and --level lie between 0 and 1")
        if self.plot is not None:
            require_extra("plots", "matplotlib")
        outcome, p_values = watch(records(self.results), self.last)
        if self.plot is not None:
            plot_reliability(self.plot, p_values, outcome.patients, "Results so far")
        for line in [json.dumps(asdict(outcome))] if self.as_json else lines(outcome, self.level):
            print_line(line)
        return ExitStatus.REVIEW if outcome.p_value <= self.level else ExitStatus.OK


def _plot_later_half(output: Path, site: SiteCohort, weights: Mapping[str, float]) -> None:
    """Reliability of the largest stratum: its later patients against its earlier ones."""
    from anomap.calibration.site import weights_of
    from anomap.calibration.watch import held_out
    from anomap.gate.plot import plot_reliability

    stratum = Counter(site.strata.values()).most_common(1)[0][0]
    values = site.statistics(stratum)
    half = len(values) // 2
    if half < _MIN_HALF:
        return
    p_values = held_out(values[half:], values[:half], weights_of(site, weights))
    stem = output.with_name(f"{output.stem}.reliability")
    plot_reliability(stem, p_values, half, f"Later against earlier patients\n{stratum}")
