"""``preview.png``: input | reconstruction | map | regions, worst images first, readable without a manual.

The same page is the picture of the colour Secondary Capture. Everything is drawn on the
**source** grid with its true aspect ratio. Only Pillow and its own font are used: the same picture everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.calibration import worst_first
from anomap.preprocessing.geometry import box_to_source
from anomap.scoring import shown_places
from anomap.types import AnomalyResult, Bool, Float32, Int64, Region, Verdict

if TYPE_CHECKING:
    from anomap.pipeline import Analysis

UInt8 = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

MAX_ROWS = 6
MAX_LABELS = 9  # more numbers in one picture help nobody
PANEL = 320  # longest side of a picture in pixels
GAP = 12
MARGIN = 28
BAR = 84  # room for the colour bar and its numbers
PLACES = {"neighbour_patch": "least like its neighbours", "feature_patch": "oddest place"}  # in captions
TITLES = ("Input", "Reconstruction", "Residual map · window WD", "Regions")

BACKGROUND: Colour = (16, 18, 22)
CARD: Colour = (27, 30, 36)
TEXT: Colour = (236, 239, 243)
FAINT: Colour = (151, 159, 171)
NOTHING: Colour = (38, 42, 50)  # pixels without a value: neither black nor white, which are values
WARNING: Colour = (255, 201, 77)
REGION: Colour = (255, 92, 70)
OTHER_REGION: Colour = (255, 190, 92)
WINDOW: Colour = (96, 208, 255)
PLACE: Colour = (126, 231, 135)
VERDICTS: dict[Verdict, Colour] = {
    Verdict.PASS: (66, 176, 116),
    Verdict.REVIEW: (240, 168, 48),
    Verdict.REJECT: (226, 72, 66),
    Verdict.NOT_APPLICABLE: (120, 128, 142),
    Verdict.UNCALIBRATED: (92, 136, 214),
}
# Dark to light in even steps of lightness (CIE L* 5, 20, 38, 58, 78, 95): more is brighter, also in grey print.
HEAT: tuple[Colour, ...] = ((14, 14, 30), (52, 32, 98), (134, 46, 114), (226, 88, 74), (252, 172, 76), (255, 242, 190))


def render_preview(analysis: Analysis) -> Image.Image:
    """The whole preview, worst images first, at most `MAX_ROWS` rows."""
    look = _look(analysis)
    order = worst_first(analysis.result, analysis.score_map)[:MAX_ROWS]
    return _page(analysis, look, order)


def colour_map(values: npt.NDArray[Any]) -> UInt8:
    """Heat colours of values in [0, 1]; NaN becomes `NOTHING`. ``(...)`` -> ``(..., 3)``."""
    stops = np.linspace(0.0, 1.0, len(HEAT))
    filled = np.nan_to_num(np.clip(values, 0.0, 1.0))
    colours = np.stack([np.interp(filled, stops, [c[i] for c in HEAT]) for i in range(3)], axis=-1)
    colours[np.isnan(values)] = NOTHING
    return np.round(colours).astype(np.uint8)


def grey_picture(values: npt.NDArray[Any]) -> UInt8:
    """Black to white of values in [0, 1]; NaN becomes `NOTHING`. ``(...)`` -> ``(..., 3)``."""
    grey = np.round(np.nan_to_num(np.clip(values, 0.0, 1.0)) * 255).astype(np.uint8)
    colours = np.repeat(grey[..., None], 3, axis=-1)
    colours[np.isnan(values)] = NOTHING
    return colours


@dataclass(frozen=True, slots=True)
class _Look:
    """What all rows of a preview share: panel size, colour scale, length of the scale bar."""

    width: int
    height: int
    top: float  # map value at the top of the colour bar
    unit: str
    pixel_mm: float | None  # millimetres per panel pixel


def _look(analysis: Analysis) -> _Look:
    rows, columns = analysis.series.pixels.shape[1:]
    _, row_mm, column_mm = analysis.series.spacing_mm
    tall, wide = rows * row_mm, columns * column_mm
    zoom = PANEL / max(tall, wide)
    wd = analysis.score_map.maps["wd"]
    highest = float(np.nanmax(wd)) if np.isfinite(wd).any() else 0.0
    threshold = analysis.result.region_thresholds["wd_patch"]
    top = max(highest, 1.25 * threshold if np.isfinite(threshold) else 0.0, 1e-6)
    return _Look(
        width=max(1, round(wide * zoom)),
        height=max(1, round(tall * zoom)),
        top=top,
        unit="HU" if analysis.score_map.unit == "HU" else "grey levels",
        pixel_mm=1.0 / zoom if analysis.series.has_physical_spacing else None,
    )


def _page(analysis: Analysis, look: _Look, order: Sequence[int]) -> Image.Image:
    width = 2 * MARGIN + 4 * look.width + 3 * GAP + GAP + BAR
    width = max(width, 900)  # room for the header above narrow radiographs
    header, caption, footer = 112, 30, 44
    height = header + len(order) * (look.height + caption + GAP) + footer
    page = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(page)
    left = (width - (4 * look.width + 4 * GAP + BAR)) // 2
    _header(draw, analysis, width)
    for column, title in enumerate(TITLES):
        draw.text((left + column * (look.width + GAP), header - 24), title, FAINT, _font(14))
    for row, n in enumerate(order):
        top = header + row * (look.height + caption + GAP)
        _row(page, draw, analysis, look, n, left, top)
    _footer(draw, width, height, footer)
    return page


def _header(draw: ImageDraw.ImageDraw, analysis: Analysis, width: int) -> None:
    result, provenance = analysis.result, analysis.result.provenance
    name = str(result.verdict).replace("_", " ")
    font = _font(20)
    chip = draw.textlength(name, font) + 28
    draw.rounded_rectangle((MARGIN, 20, MARGIN + chip, 54), 8, VERDICTS[result.verdict])
    draw.text((MARGIN + chip / 2, 37), name, BACKGROUND, font, anchor="mm")
    cohort = _cohort_line(result)
    left = MARGIN + chip + 18
    for y, text, colour in ((28, _finding(result), TEXT), (48, cohort, FAINT)):
        draw.text((left, y), _fit(draw, text, _font(15), width - left - 240), colour, _font(15), anchor="lm")
    right = width - MARGIN
    kind = f"{analysis.series.modality}, {len(analysis.series.pixels)} image" + "s" * (len(analysis.series.pixels) > 1)
    model = f"{provenance['bundle_name']} {provenance['bundle_version']}"
    for y, text in ((28, kind), (48, model)):
        draw.text((right, y), text, FAINT, _font(14), anchor="rm")
    draw.line((MARGIN, 68, width - MARGIN, 68), CARD, 2)


def _finding(result: AnomalyResult) -> str:
    if not result.cohort_size:
        return "not calibrated: scores have no cohort to be compared with"
    regions = f"{len(result.regions)} unusual region" + "s" * (len(result.regions) != 1)
    look = f" · a quick look at one image in {result.every}" if result.every > 1 else ""
    return f"p = {result.p_value:.3g} · {regions}{look}"


def _cohort_line(result: AnomalyResult) -> str:
    if not result.cohort_size:
        return "cohort: none"
    return f"cohort: {result.cohort_description} (n = {result.cohort_size})"


def _row(
    page: Image.Image, draw: ImageDraw.ImageDraw, analysis: Analysis, look: _Look, n: int, left: int, top: int
) -> None:
    frame = int(analysis.score_map.frame[n])
    grey = _panel(_windowed(analysis.series.pixels[frame], analysis, n), look, grey_picture)
    fit = _panel(_windowed(analysis.reconstructed(n), analysis, n), look, grey_picture)
    wd = _panel(analysis.score_map.maps["wd"][frame] / np.float32(look.top), look, colour_map)
    pictures = (grey, fit, wd, grey)
    for column, picture in enumerate(pictures):
        at = left + column * (look.width + GAP)
        page.paste(picture, (at, top))
        draw.rectangle((at - 1, top - 1, at + look.width, top + look.height), outline=CARD)
    _scale_bar(draw, look, left, top)
    maps, regions = ((left + column * (look.width + GAP), top) for column in (2, 3))
    draw.rectangle(_box(analysis, look, n, analysis.score_map.top_window[n], maps), outline=WINDOW, width=2)
    _outline(page, analysis, look, frame, regions)
    shown = shown_places(analysis.score_map)
    if shown is not None:
        _corners(draw, _box(analysis, look, n, shown[1][n], regions))
    _colour_bar(page, draw, analysis.result.region_thresholds["wd_patch"], look, left + 4 * (look.width + GAP), top)
    caption = _fit(draw, _caption(analysis, n, frame), _font(14), 4 * look.width + 3 * GAP)
    draw.text((left, top + look.height + 8), caption, TEXT, _font(14))


def _windowed(pixels: Float32, analysis: Analysis, n: int) -> Float32:
    """Source pixels through the window of the model, ``(R, C)`` in [0, 1]."""
    prepared = analysis.prepared
    share = (pixels - np.float32(prepared.offset[n] - prepared.gain[n])) / np.float32(2 * prepared.gain[n])
    return np.clip(share, 0.0, 1.0, out=share)


def _panel(values: Float32, look: _Look, colours: Callable[[npt.NDArray[Any]], UInt8]) -> Image.Image:
    """A picture of ``(R, C)`` values at panel size.

    Enlarged smoothly once it has colours; shrunk by area before, which costs a tenth on large radiographs.
    """
    size = (look.width, look.height)
    if look.width > values.shape[1]:
        return Image.fromarray(colours(values)).resize(size, Image.Resampling.BICUBIC)
    known = np.isfinite(values)
    shrunk = _area_mean(np.where(known, values, np.float32(0)), size)
    if not known.all():
        share = _area_mean(known.astype(np.float32), size)
        shrunk = np.where(share >= 0.5, shrunk / np.maximum(share, 0.5), np.float32(np.nan))
    return Image.fromarray(colours(shrunk))


def _area_mean(values: Float32, size: tuple[int, int]) -> Float32:
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def _outline(page: Image.Image, analysis: Analysis, look: _Look, frame: int, at: tuple[int, int]) -> None:
    """Contours just outside the regions, with labels; the region with the highest value in red."""
    labels = analysis.result.labels[frame]
    panel = np.asarray(page.crop((*at, at[0] + look.width, at[1] + look.height))).copy()
    shown = [region for region in analysis.result.regions if (labels == region.label).any()]
    masks = [_enlarged(labels == region.label, look) for region in shown]
    first = analysis.result.regions[0].label if analysis.result.regions else 0
    colours = [REGION if region.label == first else OTHER_REGION for region in shown]
    for mask, colour in reversed(list(zip(masks, colours, strict=True))):
        panel[ndimage.binary_dilation(mask, iterations=3) & ~mask] = (0, 0, 0)
        panel[ndimage.binary_dilation(mask, iterations=2) & ~mask] = colour
    page.paste(Image.fromarray(panel), at)
    draw = ImageDraw.Draw(page)
    for region, mask, colour in list(zip(shown, masks, colours, strict=True))[:MAX_LABELS]:
        _label(draw, region, mask, at, colour)


def _enlarged(mask: Bool, look: _Look) -> Bool:
    """A mask at panel size with smooth borders; a region of a single pixel stays visible."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    size = (look.width, look.height)
    smooth = np.asarray(picture.resize(size, Image.Resampling.BILINEAR)) > 127
    return smooth if smooth.any() else np.asarray(picture.resize(size, Image.Resampling.BOX)) > 0


