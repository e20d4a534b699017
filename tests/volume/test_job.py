"""What a viewer writes is checked before anything is done; what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anomap.errors import AnomapError
from anomap.volume.job import read_job, read_voxels
from tests.volume.jobs import AXIAL, affine_of, write_job

AFFINE = affine_of(AXIAL, (5.0, 0.7, 0.8), (-100.0, 20.0, 300.0))
VOXELS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


def refused(folder: Path, reader=read_job) -> AnomapError:
    with pytest.raises(AnomapError) as caught:
        reader(folder)
    assert "\n" not in str(caught.value)
    return caught.value


def changed(folder: Path, **keys: object) -> Path:
    return write_job(folder, VOXELS, AFFINE, other=keys)


def test_a_job_is_read_as_it_was_written(tmp_path) -> None:
    world = affine_of(np.eye(3), (1.0, 1.0, 1.0), (3.0, 2.0, 1.0))
    files = [tmp_path / "a.dcm", tmp_path / "Müller^Änne.dcm"]
    job = read_job(
        write_job(
            tmp_path, VOXELS, AFFINE, to_world=world, nonlinear=True, files=files, through=[(1, 2, 3), (4, 5, 6.5)],
            models=tmp_path / "models", config={"model": "ct", "preset": "paper"},
        )
    )  # fmt: skip
    np.testing.assert_array_equal(job.affine, AFFINE)
    np.testing.assert_array_equal(job.to_world, world)
    assert (job.nonlinear, job.files) == (True, tuple(files))
    assert job.through == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.5))
    assert (job.models, job.folder) == (tmp_path / "models", tmp_path)
    assert (job.config.model, job.config.preset, job.config.outputs) == ("ct", "paper", ("sr", "seg", "pm"))


def test_no_model_folder_means_those_of_anomap(tmp_path) -> None:
    assert read_job(changed(tmp_path)).models is None
    assert read_job(changed(tmp_path, models=None)).models is None


@pytest.mark.parametrize(
    "key", ["format", "affine_lps", "to_world", "nonlinear", "files", "through_lps", "models", "config"]
)
def test_a_missing_key_is_refused(tmp_path, key) -> None:
    content = json.loads((changed(tmp_path) / "job.json").read_text())
    del content[key]
    (tmp_path / "job.json").write_text(json.dumps(content))
    error = refused(tmp_path)
    assert error.code == "E200"
    assert key in error.message


@pytest.mark.parametrize(
    "keys",
    [
        {"extra": 1},
        {"format": "anomap.volume/2"},
        {"format": None},
        {"config": {"stepz": 3}},
        {"config": {"steps": "many"}},
        {"config": {"device": "toaster"}},
        {"config": None},
        {"files": 3},
        {"files": [3]},
        {"files": "one.dcm"},
        {"models": 3},
        {"nonlinear": "no"},
        {"through_lps": [[1, 2]]},
        {"through_lps": [1]},
        {"through_lps": [[1, 2, float("nan")]]},
        {"through_lps": [[1, 2, float("inf")]]},
        {"through_lps": [[1, 2, 10**400]]},
        {"affine_lps": [["a"] * 4] * 4},
        {"affine_lps": [[1, 2], [3]]},
        {"affine_lps": [[10**400] * 4] * 4},
    ],
    ids=lambda keys: str(keys)[:40],
)
def test_what_has_another_form_is_refused(tmp_path, keys) -> None:
    assert refused(changed(tmp_path, **keys)).code == "E200"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"job"', "\xff\xfe", "[" * 100_000])
def test_what_is_no_object_is_refused(tmp_path, text) -> None:
    (tmp_path / "job.json").write_bytes(text.encode("latin-1"))
    assert refused(tmp_path).code == "E200"


def test_a_folder_without_a_job_is_refused(tmp_path) -> None:
    assert refused(tmp_path).code == "E200"
    assert refused(tmp_path / "missing").code == "E200"


def matrices() -> dict[str, np.ndarray]:
    singular, nan, flat, projective = AFFINE.copy(), AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    singular[:3, 1] = 2 * singular[:3, 2]
    nan[0, 3] = np.nan
    flat[:3, 0] = 0.0
    projective[3, 0] = 0.5
    return {
        "singular": singular, "nan": nan, "flat": flat, "projective": projective, "3 x 3": np.eye(3),
        "infinite": np.full((4, 4), np.inf), "vector": np.ones(4), "number": np.array(1.0),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["affine_lps", "to_world"])
@pytest.mark.parametrize("name", list(matrices()))
def test_a_matrix_that_maps_nothing_back_is_refused(tmp_path, which, name) -> None:
    with np.errstate(invalid="ignore"):
        assert refused(changed(tmp_path, **{which: matrices()[name].tolist()})).code == "E112"


@pytest.mark.parametrize("dtype", ["i2", ">i2", "u1", "i8", "f2", "f4", "f8", "?"])
def test_numbers_of_any_kind_are_read(tmp_path, dtype) -> None:
    expected = VOXELS.astype(dtype)
    np.save(tmp_path / "voxels.npy", expected)
    np.testing.assert_array_equal(read_voxels(tmp_path), expected)
    np.save(tmp_path / "voxels.npy", np.asfortranarray(expected))
    np.testing.assert_array_equal(read_voxels(tmp_path), expected)


def test_voxels_are_mapped_and_never_written_to(tmp_path) -> None:
    np.save(tmp_path / "voxels.npy", VOXELS)
    voxels = read_voxels(tmp_path)
    assert isinstance(voxels, np.memmap)
    assert not voxels.flags.writeable


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_objects_are_never_unpickled(tmp_path) -> None:
    bomb = np.empty((1, 1, 1), object)
    bomb[0, 0, 0] = Bomb(tmp_path / "exploded")
    np.save(tmp_path / "voxels.npy", bomb, allow_pickle=True)
    assert refused(tmp_path, read_voxels).code == "E105"
    bomb.dump(tmp_path / "voxels.npy")  # a bare pickle
    assert refused(tmp_path, read_voxels).code == "E105"
    assert not (tmp_path / "exploded").exists()
    np.load(tmp_path / "voxels.npy", allow_pickle=True)
    assert (tmp_path / "exploded").exists(), "the bomb is none"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)), np.zeros((2, 3, 4, 3)), np.array(1.0), np.zeros((0, 3, 4)), np.zeros((2, 3, 4), complex),
        np.zeros((2, 3, 4), "S3"), np.zeros((2, 3, 4), [("r", "u1"), ("g", "u1")]), np.zeros((2, 3, 4), "M8[s]"),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)  # fmt: skip
def test_what_is_no_volume_of_one_number_a_voxel_is_refused(tmp_path, array) -> None:
    np.save(tmp_path / "voxels.npy", array)
    assert refused(tmp_path, read_voxels).code == "E105"


def _archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=VOXELS)


def _truncated(path: Path) -> None:
    np.save(path, VOXELS)
    path.write_bytes(path.read_bytes()[:-1])


def _bad_header(path: Path) -> None:
    np.save(path, VOXELS)
    path.write_bytes(path.read_bytes().replace(b"(2, 3, 4)", b"(2, 3, -4"))


@pytest.mark.parametrize(
    "write",
    [lambda path: None, Path.touch, Path.mkdir, _archive, _truncated, _bad_header,
     lambda path: path.write_text("no array")],
    ids=["missing", "empty", "folder", "archive", "truncated", "bad header", "text"],
)  # fmt: skip
def test_a_file_that_holds_no_array_is_refused(tmp_path, write) -> None:
    write(tmp_path / "voxels.npy")
    assert refused(tmp_path, read_voxels).code == "E105"
