"""`anomap evaluate` for a bundle that ships: its tables go to benchmarks/results and into its model card.

python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from anomap.cli import main as anomap

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- quality: written by benchmarks/quality.py -->", "<!-- end of quality -->")


def arguments(words: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line; what is not known here is for `anomap evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits train, val, test)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_known_args(words)


def update_card(card: Path, table: str) -> bool:
    """Put the tables between the marks of a model card; False when there is no card or it has no marks."""
    before, first, rest = card.read_text().partition(MARKS[0]) if card.is_file() else ("", "", "")
    _, last, after = rest.partition(MARKS[1])
    if not (first and last):
        return False
    card.write_text(f"{before}{first}\n{table.strip()}\n{last}{after}")
    return True


def main(words: list[str] | None = None) -> int:
    """Evaluate, then put the files where they belong."""
    options, more = arguments(words)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command = ["--model", str(options.bundle), "--data", str(options.data), "--out", str(out), "--synthetic"]
        status = anomap(["evaluate", *command, *more])
        if status:
            return status
        options.output.mkdir(parents=True, exist_ok=True)
        for kind in ("json", "md"):  # not the page: it shows images of patients
            shutil.copy(out / f"evaluation.{kind}", options.output / f"quality-{options.bundle.resolve().name}.{kind}")
        table = (out / "evaluation.md").read_text()
    if not update_card(options.bundle / "docs" / "README.md", table):
        print("the bundle has no model card with marks for the tables", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
