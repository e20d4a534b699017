import csv
from pathlib import Path

from anomap.training.curves import COLUMNS, is_best, write_curves


def test_rows_replace_the_file_and_missing_figures_are_empty_cells(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("rows of a later time that was lost\n")
    write_curves([{"kimg": 10.0, "loss_g": 1 / 3}, {"kimg": 20.0, "frechet": 5.0}], path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kimg"] for row in rows] == ["10", "20"]
    assert [row["frechet"] for row in rows] == ["", "5"]
    assert tuple(rows[0]) == COLUMNS


def test_the_best_row_is_that_of_least_distance() -> None:
    rows = [{"frechet": 5.0}, {"kimg": 1.0}, {"frechet": 3.0}, {"frechet": 4.0}]
    assert [is_best(rows[: n + 1]) for n in range(4)] == [True, False, True, False]
