"""Hostile pickles: each is refused in one line, and none runs anything."""

from __future__ import annotations

import builtins
import collections
import functools
import io
import os
import pickle
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anomap.errors import AnomapError
from anomap.weights.pickles import Ignored, read_pickle
from anomap.weights.stylegan2_ada import NAMES, read_networks
from tests.weights.published import Shape, dump, snapshot

PROTO = b"\x80\x04"
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def read(content: bytes):
    return read_pickle(io.BytesIO(content), NAMES)


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def named(module: str, name: str) -> bytes:
    return short(module) + short(name) + b"\x93"


def long_bytes(size: int) -> bytes:
    return b"\x8e" + struct.pack("<Q", size)


@given(plain, st.integers(3, 5))
def test_plain_values_come_back_as_pickle_itself_reads_them(value, protocol):
    assert read(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_no_call_is_made(protocol, tmp_path: Path):
    canary = tmp_path / "canary"
    for bad in [
        Call(os.system, f"touch {canary}"),
        Call(builtins.eval, f"open({str(canary)!r}, 'w')"),
        Call(functools.partial(os.system), f"touch {canary}"),
        Call(builtins.getattr, canary, "touch"),
        Call(builtins.__import__, "os"),
        Call(torch.hub.load, str(tmp_path), "x"),
    ]:
        with pytest.raises(AnomapError, match="E304") as caught:
            read(pickle.dumps({"G_ema": bad}, protocol))
        assert "\n" not in str(caught.value)
    assert not canary.exists()


def test_the_canary_would_have_sung(tmp_path: Path):
    pickle.loads(pickle.dumps(Call(os.system, f"touch {tmp_path / 'canary'}")))
    assert (tmp_path / "canary").exists()


def test_a_payload_inside_a_tensor_is_met_by_the_same_reader(tmp_path: Path):
    canary = tmp_path / "canary"
    inner = io.BytesIO()
    torch.save(Call(os.system, f"touch {canary}"), inner, _use_new_zipfile_serialization=False)
    for content in (inner.getvalue(), pickle.dumps(Call(os.system, f"touch {canary}"))):
        with pytest.raises(AnomapError, match=r"E304 .* asks for 'posix\.system'"):
            read(pickle.dumps(Call(torch.storage._load_from_bytes, content)))
    assert not canary.exists()


NO_CALLS = {
    "a dotted name": (named("builtins", "eval.__call__") + b")R.", "'builtins.eval.__call__'"),
    "a known module's other name": (named("torch_utils.persistence", "_src_to_module") + b")R.", "_src_to_module"),
    "a name with line breaks": (named("a\nb", "c\x1b[31m") + b".", r"'a\?b.c\?\[31m'"),
    "a very long name": (short("m") + b"X" + struct.pack("<I", 10**6) + b"n" * 10**6 + b"\x93.", "'m.nnn"),
    "a name that is no text": (b"K\x01K\x02\x93.", "no text"),
    "INST": (b"(S'touch'\nios\nsystem\n.", "MARK|STRING|INST"),
    "OBJ": (b"(" + named("collections", "OrderedDict") + b"o.", "OBJ"),
    "an extension": (b"\x82\x01.", "EXT1"),
    "a persistent id": (b"K\x01Q.", "BINPERSID"),
    "a persistent id in text": (b"P1\n.", "PERSID"),
    "NEWOBJ_EX": (named("collections", "OrderedDict") + b")}\x92.", "NEWOBJ_EX"),
    "a state for a dict": (b"}}b.", "a state"),
    "a state for a name": (named("collections", "OrderedDict") + b"}b.", "a state"),
    "a call of a text": (short("eval") + b")R.", "no permitted name"),
    "a call of a result": (named("collections", "OrderedDict") + b")R)R.", "no permitted name"),
    "arguments that are no tuple": (named("collections", "OrderedDict") + b"]R.", "no permitted name"),
    "unusual arguments": (named("collections", "OrderedDict") + b"]\x85R.", "unusual arguments"),
    "a storage type called": (named("torch", "FloatStorage") + b")R.", "FloatStorage"),
    "a tensor of nothing": (named("torch._utils", "_rebuild_tensor_v2") + b"(K\x01K\x00))tR.", "storage"),
    "a module without form": (named("torch_utils.persistence", "_reconstruct_persistent_obj") + b"}\x85R.", "form"),
    "a tuple as a key": (b"})N" + b"s.", "a key"),
    "an item for a list": (b"]K\x01K\x02s.", "no dict"),
    "an append to a dict": (b"}K\x01a.", "no list"),
    "a mark as a value": (b"((" + b"l.", "LIST|mark"),
    "a mark remembered": (b"(\x94.", "mark"),
    "no mark": (b"K\x01t.", "without beginning"),
    "an empty stack": (b"R.", "damaged"),
    "an unknown memo": (b"h\x05.", "damaged"),
    "no opcode": (b"\xff.", "damaged"),
    "nothing": (b"", "damaged|early"),
    "not a pickle": (b"\x89PNG\r\n\x1a\n", "refused"),
    "bytes longer than the file": (long_bytes(2**62) + b"x.", "damaged"),
    "a text longer than the file": (b"X\xff\xff\xff\x7fx.", "damaged"),
    "a number of a gigabyte": (b"\x8b\x00\x00\x00\x40x.", "damaged"),
    "a number of many digits": (b"L" + b"9" * 100_000 + b"L\n.", "damaged"),
    "a buffer from outside": (b"\x97.", "NEXT_BUFFER"),
}


@pytest.mark.parametrize("case", NO_CALLS)
def test_what_a_file_does_not_need_is_refused_in_one_line(case):
    content, names = NO_CALLS[case]
    with pytest.raises(AnomapError, match=names) as caught:
        read(PROTO + content)
    assert caught.value.code == "E304"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def peak_bytes(content: bytes) -> int:
    """Memory at its highest while `content` is read or refused."""
    tracemalloc.start()
    try:
        with suppress(AnomapError):
            read(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_bomb_needs_memory_or_time():
    laughs = (
        PROTO
        + b"]\x94"
        + b"".join(b"](" + b"h" + bytes([i]) + (b"h" + bytes([i])) + b"e\x94" for i in range(200))
        + b"."
    )
    tuples = b"K\x01\x94" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(200))
    assert peak_bytes(laughs) < 1e6
    assert peak_bytes(PROTO + tuples + b"\x8f(h\xc8\x90.") < 1e6  # a set: hashing it would take 2^200 steps
    assert peak_bytes(PROTO + tuples + b"}h\xc8Ns.") < 1e6  # a key
    assert peak_bytes(PROTO + b"K\x01r\xff\xff\xff\x7f.") < 1e6  # a memo of 2^31 places
    assert peak_bytes(PROTO + long_bytes(2**40) + b".") < 1e6
    name = named("torch_utils.persistence", "_reconstruct_persistent_obj")
    meta = b"}(" + short("type") + short("class") + short("state") + b"}" + short("class_name") + b"h\xc8u"
    assert peak_bytes(PROTO + tuples + name + meta + b"\x85R.") < 1e6  # a name that would be long to write out


def test_too_many_instructions_are_refused():
    with pytest.raises(AnomapError, match="more than 10 instructions"):
        read_pickle(io.BytesIO(PROTO + b"N0" * 100 + b"N."), {}, limit=10)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share, tmp_path: Path):
    content = dump(snapshot(Shape()))
    path = tmp_path / "cut.pkl"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AnomapError, match="E304"):
        read_networks(path)


@given(st.data())
def test_a_damaged_file_is_read_or_refused_and_never_crashes(data):
    content = bytearray(DAMAGED)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(AnomapError):  # any other exception fails the test
        read(bytes(content))


DAMAGED = dump({"G_ema": snapshot(Shape())["G_ema"].state["_modules"]["mapping"]})


def test_an_ordered_dict_is_a_dict_and_an_array_is_ignored():
    given = collections.OrderedDict(a=1, b=np.arange(3), c={1, 2})
    value = read(pickle.dumps(given, 4))
    assert list(value) == ["a", "b", "c"]
    assert value["b"] == Ignored()
