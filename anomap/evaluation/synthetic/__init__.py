"""Anomalies with ground truth: drawn into real prepared images, so that the truth is known to the pixel.

Everything is a function of the image and of its name: the random numbers derive from the frame id and the kind of
anomaly, so the same image always receives the same one, whatever else is tested and on whatever machine. Grey values
are stated in HU for CT and reach the model's range through the bundle's window; what is denser than the window's upper
end is white, as any dense thing is to the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from anomap.evaluation.synthetic.acquisition import (
    blurred,
    foreign_limb,
    inverted,
    mirrored,
    missing_rows,
    noisy,
    rotated90,
    sources,
    upside_down,
)
from anomap.evaluation.synthetic.objects import Plant, ascites, blob, metal, needle
from anomap.types import Bool, Prepared, PreprocessSpec

__all__ = ["Kind", "grey_of_hu", "kinds", "planted"]

NEEDLE_HU, METAL_HU = 2000.0, 3000.0  # steel, implants: far above the window
ASCITES_HU = (0.0, 20.0)
BONE_HU, AIR_HU = 150.0, -110.0  # fluid displaces what lies between: soft tissue and fat
SOFT_TISSUE_HU = 50.0
STREAK_HU = 60.0
UNALTERED = "unaltered"
VISIBLE = 0.5  # a quarter of the range of 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of synthetic anomaly.

    Attributes:
        name: Its name in tables.
        description: One line.
        apply: Prepared images -> the altered images, ``(N, H, W)`` what is odd of them.
        local: There is a place to find; otherwise the whole image is odd.
    """

    name: str
    description: str
    apply: Callable[[Prepared], tuple[Prepared, Bool]]
    local: bool


def planted(prepared: Prepared, plant: Plant, name: str) -> tuple[Prepared, Bool]:
    """Plant one anomaly into every image.

    Args:
        prepared: N images; their frame ids decide the places.
        plant: Of `anomap.evaluation.synthetic.objects`, with settings or without.
        name: Kind of the anomaly; another name draws other places.

    Returns:
        The altered images under their old frame ids (so a projection draws the same random numbers), and
        ``(N, H, W)`` where something was changed.

    Raises:
        AnomapError: E114 when a body has no room.
    """
    pairs = [
        plant(image, body, rng)
        for image, body, rng in zip(prepared.images[:, 0], prepared.body[:, 0], sources(prepared, name), strict=True)
    ]
    if not pairs:
        return prepared, np.zeros((0, prepared.spec.size, prepared.spec.size), np.bool_)
    images, masks = zip(*pairs, strict=True)
    return replace(prepared, images=np.stack(images)[:, None]), np.stack(masks)


def grey_of_hu(hu: float, spec: PreprocessSpec) -> float:
    """Model value of a density through the window of a CT model, in [-1, 1]."""
    return float(np.clip((hu - spec.window_level_hu) / (spec.window_width_hu / 2), -1, 1))


def kinds(spec: PreprocessSpec) -> dict[str, Kind]:
    """The kinds that make sense for a model's images, by name.

    Args:
        spec: Preprocessing of the model. Fluid and streaks exist for CT only.
    """
    ct = spec.kind == "ct"
    streak = STREAK_HU / (spec.window_width_hu / 2) if ct else 0.0
    steel, dense = (grey_of_hu(hu, spec) if ct else 1.0 for hu in (NEEDLE_HU, METAL_HU))
    soft = grey_of_hu(SOFT_TISSUE_HU, spec) if ct else 0.1
    found: list[Kind] = [
        _local("needle", "A line 2 pixels wide, wherever it falls", partial(needle, value=steel)),
        _local(
            "visible_needle",
            "The same where it changes the picture by a quarter of its range or more",
            partial(needle, value=steel, contrast=VISIBLE),
        ),
        _local("thin_needle", "A line 1 pixel wide", partial(needle, value=steel, width_px=1.0)),
        _local("metal", "A round piece of metal", partial(metal, value=dense, streak=streak)),
        _local("blob", "A disc brighter or darker by a quarter of the range", blob),
    ]
    if ct:
        low, high = (grey_of_hu(hu, spec) for hu in ASCITES_HU)
        crescent = partial(ascites, fluid=(low, high), bone=grey_of_hu(BONE_HU, spec), air=grey_of_hu(AIR_HU, spec))
        found += [
            _local("streaky_needle", "A line 3 pixels wide with streaks", partial(needle, width_px=3.0, streak=streak)),
            _local("ascites", "A crescent of 0 to 20 HU along one flank", crescent),
        ]
    found += [
        Kind(name="missing_rows", description="A band of rows is black", apply=missing_rows, local=True),
        _whole("noise", "Gaussian noise of 15 % of the range", noisy),
        _whole("blur", "Blurred by a Gaussian of 2.5 % of the side", blurred),
        _whole("inverted", "Black and white swapped", inverted),
        _whole("rotated90", "Turned by a quarter", rotated90),
        _whole("upside_down", "Mirrored top to bottom", upside_down),
        _whole("mirrored", "Mirrored left to right", mirrored),
        _whole("foreign_limb", "A drawn limb instead of the patient", partial(foreign_limb, tissue=soft)),
        _whole(UNALTERED, "Nothing: the control, since one image a patient is a choice of its own", lambda same: same),
    ]
    return {kind.name: kind for kind in found}


def _local(name: str, description: str, plant: Plant) -> Kind:
    # Needles that differ in one setting lie at the same places, but for the condition on them.
    place = "needle" if name.endswith("needle") else name
    return Kind(name=name, description=description, apply=lambda prepared: planted(prepared, plant, place), local=True)


def _whole(name: str, description: str, alter: Callable[[Prepared], Prepared]) -> Kind:
    def apply(prepared: Prepared) -> tuple[Prepared, Bool]:
        altered = alter(prepared)
        return altered, altered.valid[:, 0].copy()

    return Kind(name=name, description=description, apply=apply, local=False)
