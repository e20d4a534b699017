import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anomap.bundle import (
    COHORT,
    METADATA,
    WEIGHTS,
    Bundle,
    list_bundles,
    load_bundle,
    read_cohort,
    read_info,
    verify,
    write_bundle,
    write_cohort,
)
from anomap.errors import AnomapError
from anomap.projection import FeatureStatistics, PlaceStatistics


@pytest.fixture
def folder(toy_models: Path, tmp_path: Path) -> Path:
    """A bundle of one's own to damage."""
    return Path(shutil.copytree(toy_models / "toy-ct", tmp_path / "toy-ct"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_written_bundle_loads_with_the_same_picture(toy_models: Path) -> None:
    first, second = (load_bundle(toy_models / "toy-ct") for _ in range(2))
    z = torch.randn(2, 16)
    torch.testing.assert_close(first.generator(z, noise="const"), second.generator(z, noise="const"))
    assert first.spec.kind == "ct"
    assert first.spec.fit == "body"
    assert first.cohort is not None
    assert first.cohort.bundle_sha256 == first.info.sha256
    assert not any(p.requires_grad for p in first.generator.parameters())


def test_everybody_may_read_weights_who_may_read_metadata(toy_models: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in (toy_models / "toy-ct").rglob("*") if path.is_file()}
    assert len(modes) == 1


def rewrite(folder: Path, bundle: Bundle, statistics: FeatureStatistics | None) -> None:
    """Write the bundle in `folder` again with other statistics of features."""
    section = json.loads((folder / METADATA).read_text())["anomap"]
    kept = {name: section[name] for name in ("modalities", "body_part", "population", "window", "levels", "training")}
    write_bundle(
        folder, metadata={"name": "toy-ct", "version": "0.0.2"}, section=kept, spec=bundle.spec,
        generator=bundle.generator, encoder=bundle.encoder, discriminator=bundle.discriminator,
        w_statistics=bundle.w_statistics, feature_statistics=statistics,
    )  # fmt: skip


def test_a_bundle_without_feature_statistics_loads(folder: Path, toy_models: Path) -> None:
    bundle = load_bundle(toy_models / "toy-ct")
    assert bundle.feature_statistics is not None
    assert bundle.discriminator is not None
    rewrite(folder, bundle, replace(bundle.feature_statistics, places=()))
    found = load_bundle(folder).feature_statistics
    assert found is not None
    assert found.places == ()
    rewrite(folder, bundle, None)
    assert load_bundle(folder).feature_statistics is None


@pytest.mark.parametrize(
    ("mean", "whiten"),
    [
        ((3, 8, 8), (8, 8, 4, 4)),
        ((3, 8, 8), (3, 3, 8, 8)),
        ((3, 9, 9), (9, 9, 3, 3)),
        ((3, 64, 64), (64, 64, 3, 3)),
        ((3, 32, 32), (32, 32, 3, 3)),
        ((99, 8, 8), (8, 8, 99, 99)),
    ],
)
def test_statistics_of_places_that_do_not_fit_the_network_are_refused(
    folder: Path, toy_models: Path, mean: tuple[int, ...], whiten: tuple[int, ...]
) -> None:
    bundle = load_bundle(toy_models / "toy-ct")
    assert bundle.feature_statistics is not None
    places = PlaceStatistics(mean=torch.zeros(mean), whiten=torch.zeros(whiten))
    rewrite(folder, bundle, replace(bundle.feature_statistics, places=(places,)))
    with pytest.raises(AnomapError, match="E302"):
        load_bundle(folder)


def test_listing_names_every_bundle(toy_models: Path) -> None:
    assert [info.name for info in list_bundles(toy_models)] == ["toy-ct", "toy-radiograph"]


def test_listing_and_verifying_import_no_torch(toy_models: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from anomap.bundle import list_bundles, verify, read_cohort\n"
        f"[(verify(i), read_cohort(i)) for i in list_bundles(Path({str(toy_models)!r}))]\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_folder_or_bundle_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnomapError, match="E300"):
        list_bundles(tmp_path / "none")
    with pytest.raises(AnomapError, match="E300 no bundle named 'none'"):
        read_info(tmp_path / "none")


def test_a_changed_weight_file_is_refused(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(AnomapError, match=r"E301 models/model\.safetensors"):
        load_bundle(folder)


def test_a_missing_weight_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(AnomapError, match="E300 bundle 'toy-ct' lacks"):
        verify(read_info(folder))


def test_changed_preprocessing_is_refused(folder: Path) -> None:
    edit(folder / METADATA, lambda m: m["anomap"]["preprocessing"].update(window_level_hu=0.0))
    with pytest.raises(AnomapError, match="E301"):
        read_info(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["anomap"].pop("window"),
        lambda m: m["anomap"].update(format="anomap.bundle/99"),
        lambda m: m["anomap"]["preprocessing"].update(size=48),
        lambda m: m["anomap"]["preprocessing"].update(surprise=1),
        lambda m: m.pop("anomap"),
    ],
)
def test_invalid_metadata_are_refused(folder: Path, change) -> None:
    edit(folder / METADATA, change)
    with pytest.raises(AnomapError, match="E302"):
        read_info(folder)


def test_a_file_outside_the_bundle_is_never_read(folder: Path) -> None:
    def escape(metadata: dict) -> None:
        from anomap.bundle import bundle_sha256

        metadata["anomap"]["files"] = {"models/../../secret.safetensors": "0" * 64}
        metadata["anomap"]["sha256"] = bundle_sha256(metadata["anomap"])

    edit(folder / METADATA, escape)
    with pytest.raises(AnomapError, match="E302 bundle 'toy-ct' lists a file"):
        read_info(folder)


def test_a_cohort_of_other_weights_is_refused(folder: Path) -> None:
    info = read_info(folder)
    cohort = read_cohort(info)
    assert cohort is not None
    write_cohort(info, replace(cohort, bundle_sha256="0" * 64))
    with pytest.raises(AnomapError, match="E302 cohort of bundle 'toy-ct' belongs to other weights"):
        read_cohort(info)


def test_a_bundle_without_cohort_loads(folder: Path) -> None:
    (folder / COHORT).unlink()
    assert load_bundle(folder).cohort is None
