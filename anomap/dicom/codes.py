"""Every coded concept that our DICOM objects use, in one place.

No code of any published scheme means "anomaly score" or "reconstruction residual", and those for lesions or masses
claim more than a residual shows. So there is a private scheme, 99ANOMAP, declared in every object and published as
``docs/codes.md`` (``python -m anomap.dicom.codes > docs/codes.md``). Its values are frozen: a code never changes
its meaning, it can only be joined by new ones.
"""

from __future__ import annotations

import sys

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

SCHEME = "99ANOMAP"
SCHEME_UID = "2.25.132769600814593437832088928540633872914"
SCHEME_NAME = "anomap residual analysis codes"
SCHEME_ORGANISATION = "anomap project"
SCHEME_VERSION = "1"

# Private concepts: what is measured
Q1_MSE = Code("ANM-Q1", SCHEME, "Mean squared residual")
Q2_WD = Code("ANM-Q2", SCHEME, "Residual Wasserstein distance")
Q3_ABS_RESIDUAL = Code("ANM-Q3", SCHEME, "Absolute residual")
Q4_W_DISTANCE = Code("ANM-Q4", SCHEME, "Latent vector distance")
Q5_COMBINED = Code("ANM-Q5", SCHEME, "Combined score")
Q6_FEATURES = Code("ANM-Q6", SCHEME, "Feature residual")
Q7_FEATURE_DISTANCE = Code("ANM-Q7", SCHEME, "Feature distance")
Q8_FEATURE_PATCH = Code("ANM-Q8", SCHEME, "Largest local feature distance")
Q9_NEIGHBOUR_PATCH = Code("ANM-Q9", SCHEME, "Largest local feature distance from neighbouring slices")
Q10_NEIGHBOUR_DISTANCE = Code("ANM-Q10", SCHEME, "Mean local feature distance from neighbouring slices")
# ... how, and what was found
M1_METHOD = Code("ANM-M1", SCHEME, "Latent projection onto a generator")
M2_METHOD = Code("ANM-M2", SCHEME, "Comparison of features of a generative model's discriminator")
R1_REGION = Code("ANM-R1", SCHEME, "Unusual region")
# ... and what may be done with the images
G1_GATE = Code("ANM-G1", SCHEME, "Gate")
G2_PASS = Code("ANM-G2", SCHEME, "Pass")
G3_REVIEW = Code("ANM-G3", SCHEME, "Review")
G4_REJECT = Code("ANM-G4", SCHEME, "Reject")

DEFINITIONS: dict[Code, str] = {
    Q1_MSE: "Mean of the squared differences between an image and its reconstruction by a generative model.",
    Q2_WD: "Wasserstein-1 distance between the grey levels of an image, or a window of it, and its reconstruction.",
    Q3_ABS_RESIDUAL: "Magnitude of the difference between an image and its reconstruction, pixel by pixel.",
    Q4_W_DISTANCE: "Distance of the reconstruction's latent vector from those of the training images, in standard "
    "deviations.",
    Q5_COMBINED: "The largest of the standard scores (against the reference cohort) of those measurements that the "
    "model's cohort names for it.",
    Q6_FEATURES: "Distance between an image and its reconstruction in the features of the generative model's "
    "discriminator.",
    Q7_FEATURE_DISTANCE: "Distance of an image from the training images in the features of the generative model's "
    "discriminator, in standard deviations. Needs no reconstruction.",
    Q8_FEATURE_PATCH: "The same between places of an image and the same places of the training images: the largest "
    "distance of any place.",
    Q9_NEIGHBOUR_PATCH: "The same between places of a slice and the same places of the nearest slices of its series "
    "that are 5 to 25 mm away: the largest distance of any place.",
    Q10_NEIGHBOUR_DISTANCE: "The mean of these distances over all places of a slice.",
    M1_METHOD: "An image is compared with the most similar image that a generative model of reference images can "
    "make (projection into its latent space).",
    M2_METHOD: "Features that the discriminator of a generative model of reference images finds in an image are "
    "compared with others; no image is reconstructed.",
    R1_REGION: "Connected region where ANM-Q2 of the surrounding window, or ANM-Q8 or ANM-Q9 of the place, exceeds a "
    "threshold. Not a disease, not a lesion.",
    G1_GATE: "Whether the images may go on to a next processing step without a person looking at them first.",
    G2_PASS: "Answer to ANM-G1: they may.",
    G3_REVIEW: "Answer to ANM-G1: a person should look first. Also given when nothing could be decided "
    "(uncalibrated or not applicable).",
    G4_REJECT: "Answer to ANM-G1: they should not.",
}
PRIVATE = tuple(DEFINITIONS)

