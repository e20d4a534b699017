from pathlib import Path

import pytest

from anomap.errors import AnomapError
from anomap.evaluation.publish import LAST, check_output, publish

FILES = {LAST: '{"format": "anomap.evaluation/1"}', "evaluation.md": "table", "evaluation.html": "page"}


def test_files_appear_and_nothing_else(tmp_path: Path) -> None:
    publish(FILES, tmp_path / "new" / "out", overwrite=False)
    assert {path.name: path.read_text() for path in (tmp_path / "new" / "out").iterdir()} == FILES


def test_an_earlier_evaluation_is_replaced_when_asked_for(tmp_path: Path) -> None:
    publish(FILES, tmp_path, overwrite=False)
    with pytest.raises(AnomapError, match="E201"):
        publish(FILES, tmp_path, overwrite=False)
    (tmp_path / "note.txt").write_text("mine")
    publish({**FILES, "evaluation.md": "newer"}, tmp_path, overwrite=True)
    assert (tmp_path / "evaluation.md").read_text() == "newer"
    assert (tmp_path / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", '{"format": 3}', '{"schema": "anomap.result/1"}'])
def test_foreign_folders_are_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / LAST).write_text(content)
    with pytest.raises(AnomapError, match="E201"):
        check_output(tmp_path, overwrite=True)
    assert (tmp_path / LAST).read_text() == content


def test_a_file_in_the_way_and_a_write_that_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnomapError, match="E202"):
        check_output(tmp_path / "file", overwrite=True)
    with pytest.raises(AnomapError, match="E202"):
        publish(FILES, tmp_path / "file" / "below", overwrite=False)
    blocked = tmp_path / "blocked"
    publish(FILES, blocked, overwrite=False)
    (blocked / "evaluation.md").unlink()
    (blocked / "evaluation.md").mkdir()
    with pytest.raises(AnomapError, match="E202"):
        publish(FILES, blocked, overwrite=True)
    assert not (blocked / LAST).exists()  # half an evaluation is none
    assert sorted(path.name for path in blocked.iterdir() if path.name.startswith(".")) == []
