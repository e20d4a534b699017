import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import MARKS, made_from, main, update_card
from tests.evaluation.pictures import trunks

COLUMNS = ("file", "index", "split", "category", "dataset", "patient", "note")


def picture(folder: Path, name: str, pixels: np.ndarray) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder like ../shared/data/cxr: normals, and two test categories."""
    folder = tmp_path / "made"
    folder.mkdir()
    rows = []
    greys = np.rint((trunks(30, size=64).images[:, 0] + 1) * 127.5).astype(np.uint8)
    for n, grey in enumerate(greys):
        split, category = ("train", "normal") if n < 12 else ("val", "normal") if n < 22 else ("test", "rotated")
        file = f"{split}_{category}/{n}.png"
        picture(folder, file, np.rot90(grey).copy() if category == "rotated" else grey)
        rows.append((file, "", split, category, "hospital A", f"p{n}", ""))
        if split == "val":
            picture(folder, f"test_inverted/{n}.webp.png", 255 - grey)
            note = f"derived: 255 - pixel of val_normal/{n}.tif"
            rows.append((f"test_inverted/{n}.webp.png", "", "test", "inverted", "hospital B", f"p{n}", note))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return folder


def test_figures_are_printed_and_written(data: Path, toy_models: Path, tmp_path: Path, capsys) -> None:
    words = ["--bundle", toy_models / "toy-radiograph", "--data", data, "--output", tmp_path / "results"]
    words += ["--steps", 2, "--needles", 4, "--cap", 7]
    assert main([str(word) for word in words]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("### toy-radiograph 0.0.1 on made, preset fast")
    assert (tmp_path / "results" / "quality-toy-radiograph.md").read_text().strip() == printed.strip()
    text = (tmp_path / "results" / "quality-toy-radiograph.json").read_text()
    assert str(tmp_path) not in text  # no path of the machine it was made on
    content = json.loads(text)
    assert content["format"] == "anomap.quality/1"
    assert content["normal"] == {"images": 10, "patients": 10}
    assert content["training_images"] == 12
    inverted, rotated = content["categories"]
    assert (inverted["category"], inverted["images"], inverted["same_sources"]) == ("inverted", 7, False)
    assert (rotated["category"], rotated["images"], rotated["same_sources"]) == ("rotated", 7, True)
    assert inverted["pairs"]["wd_full"]["pairs"] == 7
    assert inverted["separation"]["train_histogram_wd"]["auroc"] == 1.0
    assert content["needles"]["test"]["pairs"] == 4
    assert content["config"]["projection"]["steps"] == 2
    assert content["machine"]["torch"]


def test_categories_can_be_chosen(data: Path, toy_models: Path, tmp_path: Path) -> None:
    words = ["--bundle", toy_models / "toy-radiograph", "--data", data, "--output", tmp_path, "--steps", 0]
    assert main([str(word) for word in [*words, "--needles", 2, "--categories", "rotated"]]) == 0
    content = json.loads((tmp_path / "quality-toy-radiograph.json").read_text())
    assert [row["category"] for row in content["categories"]] == ["rotated"]


def test_a_missing_bundle_is_a_clear_failure(tmp_path: Path, capsys) -> None:
    assert main(["--bundle", str(tmp_path / "none"), "--data", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith("E300")


def test_origins_are_read_from_the_notes(data: Path) -> None:
    assert made_from(data)["test_inverted/12.webp.png"] == "val_normal/12.png"


@pytest.mark.data
def test_origins_of_the_shared_images_are_known(shared_data: Path) -> None:
    ct, cxr = made_from(shared_data / "ct"), made_from(shared_data / "cxr")
    assert sum(name.startswith("anomaly_needle_simulated") for name in ct) == 40
    assert ct["anomaly_ascites_simulated.npz#3"] == "val_normal.npz#3"
    assert len(cxr) == 40
    for origin in cxr.values():
        assert (shared_data / "cxr" / origin).is_file()


def test_the_table_goes_into_the_model_card_and_nothing_else_changes(tmp_path):
    card = tmp_path / "README.md"
    assert not update_card(card, "table")
    card.write_text("# Model\n")
    assert not update_card(card, "table")
    card.write_text(f"# Model\n{MARKS[0]}\nold\n{MARKS[1]}\nend\n")
    assert update_card(card, "| new |\n")
    assert card.read_text() == f"# Model\n{MARKS[0]}\n| new |\n{MARKS[1]}\nend\n"
