"""Options before environment before defaults; a settings file that isn't understood stops the run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from anomap import __version__
from anomap.errors import AnomapError
from deploy_app.settings import APP_YAML, read_settings

ROOT = Path(__file__).parents[2]

HOLOSCAN = {"HOLOSCAN_INPUT_PATH": "/h/in", "HOLOSCAN_OUTPUT_PATH": "/h/out", "HOLOSCAN_MODEL_PATH": "/h/models"}


def test_options_win_over_the_environment():
    settings = read_settings(["-i", "a", "-o", "b", "-m", "c", "-t", "0"], HOLOSCAN)
    assert (settings.source, settings.output, settings.models) == (Path("a"), Path("b"), Path("c"))
    assert settings.timeout_s is None


def test_holoscan_wins_over_mercure():
    settings = read_settings([], {**HOLOSCAN, "MERCURE_IN_DIR": "/m/in", "MERCURE_OUT_DIR": "/m/out"})
    assert settings.source == Path("/h/in")
    assert settings.models == Path("/h/models")


@pytest.mark.parametrize(
    "text",
    [
        "analyze: {preset: fast",
        "- a list",
        "unknown: 1",
        "analyze: {presett: fast}",
        "analyze: [1]",
        "analyze: {steps: -1}",
        "analyze: {steps: many}",
        "analyze: {outputs: 5}",
        "timeout_s: soon",
        "timeout_s: -1",
        "timeout_s: true",
    ],
)
def test_settings_that_are_not_understood_are_refused(text, tmp_path):
    path = tmp_path / "app.yaml"
    path.write_text(text)
    with pytest.raises(AnomapError, match="E200"):
        read_settings(["-c", str(path)], HOLOSCAN)


def test_a_missing_settings_file_is_refused():
    with pytest.raises(AnomapError, match="E200"):
        read_settings([], {**HOLOSCAN, "HOLOSCAN_CONFIG_PATH": "/nowhere/app.yaml"})


@pytest.mark.parametrize("missing", ["HOLOSCAN_INPUT_PATH", "HOLOSCAN_OUTPUT_PATH"])
def test_input_and_output_are_needed(missing):
    with pytest.raises(AnomapError, match="E200"):
        read_settings([], {key: value for key, value in HOLOSCAN.items() if key != missing})


def test_requirements_and_version_are_those_of_the_package():
    """MONAI Deploy tools read requirements.txt and app.yaml; pip reads pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "deploy_app" / "requirements.txt").read_text().splitlines()
    assert {line for line in lines if not line.startswith("#")} == set(project["optional-dependencies"]["deploy"])
    assert yaml.safe_load(APP_YAML.read_text())["application"]["version"] == __version__
