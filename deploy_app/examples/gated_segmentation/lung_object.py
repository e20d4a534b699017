"""The lung fields as a DICOM Segmentation, with the identity and the mends of anomap's own objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from anomap import __version__
from anomap.dicom.codes import ARTIFICIAL_INTELLIGENCE
from anomap.dicom.derived import algorithm_name, algorithm_version, derived_uid
from anomap.dicom.segmentation import ContentLabel, binary_segmentation
from anomap.errors import AnomapError
from anomap.pipeline import now
from anomap.types import Bool, ImageSeries
from deploy_app.examples.gated_segmentation.segmenter import Segmenter

SERIES_OFFSET = 11  # anomap's own objects have 1 to 4
_LABEL = ContentLabel("LUNG_FIELDS", "Lung fields by an example model; not for use", "example lung fields")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Where the masks come from, as `anomap.dicom.derived.Traced` asks."""

    provenance: Mapping[str, Any]


def build_lung_object(series: ImageSeries, lungs: Bool, segmenter: Segmenter) -> Dataset:
    """A SEG BINARY with one segment.

    Args:
        series: With DICOM headers.
        lungs: ``(K, R, C)``.
        segmenter: That found them.

    Raises:
        AnomapError: E501 when there is nothing to write (an empty SEG is not allowed) or the series never was DICOM.
    """
    if not lungs.any():
        raise AnomapError("E501", "the segmenter found no lung in an image that passed")
    made = Made(provenance={
        "bundle_name": segmenter.name, "bundle_sha256": segmenter.sha256, "config_sha256": segmenter.config_sha256,
        "software_version": __version__, "created": now(),
    })  # fmt: skip
    segment = SegmentDescription(
        segment_number=1,
        segment_label="Lung fields",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Lung,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=algorithm_name(made), version=algorithm_version(made), family=ARTIFICIAL_INTELLIGENCE
        ),
        tracking_uid=derived_uid(series, made, "lungs/segment"),
        tracking_id="lung-fields",
    )
    return binary_segmentation(
        series, made, lungs.astype(np.uint16), [segment], _LABEL, "lungs", SERIES_OFFSET, "Segmented lung fields"
    )
