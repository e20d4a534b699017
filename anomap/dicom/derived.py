"""What all objects that we write share: identity, equipment, patient and study, and mends of what libraries write.

The same images, weights, settings and cohort give the same UIDs, so a repeated run never makes a second result, and
any change makes a new one. Text of our own is ASCII, so the source's character set, whatever it is, fits our objects
too, and names keep their bytes.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy, deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DA, TM

from anomap.dicom.codes import PROCESSING_EQUIPMENT, coding_scheme_identification
from anomap.dicom.header import number, quiet
from anomap.errors import AnomapError
from anomap.types import ImageSeries

MANUFACTURER = "anomap"  # `anomap.dicom.header` knows our own results by it
DISCLAIMER = "not a diagnosis; research use only"
COMPARED = "Compared images with reconstructions by a generative model"

_IDENTITY = ("bundle_sha256", "config_sha256", "software_version", "cohort_id")
_TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_FORMS = {
    "PatientSex": r"[MFO]",
    "PatientAge": r"[0-9]{3}[DWMY]",
    "BodyPartExamined": r"[A-Z0-9_ ]{1,16}",
    "PatientBirthDate": r"[0-9]{8}",
    "StudyDate": r"[0-9]{8}",
    "StudyTime": r"[0-9]{2}([0-9]{2}([0-9]{2}(\.[0-9]{1,6})?)?)?",
}
_PARSERS = {"PatientBirthDate": DA, "StudyDate": DA, "StudyTime": TM}


class Traced(Protocol):
    """What an object is made of: an `AnomalyResult`, or another result that says where it comes from.

    Attributes:
        provenance: Keys of `_IDENTITY`, "bundle_name" and "created" (ISO 8601); others don't count.
    """

    @property
    def provenance(self) -> Mapping[str, Any]: ...  # noqa: D102


def derived_uid(series: ImageSeries, result: Traced, what: str) -> str:
    """A UID that depends on the source images, the analysis and `what`, on nothing else (PS3.5 B.2).

    Args:
        series: Its SOP Instance UIDs count, in no order.
        result: Weights, settings, software and cohort of its provenance count.
        what: The thing named: "sr", "sr/series", "seg/segment/1" ...
    """
    parts = [*sorted(series.frame_ids), *(str(result.provenance.get(key, "")) for key in _IDENTITY), what]
    return f"2.25.{uuid5(NAMESPACE_OID, chr(0).join(parts)).int}"


def device_uid(result: Traced) -> str:
    """UID of the algorithm: this software with these weights."""
    parts = (MANUFACTURER, *(str(result.provenance.get(key, "")) for key in ("software_version", "bundle_sha256")))
    return f"2.25.{uuid5(NAMESPACE_OID, chr(0).join(parts)).int}"


def equipment(result: Traced) -> dict[str, str]:
    """Keyword arguments of highdicom's constructors that name the equipment.

    Model name and version are also the algorithm's (IHE AIR 6.5.3.1 wants them equal): the model that was used, the
    software's version and 12 digits of the weights' SHA-256.
    """
    sha256 = str(result.provenance.get("bundle_sha256", ""))
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": algorithm_name(result),
        "software_versions": algorithm_version(result),
        "device_serial_number": plain(sha256[:16] or "none", 64),
    }


def identity(series: ImageSeries, result: Traced, what: str, offset: int) -> dict[str, Any]:
    """Keyword arguments of highdicom's constructors that identify one object in a series of its own.

    Args:
        series: The source.
        result: What was found in it.
        what: "sr", "seg", "pm" or "sc".
        offset: Of the series number, see `series_number`.
    """
    return {
        "series_instance_uid": derived_uid(series, result, f"{what}/series"),
        "series_number": series_number(series, offset),
        "sop_instance_uid": derived_uid(series, result, what),
        "instance_number": 1,
    }


def algorithm_name(result: Traced) -> str:
    """Name of software and model."""
    return plain(f"anomap {result.provenance.get('bundle_name', '')}", 64).strip()


def algorithm_version(result: Traced) -> str:
    """The software's version and 12 digits of the weights' SHA-256."""
    provenance = result.provenance
    return plain(f"{provenance.get('software_version', '')}+sha256:{str(provenance.get('bundle_sha256', ''))[:12]}", 64)


def sources(series: ImageSeries) -> list[Dataset]:
    """Headers of the source images, fit for highdicom's constructors; the originals stay as they are.

    They hold no private elements, every type 2 element of patient and study (empty where the source has none or
    one that can't be valid), slice thickness, and no character set: `finish` sets that.

    Raises:
        AnomapError: E501 when the series never was DICOM.
    """
    if not series.headers:
        raise AnomapError("E501", "the series has no DICOM headers; nothing can refer to it")
    with quiet():
        return [_source(header, series) for header in series.headers]


def series_number(series: ImageSeries, offset: int) -> int:
    """Number of a result series: the source's number followed by two digits, 1 <= `offset` < 100."""
    first = number(series.headers[0], "SeriesNumber", 0.0) if series.headers else 0.0
    return 100 * (abs(int(first or 0)) % 10_000_000) + offset


def created(result: Traced) -> datetime:
    """When the result was made, in UTC.

    Raises:
        AnomapError: E501 when the provenance doesn't say.
    """
    try:
        stated = datetime.fromisoformat(str(result.provenance["created"]))
    except (KeyError, ValueError):
        raise AnomapError("E501", "the result doesn't say when it was created") from None
    return stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)