def _box(analysis: Analysis, look: _Look, n: int, corners: Int64, at: tuple[int, int]) -> tuple[float, ...]:
    """Left, top, right and bottom on the page of a box on the model grid."""
    r0, c0, r1, c1 = box_to_source(analysis.prepared.to_source[n], corners)
    rows, columns = analysis.series.pixels.shape[1:]
    tall, wide = look.height / rows, look.width / columns
    return (
        at[0] + min(max(c0 * wide, 0), look.width - 1),
        at[1] + min(max(r0 * tall, 0), look.height - 1),
        at[0] + min(max(c1 * wide, 0), look.width - 1),
        at[1] + min(max(r1 * tall, 0), look.height - 1),
    )


def _corners(draw: ImageDraw.ImageDraw, box: tuple[float, ...]) -> None:
    """A box of which only the corners are drawn, so that it is no window and hides little."""
    left, top, right, bottom = box
    arm = max(3.0, (right - left) / 4)
    for x, inward in ((left, arm), (right, -arm)):
        for y, down in ((top, arm), (bottom, -arm)):
            draw.line((x + inward, y, x, y, x, y + down), PLACE, 2, joint="curve")


def _label(draw: ImageDraw.ImageDraw, region: Region, mask: Bool, at: tuple[int, int], colour: Colour) -> None:
    rows, columns = np.nonzero(mask)
    y = at[1] + max(int(rows.min()) - 12, 8)
    x = at[0] + min(max(int(columns[rows.argmin()]), 8), mask.shape[1] - 10)
    draw.text((x, y), str(region.label), colour, _font(14), anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))


