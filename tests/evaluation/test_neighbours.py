"""Neighbours in mixed sets: looked for by stack, first among the normal slices; lone images have no such score."""

from dataclasses import replace

import numpy as np
import pytest

from anomap.bundle import load_bundle
from anomap.calibration import COMBINED
from anomap.calibration.conformal import z_scores
from anomap.evaluation.cohort import measure_cohort
from anomap.evaluation.data import EvaluationData
from anomap.evaluation.measure import fit_ruler
from anomap.evaluation.neighbours import fit_neighbours
from anomap.evaluation.run import EvaluationConfig, evaluate
from anomap.evaluation.scores import subset
from anomap.evaluation.table import evaluation_json, evaluation_markdown
from anomap.projection.neighbours import series_neighbours
from anomap.scoring import SERIES_SCORES
from tests.evaluation.pictures import image_set, trunks
from tests.evaluation.test_scores import QUICK


@pytest.fixture(scope="module")
def bundle(toy_models):
    return load_bundle(toy_models / "toy-ct")


def bodies(count, seed, **more):
    return image_set(trunks(count, seed=seed, kind="ct", fit="body", prefix=f"s{seed}"), **more)


@pytest.fixture(scope="module")
def normal():
    """Three patients of four slices, and two images that lie in no stack."""
    stacked, lone = bodies(12, 2, images_each=4, apart_mm=5.0), bodies(2, 3)
    both = {name: (*getattr(stacked, name), *getattr(lone, name)) for name in ("names", "patients", "stacks")}
    labels = {name: getattr(stacked, name)[:1] * 14 for name in ("categories", "sources")}
    parts = {
        name: np.concatenate([getattr(stacked.prepared, name), getattr(lone.prepared, name)])
        for name in ("images", "valid", "body", "to_source", "gain", "offset")
    }
    ids = (*stacked.prepared.frame_ids, *lone.prepared.frame_ids)
    prepared = replace(stacked.prepared, **parts, frame=np.arange(14), frame_ids=ids)
    positions = np.concatenate([stacked.positions_mm, lone.positions_mm])
    return replace(stacked, prepared=prepared, positions_mm=positions, **both, **labels)


def test_each_stack_has_the_map_it_has_as_a_series(bundle, normal) -> None:
    found = fit_neighbours(bundle, normal).places(bundle, normal)
    assert np.isnan(found[12:]).all()
    for start in (0, 4, 8):
        rows = np.arange(start, start + 4)
        alone = subset(normal, rows)
        expected = series_neighbours(alone.prepared, alone.positions_mm, bundle, "cpu")
        np.testing.assert_allclose(found[rows], expected, rtol=1e-4, atol=1e-5)


def test_an_altered_slice_is_compared_with_its_neighbours_as_they_were(bundle, normal) -> None:
    bank = fit_neighbours(bundle, normal)
    altered = subset(normal, np.arange(4))
    images = altered.images.copy()
    images[:, :, 18:22, 10:14] = 1.0  # all four
    altered = replace(altered, prepared=replace(altered.prepared, images=images))
    found = bank.places(bundle, altered).max(axis=(1, 2))
    one_by_one = []
    for row in range(4):
        series = subset(normal, np.arange(4)).prepared
        one = series.images.copy()
        one[row] = images[row]
        map_ = series_neighbours(replace(series, images=one), normal.positions_mm[:4], bundle, "cpu")
        one_by_one.append(map_[row].max())
    np.testing.assert_allclose(found, one_by_one, rtol=1e-4)


def test_a_series_of_something_else_has_its_own_neighbours_and_another_patient_none(bundle, normal) -> None:
    bank = fit_neighbours(bundle, normal)
    other = bodies(3, 5, images_each=3, apart_mm=6.0)
    expected = series_neighbours(other.prepared, other.positions_mm, bundle, "cpu")
    np.testing.assert_allclose(bank.places(bundle, other), expected, rtol=1e-4, atol=1e-5)
    assert np.isnan(bank.places(bundle, bodies(3, 5, apart_mm=6.0))).all(), "one slice of each patient"


def test_radiographs_and_models_without_places_have_none(toy_bundle, bundle, normal) -> None:
    assert fit_neighbours(toy_bundle, image_set(trunks(4), images_each=4, apart_mm=5.0)) is None
    assert fit_neighbours(bundle, bodies(4, 1)) is None, "lone slices"
    assert fit_neighbours(replace(bundle, feature_statistics=None), normal) is None
    assert fit_neighbours(replace(bundle, discriminator=None), normal) is None


def test_the_cohort_has_null_for_lone_images_and_the_combined_score_leaves_it_out(bundle, normal) -> None:
    _, measured = fit_ruler(bundle, bodies(6, 1), normal, QUICK)
    cohort = measure_cohort(bundle, normal, QUICK)
    columns = cohort.scores[:, [cohort.names.index(name) for name in SERIES_SCORES]]
    np.testing.assert_array_equal(np.isnan(columns), [[False] * 2] * 12 + [[True] * 2] * 2)
    parts = [z_scores(measured.scores[n], measured.scores[n][~np.isnan(measured.scores[n])]) for n in cohort.combines]
    assert set(SERIES_SCORES) < set(cohort.combines)
    np.testing.assert_allclose(measured.scores[COMBINED], np.nanmax(parts, axis=0))


def test_an_evaluation_reports_slices_among_their_neighbours(bundle, normal) -> None:
    odd = subset(normal, np.arange(4))
    images = odd.images.copy()
    images[:, :, 18:22, 10:14] = 1.0
    names = tuple(f"odd-{name}" for name in odd.names)
    odd = replace(odd, prepared=replace(odd.prepared, images=images), names=names, categories=("spot",) * 4)
    lone = replace(bodies(3, 7), categories=("lone",) * 3)
    data = EvaluationData(
        train=bodies(6, 1),
        normal=normal,
        categories=(odd, lone),
        origins=dict(zip(names, normal.names[:4], strict=True)),
        left_out={},
        set_aside=False,
    )
    config = EvaluationConfig(projection=QUICK, synthetic=True, synthetic_images=6, resamples=50)
    found = evaluate(bundle, data, config)
    spot, alone = found.categories
    assert {spot.pairs[name].raised for name in SERIES_SCORES} == {4}
    assert set(SERIES_SCORES) < set(spot.separation)
    assert not set(SERIES_SCORES) & set(alone.separation)
    assert {row.images for row in found.in_series} == {6}, "two slices of each of three patients"
    assert {row.patients for row in found.in_series} == {3}
    needle = found.in_series[0]
    assert needle.pairs["neighbour_patch"].pairs == 6
    assert 0 <= needle.touched_by_change <= 6
    assert "neighbours" in needle.maps
    assert all(row.touched_by_change is None and "neighbours" not in row.maps for row in found.synthetic)
    text = evaluation_markdown(found, "toy")
    assert "Slices among their neighbours" in text
    assert len(evaluation_json(found)["synthetic_in_series"]) == len(found.in_series)
