"""Publishing: all or nothing, result.json last, nothing left behind."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anomap import output as output_module
from anomap.errors import AnomapError, ExitStatus
from anomap.output import RESULT, SCHEMA, appearing, as_error, exit_status, staged, write_result


def _result(*folders: str) -> dict:
    return {"schema": SCHEMA, "status": "complete", "series": [{"folder": name} for name in folders]}


def _fill(folder: Path, name: str = "01-CT-0badcafe", text: str = "report") -> None:
    (folder / name).mkdir()
    (folder / name / "sr.dcm").write_text(text)
    write_result(folder, _result(name))


def _attempt(target: Path, *steps: Callable[[Path], object]) -> None:
    with staged(target) as folder:
        for step in steps:
            step(folder)


def _raise(error: BaseException) -> Callable[[Path], object]:
    def step(_: Path) -> None:
        raise error

    return step


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read(output: Path) -> dict:
    return json.loads((output / RESULT).read_text())


def test_a_missing_output_appears_complete_by_rename(tmp_path):
    target = tmp_path / "a" / "b"
    with staged(target) as folder:
        assert not target.exists()
        assert folder.parent == target.parent
        _fill(folder)
        assert not target.exists()
    assert _names(target) == ["01-CT-0badcafe", RESULT]
    assert _names(target.parent) == ["b"]


def test_an_existing_empty_folder_keeps_its_identity(tmp_path):
    """A container's output volume can't be renamed over; its owner and mount must survive."""
    target = tmp_path / "out"
    target.mkdir(mode=0o750)
    before = target.stat()
    with staged(target) as folder:
        _fill(folder)
        assert [path for path in target.iterdir() if not path.name.startswith(".")] == []
    after = target.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert _names(target) == ["01-CT-0badcafe", RESULT]


def test_result_json_moves_last(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    order: list[str] = []
    original = Path.replace

    def spy(self: Path, other: Path) -> Path:
        if Path(other).parent == target:
            order.append(Path(other).name)
        return original(self, other)

    with staged(target) as folder:
        _fill(folder)
        (folder / "zzz.txt").write_text("sorts after result.json")
        monkeypatch.setattr(Path, "replace", spy)
    assert order == ["01-CT-0badcafe", "zzz.txt", RESULT]


def test_a_full_output_is_refused_and_untouched(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(AnomapError, match="E201") as caught, staged(tmp_path):
        pytest.fail("must not start")
    assert caught.value.status is ExitStatus.USAGE
    assert _names(tmp_path) == ["note.txt"]


def test_hidden_entries_do_not_make_an_output_full(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / "lost+found").mkdir()
    with staged(tmp_path) as folder:
        _fill(folder)
    assert (tmp_path / RESULT).is_file()


def test_overwrite_replaces_an_earlier_result_and_keeps_foreign_files(tmp_path):
    with staged(tmp_path / "out") as folder:
        _fill(folder, "01-CT-aaaaaaaa")
    (tmp_path / "out" / "note.txt").write_text("mine")
    with staged(tmp_path / "out", overwrite=True) as folder:
        _fill(folder, "01-DX-bbbbbbbb")
    assert _names(tmp_path / "out") == ["01-DX-bbbbbbbb", "note.txt", RESULT]


def test_overwrite_never_replaces_a_folder_without_our_result(tmp_path):
    (tmp_path / "thesis.doc").write_text("years of work")
    (tmp_path / RESULT).write_text('{"schema": "other/1"}')
    with pytest.raises(AnomapError, match="E201"), staged(tmp_path, overwrite=True):
        pytest.fail("must not start")
    assert _names(tmp_path) == [RESULT, "thesis.doc"]


def test_overwrite_follows_no_path_out_of_the_output(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RESULT).write_text(json.dumps(_result("../precious", "..", str(tmp_path / "precious"))))
    with staged(tmp_path / "out", overwrite=True) as folder:
        _fill(folder)
    assert (tmp_path / "precious").is_dir()


def test_overwrite_removes_a_link_and_not_its_target(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "01").symlink_to(tmp_path / "precious")
    (tmp_path / "out" / RESULT).write_text(json.dumps(_result("01")))
    with staged(tmp_path / "out", overwrite=True) as folder:
        _fill(folder)
    assert (tmp_path / "precious").is_dir()
    assert not (tmp_path / "out" / "01").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_a_failure_leaves_only_a_refusal(tmp_path, exists):
    target = tmp_path / "out"
    if exists:
        target.mkdir()
    with pytest.raises(AnomapError, match="E103"):
        _attempt(target, _fill, _raise(AnomapError("E103", "slices are unevenly spaced")))
    assert _names(target) == [RESULT]
    assert _names(tmp_path) == ["out"]
    content = _read(target)
    assert (content["status"], content["error"]["code"], content["exit_status"]) == ("failed", "E103", 3)
    assert content["not_a_diagnosis"] is True


def test_a_failed_overwrite_leaves_no_stale_result(tmp_path):
    with staged(tmp_path / "out") as folder:
        _fill(folder)
    with pytest.raises(AnomapError, match="E114"), staged(tmp_path / "out", overwrite=True):
        raise AnomapError("E114", "no body")
    assert _names(tmp_path / "out") == [RESULT]
    assert _read(tmp_path / "out")["error"]["code"] == "E114"


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), AnomapError("E403", "cancelled")])
def test_a_cancelled_run_publishes_nothing(tmp_path, cause):
    with pytest.raises(type(cause)):
        _attempt(tmp_path / "out", _fill, _raise(cause))
    assert list(tmp_path.iterdir()) == []


def test_a_block_without_result_json_publishes_a_refusal(tmp_path):
    with pytest.raises(AnomapError, match="E501"), staged(tmp_path / "out") as folder:
        (folder / "sr.dcm").write_text("half")
    assert _names(tmp_path / "out") == [RESULT]


def test_a_publication_that_breaks_half_way_is_taken_back(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    original = Path.replace

    def full_disk(self: Path, other: Path) -> Path:
        if Path(other) == target / "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, other)

    def fill(folder: Path) -> None:
        for name in ("a", "b", "c"):
            (folder / name).write_text(name)
        write_result(folder, _result())
        monkeypatch.setattr(Path, "replace", full_disk)

    with pytest.raises(AnomapError, match=r"E202.*[Nn]o space"):
        _attempt(target, fill)
    assert _names(target) == [RESULT]
    assert _read(target)["error"]["code"] == "E202"


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_an_output_at_or_below_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(AnomapError, match="E202"), staged(tmp_path / "file" / below):
        pytest.fail("must not start")
    assert (tmp_path / "file").read_text() == "a file"


def test_a_dangling_link_is_refused(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AnomapError, match="E202"), staged(tmp_path / "out"):
        pytest.fail("must not start")


def test_two_runs_into_one_new_output_do_not_mix(tmp_path):
    target = tmp_path / "out"

    def overtaken(folder: Path) -> None:
        _fill(folder, "01-CT-aaaaaaaa")
        _attempt(target, lambda fast: _fill(fast, "01-DX-bbbbbbbb"))

    with pytest.raises(AnomapError, match="E201"):
        _attempt(target, overtaken)
    assert _names(tmp_path / "out") == ["01-DX-bbbbbbbb", RESULT]


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_appears_whole_or_stays_what_it_was(tmp_path, durable):
    path = tmp_path / "log.csv"
    path.write_text("old")

    def broken() -> None:
        with appearing(path, durable=durable) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert path.read_text() == "old"
    with appearing(path, durable=durable) as temporary:
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_number_that_is_not_finite_is_never_written(tmp_path):
    with pytest.raises(AnomapError, match="E501"):
        write_result(tmp_path, {"score": float("nan")})
    assert _names(tmp_path) == []


def test_foreign_errors_keep_their_message_to_themselves():
    with pytest.raises(ValueError, match="ZZPHI") as caught:
        _raise(ValueError("bad value in ZZPHI^CANARY"))(Path())
    translated = as_error(caught.value)
    assert translated.code == "E500"
    assert "ZZPHI" not in str(translated)
    assert translated.message.startswith("ValueError at test_output.py:")


def test_the_place_of_an_internal_error_is_our_own_line(monkeypatch):
    with pytest.raises(TypeError) as caught:
        write_result(Path("nowhere"), {"a": object()})
    assert as_error(caught.value).message.startswith("TypeError at anomap/output.py:")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (MemoryError(), "E400", 4),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "E400", 4),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), "E400", 4),
        (KeyboardInterrupt(), "E403", 130),
        (OSError(errno.ENOSPC, "full"), "E202", 2),
        (RuntimeError("x"), "E500", 4),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "E203", 2),
        (ModuleNotFoundError("No module named 'numpy'", name="numpy"), "E500", 4),
        (AnomapError("E402", "late"), "E402", 124),
    ],
)
def test_every_exception_has_a_code_and_an_exit_status(error, code, status):
    assert as_error(error).code == code
    assert exit_status(error) == status


def test_the_refusal_does_not_hide_the_error_when_it_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*_: object) -> Path:
        raise AnomapError("E202", "no")

    monkeypatch.setattr(output_module, "write_result", refuse)
    with pytest.raises(AnomapError, match="E103"):
        _attempt(tmp_path / "out", _raise(AnomapError("E103", "gap")))
    assert list(tmp_path.iterdir()) == []
