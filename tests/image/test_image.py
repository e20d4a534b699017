"""What the image says of itself: labels, manifests, the words of its entry point, health."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from anomap import __version__
from anomap.bundle import list_bundles
from anomap.errors import ExitStatus
from tests.deploy_app.test_manifest import APP, PACKAGE
from tests.image.conftest import HARDENED, copied, writable
from tests.image.engine import ROOT, Engine

pytestmark = [pytest.mark.image, pytest.mark.timeout(1800)]
EXPORT = "/var/run/holoscan/export"


def shown(engine: Engine, *words: str) -> dict:
    run = engine.run("show", *words, options=HARDENED)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def shell(engine: Engine, script: str) -> str:
    """What a script says inside, as the image's own user."""
    run = engine.run("-c", script, options=["--network=none", "--entrypoint=/bin/sh"])
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_manifests_conform_and_agree_with_labels_and_environment(engine):
    app, package, config = shown(engine, "app"), shown(engine, "pkg"), engine.inspect()["Config"]
    jsonschema.validate(app, APP)
    jsonschema.validate(package, PACKAGE)
    label = "org.opencontainers.image"
    assert config["Labels"][f"{label}.version"] == app["version"] == __version__
    assert config["Labels"][f"{label}.title"] == "anomap"
    assert config["Labels"][f"{label}.licenses"] == "Apache-2.0"
    assert config["Labels"][f"{label}.description"]
    assert config["WorkingDir"] == app["workingDirectory"]
    stated = dict(variable.split("=", 1) for variable in config["Env"])
    assert {name: value for name, value in stated.items() if name.startswith("HOLOSCAN_")} == app["environment"]
    assert [model["name"] for model in package["models"]] == [info.name for info in list_bundles(ROOT / "models")]


def test_everything_lies_where_the_specification_wants_it(engine):
    for path in ("app/deploy_app/app.yaml", "models/ct-64/models/model.safetensors", "docs/LICENSE"):
        shell(engine, f"test -s /opt/holoscan/{path}")
    shell(engine, "test -s /var/holoscan/app.yaml && test -d /var/holoscan/input && test -w /var/holoscan/output")
    assert shell(engine, "cat /etc/holoscan/app.json /etc/holoscan/pkg.json") == shell(
        engine, "/opt/holoscan/entrypoint.sh show"
    )
    # Mercure runs what has this file as root.
    assert shell(engine, "test -e /etc/monai/app.json || echo absent") == "absent"


def test_the_image_is_not_run_as_root_and_holds_neither_compilers_nor_caches(engine):
    assert engine.inspect()["Config"]["User"] == "65532:65532"
    assert shell(engine, "id -u; id -g").split() == ["65532", "65532"]
    assert shell(engine, "command -v gcc cc make git || echo none") == "none"
    assert shell(engine, "find / -xdev -path '*/.cache/pip' -o -path /build 2>/dev/null || true") == ""
    assert shell(engine, "env | grep -i ^PIP_ || echo none") == "none"
    # What is written at run time goes to /tmp and to the output, nowhere else.
    found = shell(engine, "find / -xdev -type d -writable -not -path '/proc/*' 2>/dev/null || true").split()
    assert set(found) <= {"/tmp", "/var/tmp", "/run/lock", "/var/holoscan/output"}


def test_every_package_is_the_pinned_one(engine):
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}
    listed = json.loads(shell(engine, "python -m pip list --format=json --disable-pip-version-check"))
    found = {canonical(package["name"]): package["version"].partition("+")[0] for package in listed}
    assert len(found) > 50
    # NVIDIA's libraries are pinned by torch's CUDA build; Python brings pip.
    loose = {name for name in found if name.startswith("nvidia-") or name in ("pip", "anomap")}
    assert {name: version for name, version in found.items() if name not in loose}.items() <= pinned.items()


def test_extract_copies_everything_to_a_mounted_folder(engine, output):
    run = engine.run("extract", options=[*HARDENED, f"--volume={output}:{EXPORT}"])
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in output.iterdir()) == ["app", "config", "docs", "models"]
    assert sorted(path.name for path in (output / "config").iterdir()) == ["app.json", "app.yaml", "pkg.json"]
    assert json.loads((output / "config" / "app.json").read_text()) == shown(engine, "app")
    weights = Path("cxr-64", "models", "model.safetensors")
    assert (output / "models" / weights).read_bytes() == (ROOT / "models" / weights).read_bytes()
    assert (output / "app" / "deploy_app" / "app.py").is_file()
    assert (output / "docs" / "errors.md").read_bytes() == (ROOT / "docs" / "errors.md").read_bytes()


def test_extract_copies_only_the_parts_that_are_mounted(engine, tmp_path):
    config, docs = writable(tmp_path / "config"), writable(tmp_path / "docs")
    mounts = [f"--volume={config}:{EXPORT}/config", f"--volume={docs}:{EXPORT}/docs"]
    run = engine.run("extract", options=[*HARDENED, *mounts])
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in config.iterdir()) == ["app.json", "app.yaml", "pkg.json"]
    assert (docs / "LICENSE").is_file()


def test_extract_without_a_mount_and_unknown_words_end_with_2_and_one_line(engine):
    for words in (["extract"], ["analyse"], ["show", "me"]):
        run = engine.run(*words, options=HARDENED)
        assert run.returncode == ExitStatus.USAGE
        assert run.stdout == ""
        assert run.stderr.startswith("E200 ")
        assert len(run.stderr.splitlines()) == 1


def test_env_help_and_version(engine):
    assert "HOLOSCAN_DOCS=/opt/holoscan/docs\n" in engine.run("env", options=HARDENED).stdout
    assert "not a diagnosis" in engine.run("help", options=HARDENED).stdout
    assert engine.run("version", options=HARDENED).stdout == f"{__version__}\n"


def test_options_reach_the_application(engine):
    run = engine.run("--help", options=HARDENED)
    assert run.returncode == 0
    assert "python -m deploy_app" in run.stdout


def test_a_healthy_image_says_so_and_a_damaged_model_is_found(engine, tmp_path):
    run = engine.run("health", options=HARDENED)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FAIL" not in run.stdout
    assert "model cxr-64" in run.stdout
    models = copied(ROOT / "models", tmp_path / "models")
    weights = models / "ct-64" / "models" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    run = engine.run("health", options=[*HARDENED, f"--volume={models}:/opt/holoscan/models:ro"])
    assert run.returncode == ExitStatus.FAILED
    assert "FAIL  model ct-64: E301" in run.stdout


def test_a_node_that_does_not_run_is_not_healthy(engine, tmp_path):
    (tmp_path / "node.yaml").write_text("{}\n")
    mount = f"--volume={tmp_path / 'node.yaml'}:/config/node.yaml:ro"
    run = engine.run("health", options=[*HARDENED, mount, "--env=ANOMAP_SERVE_CONFIG=/config/node.yaml"])
    assert run.returncode != 0
