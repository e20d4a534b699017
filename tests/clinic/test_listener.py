"""Row 24 and its neighbours: peers that say half a word, nothing, too much or nonsense. The node shrugs."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from anomap.dicom.phantom import write_ct_phantom
from tests.clinic.watch import clinic, counter, memory_mb, threads
from tests.clinic.wire import CT, Gone, Peer, associate_request, data_pdus, echo, part10, store_command, store_files
from tests.service.clinic import Node, eventually

SILENCE_S, SLOTS, ROOM_MB = 2.0, 4, 40.0
LATE_S = 2.0  # the machine may be busy
Rude = Callable[[Peer], None]


@pytest.fixture(scope="module")
def node(toy_models, tmp_path_factory) -> Iterator[Node]:
    """No analysis starts here: a worker that loads torch would hide what the listener takes."""
    limits = {"silence_s": SILENCE_S, "max_associations": SLOTS, "max_object_mb": 64}
    with clinic(tmp_path_factory.mktemp("node"), toy_models, listen=limits, work={"quiet_s": 600.0}) as running_node:
        yield running_node


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return part10(write_ct_phantom(tmp_path_factory.mktemp("ct"), slices=1, rows=64, columns=64)[0])


def works(node: Node, folder, seed: int) -> bool:
    """A good echo and a good store right now."""
    paths = write_ct_phantom(folder / f"good-{seed}", slices=1, rows=64, columns=64, seed=seed)
    return echo(node.port) and store_files(node.port, paths) == [0]


def silent(peer: Peer) -> None:
    """Connects and says nothing."""


def half_header(peer: Peer) -> None:
    peer.send(b"\x01\x00\x00")


def half_request(peer: Peer) -> None:
    peer.send(associate_request([CT])[:-30])


def half_data(peer: Peer) -> None:
    peer.associate([CT])
    peer.send(data_pdus(1, store_command(CT[0], "1.2.3"), bytes(9000))[:-4000])


def half_message(peer: Peer) -> None:
    """Whole PDUs, but the message lacks its last one."""
    peer.associate([CT])
    peer.send(data_pdus(1, store_command(CT[0], "1.2.3"), bytes(40000))[: -6 - 8006])


def idle(peer: Peer) -> None:
    """An association without a message."""
    peer.associate([CT])


def four_gigabytes(peer: Peer) -> None:
    peer.send(struct.pack(">BBL", 1, 0, 2**32 - 1) + bytes(2000))


def four_gigabytes_of_data(peer: Peer) -> None:
    peer.associate([CT])
    peer.send(struct.pack(">BBL", 4, 0, 2**32 - 1) + bytes(2000))


def random_bytes(peer: Peer) -> None:
    peer.send(np.random.default_rng(1).integers(0, 256, 5000, np.uint8).tobytes())


def random_data(peer: Peer) -> None:
    """A PDU of data with noise inside."""
    peer.associate([CT])
    peer.send(struct.pack(">BBL", 4, 0, 5000) + np.random.default_rng(2).integers(0, 256, 5000, np.uint8).tobytes())


RUDE: dict[str, Rude] = {
    "silence before the request": silent,
    "half a PDU header": half_header,
    "half an association request": half_request,
    "half a data PDU": half_data,
    "a message without its end": half_message,
    "an association without a word": idle,
    "a request of 4 GB": four_gigabytes,
    "a data PDU of 4 GB": four_gigabytes_of_data,
    "random bytes": random_bytes,
    "random bytes as a data PDU": random_data,
}
RUDE_ROWS = [
    pytest.param(rude, id=name, marks=pytest.mark.fault(24, name, "slots freed within the silence, memory flat"))
    for name, rude in RUDE.items()
]


@pytest.mark.parametrize("rude", RUDE_ROWS)
def test_a_rude_peer_on_every_slot_is_dropped_in_time(rude, node, tmp_path, seen):
    before, start = memory_mb(node), time.monotonic()
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port)) for _ in range(SLOTS)]
        for peer in peers:
            rude(peer)
        for peer in peers:
            left = start + SILENCE_S + LATE_S - time.monotonic()
            assert peer.closed_within(max(left, 0.01)), f"{time.monotonic() - start:.1f} s"
        freed = time.monotonic() - start
    eventually(lambda: echo(node.port), "the slots are free", LATE_S)
    assert works(node, tmp_path, list(RUDE.values()).index(rude))
    grown = memory_mb(node) - before
    seen(f"all {SLOTS} slots free after {freed:.1f} s (silence {SILENCE_S:g} s), memory {grown:+.0f} MB")
    assert grown < ROOM_MB


def _trickle(node: Node, data: bytes, start: int, associated: bool) -> float:
    """Send bytes one by one; seconds until the node has had enough."""
    with Peer(node.port) as peer:
        if associated:
            peer.associate([CT])
        peer.send(data[:start])
        began = time.monotonic()
        for at in range(start, len(data)):
            try:
                peer.send(data[at : at + 1])
            except Gone:
                break
            if peer.closed_within(0.2):
                break
            assert time.monotonic() - began < 4 * SILENCE_S, "it is still patient"
        return time.monotonic() - began


@pytest.mark.fault(24, "a slow trickle within a PDU", "slot freed within the silence")
def test_a_trickle_within_a_pdu_is_cut_off(node, tmp_path, seen):
    seconds = _trickle(node, associate_request([CT]), 50, associated=False)
    seen(f"closed after {seconds:.1f} s (silence {SILENCE_S:g} s)")
    assert SILENCE_S * 0.5 < seconds < SILENCE_S + LATE_S
    assert works(node, tmp_path, 50)


@pytest.mark.fault(24, "a slow trickle of tiny PDUs", "slot freed soon after the silence: below 4 KiB/s")
def test_a_trickle_of_small_pdus_is_cut_off(node, tmp_path, seen):
    """Each PDU is whole and in time; the message never ends."""
    with Peer(node.port) as peer:
        peer.associate([CT])
        message = data_pdus(1, store_command(CT[0], "1.2.3"), bytes(4000), size=10)
        size = 6 + 6 + 10
        peer.send(message[: -400 * size])
        began = time.monotonic()
        while not peer.closed_within(0.3):
            assert time.monotonic() - began < 4 * SILENCE_S, "it is still patient"
            try:
                peer.send(message[-400 * size : -399 * size])
            except Gone:
                break
        seconds = time.monotonic() - began
    seen(f"closed after {seconds:.1f} s (silence {SILENCE_S:g} s)")
    assert seconds < SILENCE_S + LATE_S + 1
    assert works(node, tmp_path, 51)


@pytest.mark.fault(24, "connections that close at once, as port scans and health checks do", "hold no slot")
def test_closed_connections_hold_no_slot(node, seen):
    for _ in range(3):
        for _ in range(2 * SLOTS):
            Peer(node.port).close()
        began = time.monotonic()
        eventually(lambda: echo(node.port), "a good peer gets in", SILENCE_S / 2)
    seen(f"{6 * SLOTS} connections; a good peer is let in after {time.monotonic() - began:.2f} s")


@pytest.mark.fault(24, "200 connections without a word", "bounded threads and memory; works after the silence")
def test_a_crowd_of_connections_is_turned_away(node, tmp_path, seen):
    before = memory_mb(node)
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(node.port)) for _ in range(200)]
        turned = sum(peer.closed_within(0.01) for peer in peers)
        most = threads(node)
        eventually(lambda: echo(node.port), "the crowd has gone", SILENCE_S + LATE_S)
    grown = memory_mb(node) - before
    seen(f"{turned} turned away at once, at most {most} threads, memory {grown:+.0f} MB")
    assert turned > 100  # a busy machine closes some later than they are looked at
    assert most < 100
    assert grown < ROOM_MB
    assert counter(node, "anomap_associations_lost")["crowded"] >= 1
    assert works(node, tmp_path, 52)


@pytest.mark.fault(24, "100 objects of 1 MB without waiting for an answer", "read one by one, memory flat")
def test_a_peer_that_waits_for_no_answer_fills_no_memory(node, image, seen):
    before, most = memory_mb(node), 0.0
    filler = b"\xfc\xff\xfc\xff" + b"OB\0\0" + struct.pack("<L", 2**20) + bytes(2**20)
    message = data_pdus(1, store_command(image.sop_class, image.uid), image.data + filler, 60000)
    with Peer(node.port, patience=60) as peer:
        peer.associate([CT])
        for _ in range(100):
            peer.send(message)
            most = max(most, memory_mb(node))
        statuses = [peer.status() for _ in range(100)]
    seen(f"100 answers, memory at most {most - before:+.0f} MB")
    assert statuses == [0] * 100
    assert most - before < ROOM_MB


def _send_and_wait(peer: Peer, message: bytes) -> None:
    peer.send(message)
    peer.status()


@pytest.mark.fault(24, "an object beyond max_object_mb", "association ends, memory flat")
def test_an_endless_object_is_cut_off(node, image, tmp_path, seen):
    before = memory_mb(node)
    message = data_pdus(1, store_command(image.sop_class, image.uid), image.data + bytes(80 * 2**20), 60000)
    with Peer(node.port, patience=60) as peer:
        peer.associate([CT])
        with pytest.raises(Gone):
            _send_and_wait(peer, message)
    assert works(node, tmp_path, 53)
    eventually(lambda: memory_mb(node) - before < ROOM_MB, "memory given back", 40)
    seen(f"cut off at 64 MB; memory {memory_mb(node) - before:+.0f} MB afterwards")
