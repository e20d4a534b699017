import json
import subprocess
import sys
from pathlib import Path

import pytest

from anomap.cli import main
from tests.evaluation.made_data import manifest_folder, plain_folder


def evaluate(models: Path, data: Path, out: Path, *more: object) -> int:
    words = ["evaluate", "--models", models, "--model", "toy-radiograph", "--data", data, "--out", out, "--steps", 1]
    return main([str(word) for word in (*words, *more)])


def test_a_manifest_becomes_three_files_without_paths_and_names(toy_models, tmp_path, capsys) -> None:
    data, out = manifest_folder(tmp_path / "made"), tmp_path / "out"
    more = ("--cap", 7, "--synthetic", "--synthetic-images", 3, "--protocol", "paper", "--cache", tmp_path / "cache")
    assert evaluate(toy_models, data, out, *more) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("### toy-radiograph 0.0.1 on made, preset fast")
    assert "normal: 10 of 10 images" in printed.err
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "evaluation.md", "evaluation.html"}
    for path in out.iterdir():
        text = path.read_text()
        assert str(tmp_path) not in text
        assert "val_normal" not in text
    content = json.loads((out / "evaluation.json").read_text())
    assert content["format"] == "anomap.evaluation/1"
    assert content["normal"] == {"images": 10, "patients": 10}
    assert content["training_images"] == 12
    inverted, rotated = content["categories"]
    assert (inverted["category"], inverted["images"], inverted["same_sources"]) == ("inverted", 7, False)
    assert (rotated["category"], rotated["images"], rotated["same_sources"]) == ("rotated", 7, True)
    assert inverted["pairs"]["wd_full"]["pairs"] == 7
    assert inverted["separation"]["train_histogram_wd"]["auroc"] == 1.0
    assert inverted["separation"]["wd_full"]["paper"]["images"] == 7
    assert content["config"]["projection"]["steps"] == 1
    assert content["machine"]["torch"]
    assert len(content["synthetic"]) >= 10
    assert any((tmp_path / "cache").iterdir())


def test_plain_folders_will_do_and_an_earlier_evaluation_is_kept(toy_models, tmp_path, capsys) -> None:
    data, out = plain_folder(tmp_path / "mine"), tmp_path / "out"
    assert evaluate(toy_models, data, out) == 0
    assert "half of the normal patients" in capsys.readouterr().out
    before = (out / "evaluation.json").read_text()
    assert evaluate(toy_models, data, out) == 2
    assert capsys.readouterr().err.startswith("E201")
    assert (out / "evaluation.json").read_text() == before
    assert evaluate(toy_models, data, out, "--overwrite", "--model", toy_models / "toy-radiograph") == 0


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("--model", "none"), 4, "E300"),
        (("--data", "nowhere"), 3, "E100"),
        (("--split", "val"), 2, "E200"),
        (("--cap", "0"), 2, "E200"),
        (("--device", "cuda:99"), 4, "E401"),
        (("--model", "toy-ct"), 3, "E113"),
    ],
)
def test_every_refusal_has_its_status_and_writes_nothing(words, status, code, toy_models, tmp_path, capsys) -> None:
    data, out = manifest_folder(tmp_path / "made"), tmp_path / "out"
    assert evaluate(toy_models, data, out, *words) == status
    assert capsys.readouterr().err.splitlines()[-1].startswith(code)
    assert not out.exists()


def test_the_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom anomap.cli import main\n"
        "try: main(['evaluate', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'scipy', 'PIL'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
    assert "--protocol" in shown.stdout
