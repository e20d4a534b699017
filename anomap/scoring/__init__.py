"""Residual scores: what the generator could not reproduce, by how much and where.

An image and its reconstruction are compared at `ScoreConfig.levels` grey levels, by mean squared error and by
Wasserstein distance, over the whole image, over the body, and in the worst window of all (Woodland et al. 2025,
doi 10.3390/bioengineering12101106); beside them stand how unusual the reconstruction's own latent vector is, how far
the two are apart for the model's discriminator, how far the image and its oddest place are from the training images
for it, and how far a slice and its oddest place are from the slices beside it. Higher is odder for all. The numbers
alone mean nothing: `anomap.calibration` compares them with those of images as they should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.preprocessing.geometry import resample_to_source
from anomap.scoring.residual import mean_squared_error, signed_residual, window_mean_squared_error
from anomap.scoring.wasserstein import wasserstein, window_wasserstein
from anomap.scoring.windows import Integers, centre_on_pixels, extend, window_counts
from anomap.types import Bool, Float32, Float64, Int64, Prepared, Reconstruction, ScoreMap

__all__ = [
    "SCORES",
    "SERIES_SCORES",
    "WITHOUT_PROJECTION",
    "Score",
    "ScoreConfig",
    "body_by_corners",
    "highest_place",
    "of_neighbours",
    "on_pixels",
    "quantise",
    "score",
    "shown_places",
    "top_places",
    "window_area_px",
]


MAPS = ("residual", "mse", "wd", "place")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreConfig:
    """How images are compared.

    Attributes:
        window: Side of the scored windows in model pixels.
        levels: Grey levels the model's range is divided into.
        compat: Score as the reference script of the paper does, defects included (see `score`).
        maps: Which maps are placed on the source grid, of `MAPS` ("place" stays NaN where the model knows none);
            scores are always all taken.
    """

    window: int  # 32 of 512 pixels in the paper; part of a bundle, its cohort was measured with it
    levels: int = 256  # as published; 4096 resolves a CT window of 350 HU to 0.09 HU
    compat: bool = False  # parity with published numbers; never for patients
    maps: tuple[str, ...] = MAPS

    def __post_init__(self) -> None:
        if not set(self.maps) <= set(MAPS):
            raise AnomapError("E501", f"maps are {', '.join(MAPS)}, not {', '.join(self.maps)}")
        if self.window < 1 or not 2 <= self.levels <= 65536:
            raise AnomapError("E302", f"window {self.window} or grey levels {self.levels} are out of range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a score of an image is.

    Attributes:
        name: Its key in `ScoreMap.per_image`.
        unit: Its unit, with ``{unit}`` for `ScoreMap.unit` ("HU" or "grey level").
        direction: Which values are odd.
        description: One line.
    """

    name: str
    unit: str
    direction: Literal["higher"]
    description: str


SCORES: dict[str, Score] = {
    name: Score(name=name, unit=unit, direction="higher", description=description)
    for name, unit, description in (
        ("mse_full", "{unit}²", "Mean squared residual of the whole image"),
        ("mse_body", "{unit}²", "Mean squared residual of the body"),
        ("mse_patch", "{unit}²", "Mean squared residual of the worst window"),
        ("wd_full", "{unit}", "Wasserstein distance of the grey levels of the whole image"),
        ("wd_body", "{unit}", "Wasserstein distance of the grey levels of the body"),
        ("wd_patch", "{unit}", "Wasserstein distance of the grey levels of the worst window"),
        ("w_distance", "sd", "Distance of the reconstruction's latent vector from those of the training images"),
        ("feature_residual", "1", "Distance of image and reconstruction in the features of the model's discriminator"),
        ("feature_distance", "sd", "Distance of the image from the training images in these features, no projection"),
        ("feature_patch", "sd", "Distance of the oddest place of the image from the same place of the training images"),
        (
            "neighbour_distance",
            "sd",
            "Distance of the slice from slices near it in these features, mean over places",
        ),
        ("neighbour_patch", "sd", "Distance of the oddest place of the slice from the same place of slices near it"),
    )
}
WITHOUT_PROJECTION = ("feature_distance", "feature_patch", "neighbour_distance", "neighbour_patch")
SERIES_SCORES = ("neighbour_distance", "neighbour_patch")  # no single image has them, no series of few slices


