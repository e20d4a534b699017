"""The compiled and the tensor way against the numpy way and scipy, bit by bit; when the compiled one is started."""

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.caching import CacheImpl
from scipy.stats import wasserstein_distance

from anomap.errors import AnomapError
from anomap.scoring import compiled, quantise
from anomap.scoring.residual import mean_squared_error, window_mean_squared_error
from anomap.scoring.tensors import window_wasserstein_tensor
from anomap.scoring.wasserstein import wasserstein, window_wasserstein

SIDES = st.integers(1, 40)
LEVELS = st.sampled_from([2, 3, 31, 32, 33, 34, 255, 256, 257, 258, 600, 4096, 65536])


def tensor_way(image, other, window, levels):
    image, other = (torch.from_numpy(values.astype(np.int64)) for values in (image, other))
    return window_wasserstein_tensor(image, other, window, levels).numpy()


def compiled_way(image, other, window, levels):
    return window_wasserstein(image, other, window, levels, fast=True)


def numpy_way(image, other, window, levels):
    return window_wasserstein(image, other, window, levels, fast=False)


WAYS = pytest.mark.parametrize("way", [numpy_way, compiled_way, tensor_way])


def grey(seed, shape, levels, present=None):
    """Two images that hold a number of the levels, the lowest and the highest where there is room."""
    rng = np.random.default_rng(seed)
    some = rng.choice(levels, min(levels, present or levels), replace=False)
    some[:2] = 0, levels - 1
    return tuple(rng.choice(some, shape).astype(np.uint8 if levels <= 256 else np.uint16) for _ in range(2))


def spots(dense, image, other, window, count, seed=0):
    """Scores at random windows, and scipy's."""
    rng = np.random.default_rng(seed)
    places = [(0, 0), (len(dense) - 1, dense.shape[1] - 1), *rng.integers(0, dense.shape, (count, 2))]
    cuts = [np.s_[row : row + window, col : col + window] for row, col in places]
    return [dense[row, col] for row, col in places], [
        wasserstein_distance(image[cut].astype(int).ravel(), other[cut].astype(int).ravel()) for cut in cuts
    ]


# ---- every way gives the same


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3), rows=SIDES, columns=SIDES, levels=LEVELS, data=st.data()
)
def test_all_ways_agree(seed, count, rows, columns, levels, data):
    window = data.draw(st.integers(1, min(rows, columns)))
    present = data.draw(st.sampled_from([2, 3, 40, levels]))
    image, other = grey(seed, (count, rows, columns), levels, present)
    expected = numpy_way(image, other, window, levels)
    np.testing.assert_array_equal(compiled_way(image, other, window, levels), expected)
    np.testing.assert_array_equal(tensor_way(image, other, window, levels), expected)


@WAYS
@pytest.mark.parametrize("present", [5, 256, 65536])
def test_16_bit_images_equal_scipy_bit_by_bit(way, present):
    image, other = grey(present, (90, 70), 65536, present)
    dense = way(image[None], other[None], 32, 65536)[0]
    found, expected = spots(dense, image, other, 32, 40)
    assert found == expected


@pytest.mark.parametrize("levels", [256, 4096, 65536])
def test_images_of_the_paper_equal_scipy_bit_by_bit(levels):
    image, other = grey(3, (512, 512), levels)
    dense = compiled_way(image[None], other[None], 32, levels)[0]
    found, expected = spots(dense, image, other, 32, 60)
    assert found == expected


@WAYS
@pytest.mark.parametrize("window", [127, 128, 181, 182])
@pytest.mark.parametrize(("levels", "dtype"), [(256, np.uint8), (65536, np.uint16)])
def test_the_largest_sums_fit(way, window, levels, dtype):
    dark, bright = np.zeros((1, 190, 190), dtype), np.full((1, 190, 190), levels - 1, dtype)
    assert (way(dark, bright, window, levels) == levels - 1).all()
    assert (way(bright, dark, window, levels) == levels - 1).all()


