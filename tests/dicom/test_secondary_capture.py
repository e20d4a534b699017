"""Secondary Capture: valid, marked as derived with burnt-in text, pixels as drawn."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.secondary_capture import build_secondary_capture
from tests.dicom.tools import analysed, complaints, saved


@pytest.mark.parametrize("write", [write_ct_phantom, write_radiograph_phantom], ids=["CT", "DX"])
def test_a_capture_is_valid_and_holds_the_picture(write, tmp_path):
    write(tmp_path / "in", rows=64, columns=64)
    analysis = analysed(tmp_path / "in")
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path = saved(build_secondary_capture(analysis.series, picture, analysis.result), tmp_path / "sc.dcm")
    assert complaints(path) == []
    dataset = pydicom.dcmread(path)
    np.testing.assert_array_equal(dataset.pixel_array, picture)
    assert dataset.BurnedInAnnotation == "YES"
    assert dataset.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert dataset.StudyInstanceUID == analysis.series.headers[0].StudyInstanceUID
    assert dataset.SeriesInstanceUID != analysis.series.headers[0].SeriesInstanceUID
    assert "NOT A DIAGNOSIS" in dataset.SeriesDescription
    again = build_secondary_capture(analysis.series, picture, analysis.result)
    assert saved(again, tmp_path / "2.dcm").read_bytes() == path.read_bytes()
