"""What a curator should know of a repository beside its scores: copies, clusters of outliers, tags that disagree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anomap.curation.clusters import Neighbourhood, neighbourhood
from anomap.curation.decisions import Decision
from anomap.curation.duplicates import equal, near
from anomap.curation.ranking import outliers, ranking
from anomap.curation.results import numbers, read_rows, words
from anomap.types import Bool, Int64

_CONTRADICTED = {"inverted": "photometric", "mirrored": "laterality"}  # by what an image looks like
_TURNED = {"rotated90": "turned by 90°", "rotated180": "turned by 180°", "rotated270": "turned by 270°"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found in N images.

    Attributes:
        order: ``(N,)`` row numbers, oddest first.
        shown: ``(M,)`` the first of them, which get a picture, neighbours and, if outliers, a cluster.
        neighbours: Of the M images.
        equal: ``(N,)`` number of the group with the same pixels, 0 for none.
        near: ``(N,)`` number of the group that looks nearly the same, 0 for none.
        disagreement: N texts, how tags and pixels disagree; "" where they don't.
        proposal: N decisions to begin with.
    """

    order: Int64
    shown: Int64
    neighbours: Neighbourhood
    equal: Int64
    near: Int64
    disagreement: list[str]
    proposal: list[Decision]


def examine(output: Path, images: pa.Table, *, shown: int, alpha: float, near_bits: int) -> Findings:
    """Find everything.

    Args:
        output: Folder of ``anomap curate``.
        images: Its N rows, from `read_images`.
        shown: M, at most.
        alpha: Images with a p-value at most this are outliers.
        near_bits: Different bits of two hashes that count as nearly the same.
    """
    order = ranking(images)
    first = order[:shown]
    odd = outliers(images, alpha)
    models = words(images, "model")
    vectors = read_rows(output, "w", first)
    hashes = images["phash"].combine_chunks()
    equals = equal(words(images, "pixel_sha256"))
    nears = near(hashes.fill_null(0).to_numpy(), pc.is_valid(hashes).to_numpy(zero_copy_only=False), near_bits)
    disagreement = disagreements(images)
    return Findings(
        order=order,
        shown=first,
        neighbours=neighbourhood(vectors, [models[n] for n in first], odd[first]),
        equal=equals,
        near=nears,
        disagreement=disagreement,
        proposal=_proposals(images, odd.tolist(), equals, nears, disagreement),
    )


def disagreements(images: pa.Table) -> list[str]:
    """How the tags of each image disagree with what it looks like, "" where they don't."""
    tags = {name: words(images, name) for name in ("photometric", "laterality", "view_position")}
    found = []
    for n, looks in enumerate(words(images, "looks")):
        if looks in ("", "as tagged"):
            found.append("")
            continue
        tag = tags[_CONTRADICTED.get(looks, "view_position")][n]
        found.append(f"{tag + ', ' if tag else ''}looks {_TURNED.get(looks, looks)}")
    return found


def _proposals(
    images: pa.Table, odd: list[bool], equals: Int64, nears: Int64, disagreement: list[str]
) -> list[Decision]:
    """Keep what nothing was found about, look at the rest. To drop an image is left to a person."""
    errors, p_values = words(images, "error"), numbers(images, "p_value").tolist()
    copy, like = _later(equals).tolist(), _later(nears).tolist()
    proposals = []
    for n, error in enumerate(errors):
        reasons = [error, f"p = {p_values[n]:.3g}" if odd[n] else "", disagreement[n]]
        reasons += ["pixels of an earlier image" if copy[n] else "nearly an earlier image" if like[n] else ""]
        said = "; ".join(filter(None, reasons))
        proposals.append(Decision(word="look" if said else "keep", reason=said))
    return proposals


def _later(groups: Int64) -> Bool:
    """Whether a member of a group is not its first. ``(N,)``."""
    _, first = np.unique(groups, return_index=True)
    later = groups > 0
    later[first] = False
    return later