# Standard concepts (PS3.16)
FINDING_IMAGE_REGION = Code("111030", "DCM", "Image Region")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")
USABLE = Code("111237", "DCM", "Usable - Meets the quality control standard")  # CID 6044
USABLE_BELOW_STANDARD = Code("111236", "DCM", "Usable - Does not meet the quality control standard")
UNUSABLE = Code("111235", "DCM", "Unusable - Quality renders image unusable")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PERCENTILE_RANKING = Code("121415", "DCM", "Percentile Ranking of measurement")
MEASUREMENT_METHOD = Code("370129005", "SCT", "Measurement Method")
P_VALUE = Code("C44185", "NCIt", "P-Value")
AREA = Code("42798000", "SCT", "Area")
VOLUME = Code("118565006", "SCT", "Volume")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MEAN = Code("373098007", "SCT", "Mean")
DEVICE = Code("121007", "DCM", "Device")
REPORT = Code("126000", "DCM", "Imaging Measurement Report")
ABNORMALLY_HIGH = Code("371879000", "SCT", "Abnormally High")  # CID 222; of a measurement, not of a patient
NORMAL = Code("17621005", "SCT", "Normal")
UNDETERMINED = Code("371934000", "SCT", "Normality Undetermined")
CT_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")  # CID 100
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
ROW_ORIENTATION = Code("111044", "DCM", "Patient Orientation Row")
COLUMN_ORIENTATION = Code("111043", "DCM", "Patient Orientation Column")
HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")  # CID 7150
WHOLE_BODY = Code("38266002", "SCT", "Entire body")
# Finding sites for the values of Body Part Examined (PS3.16 annex L) that anomap meets
BODY_PARTS: dict[str, Code] = {
    "CHEST": Code("816094009", "SCT", "Chest"),
    "THORAX": Code("816094009", "SCT", "Chest"),
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
}

# Units (UCUM)
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
HU_SQUARED = Code("[hnsf'U]2", "UCUM", "Hounsfield unit squared")
NO_UNITS = Code("1", "UCUM", "no units")  # grey levels of 255, standard deviations, p-values
PERCENT = Code("%", "UCUM", "Percent")
MM2 = Code("mm2", "UCUM", "square millimeter")
ML = Code("ml", "UCUM", "milliliter")
PIXELS = Code("{pixels}", "UCUM", "pixels")

STANDARD = (
    FINDING_IMAGE_REGION, PROCESSING_EQUIPMENT, QUALITY_ASSESSMENT, USABLE, USABLE_BELOW_STANDARD, UNUSABLE,
    ARTIFICIAL_INTELLIGENCE, PERCENTILE_RANKING, MEASUREMENT_METHOD, P_VALUE, AREA, VOLUME, MAXIMUM,
    MEAN, DEVICE, REPORT, ABNORMALLY_HIGH, NORMAL, UNDETERMINED, CT_PROCEDURE, IMAGING_PROCEDURE, ENGLISH,
    SPATIAL_CONCEPT, WHOLE_BODY, ROW_ORIENTATION, COLUMN_ORIENTATION, HORIZONTAL_SPACING, VERTICAL_SPACING,
    *dict.fromkeys(BODY_PARTS.values()), HU, HU_SQUARED, NO_UNITS, PERCENT, MM2, ML, PIXELS,
)  # fmt: skip

# Concepts of the scores of anomap.scoring.SCORES and of "combined"; where they hold is said by their group.
SCORE_CONCEPTS: dict[str, Code] = {
    "mse_full": Q1_MSE,
    "mse_body": Q1_MSE,
    "mse_patch": Q1_MSE,
    "wd_full": Q2_WD,
    "wd_body": Q2_WD,
    "wd_patch": Q2_WD,
    "w_distance": Q4_W_DISTANCE,
    "feature_residual": Q6_FEATURES,
    "feature_distance": Q7_FEATURE_DISTANCE,
    "feature_patch": Q8_FEATURE_PATCH,
    "neighbour_distance": Q10_NEIGHBOUR_DISTANCE,
    "neighbour_patch": Q9_NEIGHBOUR_PATCH,
    "combined": Q5_COMBINED,
}


def score_unit(name: str, unit: str) -> Code:
    """The coded unit of a score.

    Args:
        name: A key of `SCORE_CONCEPTS`.
        unit: `ScoreMap.unit`; grey levels of 255 and standard deviations have no unit.
    """
    if unit != "HU" or SCORE_CONCEPTS[name] not in (Q1_MSE, Q2_WD):
        return NO_UNITS
    return HU_SQUARED if SCORE_CONCEPTS[name] == Q1_MSE else HU


def coding_scheme_identification() -> list[Dataset]:
    """Items of the Coding Scheme Identification Sequence (PS3.3 C.12.1): what 99ANOMAP is."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeUID = SCHEME_UID
    item.CodingSchemeName = SCHEME_NAME
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = SCHEME_ORGANISATION
    return [item]


def page() -> str:
    """The text of ``docs/codes.md``."""
    lines = [
        "# Codes in anomap's DICOM objects",
        "",
        "Made by `python -m anomap.dicom.codes > docs/codes.md`; a test keeps the two equal.",
        "",
        f"## The private scheme {SCHEME}",
        "",
        "No published scheme has a code for an anomaly score or a reconstruction residual. The meanings below never",
        "change; new codes may be added. None of them names a disease, and none is a probability.",
        "",
        f"* Coding Scheme UID `{SCHEME_UID}`, version {SCHEME_VERSION}",
        f"* Name: {SCHEME_NAME}; responsible: {SCHEME_ORGANISATION}",
        "",
        "| Code | Meaning | Definition |",
        "|---|---|---|",
        *(f"| {code.value} | {code.meaning} | {text} |" for code, text in DEFINITIONS.items()),
        "",
        "## Standard codes",
        "",
        "Besides those that the templates of DICOM PS3.16 (TID 1500 and below) bring themselves.",
        "",
        "| Code | Scheme | Meaning |",
        "|---|---|---|",
        *(f"| {code.value} | {code.scheme_designator} | {code.meaning} |" for code in STANDARD),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
