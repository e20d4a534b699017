"""The stages as operators, ``Case`` in and ``Case`` out: chain them as `AnomapApp` does, or put your own between.

Apart from these stages, `QualityGateOperator` runs all of them at once and says whether the study may go on.
"""

from deploy_app.operators.load_select import LoadSelectOperator
from deploy_app.operators.prepare import PrepareOperator
from deploy_app.operators.project import ProjectOperator
from deploy_app.operators.quality_gate import QualityGateOperator, fork
from deploy_app.operators.score import ScoreOperator
from deploy_app.operators.write_overlays import WriteOverlaysOperator
from deploy_app.operators.write_report import WriteReportOperator

__all__ = [
    "LoadSelectOperator",
    "PrepareOperator",
    "ProjectOperator",
    "QualityGateOperator",
    "ScoreOperator",
    "WriteOverlaysOperator",
    "WriteReportOperator",
    "fork",
]
