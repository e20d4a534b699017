"""Writing an evaluation: each file appears whole, ``evaluation.json`` last."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path

from anomap.errors import AnomapError
from anomap.output import writing

LAST = "evaluation.json"
_FORMAT = "anomap.evaluation/"


def check_output(output: Path, *, overwrite: bool) -> None:
    """Look whether `output` may be written, before hours of work.

    Raises:
        AnomapError: E201 when it holds something, and be it an earlier evaluation without `overwrite`; E202 when it is
            no folder.
    """
    if output.exists() and not output.is_dir():
        raise AnomapError("E202", "the output is a file, expected a folder")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not overwrite:
        raise AnomapError("E201", "the output folder is not empty")
    try:
        ours = str(json.loads((output / LAST).read_text(encoding="utf-8"))["format"]).startswith(_FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        remedy = "Choose another folder; --overwrite replaces earlier evaluations of anomap only."
        raise AnomapError("E201", "the output folder holds something else than an evaluation", remedy)


def publish(files: Mapping[str, str], output: Path, *, overwrite: bool) -> None:
    """Write the files under temporary names and rename them, ``evaluation.json`` last and the old one gone before.

    Args:
        files: Name -> text.
        output: Folder, made if need be.
        overwrite: Replace an earlier evaluation.

    Raises:
        AnomapError: As `check_output`; E202 when writing fails.
    """
    check_output(output, overwrite=overwrite)
    mark = secrets.token_hex(4)
    waiting = {name: output / f".{name}.{mark}" for name in sorted(files, key=lambda name: name == LAST)}
    with writing():
        output.mkdir(parents=True, exist_ok=True)
        try:
            for name, path in waiting.items():
                path.write_text(files[name], encoding="utf-8")
            (output / LAST).unlink(missing_ok=True)
            for name, path in waiting.items():
                path.replace(output / name)
        finally:
            for path in waiting.values():
                path.unlink(missing_ok=True)
