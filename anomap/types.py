"""The frozen dataclasses that travel through the house, and nothing else.

    ImageSeries -> Prepared -> Reconstruction -> ScoreMap -> AnomalyResult

Arrays are numpy, indexed ``(k, row, col)``; an affine maps the index ``(k, row, col, 1)`` to
**LPS millimetres**. Every ``__post_init__`` checks shape, dtype and finiteness, so that a
function which receives one of these need not look again. This file imports neither torch nor pydicom.

Letters in shapes: ``K`` source frames, ``R, C`` source rows and columns, ``N`` model images,
``H, W`` model rows and columns, ``D`` latent size, ``M`` cohort images, ``S`` scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from anomap.checks import check_array, check_finite
from anomap.errors import AnomapError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
UInt16 = npt.NDArray[np.uint16]


class Verdict(StrEnum):
    """What anomap says of a series. Only PASS may release it to a next step."""

    PASS = "PASS"  # noqa: S105 (a verdict, not a password)
    REVIEW = "REVIEW"
    REJECT = "REJECT"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    UNCALIBRATED = "UNCALIBRATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSeries:
    """Images of one patient that belong together: a CT series, or one radiograph (K = 1).

    Attributes:
        pixels: ``(K, R, C)`` float32. HU for CT; for radiographs P-values in [0, 1] (0 black, 1 white),
            i.e. after modality LUT, VOI LUT and MONOCHROME1 inversion.
        unit: UCUM-like unit of `pixels`: "HU", or "1" for P-values.
        affine: ``(4, 4)`` float64, index (k, row, col, 1) -> LPS mm. For a radiograph without position:
            pixel spacing on the diagonal, origin zero (then `frame_of_reference` is empty).
        modality: DICOM Modality ("CT", "CR", "DX").
        frame_ids: K stable names, one a frame: SOP Instance UID, or a physical position for volumes
            that never were DICOM. Seeds derive from them, never from an index.
        valid: ``(K, R, C)`` bool; False where the acquisition holds padding.
        headers: K pydicom Datasets without pixel data in k order; empty for non-DICOM volumes.
        frame_of_reference: Frame of Reference UID, "" when there is none.
        warnings: Sentences about oddities met while reading (no patient data).
    """

    pixels: Float32
    unit: Literal["HU", "1"]
    affine: Float64
    modality: str
    frame_ids: tuple[str, ...]
    valid: Bool
    headers: tuple[Any, ...] = ()
    frame_of_reference: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_array("ImageSeries.pixels", self.pixels, np.float32, (None, None, None))
        check_array("ImageSeries.affine", self.affine, np.float64, (4, 4))
        check_array("ImageSeries.valid", self.valid, np.bool_, self.pixels.shape)
        check_finite("pixel values", self.pixels, "E108")
        check_finite("affine", self.affine, "E112")
        if len(self.frame_ids) != len(self.pixels):
            raise AnomapError("E501", f"{len(self.frame_ids)} frame ids for {len(self.pixels)} frames")
        if self.headers and len(self.headers) != len(self.pixels):
            raise AnomapError("E501", f"{len(self.headers)} headers for {len(self.pixels)} frames")

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring (slices, rows, columns) in mm."""
        k, row, col = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(k), float(row), float(col)

    def index_of(self, lps_mm: Sequence[float]) -> Float64:
        """The (k, row, col) of a point, between voxels too; for radiographs the only place there is."""
        inverse = np.linalg.pinv(self.affine[:3, :3])
        index: Float64 = inverse @ (np.asarray(lps_mm) - self.affine[:3, 3])
        return index

    def frames(self, kept: slice) -> ImageSeries:
        """Neighbouring frames, from `kept.start` on, as a series of their own at their places; views, no copies."""
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, 0] * kept.start
        parts: dict[str, Any] = {n: getattr(self, n)[kept] for n in ("pixels", "valid", "frame_ids", "headers")}
        return replace(self, affine=affine, **parts)

    @property
    def has_physical_spacing(self) -> bool:
        """Whether the affine is in millimetres: CT always is, a radiograph when its header states a spacing."""
        if self.modality == "CT":
            return True
        keywords = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
        return bool(self.headers) and any(self.headers[0].get(keyword) for keyword in keywords)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessSpec:
    """How source pixels become model input. Part of a bundle's metadata; it travels with the weights.

    Attributes:
        kind: "ct" or "radiograph".
        size: Side of the square model input in pixels.
        fit: How a frame meets the square grid. "pad": aspect kept, rest padded. "squeeze": stretched to the
            square (what the public ChestX-ray14 pictures underwent). "body": a square of `field_of_view_mm`
            centred on the body (CT).
        field_of_view_mm: Side of the square for fit "body".
        window_level_hu, window_width_hu: CT intensity window; its ends map to -1 and 1.
        percentiles: Radiograph: these percentiles of the valid P-values map to -1 and 1.
        mask_outside_body: CT: everything outside the body (table, clothes) becomes air before projection.
    """

    kind: Literal["ct", "radiograph"]
    size: int
    fit: Literal["pad", "squeeze", "body"] = "pad"
    field_of_view_mm: float = 400.0  # most adult trunks; wider ones lose their arms, not their organs
    window_level_hu: float = 50.0  # Woodland 2025: level 50, width 350
    window_width_hu: float = 350.0
    percentiles: tuple[float, float] = (0.5, 99.5)  # ignore burnt-in letters and dead pixels
    mask_outside_body: bool = False

    def __post_init__(self) -> None:
        if self.size < 32 or self.size & (self.size - 1):
            raise AnomapError("E302", f"model size must be a power of two of at least 32, got {self.size}")
        if self.window_width_hu <= 0 or self.field_of_view_mm <= 0:
            raise AnomapError("E302", "window width and field of view must be positive")

    @property
    def score_unit(self) -> str:
        """Unit of residuals: "HU" for CT, "grey level" (of 255) for radiographs."""
        return "HU" if self.kind == "ct" else "grey level"

    @property
    def score_range(self) -> float:
        """Width of the model's input range [-1, 1] in `score_unit`."""
        return self.window_width_hu if self.kind == "ct" else 255.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Model input with the exact way back.

    Attributes:
        images: ``(N, 1, H, W)`` float32 in [-1, 1].
        valid: ``(N, 1, H, W)`` bool, False where the model pixel lies outside the source or in padding.
        body: ``(N, 1, H, W)`` bool, the body; a subset of `valid`.
        frame: ``(N,)`` int64 source frame k of each image.
        frame_ids: N names, as in `ImageSeries`.
        to_source: ``(N, 3, 3)`` float64, model (row, col, 1) -> source (row, col, 1), pixel centres on integers.
        gain, offset: ``(N,)`` float64, source value = offset + gain * model value (inside the window).
        spec: What was done.
    """

    images: Float32
    valid: Bool
    body: Bool
    frame: Int64
    frame_ids: tuple[str, ...]
    to_source: Float64
    gain: Float64
    offset: Float64
    spec: PreprocessSpec

    def __post_init__(self) -> None:
        n, side = len(self.images), self.spec.size
        check_array("Prepared.images", self.images, np.float32, (n, 1, side, side))
        for name in ("valid", "body"):
            check_array(f"Prepared.{name}", getattr(self, name), np.bool_, (n, 1, side, side))
        check_array("Prepared.frame", self.frame, np.int64, (n,))
        check_array("Prepared.to_source", self.to_source, np.float64, (n, 3, 3))
        for name in ("gain", "offset"):
            check_array(f"Prepared.{name}", getattr(self, name), np.float64, (n,))
        check_finite("Prepared.images", self.images, "E108")
        if np.abs(self.images).max(initial=0.0) > 1.0 + 1e-6:
            raise AnomapError("E501", "Prepared.images leave [-1, 1]")
        if len(self.frame_ids) != n:
            raise AnomapError("E501", f"{len(self.frame_ids)} frame ids for {n} images")

    def chosen(self, rows: Int64) -> Prepared:
        """Some of the images, in the order of `rows`; `frame` still names their source frames."""
        names = ("images", "valid", "body", "frame", "to_source", "gain", "offset")
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in names}
        return replace(self, **arrays, frame_ids=tuple(self.frame_ids[row] for row in rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """What the generator could reproduce of each image.

    Attributes:
        images: ``(N, 1, H, W)`` float32 in [-1, 1], rendered with the generator's own constant noise.
        w: ``(N, D)`` float32 latent vectors.
        loss: ``(N,)`` float64 final projection loss.
        prior_distance: ``(N,)`` float64 distance of w from the training cloud (Mahalanobis, per sqrt(D)).
        feature_residual: ``(N,)`` float64 distance of both in the discriminator's features; NaN without one.
        feature_distance: ``(N,)`` float64 distance of the image from the training images in these; NaN where unknown.
        feature_map: ``(N, S, S)`` float32 the same by place, of S x S that cover the image; ``(N, 1, 1)`` NaN where
            unknown.
        steps: Optimisation steps taken.
        converged: ``(N,)`` bool, False where the loss was still falling fast or is not finite.
        seeds: ``(N,)`` int64, each derived from the image's own frame id.
    """

    images: Float32
    w: Float32
    loss: Float64
    prior_distance: Float64
    feature_residual: Float64
    feature_distance: Float64
    feature_map: Float32
    steps: int
    converged: Bool
    seeds: Int64

    def __post_init__(self) -> None:
        n = len(self.images)
        check_array("Reconstruction.images", self.images, np.float32, (n, 1, None, None))
        check_array("Reconstruction.w", self.w, np.float32, (n, None))
        for name in ("loss", "prior_distance", "feature_residual", "feature_distance"):
            check_array(f"Reconstruction.{name}", getattr(self, name), np.float64, (n,))
        check_array("Reconstruction.feature_map", self.feature_map, np.float32, (n, None, None))
        check_array("Reconstruction.converged", self.converged, np.bool_, (n,))
        check_array("Reconstruction.seeds", self.seeds, np.int64, (n,))
        for name in ("images", "loss", "prior_distance"):
            check_finite(f"Reconstruction.{name}", getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMap:
    """Scores of every image and dense maps on the source grid.

    Attributes:
        maps: name -> ``(K, R, C)`` float32 on the **source** grid, NaN where nothing was scored.
            "residual" is the signed difference (image - reconstruction), "mse" and "wd" hold at each pixel the
            score of the window centred there, "place" that of its place (`anomap.scoring.shown_places`).
        per_image: score name -> ``(N,)`` float64, higher is odder; see `anomap.scoring.SCORES`.
        top_window: ``(N, 4)`` int64 rows ``(row0, col0, row1, col1)`` of the highest WD window, in model pixels.
        frame: ``(N,)`` int64 source frame of each image.
        unit: "HU" or "grey level"; MSE scores are in its square.
        top_place: As `top_window` the place behind score "feature_patch"; None where the model doesn't know places.
        top_change: The same behind score "neighbour_patch"; None where slices have none.
    """

    maps: Mapping[str, Float32]
    per_image: Mapping[str, Float64]
    top_window: Int64
    frame: Int64
    unit: str
    top_place: Int64 | None = None
    top_change: Int64 | None = None

    def __post_init__(self) -> None:
        n = len(self.frame)
        for name, boxes in (("top_place", self.top_place), ("top_change", self.top_change)):
            if boxes is not None:
                check_array(f"ScoreMap.{name}", boxes, np.int64, (n, 4))
        for name, scores in self.per_image.items():
            check_array(f"ScoreMap.per_image[{name}]", scores, np.float64, (n,))
            check_finite(f"score {name}", scores)
        for name, dense in self.maps.items():
            check_array(f"ScoreMap.maps[{name}]", dense, np.float32, (None, None, None))
        check_array("ScoreMap.top_window", self.top_window, np.int64, (n, 4))
        check_array("ScoreMap.frame", self.frame, np.int64, (n,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Scores of images as they should be: what a new score is compared with.

    Attributes:
        scores: ``(M, S)`` float64; NaN where an image doesn't have the score, as a slice without neighbours.
        names: S score names.
        patients: M pseudonymous patient labels; images of one patient are not independent.
        bundle_sha256: Hash of the weights that made the scores.
        description: Population, source and date, for the report.
        region_threshold: WD map value that few pixels of the cohort exceed; regions start here.
        combines: The scores behind "combined" (see `anomap.calibration.combined_score`), chosen for the model by what
            finds planted anomalies in its validation images (docs/evaluation.md).
    """

    scores: Float64
    names: tuple[str, ...]
    patients: tuple[str, ...]
    bundle_sha256: str
    description: str
    region_threshold: float
    combines: tuple[str, ...]

    def __post_init__(self) -> None:
        check_array("Cohort.scores", self.scores, np.float64, (len(self.patients), len(self.names)))
        check_finite("Cohort.scores", np.nan_to_num(self.scores, nan=0.0))
        if not self.patients:
            raise AnomapError("E302", "a cohort needs at least one image")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One connected region that is unusual.

    Attributes:
        label: 1..65535, its value in `AnomalyResult.labels`.
        frame: Source frame with the highest value.
        bbox: Inclusive index bounds ``(k0, row0, col0, k1, row1, col1)``.
        centroid_lps_mm: Centre of mass of the region's voxels.
        area_mm2: Area on the frame `frame`; in pixels where there is no physical spacing.
        volume_ml: Volume over all frames; None for a single projection image.
        score: Of `peaks` the score that exceeds its threshold most.
        peaks: Score name -> highest value of its map inside.
        mean_mse: Mean squared residual inside.
        p_value: Of `peaks` among the cohort's images (`anomap.calibration.survivors`); 1.0 without a cohort.
        p_series: The same over the whole series; None without a site's cohort or patients of the stratum.
        survives: Whether `p_series` is at most the limit of review; None where no p-value can be as small.
    """

    label: int
    frame: int
    bbox: tuple[int, int, int, int, int, int]
    centroid_lps_mm: tuple[float, float, float]
    area_mm2: float
    volume_ml: float | None
    score: str
    peaks: Mapping[str, float]
    mean_mse: float
    p_value: float = 1.0
    p_series: float | None = None
    survives: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why the verdict is what it is: a machine code and a sentence."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyResult:
    """The one object that feeds SR, SEG, PM, result.json, preview and exit code.

    Attributes:
        p_value: Of the series, over its images and scores (`anomap.calibration.calibrate`), in (0, 1].
        p_by_score: score name -> ``(N,)`` conformal p-values (1 + #{cohort >= s}) / (M + 1).
        percentile_by_score: score name -> ``(N,)`` share of the cohort below, in per cent.
        summary: score name -> worst value over the images of the series.
        worst_image: Index n of the image with the smallest p (ties: highest "combined" score).
        labels: ``(K, R, C)`` uint16 region labels on the source grid, 0 = none.
        regions: The regions, the one that exceeds a threshold most first.
        region_thresholds: Score -> value of its map above which a pixel belongs to a region.
        verdict, reasons: What is said and why.
        cohort_description, cohort_size: What the p-values refer to; "" and 0 without a cohort.
        cohort_patients: Patients of this site that the p-value of the series counts; 0 without a site's cohort.
        every: One image in so many was looked at, and the cohort thinned likewise; 1: all of them.
        provenance: Versions, bundle name and sha256, configuration, device, seeds, seconds by stage.
    """

    p_value: float
    p_by_score: Mapping[str, Float64]
    percentile_by_score: Mapping[str, Float64]
    summary: Mapping[str, float]
    worst_image: int
    labels: UInt16
    regions: tuple[Region, ...]
    region_thresholds: Mapping[str, float]
    verdict: Verdict
    reasons: tuple[Reason, ...]
    cohort_description: str
    cohort_size: int
    cohort_patients: int = 0
    every: int = 1
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_array("AnomalyResult.labels", self.labels, np.uint16, (None, None, None))
        if not 0.0 < self.p_value <= 1.0:
            raise AnomapError("E501", f"p-value must lie in (0, 1], got {self.p_value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Something in the input that was left out, and why. `name` is a path inside the input."""

    name: str
    code: str
    reason: str