def _caption(analysis: Analysis, n: int, frame: int) -> str:
    result, scores, total = analysis.result, analysis.score_map, len(analysis.series.pixels)
    unit = "HU" if scores.unit == "HU" else "grey levels"
    parts = [f"Image {frame + 1} of {total}"]
    if "wd_patch" in scores.per_image:
        parts.append(f"highest window (box) {scores.per_image['wd_patch'][n]:.3g} {unit}")
    place = shown_places(scores)
    if place is not None:
        parts.append(f"{PLACES[place[0]]} (corners) {scores.per_image[place[0]][n]:.3g} sd")
    if result.p_by_score:
        parts.append(f"smallest p {min(p[n] for p in result.p_by_score.values()):.3g}")
    shown = [region for region in result.regions if region.bbox[0] <= frame <= region.bbox[3]]
    parts.append(f"{len(shown)} region" + "s" * (len(shown) != 1))
    if not analysis.reconstruction.converged[n]:
        parts.append("fit not converged")
    return " · ".join(parts)


def _scale_bar(draw: ImageDraw.ImageDraw, look: _Look, left: int, top: int) -> None:
    """A round length of about a quarter of the picture, bottom left of the input."""
    x, y = left + 10, top + look.height - 10
    black = (0, 0, 0)
    if look.pixel_mm is None:
        draw.text((x, y), "no scale", TEXT, _font(12), anchor="ls", stroke_width=2, stroke_fill=black)
        return
    lengths = [length for length in (1, 2, 5, 10, 20, 50, 100, 200) if length / look.pixel_mm <= look.width / 3]
    length = max(lengths, default=1)
    end = x + round(length / look.pixel_mm)
    draw.rectangle((x - 1, y - 3, end + 1, y + 1), black)
    draw.rectangle((x, y - 2, end, y), TEXT)
    draw.text(((x + end) / 2, y - 6), f"{length} mm", TEXT, _font(12), anchor="ms", stroke_width=2, stroke_fill=black)