def score(
    prepared: Prepared,
    reconstruction: Reconstruction,
    source_shape: tuple[int, ...],
    config: ScoreConfig,
    neighbours: Float32 | None = None,
) -> ScoreMap:
    """Compare images with their reconstructions.

    "full" is every valid pixel, "body" the body. "patch" is the highest window: of all windows without invalid
    pixels and, for CT, at least half filled by the body, since tables and air around a patient reconstruct
    badly without being odd (when no window is, of all without invalid pixels). Maps hold all windows without
    invalid pixels, on the source grid. MSE and WD are taken at `config.levels` grey levels; the "residual" map
    isn't quantised.

    `config.compat` reproduces the script behind the paper (eval_recon.py), so that numbers can be compared:
    256 grey levels, the reconstruction truncated to them rather than rounded; every pixel counts, valid or not;
    the last row and the last column of windows are never looked at (480 x 480 of 481 x 481); the body of a CT
    is `body_by_corners`; when no window differs, the top left one is the highest.

    Args:
        prepared: N model images.
        reconstruction: The same N.
        source_shape: ``(K, R, C)`` of the series.
        config: How to compare.
        neighbours: ``(N, S, S)`` from `anomap.projection.neighbours.series_neighbours`, where there is one.

    Returns:
        Scores with the names of `SCORES` (those of features only where the model has them, and those of neighbours
        only with `neighbours`), and the maps of `config.maps`.

    Raises:
        AnomapError: E114 when an image has no body, E113 when no window lies inside it, E200 when the window is
            larger than the model image, E501 when reconstruction and images differ in shape.
    """
    if reconstruction.images.shape != prepared.images.shape:
        raise AnomapError("E501", f"reconstructions are {reconstruction.images.shape}, images {prepared.images.shape}")
    maps = {name: np.full(source_shape, np.nan, np.float32) for name in config.maps}
    of_pixels = [name for name in SCORES if not name.startswith(("feature_", "neighbour_"))]
    per_image = {name: np.empty(len(prepared.images)) for name in of_pixels}
    per_image["w_distance"][:] = reconstruction.prior_distance
    per_image |= _of_features(reconstruction)
    if neighbours is not None:
        per_image |= of_neighbours(neighbours)
    places = (reconstruction.feature_map if neighbours is None else neighbours).astype(np.float64)
    size = prepared.images.shape[2:]
    top_window = np.empty((len(prepared.images), 4), np.int64)
    for n in range(len(prepared.images)):
        pair = _pair(prepared, reconstruction, n, config)
        for name, value in pair.regions().items():
            per_image[name][n] = value
        dense = pair.windows()
        first = pair.best(dense, per_image, n)
        top_window[n] = (*first, first[0] + config.window, first[1] + config.window)
        _place(maps, prepared, reconstruction, n, dense | {"place": places[n]}, config.window)
    return ScoreMap(
        maps=maps,
        per_image=per_image,
        top_window=top_window,
        frame=prepared.frame.copy(),
        unit=prepared.spec.score_unit,
        top_place=top_places(reconstruction.feature_map, size) if "feature_patch" in per_image else None,
        top_change=None if neighbours is None else top_places(neighbours, size),
    )


def _of_features(reconstruction: Reconstruction) -> dict[str, Float64]:
    """Scores in the discriminator's features: NaN says that the model has none, or doesn't know the training images."""
    found = {
        "feature_residual": reconstruction.feature_residual.copy(),
        "feature_distance": reconstruction.feature_distance.copy(),
        "feature_patch": highest_place(reconstruction.feature_map),
    }
    return {name: values for name, values in found.items() if not np.isnan(values).any()}


def highest_place(places: Float32) -> Float64:
    """The score of each image's oddest place, ``(N,)`` of ``(N, S, S)``; NaN where the map is."""
    highest: Float64 = places.max(axis=(1, 2)).astype(np.float64)
    return highest


