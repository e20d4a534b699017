"""Rows 28 and 31: full and read-only disks, and models that are not what they claim."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anomap.bundle import METADATA, WEIGHTS
from anomap.dicom.phantom import write_ct_phantom
from tests.clinic.watch import clinic, counter
from tests.clinic.wire import echo, part10, store_files
from tests.service.clinic import ROOT, Node, free_port


@contextmanager
def small_disk(folder: Path, size: str, options: str = "") -> Iterator[Path]:
    """A file system of some size; only root can make one, so that others skip it and say so."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def analyze(source: Path, output: Path, models: Path, kilobytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with a limit on the size of files if wanted."""
    words = [sys.executable, "-m", "anomap", "analyze", str(source), str(output), "--models", str(models)]
    if kilobytes is not None:
        words = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", *words]
    return subprocess.run([*words, "--steps", "0"], cwd=ROOT, capture_output=True, text=True, check=False)


def ct(folder: Path, seed: int = 0) -> list[Path]:
    return write_ct_phantom(
        folder, slices=8, rows=128, columns=128, seed=seed, patient_name="ZZPHI^CANARY", patient_id="ZZPHI"
    )


def assert_refused(run: subprocess.CompletedProcess[str], output: Path, *codes: str) -> str:
    """One line with a code; nothing half-written."""
    line = run.stderr.strip().splitlines()[-1]
    assert line[:4] in codes, run.stderr
    assert run.returncode in (2, 4)
    assert "Traceback" not in run.stderr
    assert "ZZPHI" not in run.stderr + run.stdout
    left = [path.name for path in output.rglob("*")] if output.exists() else []
    assert set(left) <= {"result.json", "lost+found"}
    if "result.json" in left:
        assert json.loads((output / "result.json").read_text())["status"] == "failed"
    return line


@pytest.mark.fault(28, "disk of 300 KB full while a result is written", "E202, no half file")
def test_a_full_disk_leaves_no_half_result(toy_models, tmp_path, seen):
    ct(tmp_path / "in")
    with small_disk(tmp_path / "disk", "300k") as disk:
        run = analyze(tmp_path / "in", disk / "out", toy_models)
        seen(assert_refused(run, disk / "out", "E202"))
        assert [path.name for path in disk.iterdir() if path.name.startswith(".")] == []


@pytest.mark.fault(28, "a file may not grow beyond 40 KB", "an error, no half file")
def test_a_limit_on_files_leaves_no_half_result(toy_models, tmp_path, seen):
    ct(tmp_path / "in")
    run = analyze(tmp_path / "in", tmp_path / "out", toy_models, kilobytes=40)
    seen(assert_refused(run, tmp_path / "out", "E202"))


@pytest.mark.fault(28, "read-only output", "E202 before any work")
def test_a_read_only_output_is_refused(toy_models, tmp_path, seen):
    ct(tmp_path / "in")
    with small_disk(tmp_path / "disk", "4m", ",ro") as disk:
        seen(assert_refused(analyze(tmp_path / "in", disk / "out", toy_models), disk / "out", "E202"))


@pytest.mark.fault(28, "node: less disk space than min_free_gb", "0xA700, nothing kept, the sender keeps it")
def test_below_the_disk_guard_images_stay_with_their_sender(toy_models, tmp_path, seen):
    paths = ct(tmp_path / "ct")
    node = tmp_path / "node"
    with clinic(node, toy_models, disk={"min_free_gb": 1e6}) as one:
        assert store_files(one.port, paths) == [0xA700] * len(paths)
        assert not list((one.state / "images").iterdir())
        assert not one.status()["jobs"]
        assert counter(one, "anomap_objects_refused") == {"disk": len(paths)}
        check = [sys.executable, "-m", "anomap.cli", "status", str(one.settings), "--check"]
        health = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (health.returncode, health.stderr[:4]) == (4, "E604")
        assert "ZZPHI" not in one.log()
    with clinic(node, toy_models, work={"quiet_s": 600.0}) as two:
        assert store_files(two.port, paths) == [0] * len(paths)
    seen("0xA700 each; taken at the resend once there is space; `anomap status --check` says E604")


@pytest.mark.fault(28, "node: the disk fills up while images come", "0xA700, what was promised is whole, recovers")
def test_a_disk_that_fills_up_loses_nothing_that_was_promised(toy_models, tmp_path, seen):
    paths = [path for seed in range(8) for path in ct(tmp_path / f"ct-{seed}", seed)]
    with small_disk(tmp_path / "node", "4m") as disk:
        settings = {"disk": {"min_free_gb": 0.0}, "work": {"quiet_s": 600.0}}
        with clinic(disk / "node", toy_models, **settings) as node:
            filler = disk / "filler"
            filler.write_bytes(bytes(2 * 2**20))
            answers = store_files(node.port, paths)
            assert set(answers) == {0, 0xA700}
            assert echo(node.port)
            promised = [path for path, answer in zip(paths, answers, strict=True) if answer == 0]
            assert_whole(node, promised)
            filler.unlink()
            refused = [path for path in paths if path not in promised]
            again = store_files(node.port, refused[:20])
            assert again == [0] * len(again)
            assert_whole(node, [*promised, *refused[:20]])
            assert "ZZPHI" not in node.log()
            assert "Traceback" not in node.log()
    seen(f"{len(promised)} images promised and whole, {len(refused)} refused with 0xA700, taken when there is space")


def assert_whole(node: Node, paths: list[Path]) -> None:
    """Exactly these images lie on the disk, byte by byte."""
    kept = {part10(path).uid: part10(path).data for path in (node.state / "images").glob("*/*.dcm")}
    assert kept == {part10(path).uid: part10(path).data for path in paths}
    assert not list((node.state / "images").glob("*/.*"))


def _gone(models: Path) -> None:
    (models / "toy-ct" / WEIGHTS).unlink()


def _empty(models: Path) -> None:
    shutil.rmtree(models)
    models.mkdir()


def _flipped(models: Path) -> None:
    path = models / "toy-ct" / WEIGHTS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _other_version(models: Path) -> None:
    _change(models, lambda content: content["anomap"].update(format="anomap.bundle/99"))


def _retuned(models: Path) -> None:
    _change(models, lambda content: content["anomap"].update(window=8))


def _broken(models: Path) -> None:
    _change(models, lambda content: content["anomap"].pop("format"))


def _change(models: Path, change: Callable[[dict], object]) -> None:
    path = models / "toy-ct" / METADATA
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


DAMAGE = {
    "weight file missing": (_gone, "E300"),
    "no model at all": (_empty, "E300"),
    "one bit of the weights flipped": (_flipped, "E301"),
    "another window in the metadata": (_retuned, "E301"),
    "metadata of another format": (_other_version, "E302"),
    "metadata without a format": (_broken, "E302"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.fault(31, n, f"serve refuses to start, {DAMAGE[n][1]}")) for n in DAMAGE]
)
def test_the_node_does_not_start_with_a_wrong_model(name, toy_models, tmp_path, seen):
    damage, code = DAMAGE[name]
    models = tmp_path / "models"
    shutil.copytree(toy_models, models)
    damage(models)
    node = Node(tmp_path / "node", models, port=free_port())
    command = [sys.executable, "-m", "anomap.cli", "serve", str(node.settings)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=os.environ)
    assert run.returncode == 4
    assert run.stderr.splitlines()[-1].startswith(f"{code} ")
    assert "listening" not in run.stderr
    assert not node.state.exists()
    assert not echo(node.port, 1.0)
    seen(f"exit 4, {code}, nothing listens")
