"""One ruler for all sets: fitted once, it gives every score of any images, generator's and baselines' alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anomap.bundle import Bundle
from anomap.calibration import COMBINED, combined_score
from anomap.evaluation.baselines import BASELINES, Baselines, baseline_scores, fit_baselines
from anomap.evaluation.cohort import cohort_of
from anomap.evaluation.features import FEATURE_KNN, FeatureBank, feature_knn, fit_features
from anomap.evaluation.more import (
    MORE,
    ResidualCohort,
    absolute_residual,
    contrast_map,
    fit_residuals,
    more_scores,
    seed_scores,
)
from anomap.evaluation.neighbours import NeighbourBank, fit_neighbours, with_neighbours
from anomap.evaluation.scores import Progress, Scores, score_images, score_on_model_grid
from anomap.evaluation.store import Store
from anomap.projection.schedule import ProjectionConfig
from anomap.scoring import SCORES, Score, on_pixels
from anomap.training.data import ImageSet
from anomap.types import Cohort, Float32, Float64, Int64, Reconstruction, ScoreMap

OPPONENTS = (*BASELINES, FEATURE_KNN)  # what needs no projection
# the last needs no projection, nor do "feature" and "neighbours"
MAPS = ("wd", "mse", "feature", "neighbours", "residual", "ssim_contrast", "residual_z", "mean_image")
_BASELINE_SCORES = tuple(
    Score(name=name, unit=unit, direction="higher", description=description)
    for name, unit, description in (
        ("mean_image_mse", "{unit}²", "Mean squared difference from the mean training image"),
        ("train_histogram_wd", "{unit}", "Wasserstein distance of the grey levels from those of the training images"),
        ("mean_intensity", "{unit}", "Distance of the mean grey value from that of the training images"),
        ("pca_mse", "{unit}²", "Mean squared difference from the reconstruction by principal components"),
        (FEATURE_KNN, "sd", "Distance to the nearest training images in the discriminator's features"),
    )
)
_COMBINED = Score(
    name=COMBINED, unit="sd", direction="higher", description="Largest standard score of those the model combines"
)
ALL_SCORES = {**SCORES, COMBINED: _COMBINED, **MORE, **{score.name: score for score in _BASELINE_SCORES}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A set with all its scores.

    Attributes:
        images: N images.
        scores: Name of `ALL_SCORES` -> ``(N,)``.
        found: The generator's part: reconstructions, top windows.
        beside: ``(N, S, S)`` how far each place is from the slices beside it, NaN for lone slices; None without any.
        seed_windows: ``(K, N, 4)`` top windows of the projections from K seeds; K is 0 unless they were asked for.
    """

    images: ImageSet
    scores: dict[str, Float64]
    found: Scores
    beside: Float32 | None
    seed_windows: Int64


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruler:
    """What all images of an evaluation are measured by.

    Attributes:
        bundle: Loaded on its device.
        projection: Preset.
        seeds: Projections an image for the scores over seeds; 1 leaves these out.
        store: Where reconstructions are kept.
        baselines, features: Fitted to the training images.
        residuals, neighbours, cohort: Of the normal images.
        progress: Told (images done, images in all) of the set at hand.
    """

    bundle: Bundle
    projection: ProjectionConfig
    seeds: int
    store: Store | None
    baselines: Baselines
    features: FeatureBank | None
    residuals: ResidualCohort | None
    neighbours: NeighbourBank | None
    cohort: Cohort
    progress: Progress | None

    def measure(self, images: ImageSet) -> Measured:
        """All scores of a set.

        Raises:
            AnomapError: As `score_images`.
        """
        found = score_images(self.bundle, images.prepared, self.projection, self.progress, self.store)
        beside = None if self.neighbours is None else self.neighbours.places(self.bundle, images)
        return self.complete(images, with_neighbours(found, beside), beside)

    def complete(self, images: ImageSet, found: Scores, beside: Float32 | None) -> Measured:
        """The same where the images were projected and compared with their neighbours already."""
        prepared = images.prepared
        scores = {
            **found.per_image,
            COMBINED: combined_score(found.per_image, self.cohort),
            **more_scores(self.bundle, prepared, found.reconstruction, self.residuals, images.patients),
            **baseline_scores(self.baselines, prepared),
        }
        windows = np.empty((0, len(images.names), 4), np.int64)
        if self.seeds > 1:
            over_seeds, windows = seed_scores(self.bundle, prepared, self.projection, self.seeds, self.store)
            scores |= over_seeds
        if self.features is not None:
            scores[FEATURE_KNN] = feature_knn(self.bundle, self.features, prepared)
        return Measured(images=images, scores=scores, found=found, beside=beside, seed_windows=windows)

    def scored(self, images: ImageSet, fit: Reconstruction, beside: Float32 | None = None) -> ScoreMap:
        """Scores and maps on the model's own pixels; of slices among their neighbours where all have such."""
        all_have = beside is not None and not np.isnan(beside).any()
        return score_on_model_grid(self.bundle, images.prepared, fit, beside if all_have else None)

    def maps(self, images: ImageSet, fit: Reconstruction, scored: ScoreMap) -> dict[str, Float64]:
        """The `MAPS` ``(N, H, W)`` on the model's pixels, higher is odder; NaN where nothing was scored.

        Args:
            images: N images.
            fit: Their reconstructions.
            scored: From `scored`.
        """
        prepared = images.prepared
        dense = scored.maps
        mean_image = np.broadcast_to(self.baselines.mean.astype(np.float32), prepared.images.shape)
        maps = {
            "wd": dense["wd"].astype(np.float64),
            "mse": dense["mse"].astype(np.float64),
            "residual": absolute_residual(prepared, fit),
            "ssim_contrast": contrast_map(prepared.images[:, 0], fit.images[:, 0], self.bundle.info.window),
            "mean_image": absolute_residual(prepared, replace(fit, images=mean_image)),
        }
        if self.residuals is not None:
            maps["residual_z"] = self.residuals.z_map(prepared, fit, images.patients)
        if scored.top_place is not None:
            size = prepared.images.shape[2:]
            maps["feature"] = np.stack([on_pixels(places, size) for places in fit.feature_map]).astype(np.float64)
        if scored.top_change is not None:
            maps["neighbours"] = dense["place"].astype(np.float64)
        return maps


