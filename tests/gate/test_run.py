"""The decision: 0 only when everything was analysed and passed."""

import itertools
from pathlib import Path

import pytest

from anomap.errors import AnomapError, ExitStatus
from anomap.gate.run import GateVerdict, decide, status_of
from anomap.study import StudyOutcome


def content(status, verdict, *series):
    return {"status": status, "verdict": verdict, "series": [{"status": state} for state in series]}


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        (content("complete", "PASS"), 0),
        (content("partial", "PASS"), 10),
        (content("complete", "REVIEW"), 10),
        (content("complete", "UNCALIBRATED"), 10),
        (content("complete", "NOT_APPLICABLE"), 10),
        (content("partial", "REJECT"), 20),
        (content("nothing_eligible", "REJECT", "not_applicable"), 20),
        (content("nothing_eligible", "REVIEW", "unusable"), 3),
        (content("nothing_eligible", "NOT_APPLICABLE", "not_applicable"), 3),
        (content("nothing_eligible", None), 3),
        (content("failed", "REVIEW"), 4),
        (content("failed", None), 4),
    ],
)
def test_a_study_has_the_status_of_its_verdict_and_of_what_was_lost(study, expected):
    assert decide(study) == expected


def test_nothing_but_a_complete_pass_is_0():
    states = ("complete", "partial", "nothing_eligible", "failed")
    verdicts = ("PASS", "REVIEW", "REJECT", "NOT_APPLICABLE", "UNCALIBRATED", None)
    passing = [pair for pair in itertools.product(states, verdicts) if decide(content(*pair)) == 0]
    assert passing == [("complete", "PASS")]


def test_a_time_out_counts_as_failed():
    assert status_of(AnomapError("E402", "too slow")) is ExitStatus.FAILED
    assert status_of(AnomapError("E103", "gap")) is ExitStatus.UNUSABLE_INPUT


def test_a_verdict_without_a_published_result_has_not_passed():
    for verdict in (GateVerdict(), GateVerdict(error=AnomapError("E402", "too slow"))):
        assert (verdict.passed, verdict.verdict, verdict.status) == (False, None, 4)
    assert GateVerdict(error=AnomapError("E104", "two patients")).status == 3


def test_a_verdict_says_what_its_result_says():
    for study, status in ((content("complete", "PASS"), 0), (content("partial", "PASS"), 10)):
        verdict = GateVerdict(outcome=StudyOutcome(output=Path(), content=study, status=ExitStatus.OK))
        assert (verdict.verdict, verdict.status, verdict.passed) == ("PASS", status, status == 0)
