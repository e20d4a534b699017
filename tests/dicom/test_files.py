"""What an input's files are; a zip must not get out of its place or out of hand."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from anomap.dicom import files
from anomap.dicom.files import opened
from anomap.errors import AnomapError


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def content(source: Path) -> dict[str, bytes]:
    with opened(source) as found:
        return {name: path.read_bytes() for name, path in found}


def test_a_folder_is_walked_in_the_order_of_names(tmp_path):
    for name in ("b/2", "b/1", "a/c/3", "0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert list(content(tmp_path)) == ["0", "a/c/3", "b/1", "b/2"]


def test_pipes_dead_links_and_linked_folders_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "file").write_text("x")
    assert list(content(tmp_path)) == ["file"]


def test_a_name_that_is_no_utf8_can_still_be_written_down(tmp_path):
    os.close(os.open(os.fsencode(tmp_path) + b"/M\xfcller", os.O_CREAT | os.O_WRONLY))
    for source in (tmp_path, next(tmp_path.iterdir())):
        with opened(source) as found:
            assert [name for name, _ in found] == ["M\N{REPLACEMENT CHARACTER}ller"]


def test_a_missing_input_is_refused_without_its_name(tmp_path):
    with pytest.raises(AnomapError, match="E100") as caught, opened(tmp_path / "ZZPHI"):
        pass
    assert "ZZPHI" not in str(caught.value)


def test_a_zip_gives_its_members_and_leaves_nothing(tmp_path):
    source = write_zip(tmp_path / "a.zip", {"x/1": b"one", "2": b"two"})
    with opened(source) as found:
        assert {name: path.read_bytes() for name, path in found} == {"2": b"two", "x/1": b"one"}
        places = {path.parent for _, path in found}
    assert not any(place.exists() for place in places)


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../../evil", "C:\\evil", "..\\evil"])
def test_a_member_cannot_leave_its_folder(tmp_path, name):
    (tmp_path / "in").mkdir()
    source = write_zip(tmp_path / "in" / "a.zip", {name: b"x"})
    before = sorted(tmp_path.rglob("*"))
    with opened(source) as found:
        assert [path.name for _, path in found] == ["000000"]
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/evil").exists()


def test_a_zip_bomb_is_stopped_by_what_comes_out(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ZIP_BYTES", 2**20)
    source = write_zip(tmp_path / "a.zip", {"bomb": bytes(2**25)})
    assert source.stat().st_size < 2**16
    with pytest.raises(AnomapError, match="E117"), opened(source):
        pass


def test_a_zip_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ZIP_FILES", 3)
    source = write_zip(tmp_path / "a.zip", {str(n): b"" for n in range(4)})
    with pytest.raises(AnomapError, match="E117"), opened(source):
        pass


def test_a_damaged_or_locked_zip_is_refused(tmp_path):
    source = write_zip(tmp_path / "a.zip", {"one": b"1" * 1000})
    data = bytearray(source.read_bytes())
    (tmp_path / "cut.zip").write_bytes(data[:40])
    locked = bytearray(data)
    locked[6] |= 1  # general purpose flag: encrypted, in the local header and in the directory
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    data[40] ^= 0xFF
    (tmp_path / "broken.zip").write_bytes(data)
    for name in ("cut.zip", "locked.zip", "broken.zip"):
        with pytest.raises(AnomapError, match="E102"), opened(tmp_path / name):
            pass


def test_a_dicom_file_is_no_zip_whatever_its_end(tmp_path):
    source = write_zip(tmp_path / "a.zip", {"1": b"one"})
    both = tmp_path / "image.dcm"
    both.write_bytes(bytes(128) + b"DICM" + source.read_bytes())
    assert zipfile.is_zipfile(both)
    assert list(content(both)) == ["image.dcm"]
