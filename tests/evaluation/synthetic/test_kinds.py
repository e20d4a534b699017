from dataclasses import replace

import numpy as np
import pytest

from anomap.evaluation.synthetic import ASCITES_HU, BONE_HU, UNALTERED, grey_of_hu, kinds, planted
from anomap.evaluation.synthetic.objects import blob
from anomap.types import PreprocessSpec
from tests.evaluation.pictures import trunks

CT = PreprocessSpec(kind="ct", size=64, fit="body")
RADIOGRAPH = PreprocessSpec(kind="radiograph", size=64, fit="squeeze")
LOCAL = {"needle", "visible_needle", "thin_needle", "metal", "blob", "missing_rows"}


def test_fluid_and_streaks_exist_for_ct_only() -> None:
    assert set(kinds(CT)) - set(kinds(RADIOGRAPH)) == {"ascites", "streaky_needle"}
    assert {name for name, kind in kinds(RADIOGRAPH).items() if kind.local} == LOCAL
    assert len({kind.description for kind in kinds(CT).values()}) == len(kinds(CT))


@pytest.mark.parametrize("spec", [CT, RADIOGRAPH], ids=["ct", "radiograph"])
@pytest.mark.parametrize("name", sorted(kinds(CT)))
def test_what_is_planted_depends_on_the_name_alone(name: str, spec: PreprocessSpec) -> None:
    if name not in kinds(spec):
        return
    images = trunks(4, size=64, kind=spec.kind, fit=spec.fit)
    altered, masks = kinds(spec)[name].apply(images)
    order = [2, 0, 3, 1]
    parts = {n: getattr(images, n)[order] for n in ("images", "valid", "body", "frame", "to_source", "gain", "offset")}
    shuffled = replace(images, **parts, frame_ids=tuple(images.frame_ids[i] for i in order))
    again, again_masks = kinds(spec)[name].apply(shuffled)
    np.testing.assert_array_equal(altered.images[order], again.images)
    np.testing.assert_array_equal(masks[order], again_masks)
    assert altered.frame_ids == images.frame_ids
    assert np.abs(altered.images).max() <= 1
    assert masks.any(axis=(1, 2)).all()
    assert (altered.images != images.images).any(axis=(1, 2, 3)).tolist() == [name != UNALTERED] * 4


@pytest.mark.parametrize("name", sorted(LOCAL | {"ascites", "streaky_needle"}))
def test_masks_cover_what_changed_but_for_soft_edges_and_streaks(name: str) -> None:
    images = trunks(5, size=64, kind="ct", fit="body")
    altered, masks = kinds(CT)[name].apply(images)
    changed = np.abs(altered.images - images.images)[:, 0] > 0.35  # streaks are weaker
    assert (changed & ~masks).sum() < 0.5 * masks.sum()
    if name not in ("ascites", "missing_rows"):  # fluid may resemble what it displaces, rows reach into air
        assert (changed & masks).sum() > 0.8 * masks.sum()


def test_densities_are_those_stated_through_the_window() -> None:
    images = trunks(6, size=64, kind="ct", fit="body")
    hu = images.spec.window_level_hu + images.images * images.spec.window_width_hu / 2
    altered, masks = kinds(CT)["ascites"].apply(images)
    fluid = (images.spec.window_level_hu + altered.images * images.spec.window_width_hu / 2)[masks[:, None]]
    assert fluid.min() >= ASCITES_HU[0] - 1e-3
    assert fluid.max() <= ASCITES_HU[1] + 1e-3
    assert hu[masks[:, None]].max() < BONE_HU
    needles, where = kinds(CT)["needle"].apply(images)
    assert needles.images[where[:, None]].max() == 1.0  # 225 HU and all above
    assert grey_of_hu(225, CT) == 1.0
    assert grey_of_hu(50, CT) == 0.0
    assert grey_of_hu(-125, CT) == -1.0


def test_needles_of_several_widths_lie_at_the_same_places() -> None:
    images = trunks(4, size=64)
    thin, thick = (kinds(RADIOGRAPH)[name].apply(images)[1] for name in ("thin_needle", "needle"))
    assert (thin & thick).sum() > 0.9 * thin.sum()
    assert thick.sum() > 1.5 * thin.sum()


def test_another_name_draws_other_places() -> None:
    images = trunks(2, size=64)
    assert (planted(images, blob, "one")[1] != planted(images, blob, "other")[1]).any()
    assert planted(replace(images, **_nothing(images), frame_ids=()), blob, "one")[1].shape == (0, 64, 64)


def _nothing(images):
    names = ("images", "valid", "body", "frame", "to_source", "gain", "offset")
    return {name: getattr(images, name)[:0] for name in names}
