from dataclasses import replace

import numpy as np
import pytest

from anomap.evaluation.scores import choose, score_images, subset, take
from anomap.projection import project
from anomap.projection.schedule import FAST
from anomap.scoring import SCORES, SERIES_SCORES, ScoreConfig, score
from tests.evaluation.pictures import image_set, trunks

QUICK = replace(FAST, steps=2)


def test_scores_are_those_of_the_stages(toy_bundle) -> None:
    images = trunks(3)
    found = score_images(toy_bundle, images, QUICK)
    config = ScoreConfig(window=toy_bundle.info.window, levels=toy_bundle.info.levels)
    expected = score(images, project(images, toy_bundle, QUICK), (3, 256, 256), config)
    assert set(found.per_image) == set(SCORES) - set(SERIES_SCORES)
    for name in found.per_image:
        np.testing.assert_allclose(found.per_image[name], expected.per_image[name], rtol=1e-6)
    np.testing.assert_array_equal(found.top_window, expected.top_window)


def test_the_peak_bounds_the_map_on_any_source_grid(toy_bundle) -> None:
    images = trunks(2)
    found = score_images(toy_bundle, images, QUICK)
    config = ScoreConfig(window=toy_bundle.info.window, levels=toy_bundle.info.levels)
    dense = score(images, project(images, toy_bundle, QUICK), (2, 256, 256), config).maps["wd"]
    assert (np.nanmax(dense, axis=(1, 2)) <= found.map_peak * (1 + 1e-6)).all()
    np.testing.assert_allclose(np.nanmax(dense, axis=(1, 2)), found.map_peak, rtol=0.1)


def test_many_images_score_as_one_by_one_and_progress_is_told(toy_bundle) -> None:
    images, told = trunks(66), []
    together = score_images(toy_bundle, images, QUICK, lambda done, total: told.append((done, total)))
    assert told == [(64, 66), (66, 66)]
    for row in (0, 65):
        alone = score_images(toy_bundle, take(images, np.array([row])), QUICK)
        for name in together.per_image:
            assert alone.per_image[name][0] == pytest.approx(together.per_image[name][row], rel=1e-3, abs=1e-3)


def test_choice_depends_on_names_only_and_takes_one_image_a_patient() -> None:
    images = image_set(trunks(30), images_each=3)
    rows = choose(images, 6, per_patient=True)
    assert len(set(rows)) == 6
    assert len({images.patients[row] for row in rows}) == 6
    turned = subset(images, np.arange(30)[::-1])
    again = choose(turned, 6, per_patient=True)
    assert {turned.names[row] for row in again} == {images.names[row] for row in rows}
    assert len(choose(images, 50, per_patient=True)) == 10
    assert set(choose(images, 4)) < set(choose(images, 8))


def test_subset_keeps_labels_with_their_images() -> None:
    images = image_set(trunks(5), images_each=2)
    part = subset(images, np.array([4, 1]))
    assert part.names == (images.names[4], images.names[1])
    assert part.patients == (images.patients[4], images.patients[1])
    np.testing.assert_array_equal(part.images, images.images[[4, 1]])
    assert part.prepared.frame.tolist() == [0, 1]
