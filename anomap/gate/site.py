"""Which cohort a series is compared with: a site's own where one is given for its model, else the bundle's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from anomap.bundle import Bundle, BundleInfo
from anomap.calibration import SiteCohort, site_from_dict, site_to_dict
from anomap.domain import body_regions
from anomap.errors import AnomapError
from anomap.output import appearing, writing
from anomap.projection.schedule import ProjectionConfig
from anomap.types import Cohort, ImageSeries

STRATA = ("modality", "body_part", "slices", "manufacturer", "kernel")
DEFAULT_STRATA = ("modality", "body_part", "slices")
_MAX_BYTES = 1 << 28


def settings_sha256(info: BundleInfo, fitting: ProjectionConfig) -> str:
    """Hash of what a score depends on beside the weights: preprocessing, windows, projection (not its batch size)."""
    projection = {name: value for name, value in asdict(fitting).items() if name != "batch_size"}
    values = {"preprocessing": asdict(info.spec), "window": info.window, "levels": info.levels, "fit": projection}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def stratum_of(series: ImageSeries, by: Sequence[str]) -> str:
    """The stratum of a series, from its header and number of slices alone.

    The number of slices counts by powers of two: the maximum over 30 slices is compared with those over 16 to 31.

    Args:
        series: CT series or radiograph.
        by: Names of `STRATA`.
    """
    header = series.headers[0] if series.headers else {}

    def tag(keyword: str) -> str:
        return str(header.get(keyword, "") or "").strip().lower() or "unknown"

    octave = 1 << (len(series.pixels).bit_length() - 1)
    values = {
        "modality": "CT" if series.modality == "CT" else "radiograph",  # CR and DX are one kind of picture
        "body_part": "+".join(sorted(body_regions(tag("BodyPartExamined")))).lower() or "any part",
        "slices": f"{octave}-{2 * octave - 1} slices" if series.modality == "CT" else "1 image",
        "manufacturer": tag("Manufacturer"),
        "kernel": tag("ConvolutionKernel"),
    }
    return ", ".join(values[name] for name in by)


def read_site(path: Path) -> SiteCohort:
    """Read a site's cohort.

    Raises:
        AnomapError: E200 when there is no such file, E302 when it isn't valid.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AnomapError("E302", f"the cohort {path.name!r} is larger than {_MAX_BYTES} bytes")
        return site_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise AnomapError("E200", f"the cohort {path.name!r} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise AnomapError("E302", f"the cohort {path.name!r} is not valid JSON") from error


def write_site(path: Path, site: SiteCohort) -> None:
    """Write a site's cohort under a temporary name and rename it.

    Raises:
        AnomapError: E202 when it can't be written.
    """
    with writing():
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as temporary:
            temporary.write_text(json.dumps(site_to_dict(site), indent=1) + "\n", encoding="utf-8")


def cohort_for(paths: Sequence[str], bundle: Bundle, fitting: ProjectionConfig) -> Cohort | SiteCohort | None:
    """The site's cohort for a bundle, or the bundle's own when none of the files is for it.

    Args:
        paths: Files of `write_site`.
        bundle: Loaded.
        fitting: How images are projected.

    Raises:
        AnomapError: E303 when a cohort of this bundle's name was measured with other weights or settings.
    """
    for path in map(Path, paths):
        site = read_site(path)
        if site.bundle_name != bundle.info.name and site.images.bundle_sha256 != bundle.info.sha256:
            continue
        if site.images.bundle_sha256 != bundle.info.sha256:
            raise AnomapError("E303", f"the cohort {path.name!r} was measured with other weights")
        if site.settings_sha256 != settings_sha256(bundle.info, fitting):
            raise AnomapError("E303", f"the cohort {path.name!r} was measured with other settings (preset, steps)")
        return site
    return bundle.cohort
