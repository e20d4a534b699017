"""Generated pages under docs/ equal what the code says. ``make docs`` (UPDATE_DOCS=1) rewrites them."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from anomap.errors import CODES, ExitStatus

ROOT = Path(__file__).parents[1]
GROUPS = {
    "E1": "The input",
    "E2": "Usage and configuration",
    "E3": "The model",
    "E4": "Resources",
    "E5": "anomap itself",
    "E6": "The clinic node",
    "E7": "The curation of a repository",
}
STATUSES = {
    ExitStatus.OK: "done; for the gate: pass",
    ExitStatus.USAGE: "wrong usage or configuration",
    ExitStatus.UNUSABLE_INPUT: "input unusable, nothing eligible, or not applicable",
    ExitStatus.FAILED: "failed: internal error, model or resources",
    ExitStatus.PARTIAL: "partial: some series failed, the rest is published",
    ExitStatus.REVIEW: "gate only: review",
    ExitStatus.REJECT: "gate only: reject",
    ExitStatus.TIMEOUT: "time-out",
    ExitStatus.CANCELLED: "cancelled",
}


def errors_page() -> str:
    lines = [
        "# Errors and exit statuses",
        "",
        "Generated from `anomap/errors.py` by `make docs`; do not edit.",
        "",
        "An error is one line on stderr: its code, what was expected and found, and what to do.",
        "It never names a patient.",
        "The same code stands in `result.json`, for the whole run or for the series or file it concerns.",
        "",
        "| exit status | meaning |",
        "|---:|---|",
        *(f"| {int(status)} | {STATUSES[status]} |" for status in ExitStatus),
    ]
    for prefix, title in GROUPS.items():
        lines += ["", f"## {title}", "", "| code | what | exit status | what to do |", "|---|---|---:|---|"]
        for code, kind in CODES.items():
            if code.startswith(prefix):
                lines.append(f"| {code} | {kind.title} | {int(kind.status)} | {kind.remedy} |")
    return "\n".join(lines) + "\n"


def test_errors_md_is_a_generated_page():
    path = ROOT / "docs" / "errors.md"
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(errors_page())
    assert path.read_text() == errors_page(), "run `make docs`"


def test_every_code_is_in_a_group_of_the_page():
    page = errors_page()
    for code in CODES:
        assert page.count(f"| {code} |") == 1


PLACES = [ROOT / name for name in ("README.md", "Makefile", "Dockerfile", "CONTRIBUTING.md")]
PLACES += [path for top in ("docs", "anomap", "deploy_app", "slicer_extension") for path in (ROOT / top).rglob("*.*")]
NAMED = re.compile(r"""(?:anomap|["']\.)\[([a-z,]+)\]|require_extra\("([a-z]+)\"""")


@pytest.mark.parametrize(
    "path",
    [path for path in PLACES if path.suffix in ("", ".md", ".py", ".sh")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_every_extra_that_is_named_is_one(path: Path) -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    named = {name for groups in NAMED.findall(path.read_text()) for text in groups for name in text.split(",") if name}
    assert named <= extras
