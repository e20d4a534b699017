"""The two manifests of a MONAI Application Package: ``python -m deploy_app.manifest --out DIR``.

Written from ``app.yaml``, the version of anomap and the bundles, so that none of them is stated twice. The
specification (1.0.0) and the packager of holoscan-cli (4.2.0) name some things differently: where the names differ,
both stand here; where they claim the same name, the specification's form does (`command`, `models`).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import anomap
from anomap.bundle import list_bundles
from anomap.cli import model_folder
from anomap.console import print_error, print_line
from anomap.errors import AnomapError
from anomap.output import writing
from deploy_app.settings import APP_YAML, read_yaml

Json = dict[str, Any]

API_VERSION = "1.0.0"
APPLICATION_ROOT = "/opt/holoscan/app"
MODEL_ROOT = "/opt/holoscan/models"
WORKING_DIRECTORY = "/var/holoscan"
COMMAND = "python -m deploy_app"
ENVIRONMENT = {
    "HOLOSCAN_APPLICATION": APPLICATION_ROOT,
    "HOLOSCAN_INPUT_PATH": f"{WORKING_DIRECTORY}/input",
    "HOLOSCAN_OUTPUT_PATH": f"{WORKING_DIRECTORY}/output",
    "HOLOSCAN_WORKDIR": WORKING_DIRECTORY,
    "HOLOSCAN_MODEL_PATH": MODEL_ROOT,
    "HOLOSCAN_CONFIG_PATH": f"{WORKING_DIRECTORY}/app.yaml",
    "HOLOSCAN_APP_MANIFEST_PATH": "/etc/holoscan/app.json",
    "HOLOSCAN_PKG_MANIFEST_PATH": "/etc/holoscan/pkg.json",
    "HOLOSCAN_DOCS": "/opt/holoscan/docs",  # the specification's name
    "HOLOSCAN_DOCS_PATH": "/opt/holoscan/docs",  # the packager's
    "HOLOSCAN_LOGS": f"{WORKING_DIRECTORY}/logs",
    "HOLOSCAN_LOGS_PATH": f"{WORKING_DIRECTORY}/logs",
}
# Also the Dockerfile's HEALTHCHECK: torch takes seconds to load, so rarely and with patience.
PROBE = {
    "type": "command",
    "command": ["/opt/holoscan/entrypoint.sh", "health"],
    "initialDelaySeconds": 10,
    "periodSeconds": 300,
    "timeoutSeconds": 60,
    "failureThreshold": 3,
}
# The application ends itself first, and says so in result.json; who runs the container is the second net.
MARGIN_S = 60
_MEMORY = re.compile(r"\d+(\.\d)?(Mi|Gi)")  # the specification: decimals to one tenth
_RESOURCES = {"cpu": 1, "gpu": 0, "memory": "1Gi", "sharedMemory": "64Mi"}


def app_manifest(settings: Mapping[str, Any], version: str, sdk_version: str) -> Json:
    """``/etc/holoscan/app.json``: how the application is run, and what goes in and out.

    Args:
        settings: Content of ``app.yaml``.
        version: Of anomap.
        sdk_version: Of the MONAI Deploy App SDK.

    Raises:
        AnomapError: E200 when the settings state another version, or lack the formats.
    """
    about = settings.get("application") or {}
    if about.get("version") != version:
        raise AnomapError("E200", f"app.yaml states version {about.get('version')!r}, anomap is {version}")
    inputs, outputs = (_formats(about, name) for name in ("inputFormats", "outputFormats"))
    limit = settings.get("timeout_s", 0)
    return {
        "apiVersion": API_VERSION,
        "type": "application",
        "command": COMMAND,
        "environment": dict(ENVIRONMENT),
        "input": {"path": "input", "formats": inputs},
        "output": {"path": "output", "format": outputs[0], "formats": outputs},
        "readiness": dict(PROBE),
        "liveness": dict(PROBE),
        "sdk": "monai-deploy",
        "sdkVersion": sdk_version,
        "timeout": int(limit) + MARGIN_S if limit else 0,
        "version": version,
        "workingDirectory": WORKING_DIRECTORY,
    }


def package_manifest(settings: Mapping[str, Any], version: str, models: Sequence[str]) -> Json:
    """``/etc/holoscan/pkg.json``: where things lie in the image, and what the application needs to run.

    Args:
        settings: Content of ``app.yaml``.
        version: Of anomap.
        models: Names of the bundles, which are the names of their folders.

    Raises:
        AnomapError: E200 when the settings state resources that the specification doesn't allow.
    """
    return {
        "apiVersion": API_VERSION,
        "applicationRoot": APPLICATION_ROOT,
        "modelRoot": MODEL_ROOT,
        "models": [{"name": name, "path": name} for name in models],
        "resources": _resources(settings.get("resources") or {}),
        "version": version,
    }


def main(words: Sequence[str] | None = None) -> int:
    """Write both files; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy_app.manifest", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for app.json and pkg.json")
    parser.add_argument("--config", type=Path, default=APP_YAML, help="settings (default: app.yaml of the package)")
    parser.add_argument("--models", type=Path, help="folder of bundles (default: those of anomap)")
    options = parser.parse_args(words)
    try:
        settings, version = read_yaml(options.config), anomap.__version__
        names = [info.folder.name for info in list_bundles(model_folder(options.models))]
        app = app_manifest(settings, version, metadata.version("monai-deploy-app-sdk"))
        package = package_manifest(settings, version, names)
        with writing():
            options.out.mkdir(parents=True, exist_ok=True)
            for name, content in (("app.json", app), ("pkg.json", package)):
                (options.out / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print_line(f"{options.out}: app.json, pkg.json")
    except Exception as error:
        return int(print_error(error, as_json=False, debug=False).status)
    return 0


def _formats(about: Mapping[str, Any], name: str) -> list[str]:
    formats = about.get(name)
    if not isinstance(formats, list) or not formats:
        raise AnomapError("E200", f"app.yaml must list {name}")
    return [str(item) for item in formats]


def _resources(stated: Mapping[str, Any]) -> Json:
    """The stated resources over the specification's defaults."""
    unknown = set(stated) - {*_RESOURCES, "gpuMemory"}
    if unknown:
        raise AnomapError("E200", f"app.yaml states unknown resources: {', '.join(sorted(map(str, unknown)))}")
    for name, value in stated.items():
        good = _MEMORY.fullmatch(str(value)) if name.lower().endswith("memory") else _is_count(value)
        if not good:
            raise AnomapError("E200", f"app.yaml states {name}: {value!r}, expected a number, or one with Mi or Gi")
    return {**_RESOURCES, **stated}


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and round(value, 1) == value


if __name__ == "__main__":
    sys.exit(main())
