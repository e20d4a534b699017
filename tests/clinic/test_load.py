"""500 images over 8 associations at once: nothing is lost, nothing is done twice, memory stays where it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pytest

from anomap.dicom.phantom import write_ct_phantom
from anomap.service.spool import key_of
from tests.clinic.watch import clinic, counter, jobs_of, memory_mb
from tests.clinic.wire import CT, Gone, Part10, Peer, part10
from tests.service.clinic import eventually, open_state

SERIES, SLICES, SENDERS, SLOTS = 20, 25, 8, 6  # fewer slots than senders: some are refused and try again
ROOM_MB, SECONDS = 30.0, 120.0
ANALYSED = 2


class Senders:
    """Peers that send interleaved slices of all series, each on its own association, and try again when refused."""

    def __init__(self, port: int) -> None:
        self.port, self.refused = port, 0
        self.answers: list[int] = []
        self._lock = threading.Lock()

    def send(self, files: Sequence[Part10]) -> None:
        """Send some on one association after the other; each carries 16 images."""
        left, until = list(files), time.monotonic() + SECONDS
        while left:
            assert time.monotonic() < until, "the node is too slow"
            with Peer(self.port) as peer:
                try:
                    peer.associate([CT])
                except Gone:  # over the limit: later again
                    with self._lock:
                        self.refused += 1
                    time.sleep(0.05)
                else:
                    for file in left[:16]:
                        answer = peer.store(file.sop_class, file.uid, file.data)
                        with self._lock:
                            self.answers.append(answer)
                    peer.release()
                    left = left[16:]
                    time.sleep(0.2)  # whoever was refused comes in meanwhile


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> list[list[Path]]:
    base = tmp_path_factory.mktemp("load")
    return [
        write_ct_phantom(base / str(n), slices=SLICES, rows=64, columns=64, seed=n, patient_id=f"P{n}")
        for n in range(SERIES)
    ]


@pytest.mark.fault(0, f"{SERIES * SLICES} images over {SENDERS} associations, {SLOTS} allowed", "nothing lost or twice")
def test_nothing_is_lost_under_load(series, toy_models, tmp_path, seen):
    files = [part10(path) for slices in zip(*series, strict=True) for path in slices]
    keys = {key_of(str(pydicom.dcmread(paths[0]).SeriesInstanceUID)) for paths in series}
    settings = {
        "listen": {"max_associations": SLOTS}, "work": {"quiet_s": 10.0}, "analysis": {"steps": 0, "outputs": ["sr"]}
    }  # fmt: skip
    with clinic(tmp_path / "node", toy_models, **settings) as node:
        senders, memory, done = Senders(node.port), [], threading.Event()

        def watch() -> None:
            """Only before the first analysis: a worker loads torch."""
            while not done.is_set() and not node.workers():
                memory.append(memory_mb(node))
                done.wait(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(senders.send, [files[n::SENDERS] for n in range(SENDERS)]))
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
        assert senders.answers == [0] * (SERIES * SLICES)
        assert senders.refused > 0
        assert counter(node, "anomap_images_received") == {"new": SERIES * SLICES}
        kept = {path.stem: path for path in (node.state / "images").glob("*/*.dcm")}
        assert {key_of(file.uid) for file in files} == set(kept)
        assert all(part10(kept[key_of(file.uid)]).data == file.data for file in files)
        jobs = jobs_of(node)
        assert set(jobs) == keys
        assert {len(of_series) for of_series in jobs.values()} == {1}
        quarter = max(len(memory) // 4, 1)
        first, last = max(memory[:quarter]), max(memory[-quarter:])
        assert len(memory) >= 8
        assert last - first < ROOM_MB, f"memory grew from {first:.0f} to {last:.0f} MB"
        eventually(lambda: [j["state"] for j in node.status()["jobs"]].count("done") >= ANALYSED, "analyses", 90)
        analysed = [job for job in node.status()["jobs"] if job["state"] == "done"]
        assert {job["images"] for job in analysed} == {SLICES}
        _, database = open_state(node.state)
        (journal,) = database.connection.execute("PRAGMA integrity_check").fetchone()
        database.close()
        assert journal == "ok"
    seen(
        f"{SERIES * SLICES} images in {seconds:.1f} s, {senders.refused} associations refused and tried again, "
        f"memory at most {first:.0f} MB in the first quarter and {last:.0f} MB in the last"
    )
