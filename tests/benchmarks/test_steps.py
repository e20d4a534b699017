"""The table of the steps: scores alone and together, with AUROC and the share that rose."""

import numpy as np
import pytest

from benchmarks.combinations import Planted, over_kinds
from benchmarks.steps import figures


def test_scores_alone_and_together_are_counted_by_patient() -> None:
    found = Planted(
        normal={"a": np.array([0.0, 1.0, 2.0, 3.0]), "b": np.array([3.0, 2.0, 1.0, 0.0])},
        odd={
            "needle": {"a": np.array([2.5, 0.5]), "b": np.array([9.0, 1.5])},
            "unaltered": {"a": np.array([0.0, 3.0]), "b": np.array([3.0, 0.0])},
        },
        rows=np.array([0, 3]),
        patients=("p", "p", "q", "r"),
    )
    table = figures(found, ("a", "b"))
    assert set(table) == {"combined", "a", "b"}
    # Weights 1/2, 1/2, 1, 1: 2.5 beats all but the last, 0.5 the first only.
    assert table["a"]["auroc"]["needle"] == pytest.approx((2 + 0.5) / 3 / 2)
    assert table["a"]["raised"] == {"needle": 0.5, "unaltered": 0.0}
    assert table["b"]["raised"]["needle"] == 1.0
    assert table["combined"]["raised"]["needle"] == 0.5
    assert over_kinds(table["a"]["auroc"]) == table["a"]["auroc"]["needle"]
