"""What belongs to a study in an archive, and whether it is all, once and valid."""

from __future__ import annotations

from pathlib import Path

import pydicom

from tests.dicom.tools import complaints, saved
from tests.service.clinic import Orthanc

CT_RESULTS = ["OT", "SEG", "SR"]  # Parametric Map, regions, report
RADIOGRAPH_RESULTS = ["SEG", "SR"]


def results_of(orthanc: Orthanc, source: Path) -> list[pydicom.Dataset]:
    """What anomap made of the study of an image, the report last."""
    study = pydicom.dcmread(source, specific_tags=["StudyInstanceUID"]).StudyInstanceUID
    found = [dataset for dataset in orthanc.results() if dataset.StudyInstanceUID == study]
    return sorted(found, key=lambda dataset: str(dataset.Modality))


def require_one_set(orthanc: Orthanc, source: Path, modalities: list[str]) -> list[pydicom.Dataset]:
    """Exactly one object of each kind, all that the archive holds of anomap for the study."""
    found = results_of(orthanc, source)
    assert [str(dataset.Modality) for dataset in found] == modalities
    return found


def require_valid(datasets: list[pydicom.Dataset], folder: Path) -> None:
    """What came back from the archive has no error that dciodvfy knows."""
    folder.mkdir()
    for number, dataset in enumerate(datasets):
        assert complaints(saved(dataset, folder / f"{number}.dcm")) == []
