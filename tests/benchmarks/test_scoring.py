import numpy as np
from scipy.stats import wasserstein_distance

from benchmarks.scoring import _picture, _scipy_rows, report, time_scoring


def test_all_ways_of_scoring_agree() -> None:
    found = time_scoring(48, rows=4, repeats=1)
    assert found.largest_difference <= 1e-9
    assert found.windows == 46**2
    assert min(found.ratio, found.numpy_ratio) > 1
    assert found.tensor_seconds is None
    assert "graphics card" not in report([found])
    assert f"{found.ratio:.0f}" in report([found])


def test_the_picture_holds_all_grey_levels() -> None:
    for side in (16, 40, 512):
        assert len(np.unique(_picture(side, 1))) == 256


def test_the_scipy_loop_scores_the_rows_it_was_asked_for() -> None:
    image, other = _picture(40, 1), _picture(40, 2)
    rows = _scipy_rows(image, other, 5, np.array([7, 30]))
    assert rows.shape == (2, 36)
    assert rows[1, 9] == wasserstein_distance(image[30:35, 9:14].ravel(), other[30:35, 9:14].ravel())
