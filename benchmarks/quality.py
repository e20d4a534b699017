"""`anomap evaluate` for a bundle that ships: its tables go to benchmarks/results and into its model card.

python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr
python benchmarks/quality.py --bundle models/cxr-64 --data ../shared/data/cxr --check 0.02

With --check nothing is written: every AUROC is compared with the committed one, and where one lies farther away than
that the status is 1. Another processor rounds otherwise, and projections amplify the last digits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from anomap.cli import main as anomap

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- quality: written by benchmarks/quality.py -->", "<!-- end of quality -->")


def arguments(words: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The command line; what is not known here is for `anomap evaluate`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv (splits train, val, test)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--check", type=float, metavar="TOLERANCE", help="compare with the figures in --output")
    return parser.parse_known_args(words)


def update_card(card: Path, table: str) -> bool:
    """Put the tables between the marks of a model card; False when there is no card or it has no marks."""
    before, first, rest = card.read_text().partition(MARKS[0]) if card.is_file() else ("", "", "")
    _, last, after = rest.partition(MARKS[1])
    if not (first and last):
        return False
    card.write_text(f"{before}{first}\n{table.strip()}\n{last}{after}")
    return True


def aurocs(content: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every AUROC of an ``evaluation.json`` with its name: category or planted anomaly, then score."""
    named = [(row["category"], row) for row in content["categories"]]
    named += [(f"planted {row['kind']}", row) for row in content["synthetic"]]
    named += [(f"planted in series {row['kind']}", row) for row in content["synthetic_in_series"]]
    for name, row in named:
        for score, figures in row["separation"].items():
            yield f"{name}, {score}", figures["auroc"]


def differences(committed: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> list[str]:
    """What of the committed figures was not found again, one line each."""
    new = dict(aurocs(found))
    lines = [f"bundle: {found['bundle']['sha256']}"] if committed["bundle"] != found["bundle"] else []
    for name, before in aurocs(committed):
        if name not in new:
            lines.append(f"{name}: {before:.3f}, now missing")
        elif abs(new[name] - before) > tolerance:
            lines.append(f"{name}: {before:.3f}, now {new[name]:.3f}")
    return lines


def report(committed: Mapping[str, Any], found: Mapping[str, Any], tolerance: float) -> int:
    """Say how the figures compare; the exit status."""
    lines = differences(committed, found, tolerance)
    new = dict(aurocs(found))
    gaps = [abs(value - new.get(name, value)) for name, value in aurocs(committed)]
    print(f"{len(gaps)} AUROCs, the farthest {max(gaps):.4f} away; {len(lines)} beyond {tolerance:g}")
    for line in lines:
        print(line, file=sys.stderr)
    return int(bool(lines))


def main(words: list[str] | None = None) -> int:
    """Evaluate, then put the files where they belong."""
    options, more = arguments(words)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command = ["--model", str(options.bundle), "--data", str(options.data), "--out", str(out), "--synthetic"]
        status = anomap(["evaluate", *command, *more])
        if status:
            return status
        committed = options.output / f"quality-{options.bundle.resolve().name}.json"
        if options.check is not None:
            contents = [json.loads(path.read_text()) for path in (committed, out / "evaluation.json")]
            return report(contents[0], contents[1], options.check)
        options.output.mkdir(parents=True, exist_ok=True)
        for kind in ("json", "md"):  # not the page: it shows images of patients
            shutil.copy(out / f"evaluation.{kind}", options.output / f"quality-{options.bundle.resolve().name}.{kind}")
        table = (out / "evaluation.md").read_text()
    if not update_card(options.bundle / "docs" / "README.md", table):
        print("the bundle has no model card with marks for the tables", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
