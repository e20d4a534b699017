"""A study through the gate: checks by tag first, then the analysis, then one exit status from its one verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError, ExitStatus
from anomap.gate.policy import Policy
from anomap.output import staged
from anomap.study import Listener, StudyOutcome, StudyRun
from anomap.types import Verdict

Mode = Literal["enforce", "shadow"]
_STATUS = {Verdict.PASS: ExitStatus.OK, Verdict.REJECT: ExitStatus.REJECT}  # everything else is for a person


def gate(
    source: Path,
    output: Path,
    models: Path,
    config: AnalyzeConfig,
    policy: Policy,
    mode: Mode = "enforce",
    listener: Listener | None = None,
) -> StudyOutcome:
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
        What was published; its status is that of the gate.

    Raises:
        AnomapError: As `anomap.study.analyze`.
    """
    weights = tuple(sorted(policy.weights.items()))
    config = replace(config, alpha_review=policy.alpha_review, alpha_reject=policy.alpha_reject, score_weights=weights)
    with staged(output, overwrite=config.overwrite) as folder:
        run = StudyRun(folder, models, config, listener or (lambda _: None), check=policy.refusal)
        study = run.read(source)
        for number, series in enumerate(study.series, 1):
            run.one_series(number, len(study.series), series)
        outcome = run.finish(output, lambda content: {"gate": {"mode": mode, "exit_status": int(decide(content))}})
    return replace(outcome, status=decide(outcome.content))


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
