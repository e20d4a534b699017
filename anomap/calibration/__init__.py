"""How odd is this among what should be? Conformal p-values, cohorts, verdict; drift."""

from anomap.calibration.cohort import COMBINED, COMBINES, cohort_from_dict, cohort_to_dict, combined_score
from anomap.calibration.conformal import conformal_p, family_p, percentile
from anomap.calibration.judge import calibrate, series_p_value, worst_first
from anomap.calibration.layers import REGION_SHARE, fallback_threshold, region_layers, region_threshold
from anomap.calibration.site import SiteCohort, looked_at, site_from_dict, site_to_dict

__all__ = [
    "COMBINED",
    "COMBINES",
    "REGION_SHARE",
    "SiteCohort",
    "calibrate",
    "cohort_from_dict",
    "cohort_to_dict",
    "combined_score",
    "conformal_p",
    "fallback_threshold",
    "family_p",
    "looked_at",
    "percentile",
    "region_layers",
    "region_threshold",
    "series_p_value",
    "site_from_dict",
    "site_to_dict",
    "worst_first",
]
