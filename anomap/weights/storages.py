"""Tensors inside a pickle: PyTorch's older ``torch.save`` format, read into numpy.

When a module is pickled whole, each tensor holds its storage as bytes that are a small ``torch.save`` file of the
format before PyTorch 1.6: five pickles (magic number, protocol, machine, the storage as a persistent id, list of
keys), then for each key the number of elements as int64 and the elements. PyTorch's own reader of such bytes,
``torch.storage._load_from_bytes``, unpickles them without restriction; this one uses `read_pickle` again.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np

from anomap.weights.pickles import Builder, Name, read_pickle, refuse

MAGIC = 0x1950A86A20F9469CFC6C
MAX_AXES = 8
MAX_OPCODES = 200  # of each of the five pickles; real ones have a few dozen
_TYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


def _uncallable(*_: Any) -> None:
    refuse("a storage made without its bytes")


_NAMES: dict[str, Builder] = dict.fromkeys(_TYPES, _uncallable)


def read_storage(content: bytes) -> np.ndarray:
    """The elements of the one storage that `content` holds, a read-only view into it.

    Raises:
        AnomapError: E304 when it is anything else.
    """
    if not isinstance(content, bytes):
        refuse("a storage that is no bytes")
    source = io.BytesIO(content)
    if read_pickle(source, {}, limit=MAX_OPCODES) != MAGIC:
        refuse("a tensor in another format than that of torch.save before PyTorch 1.6")
    for _ in ("protocol version", "machine"):
        read_pickle(source, {}, limit=MAX_OPCODES)
    code, count = read_pickle(source, _NAMES, _described, limit=MAX_OPCODES)
    keys = read_pickle(source, {}, limit=MAX_OPCODES)
    if not isinstance(keys, list) or len(keys) != 1:
        refuse("a storage in several parts")
    size = source.read(8)
    start = source.tell()
    if len(size) != 8 or struct.unpack("<q", size)[0] != count:
        refuse("a storage of another length than announced")
    if not 0 <= count <= (len(content) - start) // np.dtype(code).itemsize:
        refuse("a storage that is cut short")
    return np.frombuffer(content, code, count, start)


def _described(identity: Any) -> tuple[str, int]:
    """Data type and number of elements of ('storage', type, key, location, count, view)."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        refuse("a persistent id that is no storage")
    kind, count = identity[1], identity[4]
    if not isinstance(kind, Name) or not isinstance(count, int):
        refuse("a storage of no known type")
    return _TYPES[kind.text], count


def rebuild_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> np.ndarray:
    """A view of `storage` as ``torch._utils._rebuild_tensor_v2`` would make it; bounds are checked first.

    Raises:
        AnomapError: E304 when it would reach beyond the storage or have more elements than it.
    """
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or len(size) != len(stride) or len(size) > MAX_AXES:
        refuse("a tensor of impossible shape")
    numbers = (offset, *size, *stride)
    if not isinstance(storage, np.ndarray) or not all(isinstance(n, int) and n >= 0 for n in numbers):
        refuse("a tensor that is not described by a storage and numbers")
    last = offset + sum(max(n - 1, 0) * step for n, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count > len(storage) or (count and last >= len(storage)):
        refuse("a tensor that reaches beyond its storage")
    if not count:
        return np.zeros(size, storage.dtype)
    steps = [n * storage.itemsize for n in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
