"""From source pixels to model input, and the exact way back."""

from __future__ import annotations

from anomap.errors import AnomapError
from anomap.preprocessing.ct import prepare_ct
from anomap.preprocessing.radiograph import prepare_radiograph
from anomap.types import ImageSeries, Prepared, PreprocessSpec

__all__ = ["prepare"]


def prepare(series: ImageSeries, spec: PreprocessSpec) -> Prepared:
    """Bring a series onto the model's grid and into [-1, 1].

    Args:
        series: K source frames.
        spec: From the bundle: the weights know images prepared in this way only.

    Returns:
        N <= K images; CT frames without a body are left out.

    Raises:
        AnomapError: E108 without contrast, E113 when the spec is for another kind of image, E114 without a body.
    """
    if (series.unit == "HU") != (spec.kind == "ct"):
        raise AnomapError("E113", f"the model is for {spec.kind} images, these are {series.modality} in {series.unit}")
    return prepare_ct(series, spec) if spec.kind == "ct" else prepare_radiograph(series, spec)
