"""Columns for the page: what went in comes out, and it is small."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
import pytest

from anomap.curation.pack import Pack, rounded


def unpacked(pack: Pack) -> dict[str, Any]:
    """What the page's script makes of it."""
    content = gzip.decompress(pack.compressed())
    found: dict[str, Any] = {}
    for column in pack.columns:
        part = content[column["start"] :]
        if column["kind"] == "text":
            found[column["name"]] = part[: column["count"]].decode().split("\0")
            continue
        kind = np.dtype(column["kind"]).newbyteorder("<")
        planes = np.frombuffer(part[: column["count"] * kind.itemsize], np.uint8)
        values = np.ascontiguousarray(planes.reshape(kind.itemsize, -1).T).view(kind).ravel()
        found[column["name"]] = [found[column["words"]][code] for code in values] if "words" in column else values
    return found


@pytest.mark.parametrize("count", [1, 3, 300])
def test_what_went_in_comes_out(count):
    rng = np.random.default_rng(count)
    floats = rng.normal(size=count).astype(np.float32)
    floats[0] = np.nan
    integers = rng.integers(-(2**31), 2**31, count)
    texts = [f"a/ü{n}" for n in range(count)]
    words = [str(word) for word in rng.choice(["", "x", "<y>"], count)]
    many = [f"w{n}" for n in range(count)]
    pack = Pack()
    pack.codes("words", words)
    pack.numbers("floats", floats)
    pack.texts("texts", texts)
    pack.numbers("integers", integers)
    pack.codes("many", many)
    found = unpacked(pack)
    assert (found["words"], found["texts"], found["many"]) == (words, texts, many)
    np.testing.assert_array_equal(found["floats"], floats)
    np.testing.assert_array_equal(found["integers"], integers)
    assert pack.columns[-1]["kind"] == ("uint16" if count == 300 else "uint8")


def test_a_nul_in_a_text_moves_no_other_text():
    pack = Pack()
    pack.codes("reason", ["a\0b", "c"])
    assert unpacked(pack)["reason"] == ["ab", "c"]


def test_rounding_keeps_three_digits_and_what_is_no_number():
    values = np.random.default_rng(0).lognormal(0, 20, 2000).astype(np.float32)
    np.testing.assert_allclose(rounded(values), values, rtol=2.0**-14)
    special = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1, -2.5], np.float32)
    np.testing.assert_array_equal(rounded(special), special)


def test_rounded_numbers_take_less_room():
    values = np.random.default_rng(0).gamma(3, 2, 20_000).astype(np.float32)
    sizes = []
    for numbers in (values, rounded(values)):
        pack = Pack()
        pack.numbers("score", numbers)
        sizes.append(len(pack.compressed()))
    assert sizes[1] < 0.7 * sizes[0] < 0.7 * values.nbytes
