"""Strata come from headers alone; a cohort is taken for its own model and settings, and refused for others."""

from dataclasses import replace

import numpy as np
import pytest

from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from anomap.gate.site import STRATA, cohort_for, read_site, settings_sha256, stratum_of, write_site
from anomap.pipeline import analyze_series
from anomap.projection.schedule import preset
from tests.calibration.test_site import made_site
from tests.gate.test_policy import ct, radiograph


def frames(series, count):
    pixels = np.zeros((count, 4, 4), np.float32)
    return replace(
        series,
        pixels=pixels,
        valid=pixels == 0,
        frame_ids=tuple(map(str, range(count))),
        headers=series.headers[:1] * count,
    )


@pytest.mark.parametrize(("count", "octave"), [(1, "1-1"), (15, "8-15"), (16, "16-31"), (31, "16-31"), (32, "32-63")])
def test_series_of_similar_length_share_a_stratum(count, octave):
    assert stratum_of(frames(ct(), count), ("slices",)) == f"{octave} slices"


def test_a_stratum_names_what_it_is_made_of():
    series = ct(Manufacturer="ACME ", ConvolutionKernel="B30f")
    assert stratum_of(series, STRATA) == "CT, chest, 16-31 slices, acme, b30f"
    assert stratum_of(radiograph(BodyPartExamined=""), STRATA) == "radiograph, any part, 1 image, unknown, unknown"
    assert stratum_of(series, ()) == ""


def test_a_cohort_is_taken_for_its_own_model_and_settings_only(toy_bundle, tmp_path):
    fast = preset("fast")
    made = made_site(sha256=toy_bundle.info.sha256)
    site = replace(made, bundle_name=toy_bundle.info.name, settings_sha256=settings_sha256(toy_bundle.info, fast))
    path = tmp_path / "deeper" / "cohort.json"
    write_site(path, site)
    found = cohort_for([str(path)], toy_bundle, replace(fast, batch_size=3))
    assert found.settings_sha256 == site.settings_sha256
    with pytest.raises(AnomapError, match="E303"):
        cohort_for([str(path)], toy_bundle, preset("fast", steps=7))
    stages, config = [], AnalyzeConfig(cohort=(str(path),), steps=7)
    with pytest.raises(AnomapError, match="E303"):
        analyze_series(ct(), toy_bundle, config, lambda *stage: stages.append(stage))
    assert stages == []  # before any compute
    write_site(path, replace(site, bundle_name="another", images=replace(site.images, bundle_sha256="00" * 32)))
    assert cohort_for([str(path)], toy_bundle, fast) is toy_bundle.cohort
    assert cohort_for([], toy_bundle, fast) is toy_bundle.cohort


def test_a_cohort_that_cannot_be_read_says_so(tmp_path):
    with pytest.raises(AnomapError, match="E200"):
        read_site(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(AnomapError, match="E302"):
        read_site(tmp_path / "bad.json")
