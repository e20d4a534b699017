"""The application, and the child process that runs it.

    gate --PASS--> segment --> write_segmentation
    gate --else--> withhold

``python -m deploy_app.examples.gated_segmentation`` starts this file as a child, under `deploy_app.supervisor`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from monai.deploy.core import Application

from anomap import NOT_A_DIAGNOSIS, __version__
from anomap.config import AnalyzeConfig
from anomap.errors import ExitStatus
from anomap.gate.policy import Policy, policy_for
from anomap.gate.run import GateVerdict
from anomap.output import RESULT, as_error, error_entry, failure_result, write_result
from anomap.report import Json
from deploy_app.examples.gated_segmentation.operators import (
    Books,
    SegmentOperator,
    WithholdOperator,
    WriteSegmentationOperator,
)
from deploy_app.examples.gated_segmentation.segmenter import LUNG_FIELDS
from deploy_app.operators import QualityGateOperator, fork

SCHEMA = "anomap.gated-segmentation/1"
GATE = "gate"  # folder: what `anomap gate` writes


class GatedSegmentationApp(Application):
    """One study through the gate, and through the segmenter if it passed.

    Args:
        source: Folder, zip or single DICOM file.
        folder: Existing and empty; gets ``gate/`` and, after PASS, ``segmentation/``.
        models: Folder of anomap's bundles.
        config: How the gate analyses.
        policy: Of the gate.
        bundle: The segmenter.
        books: Filled in.
    """

    def __init__(
        self,
        *args: Any,
        source: Path,
        folder: Path,
        models: Path,
        config: AnalyzeConfig,
        policy: Policy,
        bundle: Path,
        books: Books,
        **kwargs: Any,
    ) -> None:
        self.source, self.folder, self.models = source, folder, models
        self.settings, self.policy, self.bundle, self.books = config, policy, bundle, books
        # Our own arguments are none of Holoscan's.
        super().__init__([sys.executable], *args, **kwargs)

    def compose(self) -> None:
        """Connect the operators."""
        gate = QualityGateOperator(
            self, name="gate", source=self.source, output=self.folder / GATE, models=self.models,
            config=self.settings, policy=self.policy,
        )  # fmt: skip
        segment = SegmentOperator(self, name="segment", bundle=self.bundle, books=self.books)
        write = WriteSegmentationOperator(self, name="write_segmentation", folder=self.folder, books=self.books)
        withhold = WithholdOperator(self, name="withhold", books=self.books)
        fork(self, gate, passed=segment, withheld=withhold)
        self.add_flow(segment, write, {("segmented", "segmented")})


def run_gated(
    source: Path, folder: Path, models: Path, config: AnalyzeConfig, policy: Policy, bundle: Path = LUNG_FIELDS
) -> ExitStatus:
    """Run the application into an existing folder; its ``result.json`` comes last, whatever happens.

    Args:
        source: Folder, zip or single DICOM file.
        folder: Empty folder.
        models: Folder of anomap's bundles.
        config: How the gate analyses.
        policy: Of the gate.
        bundle: The segmenter.

    Returns:
        The exit status, which is that of ``result.json``, too.
    """
    books = Books()
    try:
        GatedSegmentationApp(
            source=source, folder=folder, models=models, config=config, policy=policy, bundle=bundle, books=books
        ).run()
        content = result_of(books)
    except Exception as error:
        content = failure_result(as_error(error))
    write_result(folder, content)
    return ExitStatus(content["exit_status"])


def result_of(books: Books) -> Json:
    """The content of the top ``result.json``.

    The exit status is the gate's, but for one case: a study that passed and could not be segmented is partly done.
    """
    verdict = books.verdict or GateVerdict()
    if verdict.outcome is None:
        return failure_result(verdict.error)
    complete = bool(books.files) and books.error is None
    state = ("written" if complete else "failed") if verdict.passed else "withheld"
    return {
        "schema": SCHEMA,
        "not_a_diagnosis": True,
        "notice": NOT_A_DIAGNOSIS,
        "software": {"name": "anomap", "version": __version__},
        "verdict": verdict.verdict,
        "exit_status": int(ExitStatus.PARTIAL if state == "failed" else verdict.status),
        "error": None,
        "gate": f"{GATE}/{RESULT}",
        "segmentation": {
            "state": state,
            "files": books.files,
            "error": error_entry(books.error) if books.error else None,
        },
    }


def main() -> int:
    """The child process; not for people, see ``python -m deploy_app.examples.gated_segmentation --help``."""
    parser = argparse.ArgumentParser(prog="python -m deploy_app.examples.gated_segmentation.app")
    for name in ("input", "staging", "models", "bundle"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--config", type=json.loads, required=True)
    parser.add_argument("--policy", type=Path)
    words = parser.parse_args()
    config = AnalyzeConfig.from_dict(words.config)
    policy = policy_for(words.policy, config)
    return int(run_gated(words.input, words.staging, words.models, config, policy, words.bundle))


if __name__ == "__main__":
    sys.exit(main())
