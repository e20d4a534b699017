"""The MONAI Deploy application: operators in a row, and the child process that runs them.

    load_select -> prepare -> project -> score -> write_overlays -> write_report

``python -m deploy_app`` starts this file as a child (`deploy_app.supervisor`). Run alone it has neither staging nor
time-out, and no one who looks after it when it dies.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from monai.deploy.core import Application

from anomap.config import AnalyzeConfig
from anomap.console import plain_lines
from anomap.errors import ExitStatus
from anomap.output import as_error, failure_result, write_result
from anomap.study import StudyRun
from deploy_app.case import Halt
from deploy_app.operators import (
    LoadSelectOperator,
    PrepareOperator,
    ProjectOperator,
    ScoreOperator,
    WriteOverlaysOperator,
    WriteReportOperator,
)


class AnomapApp(Application):
    """All series of one study, one after the other.

    Args:
        study: Books of the run: where to write, which models, how.
        source: Folder, zip or single DICOM file.
        halt: Holds what stopped the whole run, if anything did.
    """

    def __init__(self, *args: Any, study: StudyRun, source: Path, halt: Halt, **kwargs: Any) -> None:
        self.study, self.source, self.halt = study, source, halt
        # Our own arguments are none of Holoscan's.
        super().__init__([sys.executable], *args, **kwargs)

    def compose(self) -> None:
        """Chain the operators."""
        load = LoadSelectOperator(self, name="load_select", study=self.study, source=self.source, halt=self.halt)
        prepare = PrepareOperator(self, name="prepare")
        project = ProjectOperator(self, name="project")
        score = ScoreOperator(self, name="score")
        overlays = WriteOverlaysOperator(self, name="write_overlays")
        report = WriteReportOperator(self, name="write_report")
        self.add_flow(load, prepare, {("selected", "selected")})
        self.add_flow(prepare, project, {("prepared", "prepared")})
        self.add_flow(project, score, {("projected", "projected")})
        self.add_flow(score, overlays, {("scored", "scored")})
        self.add_flow(overlays, report, {("overlaid", "overlaid")})


def run_study(source: Path, folder: Path, models: Path, config: AnalyzeConfig) -> ExitStatus:
    """Analyse a study into an existing folder; its ``result.json`` comes last, whatever happens.

    Args:
        source: Folder, zip or single DICOM file.
        folder: Empty folder.
        models: Folder of bundles.
        config: What to do.

    Returns:
        The exit status, which is that of ``result.json``, too.
    """
    try:
        study = StudyRun(folder, models, config, plain_lines(sys.stderr))
        halt = Halt()
        AnomapApp(study=study, source=source, halt=halt).run()
        if halt.error is None:
            return study.finish(folder).status  # counts the series: Holoscan succeeds also when an operator never ran
        failure = halt.error
    except Exception as error:
        failure = as_error(error)
    write_result(folder, failure_result(failure))
    return failure.status


def main() -> int:
    """The child process; not for people, see ``python -m deploy_app --help``."""
    parser = argparse.ArgumentParser(prog="python -m deploy_app.app")
    for name in ("input", "staging", "models"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--config", type=json.loads, required=True)
    words = parser.parse_args()
    return int(run_study(words.input, words.staging, words.models, AnalyzeConfig.from_dict(words.config)))


if __name__ == "__main__":
    sys.exit(main())
