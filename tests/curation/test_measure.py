"""Measuring many images side by side: one that fails keeps its reason, what concerns the run is raised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomap.bundle import list_bundles
from anomap.curation import measure
from anomap.curation.index import shard_rows
from anomap.curation.load import load
from anomap.curation.measure import Models, projected
from anomap.curation.settings import INDEX_FILE
from anomap.errors import AnomapError
from tests.curation.conftest import CONFIG


@pytest.fixture
def items(whole, tree, toy_models):
    rows = [row for number in range(20) for row in shard_rows(whole / INDEX_FILE, number)]
    radiographs = [row for row in rows if row["path"].startswith("xr/")]
    return [item for row in radiographs for item in load([row], tree, list_bundles(toy_models), "auto")]


def models(toy_models):
    return Models(infos=list_bundles(toy_models), config=CONFIG, device="cpu")


def test_an_image_that_breaks_its_batch_is_the_only_one_without_scores(items, toy_models, monkeypatch):
    whole = measure.project
    bad = items[1].prepared.frame_ids[0]

    def project(prepared, *rest):
        if bad in prepared.frame_ids:
            raise AnomapError("E501", "the projection did not stay finite")
        return whole(prepared, *rest)

    monkeypatch.setattr(measure, "project", project)
    rows = [item.row for item in projected(items, models(toy_models))]
    assert [row["error"] for row in rows] == ["", "E501", "", ""]
    assert rows[1]["wd_patch"] is None
    assert all(rows[n]["wd_patch"] is not None for n in (0, 2, 3))


def test_an_image_without_a_body_is_a_row_and_its_neighbours_are_scored(items, toy_models):
    empty = replace(items[0].prepared, body=np.zeros_like(items[0].prepared.body))
    rows = [item.row for item in projected([replace(items[0], prepared=empty), *items[1:]], models(toy_models))]
    assert [row["error"] for row in rows] == ["E114", "", "", ""]


@pytest.mark.parametrize("code", ["E301", "E400", "E403"])
def test_what_concerns_the_whole_run_is_raised(items, toy_models, monkeypatch, code):
    def project(*_):
        raise AnomapError(code, "no")

    monkeypatch.setattr(measure, "project", project)
    with pytest.raises(AnomapError) as caught:
        projected(items, models(toy_models))
    assert caught.value.code == code
