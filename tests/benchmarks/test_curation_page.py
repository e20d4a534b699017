"""The made-up curation behind the page's figures: always the same, right in form, with all that the page can show."""

import pyarrow.parquet as pq

from anomap.curation.schema import IMAGES, INDEX
from benchmarks.curation_page import measure, write_made_up


def test_made_up_tables_have_the_schema_and_something_of_everything(tmp_path):
    for name in ("a", "b"):
        write_made_up(tmp_path / name, 700)
    table = pq.read_table(tmp_path / "a" / "images.parquet")
    assert table.schema == IMAGES
    assert pq.read_schema(tmp_path / "a" / "index.parquet") == INDEX
    assert table.equals(pq.read_table(tmp_path / "b" / "images.parquet"))
    paths = table["path"].to_pylist()
    assert paths == sorted(set(paths))
    assert {"", "projected", "cheap"} == set(table["tier"].to_pylist())
    assert len(set(table["looks"].to_pylist())) > 3
    assert len(set(table["pixel_sha256"].to_pylist())) < 700


def test_the_page_is_measured_in_a_browser():
    found = measure(400, 10)
    assert (found["images"], found["pictures"]) == (400, 10)
    assert 0 < found["rows_in_the_page"] < 40
    assert found["page_mb"] > found["pictures_mb"] > 0
    assert set(found["milliseconds"]) >= {"sort_by_path", "filter_p", "scroll_to_the_end"}
