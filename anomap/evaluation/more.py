"""More scores from the same projection, on trial: the ablation table says which of them earn their place.

They stand beside those of `anomap.scoring` and are not part of a bundle's cohort: `anomap analyze` does not compute
them. Each has a unit and a direction as those have. Sources are named in docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter

from anomap.bundle import Bundle
from anomap.errors import AnomapError
from anomap.evaluation.data import first_half
from anomap.evaluation.scores import score_images
from anomap.evaluation.store import Store
from anomap.projection.schedule import PAPER, ProjectionConfig
from anomap.scoring import Score
from anomap.training.data import by_hash
from anomap.types import Float32, Float64, Int64, Prepared, Reconstruction

_CONTRAST_CONSTANT = (0.03 * 2) ** 2  # C2 of SSIM (Wang et al. 2004) for a range of 2

MORE: dict[str, Score] = {
    name: Score(name=name, unit=unit, direction="higher", description=description)
    for name, unit, description in (
        ("ssim_contrast", "1", "One minus the contrast term of SSIM, mean over the body"),
        (
            "residual_z",
            "sd",
            "Highest residual of a window, in deviations of normal images' residuals there",
        ),
        ("wd_patch_seeds", "{unit}", "Mean of wd_patch over projections from several seeds"),
        ("seed_spread", "{unit}", "Standard deviation of wd_patch over projections from several seeds"),
    )
}


def contrast_map(images: Float32, other: Float32, window: int) -> Float64:
    """One minus SSIM's contrast term: 0 where both vary equally, 1 where one is flat and the other is not.

    Args:
        images: ``(N, H, W)`` in [-1, 1].
        other: Likewise.
        window: Side of the square around each pixel over which deviations are taken.

    Returns:
        ``(N, H, W)`` in [0, 1].
    """

    def variance(values: Float64) -> Float64:
        mean = local_mean(values, window)
        result: Float64 = np.maximum(local_mean(values * values, window) - mean * mean, 0.0)
        return result

    one, two = variance(images.astype(np.float64)), variance(other.astype(np.float64))
    term: Float64 = (2 * np.sqrt(one * two) + _CONTRAST_CONSTANT) / (one + two + _CONTRAST_CONSTANT)
    return 1 - term


def local_mean(values: Float64, window: int) -> Float64:
    """Mean of the square window around each pixel of ``(N, H, W)``; edges are mirrored."""
    result: Float64 = uniform_filter(values, size=(0, window, window), mode="mirror")
    return result


def absolute_residual(prepared: Prepared, fit: Reconstruction) -> Float64:
    """``(N, H, W)`` absolute difference in score units (HU, grey levels); 0 where not valid."""
    difference = np.abs(prepared.images[:, 0].astype(np.float64) - fit.images[:, 0])
    return np.where(prepared.valid[:, 0], difference * prepared.spec.score_range / 2, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualCohort:
    """How large residuals usually are at each place, twice: each half of the normal patients measures the others.

    Attributes:
        mean, spread: ``(2, H, W)`` of the windows' mean absolute residual, of the first and the second half.
        patients: Those of the first and of the second half.
        window: Side of the windows.
    """

    mean: Float64
    spread: Float64
    patients: tuple[frozenset[str], frozenset[str]]
    window: int

    def z_map(self, prepared: Prepared, fit: Reconstruction, patients: tuple[str, ...]) -> Float64:
        """``(N, H, W)`` deviations from what is usual, by the half the patient does not belong to."""
        smooth = local_mean(absolute_residual(prepared, fit), self.window)
        half = np.array([self._judge(patient) for patient in patients])
        result: Float64 = (smooth - self.mean[half]) / self.spread[half]
        return result

    def _judge(self, patient: str) -> int:
        for own, half in ((0, self.patients[0]), (1, self.patients[1])):
            if patient in half:
                return 1 - own
        return by_hash(patient)[0] % 2


def fit_residuals(
    prepared: Prepared, fit: Reconstruction, patients: tuple[str, ...], window: int
) -> ResidualCohort | None:
    """Measure the residuals of normal images; None with fewer than two patients.

    A pixel's deviation counts as at least half of the median one: where nothing ever happens, rounding would.
    """
    first = first_half(patients)
    inside = np.array([patient in first for patient in patients])
    if inside.all() or not inside.any():
        return None
    smooth = local_mean(absolute_residual(prepared, fit), window)
    parts = [smooth[inside], smooth[~inside]]
    spread = np.stack([part.std(axis=0) for part in parts])
    floor = np.maximum(0.5 * np.median(spread, axis=(1, 2), keepdims=True), 1e-6)
    return ResidualCohort(
        mean=np.stack([part.mean(axis=0) for part in parts]),
        spread=np.maximum(spread, floor),
        patients=(first, frozenset(patients) - first),
        window=window,
    )


def more_scores(
    bundle: Bundle,
    prepared: Prepared,
    fit: Reconstruction,
    residuals: ResidualCohort | None,
    patients: tuple[str, ...],
) -> dict[str, Float64]:
    """The scores of `MORE` that need no further projection, ``(N,)`` each; those that can't be had are left out.

    Args:
        bundle: Loaded on its device.
        prepared: N images.
        fit: Their reconstructions.
        residuals: From `fit_residuals`.
        patients: N labels.
    """
    body = prepared.body[:, 0]
    contrast = contrast_map(prepared.images[:, 0], fit.images[:, 0], bundle.info.window)
    result = {"ssim_contrast": np.where(body, contrast, 0).sum(axis=(1, 2)) / body.sum(axis=(1, 2))}
    if residuals is not None:
        z = residuals.z_map(prepared, fit, patients)
        result["residual_z"] = np.where(body, z, -np.inf).max(axis=(1, 2))
    return result


def seed_scores(
    bundle: Bundle, prepared: Prepared, projection: ProjectionConfig, seeds: int, store: Store | None
) -> tuple[dict[str, Float64], Int64]:
    """wd_patch over K projections of the same images.

    Preset "fast" draws no random numbers. So that seeds differ, all these projections search with the noise on w that
    preset "paper" has.

    Args:
        bundle: Loaded on its device.
        prepared: N images.
        projection: Preset.
        seeds: How many projections, at least 2.
        store: Of this bundle; the settings are replaced.

    Returns:
        Its mean and its spread, ``(N,)`` each, and the top windows ``(K, N, 4)``.

    Raises:
        AnomapError: E200 with fewer than two; as `score_images`.
    """
    if seeds < 2:
        raise AnomapError("E200", f"a spread over seeds needs two of them, got {seeds}")
    noisy = replace(projection, w_noise=projection.w_noise or PAPER.w_noise)
    kept = None if store is None else replace(store, projection=noisy)
    found = []
    for number in range(seeds):
        renamed = replace(prepared, frame_ids=tuple(f"{name}#seed{number}" for name in prepared.frame_ids))
        found.append(score_images(bundle, renamed, noisy, store=kept))
    values = np.stack([scores.per_image["wd_patch"] for scores in found])
    spread = {"wd_patch_seeds": values.mean(axis=0), "seed_spread": values.std(axis=0, ddof=1)}
    return spread, np.stack([scores.top_window for scores in found])
