"""Where slices lie: as the headers say, behind gaps too, and as the affine says without headers."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import ReadConfig, read_study
from anomap.preprocessing.positions import slice_positions

OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6)


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
@pytest.mark.parametrize("reverse", [False, True])
def test_neighbours_are_as_far_apart_as_the_slices(tmp_path, orientation, reverse):
    more = {"orientation": orientation, "reverse": reverse, "spacing_mm": (4.0, 3.0, 3.0)}
    write_ct_phantom(tmp_path, slices=5, rows=32, columns=32, **more)
    series = read_study(tmp_path).series[0]
    for made in (series, replace(series, headers=())):
        np.testing.assert_allclose(np.abs(np.diff(slice_positions(made))), 4.0, atol=1e-4)


def test_behind_a_gap_the_headers_are_right(tmp_path):
    paths = write_ct_phantom(tmp_path, slices=8, rows=32, columns=32, spacing_mm=(4.0, 3.0, 3.0))
    for path in paths[2:5]:
        path.unlink()
    series = read_study(tmp_path, ReadConfig(allow_gaps=True)).series[0]
    found = slice_positions(series)
    np.testing.assert_allclose(np.abs(np.diff(found)), [4.0, 16.0, 4.0, 4.0], atol=1e-4)
    assert pydicom.dcmread(paths[0]).SOPInstanceUID == series.frame_ids[0]
    np.testing.assert_allclose(slice_positions(series.frames(slice(2, 4))), found[2:4])


def test_a_radiograph_lies_nowhere_whatever_its_header_says(tmp_path):
    write_radiograph_phantom(tmp_path, rows=40, columns=32)
    series = read_study(tmp_path).series[0]
    series.headers[0].ImagePositionPatient = None  # as some devices leave it
    assert slice_positions(series).tolist() == [0.0]
