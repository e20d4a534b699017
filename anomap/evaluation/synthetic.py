"""Anomalies planted into prepared images, so that the truth is known to the pixel.

Everything is a function of the image and of its name: the random numbers derive from the frame id and the kind of
anomaly, so the same image always receives the same one, whatever else is tested and on whatever machine. Unless a
contrast is asked for, places are drawn without a look at the grey levels there: a needle may fall on bone, where it
hardly shows, as a real one may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from anomap.errors import AnomapError
from anomap.projection.schedule import seed_of
from anomap.types import Bool, Float32, Float64, Prepared

Plant = Callable[[Float32, Bool, np.random.Generator], tuple[Float32, Bool]]
_TRIES = 2000


def needle(
    image: Float32,
    body: Bool,
    rng: np.random.Generator,
    *,
    width_px: float = 2.0,
    length: tuple[float, float] = (0.25, 0.45),
    value: float = 1.0,
    contrast: float = 0.0,
) -> tuple[Float32, Bool]:
    """Draw a straight bright line that lies in the body from end to end.

    Args:
        image: ``(H, W)`` in [-1, 1].
        body: ``(H, W)``.
        rng: Source of place, direction and length.
        width_px: Width in model pixels; edges are smooth over one pixel, as those of an area-averaged line.
        length: Shortest and longest, as shares of the image's side.
        value: Grey value of metal: the top of the range.
        contrast: Places are drawn until the needle changes its pixels by so much on average (the full range is 2).
            With 0 it lies wherever the first draw puts it, also on bone, where it hardly shows.

    Returns:
        The image with the needle, and ``(H, W)`` the pixels that belong to it by half or more.

    Raises:
        AnomapError: E114 when the body has no room for one, or nowhere for one that shows.
    """
    for _ in range(_TRIES):
        cover = line_cover(body.shape, *_chord(body, rng, length), width_px)
        drawn, mask = _mix(image, cover, value), cover >= 0.5
        if np.abs(drawn - image)[mask].mean() >= contrast:
            return drawn, mask
    raise AnomapError("E114", "a needle would not show anywhere in the body")


def line_cover(shape: tuple[int, ...], start: Float64, end: Float64, width_px: float) -> Float64:
    """How much of every pixel a straight line covers, 0 to 1, smooth over one pixel at its edges.

    Args:
        shape: ``(H, W)``.
        start: One end, (row, column).
        end: The other.
        width_px: Its width.
    """
    line = end - start
    at = np.indices(shape) - start[:, None, None]
    along = np.clip(np.tensordot(line, at, axes=1) / (line @ line), 0.0, 1.0)
    apart = np.hypot(*(at - line[:, None, None] * along))
    result: Float64 = np.clip(width_px / 2 + 0.5 - apart, 0.0, 1.0)
    return result


def blob(
    image: Float32,
    body: Bool,
    rng: np.random.Generator,
    *,
    radius: tuple[float, float] = (0.04, 0.10),
    shift: float = 0.5,
) -> tuple[Float32, Bool]:
    """Make a disc of the body brighter or darker, whichever way the range leaves more room.

    Args:
        image: ``(H, W)`` in [-1, 1].
        body: ``(H, W)``; the disc's centre lies in it.
        rng: Source of place and size.
        radius: Smallest and largest, as shares of the image's side.
        shift: Change of grey value; the full range is 2.

    Returns:
        The image with the disc, and ``(H, W)`` the pixels of the body that belong to it by half or more.

    Raises:
        AnomapError: E114 when there is no body.
    """
    centre = _point(body, rng)
    apart = np.hypot(*(np.indices(body.shape) - centre[:, None, None]))
    cover = np.clip(rng.uniform(*radius) * len(body) + 0.5 - apart, 0.0, 1.0) * body
    inside = image[cover >= 0.5]
    sign = -1.0 if inside.size and inside.mean() > 0 else 1.0
    return np.clip(image + cover * sign * shift, -1, 1).astype(np.float32), cover >= 0.5


PLANTS: dict[str, Plant] = {"needle": needle, "blob": blob}


def planted(prepared: Prepared, plant: Plant, name: str) -> tuple[Prepared, Bool]:
    """Plant one anomaly into every image.

    Args:
        prepared: N images; their frame ids decide the places.
        plant: `needle`, `blob`, or one of them with other settings.
        name: Kind of the anomaly; another name draws other places.

    Returns:
        The altered images under their old frame ids (so a projection draws the same random numbers), and
        ``(N, H, W)`` where something was changed.

    Raises:
        AnomapError: E114 when a body has no room.
    """
    pairs = [
        plant(image, body, np.random.default_rng(seed_of(f"{name}:{frame_id}")))
        for image, body, frame_id in zip(prepared.images[:, 0], prepared.body[:, 0], prepared.frame_ids, strict=True)
    ]
    if not pairs:
        return prepared, np.zeros((0, prepared.spec.size, prepared.spec.size), np.bool_)
    images, masks = zip(*pairs, strict=True)
    return replace(prepared, images=np.stack(images)[:, None]), np.stack(masks)


def rotated90(prepared: Prepared) -> Prepared:
    """Turn every image by a quarter, anticlockwise, with its masks and its way back to source pixels."""
    last = prepared.spec.size - 1
    # New (row, col) shows old (col, last - row).
    turn = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, last], [0.0, 0.0, 1.0]])
    return replace(
        prepared,
        **{name: np.rot90(getattr(prepared, name), axes=(2, 3)).copy() for name in ("images", "valid", "body")},
        to_source=prepared.to_source @ turn,
    )


def inverted(prepared: Prepared) -> Prepared:
    """Swap black and white inside the valid pixels, as a wrong Photometric Interpretation does."""
    return replace(prepared, images=np.where(prepared.valid, -prepared.images, prepared.images))


def _point(body: Bool, rng: np.random.Generator) -> Float64:
    places = np.argwhere(body)
    if not len(places):
        raise AnomapError("E114", "no body to plant an anomaly in")
    result: Float64 = places[rng.integers(len(places))].astype(np.float64)
    return result


def _chord(body: Bool, rng: np.random.Generator, length: tuple[float, float]) -> tuple[Float64, Float64]:
    """Two points of the body whose connecting line stays in it; drawn until one fits."""
    for _ in range(_TRIES):
        start, angle = _point(body, rng), rng.uniform(0, 2 * np.pi)
        reach = rng.uniform(*length) * len(body)
        end = start + reach * np.array([np.sin(angle), np.cos(angle)])
        steps = np.linspace(0, 1, int(np.ceil(reach)) + 1)[:, None]
        path = np.rint(start + steps * (end - start)).astype(np.int64)
        if (path < 0).any() or (path >= body.shape).any():
            continue
        if body[path[:, 0], path[:, 1]].all():
            return start, end
    raise AnomapError("E114", "the body has no room for a needle")


def _mix(image: Float32, cover: Float64, value: float) -> Float32:
    return (image * (1 - cover) + value * cover).astype(np.float32)
