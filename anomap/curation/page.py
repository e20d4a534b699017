"""The report as one HTML file that needs nothing else: style, script and data are in it, and nothing may be fetched.

Data are columns (`anomap.curation.pack`) and pictures one after the other, both as base64; the script in ``templates``
unpacks them and keeps only the visible rows in the page. The policy in the page allows this very script and style by
their hashes and no connection. Nothing of the data stands in the page as text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.curation.pack import Pack
from anomap.style import COLOURS

_SCRIPTS = ("data.js", "choice.js", "decisions.js", "list.js", "case.js", "main.js")


def curation_page(title: str, facts: Mapping[str, Any], pack: Pack, pictures: Sequence[bytes]) -> str:
    """The whole page.

    Args:
        title: Heading.
        facts: What the script must know beside the columns: names of scores, limits (docs/curation-report.md).
        pack: The columns.
        pictures: WebP files of the first rows of the ranking, empty for a row without one.
    """
    templates = files("anomap.curation") / "templates"
    style = COLOURS + (templates / "report.css").read_text(encoding="utf-8")
    script = "".join((templates / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    columns = pack.compressed()
    content = {
        **facts,
        "id": hashlib.sha256(columns).hexdigest()[:16],
        "columns": pack.columns,
        "pictures": [len(picture) for picture in pictures],
    }
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    page = Template((templates / "report.html").read_text(encoding="utf-8"))
    return page.substitute(
        policy=policy,
        title=escape(title),
        notice=escape(NOT_A_DIAGNOSIS),
        version=escape(__version__),
        style=style,
        script=script,
        facts=json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        columns=base64.b64encode(columns).decode(),
        pictures=base64.b64encode(b"".join(pictures)).decode(),
    )


def _hash(text: str) -> str:
    """A text's hash as a Content Security Policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