def of_neighbours(places: Float32) -> dict[str, Float64]:
    """The `SERIES_SCORES` from ``(N, S, S)`` distances from neighbouring slices; NaN where the map is."""
    means: Float64 = places.mean(axis=(1, 2), dtype=np.float64)
    return dict(zip(SERIES_SCORES, (means, highest_place(places)), strict=True))


def top_places(places: Float32, shape: tuple[int, ...]) -> Int64:
    """The pixels of each image's oddest place, ``(N, 4)`` as `ScoreMap.top_window`.

    Args:
        places: ``(N, S, S)`` a map of places that cover the images.
        shape: ``(H, W)`` of the images.
    """
    sides = np.array(shape) // places.shape[1]
    first = np.stack(np.unravel_index(places.reshape(len(places), -1).argmax(axis=1), places.shape[1:]), axis=1) * sides
    corners: Int64 = np.concatenate([first, first + sides], axis=1)
    return corners


def quantise(images: Float32, levels: int) -> Integers:
    """Model values in [-1, 1] as grey levels 0 .. levels - 1, rounded to the nearest, halves up (away from zero).

    Of the narrowest unsigned type that holds them: 8-bit levels are scored several times faster.
    """
    scaled = images.astype(np.float64)
    np.clip(scaled, -1.0, 1.0, out=scaled)
    scaled += 1.0
    scaled *= 0.5 * (levels - 1)
    scaled += 0.5
    return scaled.astype(np.uint8 if levels <= 256 else np.uint16)  # truncates: nothing is below zero


def window_area_px(prepared: Prepared, config: ScoreConfig) -> float:
    """Area of a scored window in source pixels: for `min_area_px` of `anomap.calibration.calibrate`."""
    zoom = np.abs(np.linalg.det(prepared.to_source[:, :2, :2])).min(initial=np.inf)
    return float(zoom) * config.window**2


