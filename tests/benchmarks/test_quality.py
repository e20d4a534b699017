import json
from pathlib import Path

from benchmarks.quality import MARKS, main, update_card
from tests.evaluation.made_data import manifest_folder


def test_the_figures_go_to_the_results_but_not_the_page(toy_models: Path, tmp_path: Path, capsys) -> None:
    data, results = manifest_folder(tmp_path / "made"), tmp_path / "results"
    words = ["--bundle", toy_models / "toy-radiograph", "--data", data, "--output", results]
    words += ["--steps", 1, "--synthetic-images", 2, "--cap", 6]
    assert main([str(word) for word in words]) == 0
    assert {path.name for path in results.iterdir()} == {"quality-toy-radiograph.json", "quality-toy-radiograph.md"}
    content = json.loads((results / "quality-toy-radiograph.json").read_text())
    assert [row["images"] for row in content["categories"]] == [6, 6]
    assert (results / "quality-toy-radiograph.md").read_text().strip() in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in results.iterdir()}
    assert main([*map(str, words), "--check", "0.001"]) == 0
    assert "0 beyond 0.001" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in results.iterdir()} == before
    content["categories"][0]["separation"]["wd_full"]["auroc"] += 0.01
    content["synthetic"][0]["separation"]["a score that is gone"] = {"auroc": 0.5}
    (results / "quality-toy-radiograph.json").write_text(json.dumps(content))
    assert main([*map(str, words), "--check", "0.001"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split(", ")[1] for line in lines if "now" in line] == ["wd_full", "a score that is gone"]


def test_a_failure_leaves_nothing(tmp_path: Path, capsys) -> None:
    words = ["--bundle", tmp_path / "none", "--data", tmp_path, "--output", tmp_path / "results"]
    assert main([str(word) for word in words]) == 4
    assert capsys.readouterr().err.startswith("E300")
    assert not (tmp_path / "results").exists()


def test_the_table_goes_into_the_model_card_and_nothing_else_changes(tmp_path):
    card = tmp_path / "README.md"
    assert not update_card(card, "table")
    card.write_text("# Model\n")
    assert not update_card(card, "table")
    card.write_text(f"# Model\n{MARKS[0]}\nold\n{MARKS[1]}\nend\n")
    assert update_card(card, "| new |\n")
    assert card.read_text() == f"# Model\n{MARKS[0]}\n| new |\n{MARKS[1]}\nend\n"
