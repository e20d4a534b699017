"""The bundles that ship: whole, small enough, described, and measured with the very weights that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anomap import NOT_A_DIAGNOSIS
from anomap.bundle import list_bundles, load_bundle, read_cohort, verify
from anomap.calibration import REGION_SHARE
from anomap.scoring import SCORES, SERIES_SCORES

ROOT = Path(__file__).parents[1]
MODELS = {info.name: info for info in list_bundles(ROOT / "models")}
RESULTS = ROOT / "benchmarks" / "results"
LIMIT_BYTES = 16 * 2**20


def test_there_is_one_for_radiographs_and_one_for_ct():
    kinds = {info.spec.kind: info for info in MODELS.values()}
    assert set(kinds) == {"radiograph", "ct"}
    assert {"CR", "DX"} <= set(kinds["radiograph"].modalities)


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_unchanged_and_small(name):
    verify(MODELS[name])
    for path in (ROOT / "models" / name).rglob("*"):
        assert path.is_dir() or path.stat().st_size <= LIMIT_BYTES, path


@pytest.mark.parametrize("name", MODELS)
def test_a_bundle_loads_with_all_that_the_fast_preset_needs(name):
    bundle = load_bundle(MODELS[name].folder)
    assert bundle.encoder is not None
    assert bundle.cohort is not None


@pytest.mark.parametrize("name", MODELS)
def test_the_cohort_is_of_these_weights_and_regions_are_rare_in_it(name):
    cohort = read_cohort(MODELS[name])
    assert cohort is not None
    ct = MODELS[name].spec.kind == "ct"
    assert set(cohort.names) == set(SCORES) - (set() if ct else set(SERIES_SCORES))
    peaks = cohort.scores[:, cohort.names.index("wd_patch")]
    assert (peaks > cohort.region_threshold).mean() <= REGION_SHARE + 0.02


@pytest.mark.parametrize("name", MODELS)
def test_the_card_says_what_a_reader_must_know(name):
    card = (MODELS[name].folder / "docs" / "README.md").read_text()
    assert NOT_A_DIAGNOSIS in card
    assert MODELS[name].sha256[:12] in card
    for heading in ("Training data", "Population", "Preprocessing", "Limits", "Training", "Quality"):
        assert f"## {heading}" in card, heading
    assert (MODELS[name].folder / "docs" / "samples.png").is_file()
    assert (MODELS[name].folder / "LICENSE").is_file()


@pytest.mark.parametrize("name", MODELS)
def test_the_figures_are_those_of_these_weights(name):
    measured = json.loads((RESULTS / f"quality-{name}.json").read_text())
    assert measured["bundle"]["sha256"] == MODELS[name].sha256
    table = (RESULTS / f"quality-{name}.md").read_text().strip()
    assert table in (MODELS[name].folder / "docs" / "README.md").read_text()


@pytest.mark.parametrize("name", MODELS)
def test_the_frechet_figure_stands_in_the_card_with_its_controls(name):
    figures = MODELS[name].training["frechet_pca"]
    card = (MODELS[name].folder / "docs" / "README.md").read_text()
    for value in figures.values():
        assert f"{value:.2f}" in card


def test_nothing_of_the_machine_stands_in_the_metadata():
    for info in MODELS.values():
        for path in info.folder.rglob("*.json"):
            text = path.read_text()
            assert "/work" not in text
            assert "/home" not in text
