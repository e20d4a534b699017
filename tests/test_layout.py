"""The flat layout: the same files at the top, the same books, and an earlier flat result is replaced as a whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import jsonschema
import pytest

from anomap.config import AnalyzeConfig
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.layout import flat_name, flatten
from anomap.output import RESULT, SCHEMA, staged, write_result
from anomap.study import analyze

RULES = json.loads((Path(__file__).parents[1] / "docs" / "result.schema.json").read_text())
NAME = "01-CT-0badcafe"


def _fill(folder: Path, *names: str) -> None:
    """A nested result with one file a series."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "sr.dcm").write_text(f"report {name}")
        write_result(folder / name, {"outputs": [{"file": "sr.dcm"}]})
    write_result(folder, {"schema": SCHEMA, "series": [{"folder": name} for name in names]})


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def nested(toy_models, tmp_path_factory) -> Path:
    """A real result of a CT series and a radiograph."""
    folder = tmp_path_factory.mktemp("nested")
    write_ct_phantom(folder / "in" / "ct", slices=3, rows=64, columns=64, patient_id="P")
    write_radiograph_phantom(folder / "in" / "dx", rows=96, columns=80, patient_id="P")
    analyze(folder / "in", folder / "out", toy_models, AnalyzeConfig(steps=0))
    return folder / "out"


def test_every_file_comes_to_the_top_unchanged(nested, tmp_path):
    with staged(tmp_path / "out") as folder:
        for path in nested.rglob("*"):
            target = folder / path.relative_to(nested)
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
        flatten(folder)
    out = tmp_path / "out"
    assert all(path.is_file() for path in out.iterdir())
    expected = {flat_name(path.parent.name, path.name): path for path in nested.glob("*/*")}
    assert set(_names(out)) == {*expected, RESULT}
    assert len(list(out.glob("*.dcm"))) == len(list(nested.rglob("*.dcm"))) > 3
    for name, path in expected.items():
        assert name.endswith(RESULT) or (out / name).read_bytes() == path.read_bytes()


def test_the_books_of_a_flat_result_fit_its_files_and_the_schema(nested, tmp_path):
    with staged(tmp_path / "out") as folder:
        for path in sorted(nested.rglob("*")):
            target = folder / path.relative_to(nested)
            target.mkdir() if path.is_dir() else target.write_bytes(path.read_bytes())
        returned = flatten(folder)
    out = tmp_path / "out"
    top = json.loads((out / RESULT).read_text())
    assert returned == top
    assert top == {**json.loads((nested / RESULT).read_text()), "layout": "flat"}
    jsonschema.validate(top, RULES)
    for entry in top["series"]:
        before = json.loads((nested / entry["folder"] / RESULT).read_text())
        content = json.loads((out / flat_name(entry["folder"], RESULT)).read_text())
        jsonschema.validate(content, RULES)
        assert {**content, "outputs": []} == {**before, "outputs": []}
        assert len(content["outputs"]) == len(before["outputs"]) > 0
        for output in content["outputs"]:
            assert hashlib.sha256((out / output["file"]).read_bytes()).hexdigest() == output["sha256"]


def test_overwriting_replaces_an_earlier_flat_result_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    with staged(out) as folder:
        _fill(folder, NAME, "02-DX-00000001")
        flatten(folder)
    (out / "note.txt").write_text("somebody else's")
    (out / "01-CT-0badcafe.txt").write_text("somebody else's")
    with staged(out, overwrite=True) as folder:
        _fill(folder, "01-CT-11111111")
        flatten(folder)
    mine = ["01-CT-11111111_result.json", "01-CT-11111111_sr.dcm", RESULT]
    assert _names(out) == sorted([*mine, "note.txt", "01-CT-0badcafe.txt"])


def test_a_result_that_cannot_be_turned_flat_is_not_published(tmp_path):
    out = tmp_path / "out"
    out.mkdir()

    def attempt() -> None:
        with staged(out) as folder:
            _fill(folder, NAME)
            (folder / NAME / RESULT).unlink()
            flatten(folder)

    with pytest.raises(AnomapError):
        attempt()
    assert _names(out) == [RESULT]
    assert json.loads((out / RESULT).read_text())["status"] == "failed"
