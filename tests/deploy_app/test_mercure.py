"""What Mercure hands over: its folders mean a flat output, its task.json holds settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from anomap.errors import AnomapError
from deploy_app.settings import Settings, read_settings

CANARY = "ZZPHI^CANARY"
CHAIN = Path(__file__).parents[2] / "docs" / "recipes" / "mercure.json"
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"


def read(tmp_path: Path, *words: str, yaml: str = "", **more: str) -> Settings:
    """Settings as in a container that Mercure has started."""
    (tmp_path / "app.yaml").write_text(yaml)
    variables = {"HOLOSCAN_INPUT_PATH": tmp_path, "HOLOSCAN_OUTPUT_PATH": "/tmp/output"}
    mercure = {"MERCURE_IN_DIR": tmp_path, "MERCURE_OUT_DIR": "/tmp/output"}
    config = {"HOLOSCAN_CONFIG_PATH": tmp_path / "app.yaml"}
    environment = {key: str(value) for key, value in {**variables, **mercure, **config, **more}.items()}
    return read_settings(list(words), environment)


def task(tmp_path: Path, process: object) -> None:
    content = {"id": "1", "info": {"patient_name": CANARY}, "process": process}
    (tmp_path / "task.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("yaml", "words", "more", "layout"),
    [
        ("", [], {}, "flat"),
        ("layout: auto", [], {}, "flat"),
        ("layout: nested", [], {}, "nested"),
        ("", ["-o", "elsewhere"], {}, "nested"),
        ("layout: flat", ["-o", "elsewhere"], {}, "flat"),
        ("", [], {"MERCURE_OUT_DIR": ""}, "nested"),
        ("", [], {"HOLOSCAN_OUTPUT_PATH": ""}, "flat"),
    ],
)
def test_the_layout_is_flat_when_mercure_named_the_output(yaml, words, more, layout, tmp_path):
    assert read(tmp_path, *words, yaml=yaml, **more).layout == layout


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(AnomapError, match="E200 layout"):
        read(tmp_path, yaml="layout: round")


def test_settings_of_the_task_win_over_those_of_the_file(tmp_path):
    task(tmp_path, {"module_name": "anomap", "settings": {"steps": 7, "outputs": ["sr"]}})
    config = read(tmp_path, yaml="analyze: {steps: 3, preset: paper}").config
    assert (config.steps, config.preset, config.outputs) == (7, "paper", ("sr",))


@pytest.mark.parametrize("process", [{}, None, {"settings": {}}, {"settings": None}])
def test_a_task_without_settings_changes_nothing(process, tmp_path):
    task(tmp_path, process)
    assert read(tmp_path, yaml="analyze: {steps: 3}").config.steps == 3


def test_a_task_that_mercure_did_not_name_is_not_read(tmp_path):
    task(tmp_path, {"settings": {"steps": 7}})
    assert read(tmp_path, MERCURE_IN_DIR="").config.steps is None


def test_a_module_of_a_chain_releases_when_its_task_or_the_file_says_so(tmp_path):
    assert read(tmp_path).release is False
    assert read(tmp_path, yaml="release: true").release is True
    module = json.loads(CHAIN.read_text())["modules"]["anomap-gate"]
    task(tmp_path, {"module_name": "anomap-gate", "settings": module["settings"]})
    found = read(tmp_path)
    assert found.release is True
    (volume,) = json.loads(module["additional_volumes"]).values()
    assert found.config.cohort == (volume["bind"],)
    rule = json.loads(CHAIN.read_text())["rules"]["segment what passes"]
    assert rule["processing_retain_images"] is False  # Mercure would give them on whatever the verdict


@pytest.mark.parametrize("settings", [{"release": "yes"}, {"stepps": 7}, {"steps": -1}, [1], "fast", {"outputs": 5}])
def test_settings_that_are_not_understood_are_refused_without_quoting_the_task(settings, tmp_path):
    task(tmp_path, {"settings": settings})
    with pytest.raises(AnomapError, match="E200") as caught:
        read(tmp_path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("text", ["{half", "[]", '{"process": []}x', '{"process": [{"settings": {}}]}', "\xff"])
def test_a_task_that_cannot_be_read_is_refused(text, tmp_path):
    (tmp_path / "task.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(AnomapError, match=r"E200 task\.json"):
        read(tmp_path)


def test_the_documented_module_has_settings_that_are_understood(tmp_path):
    (block,) = re.findall(r"```json\n(.*?)```", DEPLOY.read_text(), re.DOTALL)
    module = json.loads(block)["modules"]["anomap"]
    task(tmp_path, {"module_name": "anomap", "module_config": module, "settings": module["settings"]})
    assert read(tmp_path).config.outputs == ("sr", "seg", "pm")
    (arguments,) = re.findall(r'"docker_arguments": ("\{.*?\}")`', DEPLOY.read_text())
    assert json.loads(json.loads(arguments)) == {"read_only": True, "tmpfs": {"/tmp": ""}}
