"""Orthanc routes to the node and gets its results back, with the files that sites are given."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.clinic.results import CT_RESULTS, RADIOGRAPH_RESULTS, require_one_set, require_valid, results_of
from tests.clinic.shipped import PASSWORD, SHIPPED, ShippedNode, ShippedOrthanc
from tests.service.clinic import eventually, free_port, running, storescu

NAME = "Yamada^Tarou=山田^太郎=やまだ^たろう"
BEYOND_STABLE_S = 4.0  # StableAge is 1 s here, and Orthanc looks once a second


@dataclass
class Clinic:
    orthanc: ShippedOrthanc
    node: ShippedNode
    jobs: int = 0

    def settle(self) -> None:
        """Until all that is stable is routed and analysed, and nothing follows."""
        time.sleep(BEYOND_STABLE_S)
        eventually(lambda: set(self.node.states()) == {"done"}, "all jobs done")
        eventually(lambda: set(self.orthanc.jobs()) <= {"Success"}, "all jobs of Orthanc done")

    def send(self, *paths: Path) -> None:
        assert storescu(self.orthanc.dicom, "ORTHANC", *paths) == 0

    def wait(self, more: int) -> None:
        """Until so many more jobs are done."""
        self.jobs += more
        self.node.wait(*["done"] * self.jobs)

    def images(self, reception: str) -> int:
        return len(self.node.events(f"image_{reception}"))

    def counts(self) -> tuple[int, int, int]:
        """What a routing loop would change: objects in the archive, jobs there, jobs of the node."""
        return len(self.orthanc.get("/instances")), len(self.orthanc.jobs()), len(self.node.states())


@pytest.fixture(scope="module")
def clinic(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    """Started once; every test has a patient of its own."""
    port, folder = free_port(), tmp_path_factory.mktemp("clinic")
    orthanc = ShippedOrthanc(folder / "orthanc", port)
    node = ShippedNode(folder / "node", toy_models, orthanc, port)
    with running(orthanc, node):
        yield Clinic(orthanc, node)


def write_named(paths: list[Path]) -> list[Path]:
    """Give a study a name that ASCII can't hold."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = NAME
        dataset.save_as(path)
    return paths


def test_series_come_back_as_results_once_and_without_a_loop(clinic: Clinic, tmp_path: Path):
    ct = write_named(write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64, patient_id="A1"))
    (radiograph,) = write_radiograph_phantom(tmp_path / "dx", rows=128, columns=104, patient_id="A2")
    before, ignored = clinic.counts(), len(clinic.node.events("object_ignored"))
    clinic.send(tmp_path / "ct", tmp_path / "dx")
    clinic.wait(2)
    sets = [
        require_one_set(clinic.orthanc, ct[0], CT_RESULTS),
        require_one_set(clinic.orthanc, radiograph, RADIOGRAPH_RESULTS),
    ]

    for source, results in zip((ct[0], radiograph), sets, strict=True):
        image = pydicom.dcmread(source)
        for result in results:
            assert (result.PatientID, str(result.PatientName)) == (image.PatientID, str(image.PatientName))
            assert result.SeriesInstanceUID != image.SeriesInstanceUID
            found = clinic.orthanc.found(SOPInstanceUID=str(result.SOPInstanceUID))
            (row,) = [row for row in found if row["00080018"]["Value"] == [str(result.SOPInstanceUID)]]
            assert row["0020000D"]["Value"] == [image.StudyInstanceUID]
            assert row["00100020"]["Value"] == [image.PatientID]
    assert str(sets[0][-1].PatientName) == NAME
    require_valid([*sets[0], *sets[1]], tmp_path / "back")

    clinic.settle()
    counts = clinic.counts()
    assert counts == (before[0] + 5 + 1 + 5, before[1] + 2, before[2] + 2)
    time.sleep(BEYOND_STABLE_S)  # results have become stable series by now
    assert clinic.counts() == counts
    assert len(clinic.node.events("object_ignored")) == ignored  # none was even offered


def test_the_node_itself_drops_results_that_are_sent_to_it(clinic: Clinic, tmp_path: Path):
    paths = write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64, patient_id="A3")
    clinic.send(tmp_path / "ct")
    clinic.wait(1)
    ignored, known = len(clinic.node.events("object_ignored")), clinic.images("known")
    (study,) = clinic.orthanc.post("/tools/lookup", pydicom.dcmread(paths[0]).StudyInstanceUID.encode())
    clinic.orthanc.post("/modalities/anomap/store", {"Resources": [study["ID"]], "Synchronous": True})
    clinic.settle()
    dropped = clinic.node.events("object_ignored")[ignored:]
    assert [line["code"] for line in dropped] == ["E116"] * len(CT_RESULTS)
    assert clinic.images("known") == known + 5
    require_one_set(clinic.orthanc, paths[0], CT_RESULTS)


