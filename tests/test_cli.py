"""The command line: torch-free help, JSON lines, documented exit statuses, one-line errors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import anomap
from anomap import cli
from anomap.bundle import WEIGHTS
from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError

ROOT = Path(anomap.__file__).parents[1]


def _python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False, **options)


@pytest.fixture(scope="module")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("radiographs")
    write_radiograph_phantom(folder, rows=96, columns=80)
    return folder


def _analyze(source: Path, output: Path, models: Path, *words: str) -> int:
    return cli.main(["analyze", str(source), str(output), "--models", str(models), "--steps", "2", *words])


@pytest.mark.parametrize("words", [["--help"], ["analyze", "--help"], ["info"], ["models"], ["--version"]])
def test_what_needs_no_torch_imports_none(words, toy_models):
    code = (
        "import sys; from anomap import cli\n"
        "try: status = cli.main(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "heavy = {'torch', 'pydicom', 'highdicom', 'monai'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = _python("-c", code, *words, env={**os.environ, "ANOMAP_MODELS": str(toy_models)})
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_seen_enough_of_the_help_is_no_internal_error():
    command = f"{sys.executable} -m anomap analyze --help | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    assert "usage" in done.stdout
    assert done.stderr == ""


def test_analyze_publishes_and_says_where(radiographs, toy_models, tmp_path, capsys):
    assert _analyze(radiographs, tmp_path / "out", toy_models) == 0
    said = capsys.readouterr()
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    folder = content["series"][0]["folder"]
    assert f"{tmp_path / 'out'}/{folder}: {content['series'][0]['verdict']}" in said.out
    assert "model 'toy-radiograph' is for DX" in said.err
    assert {"sr.dcm", "preview.png", "result.json"} <= {path.name for path in (tmp_path / "out" / folder).iterdir()}


def test_json_lines_tell_the_whole_story(radiographs, toy_models, tmp_path, capsys):
    assert _analyze(radiographs, tmp_path / "out", toy_models, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "result"
    assert {"stage", "series", "model", "series_done"} <= set(kinds)
    stages = list(dict.fromkeys(event["stage"] for event in events if event["event"] == "stage"))
    assert stages == ["read", "load model", "prepare", "project", "score", "calibrate", "write"]
    assert all(0 <= event["done"] <= event["total"] for event in events if event["event"] == "stage")


def test_options_reach_the_configuration(radiographs, toy_models, tmp_path):
    assert _analyze(radiographs, tmp_path / "out", toy_models, "--outputs", "sr", "png", "--identified") == 0
    config = json.loads((tmp_path / "out" / "result.json").read_text())["config"]
    assert (config["outputs"], config["identified"], config["steps"]) == (["sr", "png"], True, 2)
    assert not list((tmp_path / "out").rglob("seg.dcm"))


def test_overwrite_is_needed_for_the_second_time(radiographs, toy_models, tmp_path, capsys):
    assert _analyze(radiographs, tmp_path / "out", toy_models) == 0
    capsys.readouterr()
    assert _analyze(radiographs, tmp_path / "out", toy_models) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("E201 ")
    assert _analyze(radiographs, tmp_path / "out", toy_models, "--overwrite") == 0


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(radiographs, toy_models, tmp_path, capsys):
    assert _analyze(radiographs, tmp_path / "out", toy_models, "--dry-run") == 0
    assert "model 'toy-radiograph'" in capsys.readouterr().out
    assert _analyze(radiographs, tmp_path / "out", toy_models, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["model"] == "toy-radiograph"
    assert list(tmp_path.iterdir()) == []


def test_models_are_listed_and_verified(toy_models, tmp_path, capsys):
    assert cli.main(["models", "verify", "--models", str(toy_models)]) == 0
    assert capsys.readouterr().out.count("weights ok") == 2
    broken = tmp_path / "models"
    shutil.copytree(toy_models, broken)
    path = broken / "toy-ct" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert cli.main(["models", "--models", str(broken)]) == 0
    assert cli.main(["models", "verify", "--models", str(broken), "--json"]) == 4
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()[2:]]
    assert states[0].startswith("E301")
    assert states[1] == "ok"


def test_info_names_models_and_their_population(toy_models, capsys):
    assert cli.main(["info", "--models", str(toy_models)]) == 0
    text = capsys.readouterr().out
    assert anomap.__version__ in text
    assert "Not a diagnosis" in text
    assert "random weights" in text
    assert cli.main(["info", "--models", str(toy_models), "--json"]) == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out)["models"]] == ["toy-ct", "toy-radiograph"]


def test_doctor_prints_one_line_a_finding(toy_models, capsys):
    assert cli.main(["doctor", "--models", str(toy_models)]) == 0
    assert all(line[:4] in ("ok  ", "none") for line in capsys.readouterr().out.splitlines())
    assert cli.main(["doctor", "--models", str(toy_models / "nowhere"), "--json"]) == 4


def test_the_demo_says_where_everything_lies(toy_models, tmp_path, capsys):
    words = ["demo", str(tmp_path / "demo"), "--models", str(toy_models)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    for name in ("ct", "radiograph"):
        for file in ("sr.dcm", "preview.png"):
            path = next((tmp_path / "demo" / name).glob(f"*/{file}"))
            assert f"{path}: " in said
    assert cli.main(words) == 2
    assert cli.main([*words, "--overwrite"]) == 0


def test_train_takes_its_options_from_the_recipe(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--help"])
    assert end.value.code == 0
    assert "--data" in capsys.readouterr().out


def test_a_preset_sets_the_defaults_of_training_and_single_settings_override_it():
    words = ["train", "--data", "images", "--name", "mine", "--preset", "gpu-256", "--training.network.w-dim", "64"]
    recipe = cli._parse(words).recipe
    assert recipe.preset == "gpu-256"
    assert recipe.training.network.resolution == 256
    assert recipe.training.network.w_dim == 64
    assert cli._parse([*words[:5], "--preset=gpu-128"]).recipe.training.network.resolution == 128
    assert cli._parse(words[:5]).recipe.training.network.resolution == 64


def test_an_unknown_preset_is_wrong_usage():
    with pytest.raises(SystemExit) as end:
        cli.main(["train", "--data", "images", "--name", "mine", "--preset", "gpu-1"])
    assert end.value.code == 2


@pytest.mark.parametrize("words", [[], ["nonsense"], ["analyze"], ["analyze", "a", "b", "--preset", "slow"]])
def test_wrong_usage_ends_with_two(words):
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (AnomapError("E103", "a gap"), 3, "E103 a gap"),
        (KeyboardInterrupt(), 130, "E403 "),
        (MemoryError(), 4, "E400 "),
        (ValueError("ZZPHI^CANARY"), 4, "E500 ValueError at "),
    ],
)
def test_every_end_has_its_status_and_one_line(error, status, line, monkeypatch, tmp_path, capsys):
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("anomap.study.analyze", broken)
    assert cli.main(["analyze", str(tmp_path), str(tmp_path / "out")]) == status
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1
    assert "ZZPHI" not in said


def test_debug_shows_the_traceback(monkeypatch, tmp_path, capsys):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("the cause")

    monkeypatch.setattr("anomap.study.analyze", broken)
    assert cli.main(["analyze", str(tmp_path), str(tmp_path / "out"), "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_the_environment_may_name_the_models(monkeypatch, tmp_path):
    monkeypatch.setenv("ANOMAP_MODELS", str(tmp_path))
    assert cli.model_folder(None) == tmp_path
    assert cli.model_folder(Path("mine")) == Path("mine")
    monkeypatch.delenv("ANOMAP_MODELS")
    assert cli.model_folder(None) == ROOT / "models"


def test_a_termination_signal_leaves_nothing_behind(toy_models, tmp_path):
    """`docker stop` in the middle of a run: status 130, no output, no staging folder."""
    write_ct_phantom(tmp_path / "ct", slices=3, rows=64, columns=64)
    words = ["analyze", str(tmp_path / "ct"), str(tmp_path / "out" / "x"), "--models", str(toy_models), "--json"]
    command = [sys.executable, "-m", "anomap", *words, "--steps", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event.get("stage") == "project" and event["done"] > 0:
                process.send_signal(signal.SIGTERM)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.startswith("E403 ")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_do_not_spin_unless_asked_to(before, after, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert cli.main(["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == after
