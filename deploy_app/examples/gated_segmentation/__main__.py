"""``python -m deploy_app.examples.gated_segmentation -i STUDY -o OUT -c SETTINGS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from anomap.console import begin, print_error, print_line
from anomap.errors import ExitStatus
from anomap.gate.policy import policy_for
from deploy_app.settings import Settings, option_parser, settings_of
from deploy_app.supervisor import STATUSES, supervise

PROGRAM = "deploy_app.examples.gated_segmentation"
_HERE = Path(__file__).parent  # the segmenter's own module would load torch here, too


def main(words: Sequence[str] | None = None) -> int:
    """Run the example under supervision; the exit status."""
    begin()
    parser = option_parser(
        f"python -m {PROGRAM}",
        "A quality gate before a segmentation model.",
        "0 passed and segmented, 10 review, 20 reject, 2 usage, 3 input unusable, 4 failed, "
        "5 passed but not segmented, 124 time-out",
    )
    parser.add_argument("--policy", type=Path, help="policy of the gate in TOML (docs/gate.md)")
    parser.add_argument(
        "--bundle", type=Path, default=_HERE / "lung_fields", help="segmenter, a MONAI Bundle; its code is run"
    )
    options = parser.parse_args(words)

    def child(settings: Settings, folder: Path) -> list[str]:
        config = json.dumps(settings.config.as_dict())
        paths = {"input": settings.source, "staging": folder, "models": settings.models, "bundle": options.bundle,
                 "policy": options.policy}  # fmt: skip
        given = [f"--{name}={path}" for name, path in paths.items() if path is not None]
        return [sys.executable, "-m", f"{PROGRAM}.app", *given, f"--config={config}"]

    try:
        # All files at the top would mix the gate's with the segmenter's.
        settings = replace(settings_of(options, default=_HERE / "app.yaml"), layout="nested")
        policy_for(options.policy, settings.config)  # a wrong one costs no time
        content = supervise(settings, child, STATUSES | {ExitStatus.REVIEW, ExitStatus.REJECT})
    except (Exception, KeyboardInterrupt) as error:
        return int(print_error(error, as_json=False, debug=False).status)
    print_line(f"{settings.output}: {content['verdict']}, segmentation {content['segmentation']['state']}")
    return int(content["exit_status"])


if __name__ == "__main__":
    sys.exit(main())
