"""A soak: many studies, and kills at random of workers, node and archive; in the end one result set for each series.

make soak        24 studies, 18 kills, writes benchmarks/results/soak.json
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pydicom

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.evaluation.machine import describe_machine
from tests.service.clinic import ROOT, Node, Orthanc, dicom_archive, eventually, free_port, kill, running, storescu

STUDIES = int(os.environ.get("SOAK_STUDIES", "4"))
KILLS = int(os.environ.get("SOAK_KILLS", "3"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
REPORT = os.environ.get("SOAK_JSON")
QUIET_S = 4.0  # longer than the node takes to come back, so that a series that was cut off is sent again in time


@dataclass
class Sender:
    """A modality that sends its studies one after the other, each until it has been taken."""

    folders: list[Path]
    port: int
    attempts: int = 0
    thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for folder in self.folders:
            while True:
                self.attempts += 1
                if storescu(self.port, Node.title, folder, words=["-to", "5", "-ta", "5", "-td", "20"]) == 0:
                    break
                time.sleep(0.2)


def studies(folder: Path) -> list[Path]:
    """Small CT series and, every third, a radiograph; each of a patient of its own."""
    made = []
    for seed in range(STUDIES):
        place, patient = folder / f"{seed:02d}", {"patient_id": f"SOAK{seed}", "patient_name": f"Soak^{seed}"}
        if seed % 3 == 2:
            write_radiograph_phantom(place, rows=96, columns=80, seed=seed, **patient)
        else:
            write_ct_phantom(place, slices=3 + seed % 4, rows=64, columns=64, seed=seed, **patient)
        made.append(place)
    return made


def hurt(what: str, node: Node, orthanc: Orthanc) -> None:
    """Kill a part with SIGKILL, and start again what nobody else would."""
    if what == "worker":
        for pid in node.workers():
            kill(pid)
    elif what == "node":
        node.kill()
        node.start()
    else:
        assert orthanc.process is not None
        orthanc.process.send_signal(signal.SIGKILL)
        orthanc.process.wait()
        orthanc.start()


def test_random_kills_lose_nothing_and_double_nothing(toy_models, tmp_path):
    chance = random.Random(SEED)
    folders = studies(tmp_path / "studies")
    sources = {path.name: pydicom.dcmread(next(path.iterdir()), stop_before_pixels=True) for path in folders}
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    # Kills count as attempts: here they are many.
    work = {"workers": 2, "quiet_s": QUIET_S, "attempts": 100}
    node = Node(tmp_path / "node", toy_models, [dicom_archive(orthanc, attempts=1000)], port, work=work)
    start, killed = time.monotonic(), Counter()
    with running(orthanc, node):
        sender = Sender(folders, port)
        sender.start()
        for number in range(KILLS):
            time.sleep(chance.uniform(0.5, 5.0))
            # Each kind at least once, then as it comes.
            what = ("worker", "node", "archive")[number] if number < 3 else chance.choice(("worker", "node", "archive"))
            hurt(what, node, orthanc)
            killed[what] += 1
        sender.thread.join(300)
        assert not sender.thread.is_alive(), "a study was never taken"
        eventually(lambda: set(node.states()) == {"done"}, f"all jobs done; {node.log()[-1500:]}", 600)
        results, status = orthanc.results(), node.status()
        runs = len(node.events("job_started"))
    reports = Counter(str(r.PatientID) for r in results if r.Modality == "SR")
    maps = Counter(str(r.PatientID) for r in results if r.Modality == "OT")
    segmentations = Counter(str(r.PatientID) for r in results if r.Modality == "SEG")
    _write_report(killed, sender.attempts, runs, len(results), time.monotonic() - start)
    patients = {str(source.PatientID): source for source in sources.values()}
    assert reports == dict.fromkeys(patients, 1), "exactly one report a series"
    assert maps == {name: 1 for name, source in patients.items() if source.Modality == "CT"}
    assert max(segmentations.values()) == 1
    for result in results:
        assert result.StudyInstanceUID == patients[str(result.PatientID)].StudyInstanceUID
        assert "PredecessorDocumentsSequence" not in result, "no series was reported on before it was whole"
    assert len(status["jobs"]) == STUDIES
    assert [row["state"] for row in status["outbox"]] == ["confirmed"]


def _write_report(killed: Counter, attempts: int, runs: int, objects: int, seconds: float) -> None:
    """The figures of a run, written before they are judged: `make soak` asks for them."""
    if not REPORT:
        return
    content = {
        "format": "anomap.soak/1",
        "machine": describe_machine("cpu", ROOT),
        "studies": STUDIES,
        "seed": SEED,
        "kills": dict(killed),
        "times_sent": attempts,
        "analyses_started": runs,
        "result_objects": objects,
        "seconds": round(seconds, 1),
    }
    Path(REPORT).write_text(json.dumps(content, indent=1) + "\n")
