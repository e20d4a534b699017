"""Where input, output, models and settings come from: options, then the environment, then defaults.

A MAP container gets its folders by ``HOLOSCAN_*`` variables, a Mercure module by ``MERCURE_*`` and settings in
``task.json``; on a desk one gives ``-i``, ``-o`` and ``-m``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from anomap import NOT_A_DIAGNOSIS
from anomap.cli import model_folder
from anomap.config import AnalyzeConfig
from anomap.errors import AnomapError
from deploy_app import mercure

Layout = Literal["nested", "flat"]

APP_YAML = Path(__file__).with_name("app.yaml")
LOG_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR", "OFF")
_KNOWN = {"application", "resources", "timeout_s", "layout", "release", "analyze"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run of the application.

    Attributes:
        source, output, models: Folders (the source may be a zip or a single file, too).
        config: What to do.
        timeout_s: Seconds for the whole study; None: no limit.
        log_level: Of Holoscan.
        layout: Of the output: a folder for every series, or all files at the top (`anomap.layout`).
        release: Copy the images into the output when the study passes the gate (`deploy_app.release`).
    """

    source: Path
    output: Path
    models: Path
    config: AnalyzeConfig
    timeout_s: float | None
    log_level: str
    layout: Layout = "nested"
    release: bool = False


def read_settings(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a command line in an environment.

    Raises:
        AnomapError: E200 when something is missing or not understood.
        SystemExit: After ``--help``, and with status 2 for unknown options.
    """
    return settings_of(option_parser().parse_args(words), environment)


def settings_of(
    options: argparse.Namespace, environment: Mapping[str, str] = os.environ, default: Path = APP_YAML
) -> Settings:
    """The settings of parsed options in an environment.

    Args:
        options: Those of `option_parser`.
        environment: Variables.
        default: Settings file where neither names one.

    Raises:
        AnomapError: E200 when something is missing or not understood.
    """
    file = options.config or environment.get("HOLOSCAN_CONFIG_PATH")
    content = read_yaml(Path(file) if file else default)
    timeout = options.timeout if options.timeout is not None else _number(content.get("timeout_s", 0), "timeout_s")
    source = _required(options.input, environment, "input", "HOLOSCAN_INPUT_PATH", "MERCURE_IN_DIR")
    output = _required(options.output, environment, "output", "HOLOSCAN_OUTPUT_PATH", "MERCURE_OUT_DIR")
    config, release = AnalyzeConfig.from_dict(content.get("analyze") or {}), content.get("release", False)
    if mercure.names(environment, "MERCURE_IN_DIR", source):
        task = mercure.task_settings(source)
        release = task.pop("release", release)
        config = AnalyzeConfig.from_dict({**config.as_dict(), **task})
    if not isinstance(release, bool):
        raise AnomapError("E200", "release must be true or false")
    return Settings(
        source=source,
        output=output,
        models=_given(options.model, environment, "HOLOSCAN_MODEL_PATH", "ANOMAP_MODELS") or model_folder(None),
        config=config,
        timeout_s=timeout or None,
        log_level=options.log_level,
        layout=_layout(content.get("layout", "auto"), flat=mercure.names(environment, "MERCURE_OUT_DIR", output)),
        release=release,
    )


def option_parser(
    program: str = "python -m deploy_app",
    description: str = "anomap as a MONAI Deploy application.",
    statuses: str = "0 complete, 2 usage, 3 input unusable, 4 failed, 5 partly done, 124 time-out",
) -> argparse.ArgumentParser:
    """The options that applications share; add your own.

    Args:
        program: How it is started.
        description: One sentence.
        statuses: What its exit statuses mean.
    """
    parser = argparse.ArgumentParser(
        prog=program, description=f"{description} {NOT_A_DIAGNOSIS}", epilog=f"Exit status: {statuses}."
    )
    parser.add_argument("-i", "--input", type=Path, help="DICOM folder, zip or file; else $HOLOSCAN_INPUT_PATH")
    parser.add_argument("-o", "--output", type=Path, help="empty folder for the results; else $HOLOSCAN_OUTPUT_PATH")
    parser.add_argument("-m", "--model", type=Path, help="folder of model bundles; else $HOLOSCAN_MODEL_PATH")
    parser.add_argument("-c", "--config", type=Path, help="settings; else $HOLOSCAN_CONFIG_PATH, else app.yaml here")
    parser.add_argument("-t", "--timeout", type=float, metavar="S", help="seconds for the whole study, 0: no limit")
    parser.add_argument("-l", "--log_level", choices=LOG_LEVELS, default="ERROR", help="of Holoscan (default: ERROR)")
    return parser


def _given(option: Path | None, environment: Mapping[str, str], *variables: str) -> Path | None:
    """The option, else the first variable that is set."""
    stated = [environment[variable] for variable in variables if environment.get(variable)]
    return option or (Path(stated[0]) if stated else None)


def _required(option: Path | None, environment: Mapping[str, str], name: str, *variables: str) -> Path:
    path = _given(option, environment, *variables)
    if path is None:
        raise AnomapError("E200", f"no {name}: give -{name[0]} or set {variables[0]}")
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a settings file. Holoscan itself would go on with defaults when a file is malformed.

    Raises:
        AnomapError: E200 when it can't be read, is no YAML, or holds a section that isn't known.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise AnomapError("E200", f"the settings {path.name} can't be read: {type(error).__name__}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark else ""
        raise AnomapError("E200", f"the settings {path.name} are no valid YAML{place}") from error
    if not isinstance(content, dict) or not set(content) <= _KNOWN:
        raise AnomapError("E200", f"the settings {path.name} may hold {', '.join(sorted(_KNOWN))}, nothing else")
    return content


def _layout(value: Any, *, flat: bool) -> Layout:
    """The stated layout; "auto" is what the host that named the output wants."""
    if value == "auto":
        return "flat" if flat else "nested"
    if value not in ("nested", "flat"):
        raise AnomapError("E200", f"layout must be auto, nested or flat, got {value!r}")
    return "flat" if value == "flat" else "nested"


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise AnomapError("E200", f"{name} must be a number of seconds, got {value!r}")
    return float(value)