def body_by_corners(image: Integers) -> Bool:
    """The body mask of the paper's script, for `ScoreConfig.compat`.

    The largest connected area above grey level 0 and the holes in it, where a hole is what is not connected to
    one of the four corners. A body that touches a corner is thereby outside itself, and the mask comes out empty.

    Args:
        image: ``(H, W)`` grey levels.
    """
    neighbours = np.ones((3, 3))
    areas, _ = ndimage.label(image > 0, neighbours)
    sizes = np.bincount(areas.reshape(-1))
    sizes[0] = -1  # the background is no area
    outside, _ = ndimage.label(areas != sizes.argmax(), neighbours)
    corners = outside[[0, 0, -1, -1], [0, -1, 0, -1]]
    body: Bool = ~np.isin(outside, corners)
    return body


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One image and its reconstruction as grey levels, ``(1, H, W)``, and what counts of them."""

    image: Integers
    other: Integers
    valid: Bool
    body: Bool
    levels: int
    unit: float  # HU or grey levels of 255 in one grey level
    config: ScoreConfig
    ct: bool

    def regions(self) -> dict[str, float]:
        """Scores of the whole image and of the body."""
        if not self.body.any():
            raise AnomapError("E114", "the body mask of an image is empty")
        result = {}
        for name, mask in (("full", self.valid), ("body", self.body)):
            result[f"mse_{name}"] = float(mean_squared_error(self.image, self.other, mask)[0]) * self.unit**2
            result[f"wd_{name}"] = float(wasserstein(self.image, self.other, self.levels, mask)[0]) * self.unit
        return result

    def windows(self) -> dict[str, Float64]:
        """Scores of all windows, ``(H - window + 1, W - window + 1)``, NaN where invalid pixels take part."""
        window = self.config.window
        wd = window_wasserstein(self.image, self.other, window, self.levels, self.valid)[0]
        mse = window_mean_squared_error(self.image, self.other, window, self.valid)[0]
        return {"wd": wd * self.unit, "mse": mse * self.unit**2}

    def best(self, dense: dict[str, Float64], per_image: dict[str, Float64], n: int) -> tuple[int, int]:
        """Write the patch scores of image n; return the first row and column of its highest WD window."""
        allowed = self._candidates(np.isfinite(dense["wd"]))
        for name in ("mse", "wd"):
            per_image[f"{name}_patch"][n] = dense[name][allowed].max()
        row, col = np.unravel_index(np.where(allowed, dense["wd"], -1.0).argmax(), allowed.shape)
        return int(row), int(col)

    def _candidates(self, scored: Bool) -> Bool:
        """The windows among which the highest is looked for."""
        if self.config.compat:
            seen = np.zeros_like(scored)
            seen[: max(1, len(seen) - 1), : max(1, seen.shape[1] - 1)] = True
            return seen
        if not scored.any():
            raise AnomapError("E113", f"no window of {self.config.window} x {self.config.window} pixels lies inside")
        if self.ct:
            filled = window_counts(self.body, self.config.window)[0] * 2 >= self.config.window**2
            of_the_body: Bool = scored & filled
            if of_the_body.any():
                return of_the_body
        return scored


def _pair(prepared: Prepared, reconstruction: Reconstruction, n: int, config: ScoreConfig) -> _Pair:
    levels = 256 if config.compat else config.levels
    ct = prepared.spec.kind == "ct"
    image = quantise(prepared.images[n], levels)
    other = quantise(reconstruction.images[n], levels)
    valid, body = prepared.valid[n], prepared.body[n]
    if config.compat:
        other = np.clip(reconstruction.images[n] * np.float32(127.5) + 128, 0, 255).astype(np.uint8)
        valid = np.ones_like(valid)
        body = body_by_corners(image[0])[None] if ct else body
    return _Pair(
        image=image,
        other=other,
        valid=valid,
        body=body,
        levels=levels,
        unit=prepared.spec.score_range / (levels - 1),
        config=config,
        ct=ct,
    )


def _place(
    maps: dict[str, Float32],
    prepared: Prepared,
    reconstruction: Reconstruction,
    n: int,
    dense: Mapping[str, Float64],
    window: int,
) -> None:
    """Write the maps of image n onto its source frame; of several images of one frame the later wins."""
    valid, to_source, frame = prepared.valid[n, 0], prepared.to_source[n], prepared.frame[n]
    shape = maps["wd"].shape[1:]
    covered = resample_to_source(valid.astype(np.float32), to_source, shape) >= 0.5  # NaN, not covered, is not
    for name in maps:
        values, shift = _layer(name, prepared, reconstruction, n, dense, window)
        shifted = to_source @ np.array([[1.0, 0.0, shift], [0.0, 1.0, shift], [0.0, 0.0, 1.0]])
        placed = resample_to_source(values.astype(np.float32), shifted, shape)
        np.copyto(maps[name][frame], placed, where=covered)


def _layer(
    name: str,
    prepared: Prepared,
    reconstruction: Reconstruction,
    n: int,
    dense: Mapping[str, Float64],
    window: int,
) -> tuple[Float32 | Float64, float]:
    """A map of image n on the model's pixels, and how far it is shifted against them."""
    valid = prepared.valid[n, 0]
    if name == "residual":
        values = signed_residual(prepared.images[n, 0], reconstruction.images[n, 0], prepared.spec.score_range / 2)
    elif name == "place":
        values = on_pixels(dense[name], valid.shape)
    else:
        return centre_on_pixels(dense[name], window, valid)
    return extend(np.where(valid, values, np.nan), reach=1), 0.0


def shown_places(scores: ScoreMap) -> tuple[str, Int64] | None:
    """The score by which an image's oddest place is best pointed at, and the places; None where the model knows none.

    Against the slices beside a slice where there are such: what stands out of them is found more often (ADR 20).
    """
    if scores.top_change is not None:
        return "neighbour_patch", scores.top_change
    return None if scores.top_place is None else ("feature_patch", scores.top_place)


def on_pixels(places: Float32 | Float64, shape: tuple[int, ...]) -> Float32:
    """A map of places as one of the image's ``shape`` pixels; each holds the value of its place."""
    rows, columns = (np.arange(size) * len(places) // size for size in shape)
    return places[rows[:, None], columns].astype(np.float32)