def plain(text: str, limit: int | None = None) -> str:
    """Text in ASCII without backslashes and control characters, cut at `limit` characters."""
    bare = unicodedata.normalize("NFKD", text.replace("–", "-").replace("²", "^2").replace("\\", "/"))
    ascii_text = "".join(c if 32 <= ord(c) < 127 else "" if unicodedata.combining(c) else "?" for c in bare)
    return ascii_text if limit is None else ascii_text[:limit]


@contextmanager
def silent() -> Iterator[None]:
    """Let pydicom and highdicom say nothing: they quote names in warnings and log lines."""
    logger = logging.getLogger("highdicom.base")
    before = logger.disabled
    logger.disabled = True
    try:
        with quiet():
            yield
    finally:
        logger.disabled = before


def finish(
    dataset: Dataset, series: ImageSeries, result: Traced, description: str, contribution: str = COMPARED
) -> Dataset:
    """Complete and mend an object that a highdicom constructor made.

    Args:
        dataset: Changed in place.
        series: What was analysed.
        result: Its result.
        description: What the series of the object holds, ASCII, at most 40 characters.
        contribution: What was done with the images, a short sentence in ASCII.

    Returns:
        `dataset`.
    """
    header = series.headers[0]
    with silent():
        dataset.remove_private_tags()
        _set_character_set(dataset, header)
        _set_times(dataset, header, created(result))
        dataset.SeriesDescription = plain(f"{description} - NOT A DIAGNOSIS", 64)
        dataset.ContributingEquipmentSequence = _contributions(dataset, result, contribution)
        dataset.CodingSchemeIdentificationSequence = coding_scheme_identification()
        _mend_dimensions(dataset, series, result)
        if dataset.get("PatientIdentityRemoved") == "YES" and not _says_how(dataset):
            dataset.DeidentificationMethod = "Not stated by the source"  # type 1C (PS3.3 table C.7-1)
        if "ContentLabel" in dataset and "ContentCreatorName" not in dataset:
            dataset.ContentCreatorName = ""  # type 2 (PS3.3 table 10-12); dcmqi warns
        if str(dataset.get("Modality")) != "SR":
            _set_anatomy(dataset, series)
    return dataset


def body_part(series: ImageSeries) -> str:
    """Body Part Examined of the source in capitals, "" when it has none that is valid."""
    stated = str(series.headers[0].get("BodyPartExamined", "") or "").strip().upper() if series.headers else ""
    return stated if re.fullmatch(_FORMS["BodyPartExamined"], stated) else ""


def _source(header: Dataset, series: ImageSeries) -> Dataset:
    source = Dataset()
    # Only sequences are changed within: of the rest a shallow copy is as good, in half the time.
    source.update({e.tag: deepcopy(e) if e.VR == "SQ" else copy(e) for e in header if not e.tag.is_private})
    source.remove_private_tags()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword in _unwanted(source, series):
        if keyword in source:
            delattr(source, keyword)
    for keyword in _TYPE_2:
        if keyword not in source or source[keyword].value is None:
            setattr(source, keyword, "")
    if series.modality == "CT":
        if not (number(source, "SliceThickness") or 0.0) > 0.0:
            source.SliceThickness = f"{series.spacing_mm[0]:.6g}"
        source.SpacingBetweenSlices = f"{series.spacing_mm[0]:.6g}"  # as measured: scanners also write it negative
    return source