@WAYS
@pytest.mark.parametrize("window", [127, 128])
def test_full_columns_fit_beside_others(way, window):
    dark, mixed = np.zeros((1, 130, 130), np.uint8), np.full((1, 130, 130), 255, np.uint8)
    mixed[:, 1::2, ::2] = 0  # a full column whose count wrapped round would take away from these
    assert np.array_equal(way(dark, mixed, window, 256), numpy_way(mixed, dark, window, 256))
    share = 1 - ((window + 1) // 2) * (window // 2) / window**2  # of bright pixels in the window at (0, 0)
    assert way(dark, mixed, window, 256)[0, 0, 0] == pytest.approx(255 * share)


@given(seed=st.integers(0, 999), share=st.floats(0.0, 0.1))
@settings(deadline=None, max_examples=30)
def test_both_ways_leave_out_the_same_windows(seed, share):
    image, other = grey(seed, (2, 15, 12), 256)
    valid = np.random.default_rng(seed).random(image.shape) >= share
    slow, fast = (window_wasserstein(image, other, 4, 256, valid, fast=fast) for fast in (False, True))
    np.testing.assert_array_equal(fast, slow)


def test_views_are_scored_like_copies():
    image, other = grey(0, (2, 30, 40), 256)
    turned = (values[:, ::-1, ::2] for values in (image, other))
    copies = (values[:, ::-1, ::2].copy() for values in (image, other))
    np.testing.assert_array_equal(compiled_way(*turned, 5, 256), numpy_way(*copies, 5, 256))


@pytest.mark.parametrize("way", [numpy_way, compiled_way])  # torch's memory isn't traced
def test_memory_does_not_grow_with_the_grey_levels(way):
    image, other = grey(0, (1, 100, 120), 65536)
    assert len(np.unique(image)) > 10_000  # all at once would take 240 MB
    way(image[:, :9, :9], other[:, :9, :9], 3, 65536)  # imports and compiles
    tracemalloc.start()
    way(image, other, 32, 65536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.gpu
@pytest.mark.parametrize("levels", [256, 4096])
def test_a_graphics_card_gives_the_same(levels):
    image, other = grey(1, (2, 200, 160), levels)
    tensors = (torch.from_numpy(values.astype(np.int32)).cuda() for values in (image, other))
    found = window_wasserstein_tensor(*tensors, 32, levels)
    assert found.is_cuda
    np.testing.assert_array_equal(found.cpu().numpy(), numpy_way(image, other, 32, levels))


def test_a_window_of_a_tensor_must_fit():
    with pytest.raises(AnomapError, match="E200"):
        window_wasserstein_tensor(torch.zeros(1, 5, 5), torch.zeros(1, 5, 5), 6, 256)


# ---- narrow types: whole images, regions, squares


@given(
    seed=st.integers(0, 999),
    rows=SIDES,
    columns=SIDES,
    levels=st.sampled_from([2, 200, 256, 4096, 65536]),
    share=st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_narrow_integers_score_like_wide_ones(seed, rows, columns, levels, share):
    image, other = grey(seed, (2, rows, columns), levels)
    image.flags.writeable = False
    mask = np.random.default_rng(seed).random(image.shape) < share
    wide = image.astype(np.int64), other.astype(np.int64)
    for region in (None, mask):
        np.testing.assert_array_equal(
            wasserstein(image, other, levels, region), wasserstein(*wide, levels, region), strict=True
        )
        np.testing.assert_array_equal(mean_squared_error(image, other, region), mean_squared_error(*wide, region))
    np.testing.assert_array_equal(window_mean_squared_error(image, other, 1), (wide[0] - wide[1]) ** 2)


def test_squares_of_a_long_row_do_not_overflow():
    dark, bright = np.zeros((1, 1, 40_000), np.uint8), np.full((1, 1, 40_000), 255, np.uint8)
    assert mean_squared_error(dark, bright)[0] == 255**2


@pytest.mark.parametrize("levels", [2, 200, 256, 257, 4096, 65536])
def test_grey_levels_are_those_of_the_plain_formula(levels):
    values = np.random.default_rng(levels).uniform(-1.1, 1.1, 100_000).astype(np.float32)
    values[:3] = -1, 0, 1
    before = values.copy()
    found = quantise(values, levels)
    np.testing.assert_array_equal(found, np.floor((np.clip(values.astype(float), -1, 1) + 1) * (levels - 1) / 2 + 0.5))
    assert found.dtype == (np.uint8 if levels <= 256 else np.uint16)
    np.testing.assert_array_equal(values, before)


# ---- when and how the compiled way is started


@pytest.fixture
def calls(monkeypatch):
    """Calls of the compiled way, by a meter that stands at zero."""
    module = sys.modules["anomap.scoring.wasserstein"]
    monkeypatch.setattr(module, "_METER", module._Meter())
    monkeypatch.setattr(module, "_PRICE", 3 * 64 * 64 * 256)
    found = []
    plain = compiled.window_areas
    monkeypatch.setattr(compiled, "window_areas", lambda *words: found.append(words) or plain(*words))
    return found


def test_small_work_does_not_wait_for_a_compiler(calls):
    image, other = grey(0, (1, 64, 64), 256)
    for expected in (0, 0, 0, 1, 2):  # the fourth image goes beyond the price
        window_wasserstein(image, other, 8, 256)
        assert len(calls) == expected


def test_large_work_is_compiled_at_once(calls):
    image, other = grey(0, (4, 64, 64), 256)
    window_wasserstein(image, other, 8, 256)
    assert len(calls) == 4


def test_without_numba_numpy_does_all(calls, monkeypatch):
    monkeypatch.setattr(compiled, "available", lambda: False)
    image, other = grey(0, (9, 64, 64), 256)
    np.testing.assert_array_equal(compiled_way(image, other, 8, 256), numpy_way(image, other, 8, 256))
    window_wasserstein(image, other, 8, 256)
    assert not calls


def test_numba_is_only_imported_when_it_pays():
    code = """if True:
        import sys, numpy as np
        from anomap.scoring.wasserstein import window_wasserstein
        window_wasserstein(np.zeros((1, 9, 9), np.uint8), np.ones((1, 9, 9), np.uint8), 3, 256)
        assert "numba" not in sys.modules
        sys.modules["numba"] = None  # as if it weren't installed
        from anomap.scoring import compiled
        assert not compiled.available()
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_where_nothing_can_be_kept_it_compiles_anyway(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])  # what numba finds on a read-only file system
    monkeypatch.setattr(compiled, "_kernel", compiled._kernel.__wrapped__)
    image, other = grey(0, (1, 30, 20), 256)
    np.testing.assert_array_equal(compiled_way(image, other, 7, 256), numpy_way(image, other, 7, 256))


def test_the_cache_lies_where_it_is_wanted(tmp_path):
    code = "from anomap.scoring import compiled; compiled._kernel()"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    assert list(tmp_path.rglob("*.nbi"))