def test_a_resend_starts_nothing(clinic: Clinic, tmp_path: Path):
    paths = write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64, patient_id="A4")
    clinic.send(tmp_path / "ct")
    clinic.wait(1)
    clinic.settle()
    before, known = clinic.counts(), clinic.images("known")
    clinic.send(tmp_path / "ct")  # to the archive
    assert storescu(clinic.node.port, "ANOMAP", tmp_path / "ct", calling="ORTHANC") == 0  # and past it
    clinic.settle()
    assert clinic.counts() == before
    assert clinic.images("known") == known + 5  # the archive passed nothing on

    (image,) = clinic.orthanc.post("/tools/lookup", pydicom.dcmread(paths[0]).SOPInstanceUID.encode())
    clinic.orthanc.delete(image["Path"])
    clinic.send(tmp_path / "ct")  # one is new to the archive: the series becomes stable again
    clinic.settle()
    assert clinic.counts() == before
    assert clinic.images("known") == known + 5


def test_late_slices_make_a_report_that_replaces_the_first(clinic: Clinic, tmp_path: Path):
    paths = write_ct_phantom(tmp_path / "ct", slices=7, rows=64, columns=64, patient_id="A5")
    clinic.send(*paths[:5])  # without the last two: a gap within would be refused
    clinic.wait(1)
    first = require_one_set(clinic.orthanc, paths[0], CT_RESULTS)[-1]
    assert "PredecessorDocumentsSequence" not in first

    clinic.send(*paths[5:])
    clinic.wait(1)
    found = results_of(clinic.orthanc, paths[0])
    assert [str(dataset.Modality) for dataset in found] == ["OT", "OT", "SEG", "SEG", "SR", "SR"]
    (second,) = [dataset for dataset in found if dataset.Modality == "SR" and dataset != first]
    (study,) = second.PredecessorDocumentsSequence
    (item,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert study.StudyInstanceUID == first.StudyInstanceUID
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID
    assert (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) == (first.SOPClassUID, first.SOPInstanceUID)
    (evidence,) = second.CurrentRequestedProcedureEvidenceSequence
    assert 7 in [len(entry.ReferencedSOPSequence) for entry in evidence.ReferencedSeriesSequence]
    require_valid(found, tmp_path / "back")
    clinic.settle()
    assert [job["images"] for job in clinic.node.status()["jobs"]][:2] == [7, 5]


def test_what_the_node_missed_is_sent_when_it_is_back(toy_models: Path, tmp_path: Path):
    port = free_port()
    orthanc = ShippedOrthanc(tmp_path / "orthanc", port)
    node = ShippedNode(tmp_path / "node", toy_models, orthanc, port)
    first = write_ct_phantom(tmp_path / "a", slices=5, rows=64, columns=64, seed=1, patient_id="B1")
    second = write_ct_phantom(tmp_path / "b", slices=5, rows=64, columns=64, seed=2, patient_id="B2")
    with running(orthanc):
        assert storescu(orthanc.dicom, "ORTHANC", tmp_path / "a") == 0
        eventually(lambda: orthanc.jobs() == ["Failure"], "the first series couldn't be sent")
        orthanc.stop()  # the job outlives a restart
        orthanc.start()
        eventually(lambda: orthanc.jobs() == ["Failure"], "the job is still there")
        with running(node):
            assert storescu(orthanc.dicom, "ORTHANC", tmp_path / "b") == 0
            node.wait("done", "done")
            for paths in (first, second):
                require_one_set(orthanc, paths[0], CT_RESULTS)
            assert orthanc.jobs() == ["Success", "Success"]


def test_retry_sh_has_orthanc_try_again(toy_models: Path, tmp_path: Path):
    port = free_port()
    orthanc = ShippedOrthanc(tmp_path / "orthanc", port)
    node = ShippedNode(tmp_path / "node", toy_models, orthanc, port)
    paths = write_ct_phantom(tmp_path / "a", slices=5, rows=64, columns=64)
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login anomap password {PASSWORD}\n")
    with running(orthanc):
        assert storescu(orthanc.dicom, "ORTHANC", tmp_path / "a") == 0
        eventually(lambda: orthanc.jobs() == ["Failure"], "the series couldn't be sent")
        with running(node):
            words = [str(SHIPPED / "retry.sh"), orthanc.url, str(tmp_path / "netrc")]
            run = subprocess.run(words, capture_output=True, text=True, check=False)
            assert (run.returncode, run.stdout.count("sent again")) == (0, 1), run.stderr
            node.wait("done")
            require_one_set(orthanc, paths[0], CT_RESULTS)
            assert orthanc.jobs() == ["Success"]
            again = subprocess.run(words, capture_output=True, text=True, check=True)
            assert again.stdout == ""
