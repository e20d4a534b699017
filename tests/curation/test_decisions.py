"""``decisions.csv``: what anomap, its page and spreadsheets write is read; what does not fit is named by its line."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.curation.decisions import WORDS, Decision, read_decisions, write_decisions
from anomap.errors import AnomapError

LIST = {
    ("a/1.dcm", 0): Decision(word="keep"),
    ("a/Übung, 2.dcm", 0): Decision(word="look", reason='p = 0.01; "odd"'),
    ("12/05", 3): Decision(word="drop", reason="two\nlines"),
    ("=cmd", 0): Decision(word="keep"),
    (" spaces ", 0): Decision(word="keep"),
}
KNOWN = list(LIST)


def read(tmp_path, content: bytes | str, known=None):
    file = tmp_path / "decisions.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_decisions(file, known)


def refused(tmp_path, content, known=None) -> AnomapError:
    with pytest.raises(AnomapError) as caught:
        read(tmp_path, content, known)
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_was_written_is_read(tmp_path):
    write_decisions(tmp_path / "decisions.csv", LIST)
    assert read_decisions(tmp_path / "decisions.csv", KNOWN) == LIST
    assert [path.name for path in tmp_path.iterdir()] == ["decisions.csv"]


@given(st.lists(st.tuples(st.text("ab/,;\"'\t \n=ü", min_size=1), st.integers(0, 9)), unique=True), st.data())
def test_any_path_and_reason_survives(tmp_path_factory, keys, data):
    reason = st.text('ab;,"\n', max_size=5).map(str.strip)
    made = {key: Decision(word=data.draw(st.sampled_from(WORDS)), reason=data.draw(reason)) for key in keys}
    file = tmp_path_factory.mktemp("list") / "decisions.csv"
    write_decisions(file, made)
    assert read_decisions(file) == made


def test_no_path_begins_as_a_number_a_date_or_a_formula(tmp_path):
    write_decisions(tmp_path / "decisions.csv", LIST)
    with (tmp_path / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        assert all(row["path"].startswith("./") for row in csv.DictReader(file))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_spreadsheets_save_is_read(tmp_path, separator, line_end, encoding):
    rows = [
        ["Path", "Frame", "Decision", "Reason", "my notes"],
        ["./a/1.dcm", "0", "KEEP", "", "x"],
        ['"./a/Übung, 2.dcm"', "0", "look ", '"p = 0.01; ""odd"""', ""],
        ["./12/05", "3", "drop", '"two\nlines"', ""],
        ["=cmd", "", "keep"],
        ["./ spaces ", "0", "keep", "", ""],
        ["", "", "", "", ""],
    ]
    text = line_end.join(separator.join(row) for row in rows) + line_end
    assert read(tmp_path, text.encode(encoding), KNOWN) == LIST


def test_each_wrong_line_is_named_by_its_number(tmp_path):
    content = (
        "path,frame,decision,reason\n"
        'a/1.dcm,0,keep,"over\ntwo lines"\n'
        "12/05,3,maybe,\n"
        "Muster/Max.dcm,0,keep,\n"
        "./a/1.dcm,0,drop,\n"
        "12/05,4,keep,\n"
        "12/05,x,keep,\n"
    )
    error = refused(tmp_path, content, KNOWN)
    assert error.code == "E711"
    assert error.message == (
        "decisions.csv: line 4: the decision is none of keep, look, drop; line 5: there is no such image and frame; "
        "line 6: a second decision on the same image; and 2 more lines"
    )
    assert "Muster" not in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "lacks the columns path, frame, decision"),
        (b"path,frame\na,0\n", "lacks the columns decision"),
        ("path,frame,decision\nä,0,keep\n".encode("latin-1"), "no UTF-8 text"),
        (b'path,frame,decision\n"a,0,keep\n', "line 2"),
        (b'path,frame,decision\n"a"b,0,keep\n', "line 2"),
        (b"\xff\xfea", "no UTF-8 text"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, said):
    error = refused(tmp_path, content)
    assert error.code == "E710"
    assert said in error.message


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(AnomapError, match=r"^E710 decisions.csv can't be read: No such file"):
        read_decisions(tmp_path / "none.csv")


def test_without_known_images_any_path_goes(tmp_path):
    assert read(tmp_path, "path,frame,decision\nwhatever,7,look\n") == {("whatever", 7): Decision(word="look")}
