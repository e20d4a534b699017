"""The flat layout of a result, for hosts that look for DICOM objects at the top of the output only (Mercure).

Nested, the usual layout: ``01-CT-5f0c9a11/sr.dcm``. Flat: ``01-CT-5f0c9a11_sr.dcm``. Nothing else differs, and no
other part of anomap knows of it: a finished result is turned flat in its staging folder, before it is published.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from anomap.output import RESULT, write_result, writing

Json = dict[str, Any]


def flatten(folder: Path) -> Json:
    """Move the files of every series to the top, with the name of their folder before their own.

    The ``result.json`` of a series names its files by their new names; the one at the top says ``"layout": "flat"``.

    Args:
        folder: A complete nested result, not yet published.

    Returns:
        The top ``result.json``.

    Raises:
        AnomapError: E202 when writing fails.
    """
    content = _read(folder)
    for entry in content["series"]:
        _lift(folder / entry["folder"])
    flat = {**content, "layout": "flat"}
    write_result(folder, flat)
    return flat


def flat_name(folder: str, file: str) -> str:
    """The flat name of a file in the folder of a series."""
    return f"{folder}_{file}"


def _lift(series: Path) -> None:
    """Move the files of one series up, and remove its folder."""
    content = _read(series)
    outputs = [{**output, "file": flat_name(series.name, output["file"])} for output in content["outputs"]]
    write_result(series, {**content, "outputs": outputs})
    with writing():
        for path in sorted(series.iterdir()):
            path.replace(series.parent / flat_name(series.name, path.name))
        series.rmdir()


def _read(folder: Path) -> Json:
    content: Json = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return content
