"""The manifests against the MAP specification 1.0.0, in which each of these rules is written, and against the image."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from anomap import __version__
from anomap.bundle import list_bundles
from anomap.errors import AnomapError, ExitStatus
from deploy_app import manifest
from deploy_app.settings import APP_YAML

ROOT = Path(__file__).parents[2]
SETTINGS = yaml.safe_load(APP_YAML.read_text())
SEMVER = {"type": "string", "pattern": r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"}
MEMORY = {"type": "string", "pattern": r"^\d+(\.\d)?(Mi|Gi)$"}
FOLDER = {"type": "string", "pattern": "^/"}
COUNT = {"type": "number", "minimum": 0, "multipleOf": 0.1}
PROBE = {
    "type": "object",
    "required": ["type", "command"],
    "properties": {
        "type": {"const": "command"},
        "command": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        **{name: {"type": "integer", "minimum": 0} for name in ("initialDelaySeconds", "periodSeconds")},
        **{name: {"type": "integer", "minimum": 1} for name in ("timeoutSeconds", "failureThreshold")},
    },
    "additionalProperties": False,
}
VARIABLES = [
    "INPUT_PATH", "OUTPUT_PATH", "WORKDIR", "MODEL_PATH", "CONFIG_PATH", "APP_MANIFEST_PATH", "PKG_MANIFEST_PATH",
    "DOCS", "LOGS",  # the specification's
    "DOCS_PATH", "LOGS_PATH", "APPLICATION",  # the packager's
]  # fmt: skip
APP = {
    "type": "object",
    "required": ["type", "command", "environment", "input", "output"],
    "properties": {
        "apiVersion": SEMVER,
        "type": {"enum": ["application", "service"]},
        "command": {"type": "string", "pattern": r"^[^\[]"},  # a shell command, not a list in a string
        "environment": {
            "type": "object",
            "required": [f"HOLOSCAN_{name}" for name in VARIABLES],
            "additionalProperties": {"type": "string"},
        },
        "input": {
            "type": "object",
            "required": ["formats"],
            "properties": {"formats": {"type": "array", "minItems": 1}, "path": {"type": "string"}},
        },
        "output": {
            "type": "object",
            "required": ["format", "formats"],  # the specification's and the packager's
            "properties": {"formats": {"type": "array", "minItems": 1}, "path": {"type": "string"}},
        },
        "readiness": PROBE,
        "liveness": PROBE,
        "sdk": {"type": "string"},
        "sdkVersion": SEMVER,
        "timeout": {"type": "integer", "minimum": 0},
        "version": SEMVER,
        "workingDirectory": FOLDER,
    },
    "additionalProperties": False,
}
PACKAGE = {
    "type": "object",
    "required": ["applicationRoot", "models", "resources", "version"],
    "properties": {
        "apiVersion": SEMVER,
        "applicationRoot": FOLDER,
        "modelRoot": FOLDER,
        "models": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "pattern": r"^\S{1,128}$"}, "path": {"type": "string"}},
                "additionalProperties": False,
            },
        },
        "resources": {
            "type": "object",
            "required": ["cpu", "gpu", "memory", "sharedMemory"],
            "properties": {
                **dict.fromkeys(("cpu", "gpu"), COUNT),
                **dict.fromkeys(("memory", "sharedMemory", "gpuMemory"), MEMORY),
            },
            "additionalProperties": False,
        },
        "version": SEMVER,
    },
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, dict]:
    """Both manifests as the build writes them."""
    folder = tmp_path_factory.mktemp("manifests") / "etc"
    assert manifest.main(["--out", str(folder), "--models", str(ROOT / "models")]) == 0
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


def test_the_manifests_conform_to_the_specification(written):
    assert set(written) == {"app", "pkg"}
    jsonschema.validate(written["app"], APP)
    jsonschema.validate(written["pkg"], PACKAGE)


def test_the_manifests_say_what_their_sources_say(written):
    app, package = written["app"], written["pkg"]
    assert app["version"] == package["version"] == __version__
    assert app["timeout"] == SETTINGS["timeout_s"] + manifest.MARGIN_S
    assert app["input"]["formats"] == SETTINGS["application"]["inputFormats"]
    assert [model["name"] for model in package["models"]] == [info.name for info in list_bundles(ROOT / "models")]
    assert {**package["resources"], **SETTINGS["resources"]} == package["resources"]


def test_no_time_limit_is_zero():
    assert manifest.app_manifest({**SETTINGS, "timeout_s": 0}, __version__, "4.0.0")["timeout"] == 0


def test_the_dockerfile_sets_the_environment_of_the_manifest(written):
    text = (ROOT / "Dockerfile").read_text()
    assert dict(re.findall(r"(HOLOSCAN_[A-Z_]+)=(\S+)", text)) == written["app"]["environment"]
    assert set(re.findall(r"^ARG VERSION=(.*)$", text, re.MULTILINE)) == {__version__}


def test_the_dockerfile_checks_health_as_the_manifest_says():
    (line,) = re.findall(r"^HEALTHCHECK (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    options, _, command = line.partition(" CMD ")
    names = {"interval": "period", "timeout": "timeout", "start-period": "initialDelay"}
    stated = dict(re.findall(r"--([a-z-]+)=(\d+)", options))
    for name, ours in names.items():
        assert int(stated[name]) == manifest.PROBE[f"{ours}Seconds"]
    assert int(stated["retries"]) == manifest.PROBE["failureThreshold"]
    assert json.loads(command) == manifest.PROBE["command"]


@pytest.mark.parametrize(
    "change",
    [
        {"application": {**SETTINGS["application"], "version": "9.9.9"}},
        {"application": {"version": __version__}},
        {"resources": {"cpu": -1}},
        {"resources": {"cpu": True}},
        {"resources": {"gpu": 0.25}},
        {"resources": {"memory": "4 GB"}},
        {"resources": {"gpuMemory": "1.25Gi"}},
        {"resources": {"disk": "1Gi"}},
    ],
)
def test_what_the_specification_does_not_allow_is_refused(change, tmp_path, capsys):
    path = tmp_path / "app.yaml"
    path.write_text(yaml.safe_dump({**SETTINGS, **change}))
    words = ["--out", str(tmp_path / "out"), "--config", str(path), "--models", str(ROOT / "models")]
    assert manifest.main(words) == ExitStatus.USAGE
    assert capsys.readouterr().err.startswith("E200 app.yaml")
    assert not (tmp_path / "out").exists()


def test_a_broken_bundle_stops_the_build(tmp_path):
    (tmp_path / "models" / "x" / "configs").mkdir(parents=True)
    (tmp_path / "models" / "x" / "configs" / "metadata.json").write_text("{")
    assert manifest.main(["--out", str(tmp_path / "out"), "--models", str(tmp_path / "models")]) == ExitStatus.FAILED


def test_a_version_that_differs_is_an_error():
    with pytest.raises(AnomapError, match="E200"):
        manifest.app_manifest(SETTINGS, "9.9.9", "4.0.0")
