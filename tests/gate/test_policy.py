"""A policy is read strictly, and says why a series may not go on."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from anomap.errors import AnomapError
from anomap.gate.policy import policy_from_dict, read_policy
from anomap.gate.tiers import Quick
from anomap.types import ImageSeries, Verdict


def ct(**tags):
    header = Dataset()
    for keyword, value in {"BodyPartExamined": "CHEST", **tags}.items():
        setattr(header, keyword, value)
    affine = np.zeros((4, 4))
    affine[0, 2], affine[1, 1], affine[2, 0], affine[3, 3] = 0.8, 0.8, 5.0, 1.0
    return ImageSeries(
        pixels=np.zeros((20, 64, 80), np.float32), unit="HU", affine=affine, modality="CT",
        frame_ids=tuple(map(str, range(20))), valid=np.ones((20, 64, 80), bool), headers=(header,) * 20,
    )  # fmt: skip


def radiograph(**tags):
    series = ct(**tags)
    one = series.pixels[:1]
    return replace(
        series, pixels=one, valid=one == 0, frame_ids=("a",), headers=series.headers[:1], unit="1", modality="DX"
    )


@pytest.mark.parametrize(
    ("checks", "word"),
    [
        ({"modality": ["DX", "CR"]}, "modality is CT"),
        ({"body_part": ["ABDOMEN"]}, "body part"),
        ({"slices": [30, 900]}, "number of slices is 20"),
        ({"slice_spacing_mm": [1, 3]}, "slice spacing (mm) is 5"),
        ({"pixel_spacing_mm": [0.1, 0.5]}, "pixel spacing (mm) is 0.8"),
        ({"field_of_view_mm": [200, 500]}, "field of view (mm) is 64"),
    ],
)
def test_each_check_refuses_what_is_outside_and_nothing_else(checks, word):
    verdict, error = policy_from_dict({"checks": checks}).refusal(ct())
    assert verdict is Verdict.REJECT
    assert error.code == "E118"
    assert word in error.message
    assert policy_from_dict({"checks": {**checks, "on_failure": "review"}}).refusal(ct())[0] is Verdict.REVIEW


def test_what_is_met_is_not_refused():
    checks = {
        "modality": ["CT"], "body_part": ["LUNG", "abdomen"], "slices": [20, 20], "slice_spacing_mm": [5, 5],
        "pixel_spacing_mm": [0.5, 1], "field_of_view_mm": [60, 70], "view": ["PA"], "laterality": ["L"],
    }  # fmt: skip
    assert policy_from_dict({"checks": checks}).refusal(ct()) is None  # view and laterality ask radiographs only
    assert policy_from_dict({}).refusal(ct()) is None


@pytest.mark.parametrize(
    ("tags", "refused"), [({"ViewPosition": "PA"}, False), ({"ViewPosition": "LL"}, True), ({}, True)]
)
def test_a_view_is_asked_of_radiographs_and_an_absent_tag_fails(tags, refused):
    assert (policy_from_dict({"checks": {"view": ["PA", "AP"]}}).refusal(radiograph(**tags)) is not None) == refused


def test_absent_tags_pass_where_the_policy_says_so():
    checks = {"view": ["PA"], "laterality": ["R"], "pixel_spacing_mm": [0.1, 0.2], "when_unknown": "pass"}
    assert policy_from_dict({"checks": checks}).refusal(radiograph()) is None
    assert policy_from_dict({"checks": checks}).refusal(radiograph(ViewPosition="LL")) is not None


def test_a_message_repeats_no_text_of_the_header_that_could_be_anything():
    refused = policy_from_dict({"checks": {"view": ["PA"]}}).refusal(radiograph(ViewPosition="JOHN DOE"))
    assert "JOHN" not in refused[1].message


@pytest.mark.parametrize(
    "content",
    [
        {"alpha": 0.05},
        {"alpha_review": "0.05"},
        {"alpha_review": True},
        {"alpha_review": 0.001},
        {"weights": 3},
        {"weights": {"wd_patch": "much"}},
        {"checks": {"slices": 5}},
        {"checks": {"slices": [5]}},
        {"checks": {"slices": [9, 5]}},
        {"checks": {"on_failure": "pass"}},
        {"checks": {"body_part": ["SOUL"]}},
        {"quick": {"every": 1}},
        {"quick": {"every": 4, "margin": 0.5}},
        {"quick": 4},
    ],
)
def test_a_wrong_policy_is_refused(content):
    with pytest.raises(AnomapError, match="E200"):
        policy_from_dict(content)


def test_a_policy_is_a_toml_file(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("alpha_review = 0.1\n[weights]\nwd_patch = 2\n[checks]\nmodality = ['ct']\n[quick]\nevery = 3\n")
    policy = read_policy(path)
    assert policy.quick == Quick(every=3, margin=4.0)
    assert (policy.alpha_review, policy.weights, policy.checks.modality) == (0.1, {"wd_patch": 2.0}, ("CT",))
    path.write_text("alpha_review = ")
    for wrong in (path, tmp_path / "none.toml"):
        with pytest.raises(AnomapError, match="E200"):
            read_policy(wrong)
