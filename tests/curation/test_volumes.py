"""CT volumes in NIfTI files: a row a slice, the same as those of its DICOM series; what is refused is one row."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pytest

from anomap.bundle import list_bundles, load_bundle
from anomap.cli import main
from anomap.config import AnalyzeConfig
from anomap.curation import formats
from anomap.curation.decisions import Decision, read_decisions, write_decisions
from anomap.curation.load import load
from anomap.curation.report import write_report
from anomap.curation.run import curate, in_this_process
from anomap.curation.settings import IMAGES_FILE, INDEX_FILE, read_book
from anomap.curation.shard import load_shard, round_of
from anomap.nifti import read_nifti
from anomap.pipeline import analyze_series
from tests.curation.conftest import CONFIG, KEY
from tests.curation.volumes import REFUSED, SLICES

ROOT = Path(__file__).parents[2]
VOLUMES = ("copy.png", "sagittal", "whole.nii.gz")


def table(out):
    return pq.read_table(out / IMAGES_FILE)


@pytest.fixture(scope="module")
def rows(curated_volumes):
    """The rows of each file."""
    found: dict[str, list] = {}
    for row in table(curated_volumes).to_pylist():
        found.setdefault(row["path"], []).append(row)
    return found


def test_a_volume_has_a_row_for_each_axial_slice_in_one_shard(rows, volumes):
    assert list(rows) == sorted(str(path.relative_to(volumes)) for path in volumes.rglob("*") if path.is_file())
    for path in VOLUMES:
        assert [row["frame"] for row in rows[path]] == list(range(SLICES))
        assert len({row["shard"] for row in rows[path]}) == 1
        for row in rows[path]:
            assert (row["format"], row["tier"], row["model"]) == ("nifti", "projected", "toy-ct")
            assert (row["slices"], row["rows"], row["columns"]) == (SLICES, 48, 44)
            assert row["thumbnail"]
            assert (row["modality"], row["patient"], row["series"]) == ("CT", "", "")


def test_what_is_refused_is_one_row_with_its_code(rows, curated_volumes):
    assert {path: row["error"] for path, (row, *_) in rows.items() if row["error"]} == REFUSED
    for path in REFUSED:
        (row,) = rows[path]
        assert (row["frame"], row["modality"], row["tier"]) == (0, "", "")
        assert row["message"]
        assert len(row["file_sha256"]) == 64
    # What needs voxels is no error of the index, which reads the first KiB of a file.
    seen = read_book(curated_volumes).index
    assert seen["errors"] == {"E101": 2, "E102": 1, "E111": 1, "E112": 1}
    assert seen["files"] == len(rows)


def test_slices_are_those_of_the_dicom_series_from_the_feet_upwards(rows):
    dicom = [row for path, of_file in rows.items() if path.startswith("dicom/") for row in of_file]
    same = {row["pixel_sha256"]: row for row in dicom}
    assert len(same) == SLICES
    orders = set()
    for path in VOLUMES:
        assert {row["pixel_sha256"] for row in rows[path]} == set(same)
        orders.add(tuple(row["pixel_sha256"] for row in rows[path]))
        for row in rows[path]:
            twin = same[row["pixel_sha256"]]
            assert row["phash"] == twin["phash"]
            assert row["pixel_spacing_mm"] == pytest.approx(twin["pixel_spacing_mm"])
            assert row["cheap"] == pytest.approx(twin["cheap"], rel=1e-3)
    assert len(orders) == 1


def test_scores_are_those_of_the_analysis_of_the_volume(rows, volumes, toy_models):
    bundle = load_bundle(toy_models / "toy-ct")
    series = read_nifti(volumes / "sagittal")
    wanted = analyze_series(series, bundle, AnalyzeConfig(steps=2, device="cpu")).score_map.per_image
    assert [row["wd_patch"] for row in rows["sagittal"]] == pytest.approx(list(wanted["wd_patch"]), rel=1e-3)


def test_a_volume_counts_as_one_file_and_its_slices_as_pictures(curated_volumes):
    result = read_book(curated_volumes).result
    assert (result["repeated_files"], result["repeated_pictures"]) == (1, 3 * SLICES)


def test_a_curation_that_is_killed_goes_on_to_the_same_table(curated_volumes, volumes, toy_models, tmp_path):
    key, out = tmp_path / "key", tmp_path / "out"
    key.write_bytes(KEY)
    words = ["curate", str(volumes), "-o", str(out), "--models", str(toy_models), "--patient-key", str(key)]
    words += ["--shard-size", "4", "--steps", "2", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "anomap", *words, "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    ) as process:
        for line in process.stdout:
            if json.loads(line)["event"] == "shard":
                break
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (out / IMAGES_FILE).exists()
    assert main(words) == 0
    assert table(out).equals(table(curated_volumes))


def test_triage_projects_slices_and_not_whole_volumes(rows, volumes, toy_models, tmp_path):
    out = tmp_path / "out"
    book = curate(volumes, out, toy_models, replace(CONFIG, triage=0.5), lambda _: None, patient_key=KEY)
    tiers: dict[str, set] = {}
    for row in table(out).to_pylist():
        (same,) = [other for other in rows[row["path"]] if other["frame"] == row["frame"]]
        assert row["error"] == same["error"]
        tiers.setdefault(row["path"], set()).add(row["tier"])
        if row["tier"] == "projected":
            assert row["cheap"] > book.triage_threshold
            assert row["wd_patch"] == pytest.approx(same["wd_patch"], rel=1e-3)
        elif row["tier"] == "cheap":
            assert row["cheap"] <= book.triage_threshold
    assert {"cheap", "projected"} in tiers.values()


def test_no_volume_is_in_memory_when_the_next_one_is_read(curated_volumes, volumes, toy_models, monkeypatch):
    alive: list[weakref.ref] = []

    def read(path):
        assert [there() for there in alive if there() is not None] == []
        series = read_nifti(path)
        alive.append(weakref.ref(series.pixels))
        return series

    monkeypatch.setattr(formats, "read_nifti", read)
    book = read_book(curated_volumes)
    task = round_of(volumes, curated_volumes, toy_models, book)
    kept = [load_shard(task, number, list_bundles(toy_models)) for number in range(book.shards)]
    assert len(alive) == len(VOLUMES)
    assert sum(item.prepared is not None for items in kept for item in items) == SLICES * (len(VOLUMES) + 1) + 1


def test_a_volume_that_changed_since_is_one_row(volumes, toy_models, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    for path in ("whole.nii.gz", "sagittal"):
        shutil.copy(volumes / path, root)

    def spoil_first(task, numbers):
        shutil.copyfile(root / "sagittal", root / "whole.nii.gz")
        return in_this_process(task, numbers)

    curate(root, out, toy_models, CONFIG, lambda _: None, engine=spoil_first)
    assert table(out)["error"].to_pylist() == [""] * SLICES + ["E701"]


def test_a_volume_is_kept_looked_at_or_dropped_as_a_whole(curated_volumes, volumes, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(curated_volumes, out)
    write_report(out)
    listed = dict.fromkeys(read_decisions(out / "decisions.csv"), Decision(word="keep"))
    listed[("copy.png", 3)] = Decision(word="drop")
    write_decisions(out / "decisions.csv", listed)
    words = ["--decisions", str(out / "decisions.csv"), "--root", str(volumes), "--to", str(tmp_path / "kept")]
    assert main(["curate", "apply", str(out), *words]) == 0
    assert (out / "drop.txt").read_text() == "./copy.png\n"
    assert (tmp_path / "kept" / "whole.nii.gz").read_bytes() == (volumes / "whole.nii.gz").read_bytes()
    assert not (tmp_path / "kept" / "copy.png").exists()
    files = [path for path in volumes.rglob("*") if path.is_file()]
    assert f"{tmp_path / 'kept'}: {len(files) - 1} files" in capsys.readouterr().out


def test_without_nibabel_volumes_are_rows_and_the_run_goes_on(rows, volumes, toy_models, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nibabel" else find(name))
    out = tmp_path / "out"
    curate(volumes, out, toy_models, CONFIG, lambda _: None, patient_key=KEY)
    for row in table(out).to_pylist():
        assert row["error"] == ("E203" if row["format"] == "nifti" else rows[row["path"]][0]["error"])
        assert row["format"] != "nifti" or "nibabel not installed" in row["message"]


def test_rows_of_an_index_made_elsewhere_say_what_this_machine_lacks(curated_volumes, volumes, toy_models, monkeypatch):
    index = pq.read_table(curated_volumes / INDEX_FILE, filters=[("path", "==", "whole.nii.gz")]).to_pylist()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (item,) = load(index, volumes, list_bundles(toy_models), "auto")
    assert (item.row["error"], item.row["frame"]) == ("E203", 0)


LIMITED = """
import resource, sys
from pathlib import Path
from anomap.bundle import list_bundles
from anomap.curation.index import build_index, shard_rows
from anomap.curation.load import load
root, index, models = map(Path, sys.argv[1:])
build_index(root, index, b"key", 4, lambda _: None, index)
rows, infos = shard_rows(index, 0), list_bundles(models)
(size,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize:")]
resource.setrlimit(resource.RLIMIT_AS, (int(size) * 1024 + 2**26,) * 2)
print([(item.row["frame"], item.row["error"]) for item in load(rows, root, infos, "auto")])
"""


def test_a_volume_that_memory_does_not_suffice_for_is_a_row(toy_models, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    image = nibabel.Nifti1Image(np.full((512, 512, 128), -1000, np.int16), np.diag((1.0, 1.0, 1.0, 1.0)))
    nibabel.save(image, root / "large.nii.gz")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(root), str(tmp_path / "index.parquet"), str(toy_models)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "[(0, 'E400')]\n"
