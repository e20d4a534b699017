"""An evaluation as one HTML page: ROC curves, tables, and galleries of the best and the worst cases.

The page holds everything it shows (inline SVG and PNG, no script, no request), so that it can be sent and kept. It
shows images of patients, without names: it is to be treated as those are.
"""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image
from scipy import ndimage

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.evaluation.cases import Case, Exhibit
from anomap.evaluation.measure import ALL_SCORES
from anomap.evaluation.run import Evaluation
from anomap.evaluation.table import Table, introduction, tables
from anomap.preview import REGION, UInt8, colour_map
from anomap.style import COLOURS
from anomap.types import Float32, Float64

_PANEL = 128  # least side of a picture in the gallery, in pixels
_HEAT_TOP = 1.5  # of the colours, in thresholds of regions
_COLOURS = ("#2f7fd1", "#d2601f", "#2b9457", "#9466ee", "#7d8a9a")  # readable on light and on dark
_SIDE, _EDGE = 150, 24  # of a plot
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 84rem;
       margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
h3 { font-size: .95rem; margin: 1rem 0 .3rem; }
p { margin: .2rem 0 .5rem; color: var(--dim); max-width: 60rem; }
.notice { color: var(--ink); font-weight: 600; }
.sheet { background: var(--paper); border: 1px solid var(--line); border-radius: .5rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9em; }
th { text-align: left; color: var(--dim); font-weight: 500; vertical-align: bottom; }
th, td { padding: .35rem .6rem; } td { white-space: nowrap; } tbody tr { border-top: 1px solid var(--line); }
td:first-child { position: sticky; left: 0; background: var(--paper); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); gap: .6rem; }
.plot, .set { background: var(--paper); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .6rem; }
.plot svg { display: block; width: 100%; height: auto; }
.plot b { font-size: .9em; } .plot small { display: block; color: var(--dim); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .4rem 0 .7rem; }
.key i { display: inline-block; width: 1.4rem; height: .25rem; vertical-align: middle; margin-right: .4rem; }
.set { margin-bottom: .6rem; } .set h3 { margin: 0 0 .4rem; }
.cases { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; } figcaption { color: var(--dim); font-size: .82em; }
figure img { display: block; border-radius: .25rem; max-width: 100%; }
details summary { cursor: pointer; color: var(--dim); padding: .3rem 0; }
"""


def evaluation_page(result: Evaluation, title: str, facts: str) -> str:
    """The whole page.

    Args:
        result: From `anomap.evaluation.run.evaluate`.
        title: Heading.
        facts: Machine, date and settings in one line.
    """
    shown = [exhibit for exhibit in result.exhibits if exhibit.curves]
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="notice">{escape(NOT_A_DIAGNOSIS)}</p>',
        "<p>This page shows images of patients, without names. Keep it as you keep those.</p>",
        *(f"<p>{escape(line)}</p>" for line in introduction(result)),
        "<h2>ROC curves</h2>",
        "<p>Across: share of normal images called odd. Up: share of the category found. Below: areas (AUROC). "
        "The dotted line is chance; the last two curves need no projection.</p>",
        _key(shown),
        f'<div class="plots">{"".join(map(_plot, shown))}</div>',
        *(_table(table) for table in tables(result)),
        "<h2>Best and worst cases</h2>",
        "<p>The three images of each set with the highest and with the lowest combined score: input, reconstruction, "
        "map of the window score on one scale of colours for the whole page. What was planted is outlined. High "
        "scores among normal images are false alarms, low ones among the others are misses.</p>",
        *(_gallery(exhibit, result.region_threshold) for exhibit in result.exhibits),
        f"<p><small>anomap {escape(__version__)} · {escape(facts)}</small></p>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{COLOURS}{_STYLE}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(body) + "\n</body></html>\n"


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def _key(shown: list[Exhibit]) -> str:
    names = list(shown[0].curves) if shown else []
    items = [
        f'<span title="{escape(ALL_SCORES[name].description)}"><i style="background:{colour}"></i>{_words(name)}</span>'
        for name, colour in zip(names, _COLOURS, strict=False)
    ]
    return f'<div class="key">{"".join(items)}</div>'


def _plot(exhibit: Exhibit) -> str:
    lines = [
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{_points(curve)}"/>'
        for curve, colour in zip(exhibit.curves.values(), _COLOURS, strict=False)
    ]
    left, top, right, bottom = _EDGE, 4, _EDGE + _SIDE, 4 + _SIDE
    frame = (
        f'<rect x="{left}" y="{top}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="currentColor" opacity="0.2"/>'
    )
    chance = f'<path d="M{left} {bottom}L{right} {top}" stroke="#9aa4ae" stroke-dasharray="2 3"/>'
    text = (
        f'<g font-size="9" fill="currentColor" opacity="0.7"><text x="{left}" y="{bottom + 11}">0</text>'
        f'<text x="{right - 5}" y="{bottom + 11}">1</text><text x="{left - 9}" y="{top + 8}">1</text>'
        f'<text x="{left - 9}" y="{bottom}">0</text></g>'
    )
    area = "".join(
        f'<span style="color:{colour}">{_area(curve):.2f}</span> '
        for curve, colour in zip(exhibit.curves.values(), _COLOURS, strict=False)
    )
    view = f"0 0 {_SIDE + _EDGE + 8} {_SIDE + 20}"
    return (
        f'<div class="plot"><b>{_words(exhibit.name)}</b>'
        f'<svg viewBox="{view}" role="img" aria-label="ROC curves of {_words(exhibit.name)}">'
        f"{frame}{chance}{''.join(lines)}{text}</svg><small>{area}</small></div>"
    )


def _points(curve: Float64) -> str:
    return " ".join(f"{_EDGE + x * _SIDE:.1f},{4 + (1 - y) * _SIDE:.1f}" for x, y in curve)


def _area(curve: Float64) -> float:
    """Area under a curve by trapezoids: the AUROC."""
    x, y = curve.T
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def _table(table: Table) -> str:
    heading, text, head, rows = table
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<h2>{escape(heading)}</h2><p>{escape(text)}</p><div class="sheet"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _gallery(exhibit: Exhibit, threshold: float) -> str:
    figures = "".join(
        f'<figure><img alt="input, reconstruction, map" src="{_picture(case, threshold)}">'
        f"<figcaption>{case.role} · {case.score:.1f} sd</figcaption></figure>"
        for case in exhibit.cases
    )
    return f'<div class="set"><h3>{_words(exhibit.name)}</h3><div class="cases">{figures}</div></div>'


def _picture(case: Case, threshold: float) -> str:
    """Input, reconstruction and map side by side as a data URL."""
    greys = [np.repeat(_grey(values)[..., None], 3, axis=2) for values in (case.image, case.reconstruction)]
    top = _HEAT_TOP * threshold if np.isfinite(threshold) and threshold > 0 else float(np.nanmax(case.heat)) or 1.0
    panels = [*greys, colour_map(case.heat / top)]
    zoom = max(1, -(-_PANEL // len(case.image)))
    panels = [panel.repeat(zoom, axis=0).repeat(zoom, axis=1) for panel in panels]
    if case.mask is not None:
        mask = case.mask.repeat(zoom, axis=0).repeat(zoom, axis=1)
        outline = ndimage.binary_dilation(mask) & ~mask
        for panel in (panels[0], panels[-1]):
            panel[outline] = REGION
    gap = np.full((len(panels[0]), 3, 3), 255, np.uint8)
    strip = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    file = io.BytesIO()
    Image.fromarray(strip).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _grey(values: Float32) -> UInt8:
    result: UInt8 = np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)
    return result
