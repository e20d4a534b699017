import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomap.dicom.phantom import write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.training.data import load_images, patients_of
from anomap.types import PreprocessSpec

RADIOGRAPH = PreprocessSpec(kind="radiograph", size=32, fit="squeeze")
CT = PreprocessSpec(kind="ct", size=32, fit="body", mask_outside_body=True)


def write_manifest(root: Path, rows: list[dict[str, object]]) -> None:
    with (root / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rows = []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        split, category = ("train", "normal") if i < 3 else ("test", "knee")
        rows.append(
            {"file": f"{i}.png", "split": split, "category": category, "patient": f"p{i // 2}", "dataset": "toy"}
        )
    write_manifest(tmp_path, rows)
    return tmp_path


def test_pictures_become_model_input_as_block_means_between_percentiles(pictures: Path) -> None:
    images = load_images(pictures, RADIOGRAPH, "train")
    assert images.images.shape == (3, 1, 32, 32)
    assert images.patients == ("p0", "p0", "p1")
    with Image.open(pictures / "1.png") as picture:
        blocks = (np.asarray(picture) / 255).reshape(32, 2, 32, 2).mean(axis=(1, 3))
    low, high = np.percentile(blocks, [0.5, 99.5])
    expected = np.clip((blocks - low) / (high - low) * 2 - 1, -1, 1)
    np.testing.assert_allclose(images.images[1, 0], expected, atol=1e-5)


def test_split_and_category_select(pictures: Path) -> None:
    assert load_images(pictures, RADIOGRAPH, "test").categories == ("knee",)
    with pytest.raises(AnomapError, match="E100"):
        load_images(pictures, RADIOGRAPH, "test", "normal")


def test_hu_archives_are_read_slice_by_slice(tmp_path: Path) -> None:
    row, col = np.mgrid[:128, :128]
    body = np.hypot((row - 64) / 40, (col - 64) / 55) < 1
    hu = np.stack([np.where(body, value, -1000) for value in (0, 100)]).astype(np.int16)
    hu[:, 60:70, 60:70] = 300
    np.savez(tmp_path / "a.npz", hu=hu)
    rows = [
        {"file": "a.npz", "index": i, "split": "train", "category": "normal", "patient": "p", "pixel_spacing_mm": 3.0}
        for i in (1, 0)
    ]
    write_manifest(tmp_path, [*rows, {**rows[0], "pixel_spacing_mm": ""}])  # the last has no size: left out
    images = load_images(tmp_path, CT, "train")
    assert sorted(images.names) == ["a.npz#0", "a.npz#1"]
    grey = {
        name: float(np.median(image[image > -0.99])) for name, image in zip(images.names, images.images, strict=True)
    }
    assert grey["a.npz#0"] == pytest.approx((0 - 50) / 175, abs=0.02)
    assert grey["a.npz#1"] == pytest.approx((100 - 50) / 175, abs=0.02)


def test_slices_with_a_height_lie_in_the_stack_of_their_patient(tmp_path: Path) -> None:
    hu = np.full((3, 64, 64), -1000, np.int16)
    hu[:, 16:48, 16:48] = 50
    np.savez(tmp_path / "a.npz", hu=hu)
    row = {"file": "a.npz", "split": "train", "category": "normal", "patient": "p", "pixel_spacing_mm": 3.0}
    write_manifest(tmp_path, [{**row, "index": n, "z_mm": z} for n, z in enumerate((-12.5, "", 0))])
    images = load_images(tmp_path, PreprocessSpec(kind="ct", size=32, fit="body"), "train")
    assert images.stacks == ("p", "", "p")
    assert abs(images.positions_mm[2] - images.positions_mm[0]) == pytest.approx(12.5)
    for column, value in (("z_mm", "high"), ("z_mm", "nan"), ("pixel_spacing_mm", "wide")):
        write_manifest(tmp_path, [{**row, "index": 0, "z_mm": 1.0, column: value}])
        with pytest.raises(AnomapError, match=f"E100 {column} in manifest.csv, line 2, is no number"):
            load_images(tmp_path, PreprocessSpec(kind="ct", size=32, fit="body"), "train")


def test_a_manifest_without_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,split\na.png,train\n")
    with pytest.raises(AnomapError, match=r"E100 manifest\.csv lacks the columns category, patient"):
        load_images(tmp_path, RADIOGRAPH, "train")


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_an_unreadable_file_is_named_by_its_line_only(pictures: Path, content: bytes | None) -> None:
    (pictures / "1.png").unlink()
    if content is not None:
        (pictures / "1.png").write_bytes(content)
    with pytest.raises(AnomapError, match="E102") as caught:
        load_images(pictures, RADIOGRAPH, "train")
    assert "line 3" in str(caught.value)
    assert "1.png" not in str(caught.value)


def test_dicom_patients_are_held_out_whole_and_lose_their_names(tmp_path: Path) -> None:
    for name in ("Doe^Jane", "Roe^Rick", "Poe^Edgar"):
        for study in ("one", "two"):
            write_radiograph_phantom(tmp_path / name / study)
    train, val = (load_images(tmp_path, RADIOGRAPH, split) for split in ("train", "val"))
    assert (len(train.images), len(val.images)) == (4, 2)
    assert len(set(val.patients)) == 1
    assert not set(train.patients) & set(val.patients)
    assert all(label.startswith("p0") for label in train.patients + val.patients)


@given(st.sets(st.text(min_size=1), min_size=2, max_size=30))
def test_every_patient_is_in_one_split(folders: set[str]) -> None:
    train, val = (patients_of(sorted(folders), split) for split in ("train", "val"))
    assert train.keys() | val.keys() == folders
    assert not train.keys() & val.keys()
    assert len(val) == -(-len(folders) // 5)
    assert train


def test_one_patient_is_not_enough(tmp_path: Path) -> None:
    write_radiograph_phantom(tmp_path / "one")
    with pytest.raises(AnomapError, match="E100 the DICOM folder holds one patient"):
        load_images(tmp_path, RADIOGRAPH, "train")
