"""A chain of modules: what the next one gets of this one's input. All of it after a pass, nothing else ever."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomap.errors import AnomapError, ExitStatus
from anomap.gate.run import decide
from anomap.output import writing


def release(source: Path, folder: Path, content: Mapping[str, Any]) -> None:
    """Copy the input's ``*.dcm`` beside the results, before these are published, when the study passes the gate.

    Args:
        source: The input; a host that runs chains gives a folder with its files at the top.
        folder: Complete results, not yet published.
        content: Their top ``result.json``.

    Raises:
        AnomapError: E501 when an input has the name of a result; E202 when writing fails.
    """
    if decide(content) is not ExitStatus.OK:
        return
    with writing():
        for path in sorted(source.glob("*.dcm")):
            if (folder / path.name).exists():
                raise AnomapError("E501", "an input has the name of a result")
            shutil.copyfile(path, folder / path.name)
