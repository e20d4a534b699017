"""The decision: 0 only when everything was analysed and passed."""

import itertools

import pytest

from anomap.errors import AnomapError, ExitStatus
from anomap.gate.run import decide, status_of


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
