from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.dicom.read import read_study
from anomap.errors import AnomapError
from anomap.evaluation.data import halves, load_evaluation, made_from
from anomap.preprocessing import prepare
from anomap.types import PreprocessSpec
from tests.evaluation.made_data import greys, manifest_folder, picture, plain_folder
from tests.evaluation.pictures import image_set, trunks

SPEC = PreprocessSpec(kind="radiograph", size=32, fit="squeeze")
CT = PreprocessSpec(kind="ct", size=32, fit="body")


def test_a_manifest_gives_training_normal_and_test_images(tmp_path: Path) -> None:
    data = load_evaluation(manifest_folder(tmp_path / "made"), SPEC)
    assert (len(data.train.names), len(data.normal.names)) == (12, 10)
    assert [images.categories[0] for images in data.categories] == ["inverted", "rotated"]
    assert data.origins["test_inverted/12.webp.png"] == "val_normal/12.png"
    assert not data.set_aside


def test_the_validation_split_has_normal_images_only(tmp_path: Path) -> None:
    data = load_evaluation(manifest_folder(tmp_path / "made"), SPEC, "val")
    assert data.categories == ()
    assert len(data.normal.names) == 10


def test_plain_folders_name_patients_by_folder_or_by_file(tmp_path: Path) -> None:
    data = load_evaluation(plain_folder(tmp_path), SPEC)
    (inverted,) = data.categories
    assert inverted.patients == ("0", "1", "2", "3", "4", "5")
    assert Counter(inverted.categories) == {"inverted": 6}
    everybody = Counter(data.train.patients + data.normal.patients)
    assert everybody == {"patient0": 2, "patient1": 2, **{f"patient{n}": 1 for n in range(4, 10)}}
    assert data.set_aside
    assert len({*data.normal.names, *data.train.names}) == 10
    np.testing.assert_allclose(inverted.images[0].mean(), -data.train.images.mean(), atol=0.3)


def test_a_folder_of_training_images_spares_the_normal_ones(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    for n, grey in enumerate(greys(3, seed=1)):
        picture(folder / "train" / f"{n}.png", grey)
    data = load_evaluation(folder, SPEC)
    assert (len(data.train.names), len(data.normal.names)) == (3, 10)
    assert not data.set_aside
    assert [images.categories[0] for images in data.categories] == ["inverted"]


def test_dicom_files_are_read_and_what_cannot_be_is_counted(tmp_path: Path) -> None:
    folder = plain_folder(tmp_path)
    write_radiograph_phantom(folder / "needle" / "someone", needle=True)
    (folder / "needle" / "broken.png").write_bytes(b"no picture")
    (folder / "needle" / "note").mkdir()
    (folder / "needle" / "note" / "a.txt").write_text("text")
    data = load_evaluation(folder, SPEC)
    needle = data.categories[1]
    assert needle.categories == ("needle",)
    assert needle.patients == ("someone",)
    assert sum(data.left_out.values()) == 2
    assert data.left_out["E102"] == 1


def test_a_ct_series_gives_one_image_a_slice_at_its_own_place(tmp_path: Path) -> None:
    for patient in ("one", "two"):
        write_ct_phantom(tmp_path / "normal" / patient, slices=4)
    data = load_evaluation(tmp_path, CT)
    assert len(data.normal.names) == len(data.train.names) == 4
    assert len(set(data.normal.names)) == 4
    whole = prepare(read_study(tmp_path / "normal" / data.normal.patients[0]).series[0], CT)
    np.testing.assert_allclose(data.normal.images, whole.images, atol=1e-6)
    assert data.normal.prepared.frame_ids == whole.frame_ids


def test_pictures_are_nothing_for_a_ct_model(tmp_path: Path) -> None:
    with pytest.raises(AnomapError, match="E113"):
        load_evaluation(plain_folder(tmp_path), CT)


@pytest.mark.parametrize("missing", ["everything", "content"])
def test_a_folder_of_another_layout_is_refused(tmp_path: Path, missing: str) -> None:
    if missing == "content":
        (tmp_path / "normal").mkdir()
    with pytest.raises(AnomapError, match="E100"):
        load_evaluation(tmp_path, SPEC)


def test_halves_share_no_patient_and_do_not_depend_on_the_order() -> None:
    images = image_set(trunks(20), images_each=2)
    one, other = halves(images)
    assert not set(one.patients) & set(other.patients)
    assert len(one.names) == len(other.names) == 10
    assert set(halves(other)[0].patients) | set(halves(other)[1].patients) == set(other.patients)
    with pytest.raises(AnomapError, match="E200"):
        halves(image_set(trunks(2), images_each=2))


@pytest.mark.data
def test_origins_of_the_shared_images_are_known(shared_data: Path) -> None:
    ct, cxr = (made_from(shared_data / name / "manifest.csv") for name in ("ct", "cxr"))
    assert sum(name.startswith("anomaly_needle_simulated") for name in ct) == 40
    assert ct["anomaly_ascites_simulated.npz#3"] == "val_normal.npz#3"
    assert len(cxr) == 40
    for origin in cxr.values():
        assert (shared_data / "cxr" / origin).is_file()
