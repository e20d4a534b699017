"""Things that don't belong into a body: needles, discs, fluid, metal; the truth is known to the pixel.

Each is a function of one image, its body and a source of random numbers (`Plant`). Unless a contrast is asked for,
places are drawn without a look at the grey levels there: a needle may fall on bone, where it hardly shows, as a real
one may.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from anomap.errors import AnomapError
from anomap.types import Bool, Float32, Float64

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
    streak: float = 0.0,
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
        streak: Strength of dark and bright streaks near its direction, in grey values.

    Returns:
        The image with the needle, and ``(H, W)`` the pixels that belong to it by half or more.

    Raises:
        AnomapError: E114 when the body has no room for one, or nowhere for one that shows.
    """
    for _ in range(_TRIES):
        start, end = _chord(body, rng, length)
        cover = line_cover(body.shape, start, end, width_px)
        drawn, mask = _mix(image, cover, value), cover >= 0.5
        if np.abs(drawn - image)[mask].mean() < contrast:
            continue
        if streak:
            direction = np.arctan2(*(end - start))
            field = streaks(body, (start + end) / 2, direction + rng.uniform(-0.25, 0.25, 4), streak)
            drawn = _mix(np.clip(image + field, -1, 1).astype(np.float32), cover, value)
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


def ascites(
    image: Float32,
    body: Bool,
    rng: np.random.Generator,
    *,
    fluid: tuple[float, float],
    bone: float,
    air: float,
    wall: float = 0.05,
    thickness: tuple[float, float] = (0.05, 0.09),
    half_angle: tuple[float, float] = (0.35, 0.7),
) -> tuple[Float32, Bool]:
    """Lay a crescent of fluid along the inside of one flank: on the left of the picture it surrounds the liver.

    It replaces soft tissue and fat; bone and gas stay what they are. Its edge is sharp, so the mask is exact: not a
    pixel outside of it changes.

    Args:
        image: ``(H, W)`` in [-1, 1].
        body: ``(H, W)``.
        rng: Source of side, size and grain.
        fluid: Lowest and highest grey value of fluid (0 and 20 HU); the grain stays between them.
        bone: Grey values from here on stay.
        air: Grey values up to here stay.
        wall: Thickness of the body wall, as a share of the image's side.
        thickness: Thinnest and thickest middle of the crescent, likewise.
        half_angle: Smallest and largest half of the angle it spans about the middle of the body, in rad.

    Returns:
        The image with fluid, and ``(H, W)`` where it is.

    Raises:
        AnomapError: E114 when the body has no room for it.
    """
    size = len(body)
    centre = np.argwhere(body).mean(axis=0) if body.any() else np.zeros(2)
    side = rng.choice([0.0, np.pi]) + rng.uniform(-0.3, 0.3)  # 0 points to the right of the picture
    row, col = np.indices(body.shape) - centre[:, None, None]
    apart = np.abs(np.angle(np.exp(1j * (np.arctan2(row, col) - side))))
    spread, thick = rng.uniform(*half_angle), rng.uniform(*thickness) * size
    depth = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1] - max(1.0, wall * size)
    taper = np.cos(np.clip(apart / spread, 0, 1) * np.pi / 2)
    mask = body & (apart < spread) & (depth > 0) & (depth <= thick * taper) & (image < bone) & (image > air)
    if not mask.any():
        raise AnomapError("E114", "the body has no room for fluid along its wall")
    grain = np.clip(rng.normal(np.mean(fluid), np.ptp(fluid) / 4, body.shape), *fluid)
    return np.where(mask, grain, image).astype(np.float32), mask


def metal(
    image: Float32,
    body: Bool,
    rng: np.random.Generator,
    *,
    radius: tuple[float, float] = (0.015, 0.04),
    value: float = 1.0,
    streak: float = 0.0,
) -> tuple[Float32, Bool]:
    """Put a round piece of metal into the body, with dark and bright streaks about it if wanted.

    Args:
        image: ``(H, W)`` in [-1, 1].
        body: ``(H, W)``; the middle of the piece lies in it.
        rng: Source of place, size and streaks.
        radius: Smallest and largest, as shares of the image's side.
        value: Grey value of metal.
        streak: Strength of the streaks in grey values; the full range is 2.

    Returns:
        The image with metal, and ``(H, W)`` the pixels that belong to the piece by half or more, streaks not.

    Raises:
        AnomapError: E114 when there is no body.
    """
    centre = _point(body, rng)
    apart = np.hypot(*(np.indices(body.shape) - centre[:, None, None]))
    cover = np.clip(max(0.75, rng.uniform(*radius) * len(body)) + 0.5 - apart, 0.0, 1.0)
    around = image + streaks(body, centre, rng.uniform(0, np.pi, 8), streak)
    return _mix(np.clip(around, -1, 1).astype(np.float32), cover, value), cover >= 0.5


def streaks(body: Bool, centre: Float64, angles: Float64, strength: float) -> Float64:
    """Lines through a point, dark and bright by turns, that fade within a third of the image; in the body only.

    The sign and shape are those of beam hardening beside metal, not its physics.

    Args:
        body: ``(H, W)``.
        centre: The point, (row, column).
        angles: Directions in rad, the first of them dark.
        strength: Change of grey value beside the point.

    Returns:
        ``(H, W)`` change of grey value.
    """
    row, col = np.indices(body.shape) - centre[:, None, None]
    field = np.zeros(body.shape)
    for number, angle in enumerate(angles):
        along = np.abs(col * np.cos(angle) + row * np.sin(angle))
        across = row * np.cos(angle) - col * np.sin(angle)
        fade = np.exp(-3 * along / len(body)) * np.exp(-((across / 0.75) ** 2))
        field += (1 if number % 2 else -1) * strength * fade
    result: Float64 = np.clip(field, -strength, strength) * body
    return result


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
