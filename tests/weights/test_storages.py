"""Tensors as PyTorch pickles them, whole, in views, and impossible."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomap.errors import AnomapError
from anomap.weights.pickles import read_pickle
from anomap.weights.storages import read_storage, rebuild_tensor
from anomap.weights.stylegan2_ada import NAMES


def stored(tensor: torch.Tensor) -> bytes:
    """The bytes inside a pickled tensor."""
    file = io.BytesIO()
    torch.save(tensor.storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickled_tensor_comes_back(dtype, protocol):
    tensor = (torch.arange(24).reshape(2, 3, 4) % 7).to(dtype)
    for view in (tensor, tensor.transpose(0, 2), tensor[:, 1:, ::2], torch.nn.Parameter(tensor, requires_grad=False)):
        read = read_pickle(io.BytesIO(pickle.dumps(view, protocol)), NAMES)
        np.testing.assert_array_equal(read, view.numpy())


def test_scalars_and_channels_last_tensors_come_back():
    for tensor in (torch.tensor(2.5), torch.zeros(0), torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)):
        np.testing.assert_array_equal(read_pickle(io.BytesIO(pickle.dumps(tensor)), NAMES), tensor.numpy())


def test_numbers_of_numpy_come_back():
    for number in (np.float64(0.1), np.float32(0.1), np.int64(-3), np.bool_(True)):
        assert read_pickle(io.BytesIO(pickle.dumps(number)), NAMES) == number


def test_a_storage_in_the_newer_format_is_refused():
    file = io.BytesIO()
    torch.save(torch.zeros(3).storage(), file)
    with pytest.raises(AnomapError, match="E304"):
        read_storage(file.getvalue())


@given(st.integers(0, 10**30), st.lists(st.integers(0, 10**30) | st.just(0), max_size=4), st.integers(0, 10**30))
def test_no_view_reaches_beyond_its_storage(offset, size, step):
    storage = np.arange(10.0)
    try:
        view = rebuild_tensor(storage, offset % 12, tuple(size), (step,) * len(size))
    except (AnomapError, ValueError, OverflowError):  # the last two: too large for numpy; the reader makes them E304
        return
    assert view.size <= len(storage)
    view.sum()


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (11,), (1,)), (8, (3,), (1,)), (0, (5,), (3,)), (-1, (2,), (1,)), (0, (-2,), (1,)), (0, (3,), (-1,)),
     (0, (10**9,), (0,)), (0, (2, 2), (1,)), (0, (1,) * 9, (1,) * 9), (0.0, (1,), (1,)), (0, [1], [1])],
)  # fmt: skip
def test_impossible_tensors_are_refused(offset, size, stride):
    with pytest.raises(AnomapError, match="E304"):
        rebuild_tensor(np.zeros(10, np.float32), offset, size, stride)


def test_a_storage_that_announces_more_than_it_holds_is_refused():
    content = stored(torch.zeros(100))
    with pytest.raises(AnomapError, match="cut short"):
        read_storage(content[:-1])
    count = (100).to_bytes(8, "little")
    at = content.rindex(count)
    with pytest.raises(AnomapError, match="another length"):
        read_storage(content[:at] + (2**40).to_bytes(8, "little") + content[at + 8 :])
