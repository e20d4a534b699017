import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve as sklearn_curve

from anomap.calibration import COMBINED
from anomap.evaluation.cases import CURVES, SHOWN, exhibit, roc_curve
from anomap.evaluation.measure import fit_ruler
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK

scores = st.lists(st.integers(0, 6), min_size=1, max_size=12).map(lambda values: np.array(values, float))


@given(scores, scores)
def test_the_curve_is_that_of_sklearn(normal, odd) -> None:
    truth = np.repeat([0, 1], [len(normal), len(odd)])
    x, y, _ = sklearn_curve(truth, np.concatenate([normal, odd]), drop_intermediate=False)
    np.testing.assert_allclose(roc_curve(normal, odd), np.stack([x, y], axis=1))


@pytest.mark.parametrize("count", [1, 3, 4, 6, 9])
def test_both_ends_are_shown_and_no_image_twice(toy_bundle, count: int) -> None:
    ruler, normal = fit_ruler(toy_bundle, image_set(trunks(5, seed=1)), image_set(trunks(6, seed=2)), QUICK)
    found = ruler.measure(image_set(trunks(count, seed=3), "odd"))
    masks = np.zeros((count, 32, 32), bool)
    masks[np.arange(count), 0, np.arange(count)] = True
    shown = exhibit("odd", found, normal, ruler, masks)
    ordered = np.sort(found.scores[COMBINED])[::-1]
    low = ordered[max(SHOWN, count - SHOWN) :]
    np.testing.assert_allclose([case.score for case in shown.cases], [*ordered[:SHOWN], *low])
    for case in shown.cases:
        row = int(np.flatnonzero(found.scores[COMBINED] == case.score)[0])
        assert case.mask is not None
        assert case.mask[0, row]
        np.testing.assert_array_equal(case.image, found.images.images[row, 0])
        np.testing.assert_array_equal(case.reconstruction, found.found.reconstruction.images[row, 0])
        assert np.nanmax(case.heat) == pytest.approx(found.scores["wd_patch"][row], rel=0.35)
    assert set(shown.curves) == set(CURVES)
    assert exhibit("normal", normal, None, ruler).curves == {}