def _colour_bar(
    page: Image.Image, draw: ImageDraw.ImageDraw, threshold: float, look: _Look, left: int, top: int
) -> None:
    """The colours of the map with values, unit, and a mark where regions begin."""
    ramp = np.repeat(np.linspace(1.0, 0.0, look.height)[:, None], 14, axis=1)
    page.paste(Image.fromarray(colour_map(ramp)), (left, top))
    draw.rectangle((left - 1, top - 1, left + 14, top + look.height), outline=CARD)
    draw.text((left + 20, top), f"{look.top:.3g}", TEXT, _font(12), anchor="lt")
    draw.text((left + 20, top + 14), look.unit, FAINT, _font(12), anchor="lt")
    draw.text((left + 20, top + look.height), "0", TEXT, _font(12), anchor="ls")
    if 0.0 < threshold < look.top:
        y = top + round((1.0 - threshold / look.top) * (look.height - 1))
        draw.line((left - 3, y, left + 17, y), TEXT, 2)
        y_text = min(max(y, top + 44), top + look.height - 30)
        draw.text((left + 20, y_text - 2), f"{threshold:.3g}", TEXT, _font(12), anchor="ls")
        draw.text((left + 20, y_text + 3), "regions", FAINT, _font(12), anchor="lt")


def _footer(draw: ImageDraw.ImageDraw, width: int, height: int, footer: int) -> None:
    top = height - footer + 10
    draw.rectangle((0, top, width, height), WARNING)
    middle = (top + height) / 2
    draw.text((MARGIN, middle), "NOT A DIAGNOSIS", BACKGROUND, _font(17), anchor="lm", stroke_width=0.4)
    draw.text((width - MARGIN, middle), f"{NOT_A_DIAGNOSIS}  anomap {__version__}", BACKGROUND, _font(13), anchor="rm")


def _fit(draw: ImageDraw.ImageDraw, text: str, font: Any, width: float) -> str:
    """The text, shortened to `width` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + " …", font) > width:
        text = text[:-1]
    return text.rstrip() + " …"


def _font(size: int) -> Any:
    return ImageFont.load_default(size)
