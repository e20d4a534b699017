"""`anomap curate report`, `anomap curate apply`. Imports nothing heavy before one of them runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, arg

from anomap.console import print_line
from anomap.curation.settings import ReportConfig
from anomap.errors import AnomapError, ExitStatus, require_extra

Output = Annotated[Positional[Path], arg(metavar="OUT", help="folder of `anomap curate`")]


@dataclass(frozen=True, kw_only=True)
class CurateReport:
    """Write OUT/report.html, and decisions.csv for the images that have no decision yet."""

    output: Output
    config: OmitArgPrefixes[ReportConfig] = field(default_factory=ReportConfig)
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        require_extra("curate", "pyarrow", "sklearn")
        from anomap.curation.report import write_report

        for line in write_report(self.output, self.config):
            print_line(line)
        return ExitStatus.OK


@dataclass(frozen=True, kw_only=True)
class CurateApply:
    """Check a decisions.csv; write OUT/keep.txt, look.txt, drop.txt; with --to, a folder of the kept files."""

    output: Output
    decisions: Path  # the list, as the page or a spreadsheet saved it
    to: Annotated[Path | None, arg(help="folder to make of the kept files; must be empty or missing")] = None
    root: Annotated[Path | None, arg(help="the repository; needed with --to, and only read")] = None
    how: Literal["copy", "link"] = "copy"  # link: hard links, on the same file system
    debug: bool = False  # show tracebacks (they may hold patient data)

    def run(self) -> int:
        """Do it; the exit status."""
        if (self.to is None) != (self.root is None):
            raise AnomapError("E200", "--to and --root go together")
        require_extra("curate", "pyarrow")
        from anomap.curation.apply import check_folder, copy_kept, decide, write_lists

        if self.to is not None and self.root is not None:
            check_folder(self.to, self.root)
        decided, missing = decide(self.output, self.decisions)
        if missing:
            print_line(f"not in the list, so to be looked at: {missing} images", sys.stderr)
        for word, count in write_lists(self.output, decided).items():
            print_line(f"{self.output / word}.txt: {count} files")
        if self.to is not None and self.root is not None:
            count = copy_kept(self.output, decided, self.root, self.to, how=self.how)
            print_line(f"{self.to}: {count} files")
        return ExitStatus.OK
