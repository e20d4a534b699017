"""A study through the gate: checks by tag first, then the analysis, then one exit status from its one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError, ExitStatus
from anomap.gate.policy import Policy
from anomap.gate.quick import analyze_in_tiers
from anomap.output import as_error, staged
from anomap.study import Listener, StudyOutcome, StudyRun
from anomap.types import ImageSeries, Verdict

Mode = Literal["enforce", "shadow"]
_STATUS = {Verdict.PASS: ExitStatus.OK, Verdict.REJECT: ExitStatus.REJECT}  # everything else is for a person
_NOTHING = AnomapError("E501", "the gate gave no verdict")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """What the gate says of a study: the exit status of `anomap gate` and the branch an application takes.

    One without `outcome` is a failure, whatever else it holds: nothing but a published result can pass.

    Attributes:
        outcome: What was published; None when the run failed as a whole.
        series: The images it was given on, in the order of ``outcome.content["series"]``: a next step that takes these,
            and doesn't read the input again, works on what was judged.
        error: What ended the run.
    """

    outcome: StudyOutcome | None = None
    series: tuple[ImageSeries, ...] = ()
    error: AnomapError = _NOTHING

    @property
    def status(self) -> ExitStatus:
        """The exit status; ``OK`` when everything was analysed, published and passed, and never else."""
        return status_of(self.error) if self.outcome is None else decide(self.outcome.content)

    @property
    def passed(self) -> bool:
        """Whether a next step may run."""
        return self.status is ExitStatus.OK

    @property
    def verdict(self) -> Verdict | None:
        """The verdict in ``result.json`` and in the report; None when there is none."""
        stated = self.outcome.content["verdict"] if self.outcome else None
        return Verdict(stated) if stated else None


def gate(
    source: Path,
    output: Path,
    models: Path,
    config: AnalyzeConfig,
    policy: Policy,
    mode: Mode = "enforce",
    listener: Listener | None = None,
) -> GateVerdict:
    """Analyse a study under a policy and publish the results; ``result.json`` says under "gate" what was decided.

    Args:
        source: Folder, zip or single DICOM file.
        output: Folder to publish as.
        models: Folder of bundles.
        config: How to analyse; its limits and weights are replaced by the policy's.
        policy: What to check and when to raise an alarm.
        mode: Recorded; the decision is the same in both.
        listener: Told of every step.

    Returns:
        The verdict. It holds what `anomap.study.analyze` raises as its error: a failure is an answer, too. Being
        cancelled is none, and goes on as an exception.
    """
    weights = tuple(sorted(policy.weights.items()))
    config = replace(config, alpha_review=policy.alpha_review, alpha_reject=policy.alpha_reject, score_weights=weights)
    quick = policy.quick
    analyse = None if quick is None else partial(analyze_in_tiers, quick=quick)
    settings = {"mode": mode, **({} if quick is None else {"quick": asdict(quick)})}
    try:
        with staged(output, overwrite=config.overwrite) as folder:
            run = StudyRun(folder, models, config, listener or (lambda _: None), check=policy.refusal, analyse=analyse)
            study = run.read(source)
            for number, series in enumerate(study.series, 1):
                run.one_series(number, len(study.series), series)
            outcome = run.finish(output, lambda content: {"gate": {**settings, "exit_status": int(decide(content))}})
    except Exception as error:
        failure = as_error(error)
        if failure is not error:
            failure.__cause__ = error
        return GateVerdict(error=failure)
    return GateVerdict(outcome=outcome, series=study.series)


def decide(content: Mapping[str, Any]) -> ExitStatus:
    """The gate's exit status from a study's ``result.json``: 0 only when all of it was analysed and passed."""
    verdict = Verdict(content["verdict"]) if content["verdict"] else None
    if content["status"] == "failed":
        return ExitStatus.FAILED
    if content["status"] == "nothing_eligible" and verdict not in (Verdict.REVIEW, Verdict.REJECT):
        return ExitStatus.UNUSABLE_INPUT
    if content["status"] == "nothing_eligible" and any(entry["status"] == "unusable" for entry in content["series"]):
        return ExitStatus.UNUSABLE_INPUT
    if verdict is Verdict.PASS and content["status"] != "complete":
        return ExitStatus.REVIEW
    return _STATUS.get(verdict, ExitStatus.REVIEW) if verdict else ExitStatus.REVIEW


def status_of(error: AnomapError) -> ExitStatus:
    """The gate's exit status for a run that ended with an error: the gate knows no time-out of its own."""
    return ExitStatus.FAILED if error.status is ExitStatus.TIMEOUT else error.status
