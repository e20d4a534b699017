"""The preview: right aspect, right place, worst first, and it says what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anomap import preview
from anomap.preview import HEAT, NOTHING, colour_map, render_preview
from anomap.scoring import shown_places
from anomap.types import Verdict
from tests.made import made_analysis


def _pixels(**options: object) -> np.ndarray:
    return np.asarray(render_preview(made_analysis(**options))).astype(int)


def _count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels - np.array(colour)).sum(axis=-1) < 6).sum())


def test_there_are_at_most_six_rows():
    few, many = _pixels(frames=6), _pixels(frames=9)
    assert few.shape == many.shape


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"), [(96, 128, (3.0, 2.0)), (128, 96, (1.0, 1.0)), (64, 64, (1.0, 2.5))]
)
def test_a_panel_has_the_physical_aspect_of_the_image(rows, columns, spacing):
    look = preview._look(made_analysis(rows=rows, columns=columns, spacing_mm=spacing))
    assert look.width / look.height == pytest.approx(columns * spacing[1] / (rows * spacing[0]), rel=0.01)
    assert max(look.width, look.height) == preview.PANEL


def test_the_scale_bar_has_the_length_it_states():
    """A white line of 50 mm: at 320 px over 288 mm that is 56 px."""
    page = Image.new("RGB", (400, 400))
    from PIL import ImageDraw

    look = preview._look(made_analysis(rows=96, columns=128, spacing_mm=(3.0, 2.0)))
    preview._scale_bar(ImageDraw.Draw(page), look, 0, 0)
    row = np.asarray(page)[look.height - 11]
    assert (row[:, 0] == preview.TEXT[0]).sum() == pytest.approx(50 * 320 / 288, abs=1.5)


def test_without_a_stated_spacing_there_is_no_scale_bar():
    assert preview._look(made_analysis(modality="DX", frames=1)).pixel_mm is None


def test_a_contour_runs_around_the_region_and_leaves_it_uncovered():
    analysis = made_analysis(frames=1, rows=96, columns=128, spacing_mm=(2.0, 2.0))
    look = preview._look(analysis)
    page = Image.new("RGB", (look.width, look.height))
    preview._outline(page, analysis, look, 0, (0, 0))
    drawn = np.asarray(page).any(axis=-1)
    rows, columns = np.nonzero(analysis.result.labels[0])
    zoom = look.width / 128
    inside = drawn[int(rows.mean() * zoom), int(columns.mean() * zoom)]
    assert not inside
    around = np.argwhere(np.all(np.asarray(page) == preview.REGION, axis=-1))
    assert around[:, 0].max() == pytest.approx((rows.max() + 1) * zoom, abs=zoom + 2)  # the number stands on top
    assert around[:, 1].max() == pytest.approx((columns.max() + 1) * zoom, abs=zoom + 2)


def test_a_region_of_one_pixel_in_a_large_image_stays_visible():
    analysis = made_analysis(modality="DX", frames=1, rows=1024, columns=900)
    labels = np.zeros((1, 1024, 900), np.uint16)
    labels[0, 500, 400] = 1
    region = replace(made_analysis(frames=1).result.regions[0], frame=0, bbox=(0, 500, 400, 0, 500, 400))
    analysis = replace(analysis, result=replace(analysis.result, labels=labels, regions=(region,)))
    assert _count(np.asarray(render_preview(analysis)).astype(int), preview.REGION) > 8


@pytest.mark.parametrize("what", ["top_window", "top_place", "top_change"])
def test_the_boxes_surround_the_highest_window_and_the_oddest_places(what):
    analysis = made_analysis(frames=2, rows=128, columns=128, spacing_mm=(1.0, 1.0))
    look = preview._look(analysis)
    page = Image.new("RGB", (look.width, look.height))
    corners = getattr(analysis.score_map, what)[0]
    preview._corners(ImageDraw.Draw(page), preview._box(analysis, look, 0, corners, (0, 0)))
    box = np.argwhere(np.asarray(page).any(axis=-1))
    row0, col0, row1, col1 = corners
    m = analysis.prepared.to_source[0]
    zoom = look.width / 128
    low = (m @ [row0 - 0.5, col0 - 0.5, 1])[:2] + 0.5
    high = (m @ [row1 - 0.5, col1 - 0.5, 1])[:2] + 0.5
    np.testing.assert_allclose(box.min(axis=0), low * zoom, atol=2)  # the line is two pixels wide
    np.testing.assert_allclose(box.max(axis=0), high * zoom, atol=2)


def test_the_oddest_place_is_drawn_and_named_where_there_is_one():
    analysis = made_analysis(frames=1)
    without = replace(analysis, score_map=replace(analysis.score_map, top_place=None))
    drawn, plain = (np.asarray(render_preview(each)).astype(int) for each in (analysis, without))
    assert _count(drawn, preview.PLACE) > 20
    assert _count(plain, preview.PLACE) == 0


def test_with_neighbours_the_place_least_like_them_is_drawn_and_named_instead():
    analysis = made_analysis(frames=2)
    assert shown_places(analysis.score_map)[1] is analysis.score_map.top_change
    assert "least like its neighbours (corners) 2.2 sd" in preview._caption(analysis, 1, 1)
    without = replace(analysis, score_map=replace(analysis.score_map, top_change=None))
    assert shown_places(without.score_map)[1] is analysis.score_map.top_place
    assert "oddest place (corners) 1.8 sd" in preview._caption(without, 1, 1)


def test_the_map_is_brighter_where_the_score_is_higher():
    lightness = colour_map(np.linspace(0, 1, 64)).astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) > 0).all()
    assert tuple(colour_map(np.array(1.0))) == HEAT[-1]


def test_missing_values_have_a_colour_of_their_own():
    assert tuple(colour_map(np.array(np.nan))) == NOTHING


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_colour_and_the_warning_strip_is_there(verdict):
    pixels = _pixels(verdict=verdict, frames=1)
    assert _count(pixels[:70], preview.VERDICTS[verdict]) > 500
    strip = pixels[-10:]
    assert _count(strip, preview.WARNING) > 0.8 * strip.shape[0] * strip.shape[1]


def test_the_same_analysis_gives_the_same_picture():
    np.testing.assert_array_equal(_pixels(), _pixels())


def test_a_long_cohort_description_is_cut_and_not_overprinted():
    analysis = made_analysis(frames=1)
    result = replace(analysis.result, cohort_description="very long description " * 30)
    pixels = np.asarray(render_preview(replace(analysis, result=result)))
    plain = np.asarray(render_preview(analysis))
    np.testing.assert_array_equal(pixels[:66, -200:], plain[:66, -200:])


def test_a_map_without_any_value_is_drawn_as_nothing():
    analysis = made_analysis(frames=1)
    scores = replace(analysis.score_map, maps={"wd": np.full_like(analysis.score_map.maps["wd"], np.nan)})
    assert _count(np.asarray(render_preview(replace(analysis, score_map=scores))).astype(int), NOTHING) > 10_000


def test_a_quick_look_is_stated_at_the_top_and_nowhere_else():
    full = made_analysis(verdict=Verdict.PASS)
    quick = replace(full, result=replace(full.result, every=4))
    one, two = (np.asarray(render_preview(analysis)) for analysis in (full, quick))
    rows = np.nonzero((one != two).any(axis=2))[0]
    assert rows.size
    assert rows.max() < 68  # the line below the head
