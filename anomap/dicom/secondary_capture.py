"""Colour Secondary Capture: the preview as one picture that every PACS shows. An option, and the last resort."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from pydicom.dataset import Dataset

from anomap.dicom.derived import DISCLAIMER, created, equipment, finish, identity, silent, sources
from anomap.types import AnomalyResult, ImageSeries

SERIES_OFFSET = 4


def build_secondary_capture(series: ImageSeries, picture: npt.NDArray[Any], result: AnomalyResult) -> Dataset:
    """A picture with burnt-in text as a Secondary Capture of its own series.

    Args:
        series: With DICOM headers.
        picture: ``(H, W, 3)`` uint8 RGB; the words "not a diagnosis" must be in it (`anomap.preview`).
        result: For identity and provenance.

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    named = equipment(result)
    with silent():
        headers = sources(series)
        dataset: Dataset = SCImage.from_ref_dataset(
            ref_dataset=headers[0],
            pixel_array=np.ascontiguousarray(picture),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),  # the constructor wants one; a page of pictures has none (below)
            **identity(series, result, "sc", SERIES_OFFSET),
            manufacturer=named["manufacturer"],
            transfer_syntax_uid="1.2.840.10008.1.2.1",
        )
        dataset.PatientOrientation = ""
        dataset.ConversionType = "WSD"
        dataset.BurnedInAnnotation = "YES"
        dataset.DerivationDescription = f"Input, reconstruction, residual map and regions; {DISCLAIMER}"
        dataset.SecondaryCaptureDeviceManufacturer = named["manufacturer"]
        dataset.SecondaryCaptureDeviceManufacturerModelName = named["manufacturer_model_name"]
        dataset.SecondaryCaptureDeviceSoftwareVersions = named["software_versions"]
        dataset.ManufacturerModelName = named["manufacturer_model_name"]
        dataset.SoftwareVersions = named["software_versions"]
        dataset.DeviceSerialNumber = named["device_serial_number"]
        dataset.DateOfSecondaryCapture = created(result).strftime("%Y%m%d")
        dataset.TimeOfSecondaryCapture = created(result).strftime("%H%M%S")
        dataset.SourceImageSequence = [_reference(header) for header in headers]
    return finish(dataset, series, result, "anomap overview")


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item
