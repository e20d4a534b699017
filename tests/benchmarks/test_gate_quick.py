"""The figures of the quick look's benchmark: what agrees, what is lost, which slices make a series."""

import numpy as np

from benchmarks.gate_quick import LENGTH, agreement, stretches


def test_only_a_pass_of_the_look_against_an_alarm_of_the_full_run_disagrees():
    look = np.array([True, True, False, False, False])
    full = np.array([True, False, True, False, False])
    found = agreement(look, full)
    assert (found["agree"], found["full_alarms"], found["alarms_lost"]) == (0.8, 3, 1)
    assert found["passed_by_the_look"] == 0.4


def test_a_stretch_is_of_neighbours_in_one_series():
    def row(series, z, index):
        return {
            "category": "c",
            "patient": "p",
            "series_description": series,
            "z_mm": str(z),
            "file": "f",
            "index": index,
        }

    rows = [row("a", -z, str(z)) for z in range(2 * LENGTH + 3)] + [row("b", 0, "999")]
    known = {f"f#{z}" for z in range(2 * LENGTH + 3)} - {"f#5"}
    found = stretches(rows, known)
    names = [f"f#{z}" for z in range(2 * LENGTH + 2, -1, -1) if z != 5]  # by height
    assert found == [("c", names[:LENGTH]), ("c", names[LENGTH : 2 * LENGTH])]
