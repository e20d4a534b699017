"""What Mercure, a DICOM router that runs modules as containers, hands over beside the folders: ``task.json``.

Mercure sets ``MERCURE_IN_DIR`` and ``MERCURE_OUT_DIR`` (and the variables of a MAP, to the same folders), puts all
files of a series or study flat into the first, and counts and sends the ``*.dcm`` at the top of the second.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomap.errors import AnomapError

TASK = "task.json"
_MAX_TASK_BYTES = 1 << 24


def names(environment: Mapping[str, str], variable: str, path: Path) -> bool:
    """Whether Mercure named this folder: it may also have come by an option, or by a MAP's variable alone."""
    return bool(environment.get(variable)) and Path(environment[variable]) == path


def task_settings(folder: Path) -> dict[str, Any]:
    """The settings of the module and its rule, as Mercure merged them into ``process.settings``.

    Args:
        folder: ``MERCURE_IN_DIR``.

    Raises:
        AnomapError: E200 when there is a task that can't be understood; its content is never repeated, it names a
            patient.
    """
    path = folder / TASK
    try:
        if not path.exists():
            return {}
        if path.stat().st_size > _MAX_TASK_BYTES:
            raise AnomapError("E200", f"{TASK} is larger than {_MAX_TASK_BYTES} bytes")
        task = json.loads(path.read_text(encoding="utf-8"))
        settings = (task.get("process") or {}).get("settings") or {}
    except (OSError, ValueError, AttributeError) as error:
        raise AnomapError("E200", f"{TASK} can't be read: {type(error).__name__}") from error
    if not isinstance(settings, dict):
        raise AnomapError("E200", f"process.settings in {TASK} must be an object")
    return settings
