"""What an input is: DICOM in a folder, zip or file; or CT volumes in NIfTI files."""

from __future__ import annotations

from pathlib import Path

from anomap.dicom.read import ReadConfig, Study, read_study
from anomap.errors import AnomapError
from anomap.nifti import is_nifti, read_nifti
from anomap.types import Skipped


def read_source(source: Path, config: ReadConfig) -> Study:
    """Read an input.

    Args:
        source: DICOM folder, zip or file; a NIfTI file; or a folder of nothing but NIfTI files (and .json), all of them
            volumes of one patient.
        config: How to read DICOM.

    Raises:
        AnomapError: As `anomap.dicom.read.read_study`, or the first of `anomap.nifti.read_nifti` when no volume can be
            used.
    """
    files = nifti_files(source)
    if not files:
        return read_study(source, config)
    series, errors = [], []
    for path in files:
        try:
            series.append(read_nifti(path))
        except AnomapError as error:
            if error.code == "E203":
                raise
            errors.append((path, error))
    if not series:
        raise errors[0][1]
    skipped = tuple(Skipped(name=path.name, code=error.code, reason=error.message) for path, error in errors)
    return Study(series=tuple(series), skipped=skipped)


def nifti_files(source: Path) -> list[Path]:
    """The NIfTI files of an input, sorted by name; none when it is to be read as DICOM.

    A folder of DICOM files with a NIfTI file among them is one of DICOM.
    """
    if not source.is_dir():
        return [source] if is_nifti(source) else []
    visible = sorted(path for path in source.iterdir() if not path.name.startswith(".") and path.suffix != ".json")
    return visible if all(path.is_file() and is_nifti(path) for path in visible) else []
