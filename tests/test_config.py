"""AnalyzeConfig: checked when made, hashed by what matters."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError


@pytest.mark.parametrize(
    "options",
    [
        {"steps": -1},
        {"batch_size": 0},
        {"time_limit_s": 0.0},
        {"time_limit_s": float("nan")},
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"outputs": ("sr", "pdf")},
        {"alpha_review": 0.001},
        {"alpha_review": 1.0},
        {"alpha_reject": 0.0},
    ],
)
def test_a_wrong_option_is_refused_with_a_code(options):
    with pytest.raises(AnomapError, match="E200"):
        AnalyzeConfig(**options)


def test_the_hash_covers_exactly_what_can_change_a_result():
    changed = {
        "model": "cxr", "preset": "paper", "steps": 5, "batch_size": 2, "device": "cpu", "outputs": ("sr",),
        "overwrite": True, "allow_gaps": True, "identified": True, "time_limit_s": 9.0,
        "cohort": (__file__,), "alpha_review": 0.1, "alpha_reject": 0.02, "score_weights": (("wd_patch", 2.0),),
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(AnalyzeConfig)}
    plain = AnalyzeConfig()
    for name, value in changed.items():
        same = replace(plain, **{name: value}).sha256("cpu") == plain.sha256("cpu")
        assert same == (name in {"batch_size", "device", "overwrite", "identified", "time_limit_s"}), name
    assert plain.sha256("cpu") != plain.sha256("cuda")


def test_the_order_of_outputs_does_not_matter():
    assert AnalyzeConfig(outputs=("sr", "seg")).sha256("cpu") == AnalyzeConfig(outputs=("seg", "sr")).sha256("cpu")


def test_the_device_counts_as_what_it_became():
    assert AnalyzeConfig(device="auto").sha256("cpu") == AnalyzeConfig(device="cpu").sha256("cpu")


def test_the_configuration_is_json():
    assert json.loads(json.dumps(AnalyzeConfig().as_dict()))["outputs"] == ["sr", "seg", "pm", "png"]


def test_the_dictionary_is_a_way_there_and_back():
    config = AnalyzeConfig(
        cohort=("a.json",), score_weights=(("wd_patch", 2.0),), steps=3, outputs=("sr", "sc"), device="cpu"
    )
    assert AnalyzeConfig.from_dict(config.as_dict()) == config


@pytest.mark.parametrize("values", [["steps"], {"stepps": 3}, {"outputs": 5}, {"steps": "many"}, {"steps": -1}])
def test_a_dictionary_that_is_not_understood_is_refused(values):
    with pytest.raises(AnomapError, match="E200"):
        AnalyzeConfig.from_dict(values)
