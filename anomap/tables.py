"""A frozen dataclass from a table of a TOML file, read strictly: what isn't known or of the wrong type is E200."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from anomap.errors import AnomapError


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The content of a TOML file.

    Args:
        path: The file.
        what: Its name in messages, e.g. "the settings".

    Raises:
        AnomapError: E200 when it can't be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AnomapError("E200", f"{what} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AnomapError("E200", f"{what} are no valid TOML: {error}") from error


def build(kind: Any, values: Any, where: str, base: Path) -> Any:
    """A value of a dataclass, or of one of its fields' types.

    Args:
        kind: The type.
        values: What the file holds.
        where: Its place, for messages.
        base: Folder that relative paths start at.

    Raises:
        AnomapError: E200 when it does not fit.
    """
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        (inner,) = (a for a in get_args(kind) if a is not type(None))
        return build(inner, values, where, base)
    if origin is tuple:
        require(isinstance(values, list), f"{where} must be a list")
        kinds = get_args(kind)
        if kinds[-1] is ...:
            return tuple(build(kinds[0], value, where, base) for value in values)
        require(len(values) == len(kinds), f"{where} has lists of {len(kinds)} values")
        return tuple(build(one, value, where, base) for one, value in zip(kinds, values, strict=True))
    if origin is Mapping:
        require(isinstance(values, Mapping), f"{where} must be a table")
        return {name: build(get_args(kind)[1], value, f"{where}.{name}", base) for name, value in values.items()}
    if origin is Literal:
        require(values in get_args(kind), f"{where} must be one of {', '.join(get_args(kind))}")
        return values
    if dataclasses.is_dataclass(kind):
        return _table(kind, values, where, base)
    if kind is Path:
        require(isinstance(values, str) and bool(values), f"{where} must be a path")
        return base / values
    wanted = (int, float) if kind is float else kind
    fits = isinstance(values, wanted) and isinstance(values, bool) == (kind is bool)
    require(fits, f"{where} must be of type {kind.__name__}")
    require(kind is not float or math.isfinite(values), f"{where} must be a finite number")
    return kind(values)


def _table(kind: Any, values: Any, where: str, base: Path) -> Any:
    require(isinstance(values, Mapping), f"{where} must be a table")
    types = get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    require(not unknown, f"{where}: unknown {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}")
    needed = {
        item.name
        for item in dataclasses.fields(kind)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    missing = sorted(needed - set(values))
    require(not missing, f"{where}: {', '.join(missing)} is missing")
    return kind(**{name: build(types[name], value, f"{where}.{name}", base) for name, value in values.items()})


def require(fits: bool, message: str) -> None:
    """Raise E200 with a message unless something fits."""
    if not fits:
        raise AnomapError("E200", message)