def fit_ruler(
    bundle: Bundle,
    train: ImageSet,
    normal: ImageSet,
    projection: ProjectionConfig,
    *,
    seeds: int = 1,
    store: Store | None = None,
    progress: Progress | None = None,
) -> tuple[Ruler, Measured]:
    """Fit everything to the training and the normal images; give the latter measured, too.

    "combined" is standardised by the scores of `normal`, which also serve as the negatives: with few normal images
    its figures are a little flattering. "residual_z" judges each half of the patients by the other half.

    Args:
        bundle: Loaded on its device.
        train: Normal images for the baselines.
        normal: Normal images that were not trained on.
        projection: Preset.
        seeds: See `Ruler`.
        store: Of this bundle and preset.
        progress: See `Ruler`.

    Raises:
        AnomapError: As the stages do; E200 when a set is empty.
    """
    found = score_images(bundle, normal.prepared, projection, progress, store)
    bank = fit_neighbours(bundle, normal)
    beside = None if bank is None else bank.places(bundle, normal)
    scores = with_neighbours(found, beside)
    ruler = Ruler(
        bundle=bundle,
        projection=projection,
        seeds=seeds,
        store=store,
        baselines=fit_baselines(train.prepared),
        features=fit_features(bundle, train.prepared),
        residuals=fit_residuals(normal.prepared, found.reconstruction, normal.patients, bundle.info.window),
        neighbours=bank,
        cohort=cohort_of(scores, normal, bundle.info.sha256, "", bundle.combines),
        progress=progress,
    )
    return ruler, ruler.complete(normal, scores, beside)
