"""Columns of a table as few bytes for a page: one plane of each byte of the numbers, then gzip.

Numbers of a column resemble each other in their first bytes; in planes these lie side by side and shrink. Texts that
repeat are numbered. Scores keep four digits: the page shows three.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.types import Float32

_KEPT_BITS = 14  # of the 24 of a number: an error of at most 1/32768 of it


class Pack:
    """Columns one after the other.

    Attributes:
        columns: What stands where, for the page: name, kind ("float32", "int32", "uint8", "uint16", "uint32" or
            "text"), start, count (of numbers, or bytes of text), and the column of the words that numbers stand for.
    """

    def __init__(self) -> None:
        self.columns: list[dict[str, Any]] = []
        self._parts: list[bytes] = []
        self._length = 0

    def numbers(self, name: str, values: npt.NDArray[Any]) -> None:
        """Add numbers: float32 or any kind of integer, which becomes int32."""
        kept = values if values.dtype == np.float32 else values.astype(np.int32)
        self._add(name, kept.dtype.name, len(kept), _planes(kept))

    def codes(self, name: str, values: Sequence[str]) -> None:
        """Add texts that repeat; "" is number 0, the others are numbered in their order."""
        words = sorted(set(values) | {""})
        number = {word: n for n, word in enumerate(words)}
        kind = np.min_scalar_type(len(words))
        codes = np.array([number[value] for value in values], kind)
        self.texts(f"{name} words", words)
        self._add(name, codes.dtype.name, len(codes), _planes(codes), words=f"{name} words")

    def texts(self, name: str, values: Sequence[str]) -> None:
        """Add texts of their own. A NUL, which no path holds, is left out."""
        joined = "\0".join(value.replace("\0", "") for value in values).encode("utf-8", "replace")
        self._add(name, "text", len(joined), joined)

    def compressed(self) -> bytes:
        """Everything, by gzip; the same bytes for the same columns."""
        return gzip.compress(b"".join(self._parts), compresslevel=6, mtime=0)

    def _add(self, name: str, kind: str, count: int, content: bytes, **more: Any) -> None:
        self.columns.append({"name": name, "kind": kind, "start": self._length, "count": count, **more})
        self._parts.append(content)
        self._length += len(content)


def rounded(values: Float32) -> Float32:
    """The nearest numbers with fewer bits. NaN and infinity stay."""
    mantissa, exponent = np.frexp(values)
    scale = np.float32(1 << _KEPT_BITS)
    return np.ldexp(np.rint(mantissa * scale) / scale, exponent).astype(np.float32)


def _planes(values: npt.NDArray[Any]) -> bytes:
    """The first bytes of all numbers, then all second ones, ...; little-endian."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    return little.view(np.uint8).reshape(len(values), values.dtype.itemsize).T.tobytes()
