"""Which bundle fits a series, and whether any does.

Small and by header only: modality, body part, and for CT the axial orientation. Everything finer is the score's
own task. A choice always comes with its reason, which every result repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from anomap.bundle import BundleInfo
from anomap.errors import AnomapError
from anomap.types import ImageSeries

MAX_TILT_DEGREES = 25.0  # gantry tilts stay below; coronal and sagittal series lie at 90

# Body Part Examined as scanners write it (PS3.16 Annex L and common variants), by region of the trunk and beyond.
_REGIONS: dict[str, tuple[str, ...]] = {
    "HEAD": ("HEAD", "BRAIN", "SKULL", "HEADNECK", "FACE", "SINUS", "ORBIT"),
    "NECK": ("NECK", "CSPINE", "HEADNECK", "NECKCHEST", "THYROID"),
    "CHEST": ("CHEST", "PORTCHEST", "THORAX", "LUNG", "HEART", "RIB", "TSPINE", "NECKCHEST", "CHESTABDOMEN"),
    "ABDOMEN": ("ABDOMEN", "LIVER", "PANCREAS", "KIDNEY", "SPLEEN", "STOMACH", "COLON", "LSPINE", "CHESTABDOMEN"),
    "PELVIS": ("PELVIS", "BLADDER", "PROSTATE", "UTERUS", "RECTUM", "HIP", "CERVIX"),
    "EXTREMITY": ("EXTREMITY", "HAND", "WRIST", "ELBOW", "ARM", "SHOULDER", "FOOT", "ANKLE", "KNEE", "LEG", "FINGER"),
}
_SPANS: dict[str, tuple[str, ...]] = {
    "ABDOMENPELVIS": ("ABDOMEN", "PELVIS"),
    "ABDPELV": ("ABDOMEN", "PELVIS"),
    "CHESTABDPELVIS": ("CHEST", "ABDOMEN", "PELVIS"),
    "CHESTABDOMENPELVIS": ("CHEST", "ABDOMEN", "PELVIS"),
    "CHESTTOPELVIS": ("CHEST", "ABDOMEN", "PELVIS"),
    "TRUNK": ("CHEST", "ABDOMEN", "PELVIS"),
    "TORSO": ("CHEST", "ABDOMEN", "PELVIS"),
    "WHOLEBODY": ("HEAD", "NECK", "CHEST", "ABDOMEN", "PELVIS", "EXTREMITY"),
}


def choose_bundle(series: ImageSeries, infos: Sequence[BundleInfo], name: str = "auto") -> tuple[BundleInfo, str]:
    """The bundle for a series and why. Of several that fit it is the one of fewest pixels, which is the quickest.

    Args:
        series: What is to be analysed.
        infos: The bundles there are.
        name: A bundle's name, or "auto".

    Raises:
        AnomapError: E300 when there is no bundle of that name (or none at all), E113 when none fits.
    """
    if name != "auto":
        info, reason = _named(infos, name, series)
    elif not infos:
        raise AnomapError("E300", "the model folder holds no bundle")
    else:
        info, reason = _by_header(series, infos)
    if info.spec.kind == "ct":
        require_axial(series)
    return info, reason


def require_axial(series: ImageSeries) -> None:
    """Refuse CT that is not axial.

    Raises:
        AnomapError: E113 when the slice normal leaves the head-foot axis by more than `MAX_TILT_DEGREES`.
    """
    normal = np.cross(series.affine[:3, 1], series.affine[:3, 2])
    cosine = abs(normal[2]) / np.linalg.norm(normal)
    angle = float(np.degrees(np.arccos(np.clip(cosine, 0.0, 1.0))))
    if angle > MAX_TILT_DEGREES:
        raise AnomapError("E113", f"the slices are tilted by {angle:.0f} degrees; the CT models know axial ones only")


def body_regions(text: str) -> frozenset[str]:
    """Regions a Body Part Examined names; empty when it says nothing we know."""
    word = "".join(letter for letter in text.upper() if letter.isalnum())
    if word in _SPANS:
        return frozenset(_SPANS[word])
    found = {region for region, words in _REGIONS.items() if word in words}
    # "ABDOMEN LIVER", "CT CHEST", plural forms: take what is contained, if it is one thing only.
    within = {region for region, words in _REGIONS.items() if any(len(w) > 4 and w in word for w in words)}
    return frozenset(found or within)


def _named(infos: Sequence[BundleInfo], name: str, series: ImageSeries) -> tuple[BundleInfo, str]:
    for info in infos:
        if info.name == name:
            if series.modality not in info.modalities:
                raise AnomapError(
                    "E113", f"model {name!r} is for {'/'.join(info.modalities)}, the image is {series.modality}"
                )
            return info, f"model {name!r} was asked for"
    raise AnomapError("E300", f"no model named {name!r}")


def _by_header(series: ImageSeries, infos: Sequence[BundleInfo]) -> tuple[BundleInfo, str]:
    able = sorted(
        (info for info in infos if series.modality in info.modalities), key=lambda info: (info.spec.size, info.name)
    )  # of several that fit the quickest; finer ones are asked for by name
    if not able:
        raise AnomapError("E113", f"there is no model for modality {series.modality}")
    header: Any = series.headers[0] if series.headers else {}
    stated = body_regions(str(header.get("BodyPartExamined", "") or ""))
    if not stated:
        return able[0], f"model {able[0].name!r} is for {series.modality}; the header names no known body part"
    for info in able:
        known = body_regions(info.body_part)
        if known & stated:
            kind = f"{series.modality} of {_words(known)}"
            return info, f"model {info.name!r} is for {kind}; the header says {_words(stated)}"
    for info in able:
        if not info.body_part:
            return info, f"model {info.name!r} is for {series.modality} of any body part"
    raise AnomapError("E113", f"there is no {series.modality} model for {_words(stated)}")


def _words(regions: Iterable[str]) -> str:
    return " and ".join(sorted(regions)).lower()
