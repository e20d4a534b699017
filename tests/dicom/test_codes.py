"""The code table: published as it is, without a disease in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

from anomap.dicom import codes

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"


def test_generated_page_is_up_to_date():
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(codes.page())
    assert PAGE.read_text() == codes.page()


def test_values_of_the_private_scheme_are_frozen():
    assert [(code.value, code.meaning) for code in codes.PRIVATE] == [
        ("ANM-Q1", "Mean squared residual"),
        ("ANM-Q2", "Residual Wasserstein distance"),
        ("ANM-Q3", "Absolute residual"),
        ("ANM-Q4", "Latent vector distance"),
        ("ANM-Q5", "Combined score"),
        ("ANM-Q6", "Feature residual"),
        ("ANM-Q7", "Feature distance"),
        ("ANM-Q8", "Largest local feature distance"),
        ("ANM-Q9", "Largest local feature distance from neighbouring slices"),
        ("ANM-Q10", "Mean local feature distance from neighbouring slices"),
        ("ANM-M1", "Latent projection onto a generator"),
        ("ANM-M2", "Comparison of features of a generative model's discriminator"),
        ("ANM-R1", "Unusual region"),
        ("ANM-G1", "Gate"),
        ("ANM-G2", "Pass"),
        ("ANM-G3", "Review"),
        ("ANM-G4", "Reject"),
    ]


# pydicom's tables hold the context groups of PS3.16; UCUM composes units freely, and NCIt is there in part.
NOT_IN_TABLES = (codes.P_VALUE, codes.HU_SQUARED, codes.ML, codes.PIXELS)
LISTED = [c for c in codes.STANDARD if c.scheme_designator in concepts and c not in NOT_IN_TABLES]


@pytest.mark.parametrize("code", LISTED, ids=str)
def test_standard_codes_are_those_of_the_standard(code):
    """The code values in pydicom's tables are an independent list."""
    known = concepts[code.scheme_designator]
    assert code.value in {value for entry in known.values() for value in entry}
    meanings = {entry[code.value][0].lower() for entry in known.values() if code.value in entry}
    assert code.meaning.lower().split(" - ")[0].split(" (")[0] in " ".join(meanings)


def test_units_of_scores():
    assert codes.score_unit("wd_patch", "HU") == codes.HU
    assert codes.score_unit("mse_full", "HU") == codes.HU_SQUARED
    assert codes.score_unit("w_distance", "HU") == codes.NO_UNITS
    assert codes.score_unit("wd_patch", "grey level") == codes.NO_UNITS


def test_the_scheme_declares_itself():
    (item,) = codes.coding_scheme_identification()
    assert item.CodingSchemeDesignator == "99ANOMAP"
    assert item.CodingSchemeUID.startswith("2.25.")