def _unwanted(source: Dataset, series: ImageSeries) -> list[str]:
    """Elements that highdicom's constructors trip over, or that must not travel."""
    unwanted = ["SpecificCharacterSet", "Laterality"]
    if not series.frame_of_reference:  # a radiograph's, if it has one, comes without positions
        unwanted += ["FrameOfReferenceUID", "PositionReferenceIndicator"]
    unwanted += [keyword for keyword in _FORMS if keyword in source and not _valid(source, keyword)]
    return unwanted + [
        keyword
        for keyword in ("PatientWeight", "PatientSize")
        if keyword in source and not (number(source, keyword) or 0.0) > 0.0
    ]


def _valid(source: Dataset, keyword: str) -> bool:
    """Whether an element has a form that highdicom's constructors accept; empty is valid."""
    text = str(source[keyword].value or "").strip()
    if not text:
        return keyword not in ("PatientAge",)
    if not re.fullmatch(_FORMS[keyword], text):
        return False
    try:
        _PARSERS.get(keyword, str)(text)
    except ValueError:
        return False
    return True


def _says_how(dataset: Dataset) -> bool:
    return bool(dataset.get("DeidentificationMethod") or dataset.get("DeidentificationMethodCodeSequence"))


def _set_character_set(dataset: Dataset, header: Dataset) -> None:
    """The source's own; a name of it keeps its bytes."""
    if "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet
    if header.get("SpecificCharacterSet"):
        dataset.SpecificCharacterSet = deepcopy(header.SpecificCharacterSet)


def _set_times(dataset: Dataset, header: Dataset, moment: datetime) -> None:
    """Times of the object, in the source's zone where it states one, else in UTC."""
    stated = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", str(header.get("TimezoneOffsetFromUTC", "")).strip())
    if stated:
        minutes = int(stated[2]) * 60 + int(stated[3])
        if minutes < 24 * 60:
            moment = moment.astimezone(timezone(timedelta(minutes=-minutes if stated[1] == "-" else minutes)))
            dataset.TimezoneOffsetFromUTC = stated[0]
    for keyword in ("InstanceCreation", "Content"):
        if f"{keyword}Date" in dataset:
            setattr(dataset, f"{keyword}Date", moment.strftime("%Y%m%d"))
            setattr(dataset, f"{keyword}Time", moment.strftime("%H%M%S"))


def _contributions(dataset: Dataset, result: Traced, contribution: str) -> list[Dataset]:
    """Ours first (IHE AIR 6.5.3.1), then those that highdicom named: the scanner and itself, without its clock."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = PROCESSING_EQUIPMENT.value, PROCESSING_EQUIPMENT.scheme_designator
    code.CodeMeaning = PROCESSING_EQUIPMENT.meaning
    named, own, moment = equipment(result), Dataset(), f"{created(result):%Y%m%d%H%M%S}+0000"
    own.Manufacturer, own.ManufacturerModelName = named["manufacturer"], named["manufacturer_model_name"]
    own.SoftwareVersions, own.DeviceSerialNumber = named["software_versions"], named["device_serial_number"]
    own.DeviceUID, own.ContributionDateTime = device_uid(result), moment
    own.ContributionDescription = f"{contribution}; {DISCLAIMER}"
    own.PurposeOfReferenceCodeSequence = [code]
    others: list[Dataset] = list(dataset.get("ContributingEquipmentSequence", []))
    for item in others:
        if item.get("ManufacturerModelName") == "highdicom":
            item.ContributionDateTime = moment
    return [own, *others]


def _mend_dimensions(dataset: Dataset, series: ImageSeries, result: Traced) -> None:
    """Highdicom draws the Dimension Organization UID at random."""
    items: list[Any] = [*dataset.get("DimensionOrganizationSequence", []), *dataset.get("DimensionIndexSequence", [])]
    for item in items:
        if "DimensionOrganizationUID" in item:
            item.DimensionOrganizationUID = derived_uid(series, result, f"{dataset.SOPInstanceUID}/dimensions")


def _set_anatomy(dataset: Dataset, series: ImageSeries) -> None:
    """Body part and orientation as in the source; Laterality is for paired parts and stays away (PS3.3 C.7.3.1)."""
    if "Laterality" in dataset:
        del dataset.Laterality
    part = body_part(series)
    if part:
        dataset.BodyPartExamined = part
    orientation = series.headers[0].get("PatientOrientation")
    if not series.frame_of_reference and "PatientOrientation" not in dataset:
        dataset.PatientOrientation = deepcopy(orientation) if orientation else ""
