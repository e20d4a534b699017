"""The spool: whole files or none, one node a folder."""

from __future__ import annotations

import subprocess
import sys

import pytest

from anomap.errors import AnomapError
from anomap.service.spool import Spool, key_of
from tests.service.clinic import ROOT


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "deep" / "state")
    made.prepare()
    return made


def _files(spool):
    return sorted(path.relative_to(spool.root).as_posix() for path in spool.root.rglob("*") if path.is_file())


def test_a_key_is_short_stable_and_no_uid():
    assert key_of("1.2.3") == "c47f5b18b8a430e6"  # printf 1.2.3 | sha256sum
    assert key_of("1.2.3") != key_of("1.2.30")


def test_an_image_lies_where_only_hashes_lead(spool):
    path = spool.image_path(key_of("1.2"), "../../etc/passwd")
    assert path == f"images/{key_of('1.2')}/{key_of('../../etc/passwd')}.dcm"
    spool.write_image(path, b"DICM")
    assert _files(spool) == [path]
    assert (spool.root / path).read_bytes() == b"DICM"
    assert spool.images(key_of("1.2")) == (spool.root / path).parent


def test_writing_again_replaces_the_whole_file(spool):
    spool.write_image("images/a/b.dcm", b"a longer content")
    spool.write_image("images/a/b.dcm", b"short")
    assert (spool.root / "images/a/b.dcm").read_bytes() == b"short"
    assert _files(spool) == ["images/a/b.dcm"]


def test_a_full_disk_leaves_nothing_behind_and_keeps_what_was_there(spool):
    """The limit on the size of a file stands for the disk: the write breaks off in its midst."""
    spool.write_image("images/a/b.dcm", b"first")
    code = (
        "import resource, sys; from pathlib import Path; from anomap.service.spool import Spool\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for name in ('images/a/b.dcm', 'images/c/d.dcm'):\n"
        "    try: Spool(Path(sys.argv[1])).write_image(name, bytes(100_000))\n"
        "    except OSError as error: print(error.errno)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, spool.root], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len(done.stdout.split()) == 2
    assert _files(spool) == ["images/a/b.dcm"]
    assert (spool.root / "images/a/b.dcm").read_bytes() == b"first"


def test_a_start_removes_what_a_crash_has_left_and_nothing_else(spool):
    keep = ["images/a/b.dcm", "results/000001-1/result.json"]
    left = ["images/a/.0123.part", "images/a/c.dcm", "results/000001-2/01-CT/sr.dcm"]
    for name in [*keep, *left]:
        (spool.root / name).parent.mkdir(parents=True, exist_ok=True)
        (spool.root / name).write_bytes(b"x")
    spool.prepare()
    assert spool.sweep(["images/a/b.dcm", "results/000001-1"]) == 2
    assert _files(spool) == keep


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(AnomapError, match="E202"):
        Spool(tmp_path / "file" / "state").prepare()
    with pytest.raises(AnomapError, match="E202"):
        Spool(tmp_path / "file" / "state").lock()


def test_only_one_process_has_the_folder(spool):
    assert not spool.is_locked()
    code = (
        "import sys; from pathlib import Path; from anomap.service.spool import Spool\n"
        "lock = Spool(Path(sys.argv[1])).lock(); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, spool.root], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        assert spool.is_locked()
        with pytest.raises(AnomapError, match="E603"):
            spool.lock()
        other.kill()  # the lock ends with the process, however that ends
        other.wait(10)
        spool.lock().close()
    assert not spool.is_locked()


def test_looking_whether_a_node_runs_keeps_none_from_starting(spool):
    spool.lock().close()
    for _ in range(50):
        assert not spool.is_locked()
        spool.lock().close()


def test_results_have_folders_of_their_own_that_can_be_removed(spool):
    names = {spool.result(job, run) for job in (1, 11, 111) for run in (1, 11)}
    assert len(names) == 6
    for name in names:
        (spool.root / name / "01").mkdir(parents=True)
        spool.remove(name)
    spool.write_image("images/a/b.dcm", b"x")
    spool.remove("images/a/b.dcm")
    spool.remove("images/a/b.dcm")
    assert _files(spool) == []


def test_free_space_is_that_of_the_folder(spool):
    assert 0 < spool.free_gb() < 1e6
