"""Which model for which series, and the reason."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from anomap.bundle import BundleInfo
from anomap.domain import MAX_TILT_DEGREES, body_regions, choose_bundle
from anomap.errors import AnomapError
from anomap.types import ImageSeries, PreprocessSpec
from tests.made import made_analysis


def _info(name: str, modalities: tuple[str, ...], body_part: str) -> BundleInfo:
    kind = "ct" if modalities == ("CT",) else "radiograph"
    return BundleInfo(
        folder=Path(name), name=name, version="1", sha256="0" * 64, modalities=modalities, body_part=body_part,
        population="", spec=PreprocessSpec(kind=kind, size=32), window=4, levels=256, network={}, files={}, training={},
    )  # fmt: skip


CHEST = _info("cxr", ("CR", "DX"), "CHEST")
CT = _info("ct", ("CT",), "")
CT_ABDOMEN = _info("ct-abdomen", ("CT",), "ABDOMEN")
ALL = (CT, CT_ABDOMEN, CHEST)


def _series(modality: str, body_part: str | None = None) -> ImageSeries:
    series = made_analysis(modality=modality, frames=1).series
    header = Dataset()
    if body_part is not None:
        header.BodyPartExamined = body_part
    return replace(series, headers=(header,))


@pytest.mark.parametrize(
    ("modality", "body_part", "expected"),
    [
        ("DX", "CHEST", "cxr"),
        ("CR", "PORT CHEST", "cxr"),
        ("DX", None, "cxr"),
        ("DX", "", "cxr"),
        ("CT", "ABDOMEN", "ct-abdomen"),
        ("CT", "PANCREAS", "ct-abdomen"),
        ("CT", "CHEST_TO_PELVIS", "ct-abdomen"),
        ("CT", "HEAD", "ct"),
        ("CT", None, "ct"),
    ],
)
def test_modality_and_body_part_choose_the_model(modality, body_part, expected):
    info, reason = choose_bundle(_series(modality, body_part), ALL)
    assert info.name == expected
    assert expected in reason
    assert modality in reason


def test_of_several_that_fit_the_quickest_is_taken_and_finer_ones_by_name():
    fine = replace(CHEST, name="a-finer-one", spec=replace(CHEST.spec, size=64))
    assert choose_bundle(_series("DX", "CHEST"), (fine, CHEST))[0].name == "cxr"
    assert choose_bundle(_series("DX"), (fine, CHEST))[0].name == "cxr"
    assert choose_bundle(_series("DX", "CHEST"), (fine, CHEST), "a-finer-one")[0].name == "a-finer-one"


@pytest.mark.parametrize("body_part", ["HAND", "KNEE", "PELVIS", "SKULL"])
def test_a_radiograph_of_something_else_is_outside_the_domain(body_part):
    with pytest.raises(AnomapError, match="E113"):
        choose_bundle(_series("DX", body_part), ALL)


def test_an_unknown_word_for_the_body_part_is_not_repeated():
    _, reason = choose_bundle(_series("DX", "ZZPHI CANARY"), ALL)
    assert "ZZPHI" not in reason


def test_no_model_for_the_modality_is_outside_the_domain():
    with pytest.raises(AnomapError, match="E113"):
        choose_bundle(_series("CT"), (CHEST,))


def test_an_empty_model_folder_is_no_domain_question():
    with pytest.raises(AnomapError, match="E300"):
        choose_bundle(_series("CT"), ())


def test_a_model_asked_for_by_name_is_taken_in_spite_of_the_body_part():
    assert choose_bundle(_series("DX", "HAND"), ALL, "cxr")[0] is CHEST


def test_a_model_asked_for_by_name_must_exist_and_suit_the_modality():
    with pytest.raises(AnomapError, match="E300"):
        choose_bundle(_series("DX"), ALL, "nothing")
    with pytest.raises(AnomapError, match="E113"):
        choose_bundle(_series("CT"), ALL, "cxr")


def _tilted(degrees: float, axis: int) -> ImageSeries:
    series = _series("CT")
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    a, b = [i for i in range(3) if i != axis]
    turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
    return replace(series, affine=turn @ series.affine)


@given(degrees=st.floats(-180, 180), axis=st.integers(0, 2))
def test_ct_slices_must_be_axial_whichever_way_they_face(degrees, axis):
    off = 0.0 if axis == 2 else min(abs(degrees), 180 - abs(degrees))
    if abs(off - MAX_TILT_DEGREES) < 1e-6:
        return
    if off < MAX_TILT_DEGREES:
        assert choose_bundle(_tilted(degrees, axis), ALL)[0] is CT
    else:
        with pytest.raises(AnomapError, match="E113") as raised:
            choose_bundle(_tilted(degrees, axis), ALL)
        (said,) = re.findall(r"tilted by (\d+) degrees", str(raised.value))
        assert abs(int(said) - off) < 0.501  # a half is rounded as the last digit of the cosine has it


@pytest.mark.parametrize(
    ("text", "regions"),
    [
        ("CHEST", {"CHEST"}),
        ("chest", {"CHEST"}),
        ("CHEST_ABDOMEN", {"CHEST", "ABDOMEN"}),
        ("ABDOMEN LIVER", {"ABDOMEN"}),
        ("CTCHEST", {"CHEST"}),
        ("ABD PELV", {"ABDOMEN", "PELVIS"}),
        ("WHOLEBODY", {"HEAD", "NECK", "CHEST", "ABDOMEN", "PELVIS", "EXTREMITY"}),
        ("", set()),
        ("SPECIAL", set()),
    ],
)
def test_body_parts_are_understood_as_scanners_write_them(text, regions):
    assert body_regions(text) == regions
