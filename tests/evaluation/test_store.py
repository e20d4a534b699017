from dataclasses import replace
from pathlib import Path

import numpy as np

from anomap.evaluation import scores as scores_module
from anomap.evaluation.scores import score_images, take
from anomap.evaluation.store import Store, joined, rows_of
from tests.evaluation.pictures import trunks
from tests.evaluation.test_scores import QUICK


def store_of(bundle, folder: Path) -> Store:
    return Store(folder=folder, bundle_sha256=bundle.info.sha256, projection=QUICK, device="cpu")


def test_a_second_run_projects_nothing_and_gives_the_same(toy_bundle, tmp_path: Path, monkeypatch) -> None:
    images, store = trunks(5), store_of(toy_bundle, tmp_path / "cache")
    first = score_images(toy_bundle, images, QUICK, store=store)
    assert len(list(store.folder.iterdir())) == 5
    projected = []
    real = scores_module.project
    monkeypatch.setattr(scores_module, "project", lambda part, *rest: projected.append(part) or real(part, *rest))
    again = score_images(toy_bundle, images, QUICK, store=store)
    assert not projected
    np.testing.assert_array_equal(first.reconstruction.images, again.reconstruction.images)
    for name, values in first.per_image.items():
        np.testing.assert_array_equal(values, again.per_image[name])


def test_what_was_cut_off_goes_on_and_a_damaged_file_is_made_anew(toy_bundle, tmp_path: Path) -> None:
    images, store = trunks(5), store_of(toy_bundle, tmp_path)
    whole = score_images(toy_bundle, images, QUICK)
    score_images(toy_bundle, take(images, np.array([3, 1])), QUICK, store=store)
    store.path(images, 1).write_bytes(b"cut")
    resumed = score_images(toy_bundle, images, QUICK, store=store)
    np.testing.assert_allclose(resumed.reconstruction.images, whole.reconstruction.images, atol=1e-3)
    assert store.get(images, 1) is not None


def test_everything_that_decides_a_reconstruction_is_in_its_name(toy_bundle, tmp_path: Path) -> None:
    images, store = trunks(2), store_of(toy_bundle, tmp_path)
    other_pixels = replace(images, images=-images.images)
    other_name = replace(images, frame_ids=("a", "b"))
    invalid = replace(images, valid=np.zeros_like(images.valid), body=np.zeros_like(images.body))
    paths = {store.path(part, 0) for part in (images, other_pixels, other_name, invalid)} | {store.path(images, 1)}
    for other in ({"bundle_sha256": "x"}, {"projection": replace(QUICK, steps=3)}, {"device": "cuda"}):
        paths.add(replace(store, **other).path(images, 0))
    assert len(paths) == 8


def test_rows_and_joining_undo_each_other(toy_bundle) -> None:
    fit = score_images(toy_bundle, trunks(4), QUICK).reconstruction
    back = joined([rows_of(fit, np.array([0, 1])), rows_of(fit, np.array([2, 3]))])
    np.testing.assert_array_equal(back.images, fit.images)
    np.testing.assert_array_equal(back.seeds, fit.seeds)
    assert back.steps == fit.steps
