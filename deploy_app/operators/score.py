"""Scores, p-values, regions and verdict."""

from __future__ import annotations

import time
from dataclasses import replace

from anomap.pipeline import judged, neighbours_of, provenance_of, score_config
from anomap.scoring import score
from deploy_app.case import Case
from deploy_app.operators.stage import StageOperator


class ScoreOperator(StageOperator):
    """Port ``projected`` to ``scored``: residual and window scores, compared with the cohort."""

    takes, gives, stage = "projected", "scored", "score"

    def advance(self, case: Case) -> Case:
        """Fill in `Case.score_map` and `Case.result`."""
        case.need("bundle", "prepared", "reconstruction")
        bundle, fit, series, config = case.bundle, case.reconstruction, case.series, case.study.config
        start = time.perf_counter()
        beside = neighbours_of(series, case.prepared, bundle)  # type: ignore[arg-type]
        score_map = score(case.prepared, fit, series.pixels.shape, score_config(bundle), beside)  # type: ignore[arg-type]
        case.seconds["score"] = round(time.perf_counter() - start, 4)
        start = time.perf_counter()
        provenance = provenance_of(bundle, config, fit, case.seconds)  # type: ignore[arg-type]
        result = judged(series, score_map, case.cohort, config, provenance)
        case.seconds["calibrate"] = round(time.perf_counter() - start, 4)
        return replace(case, score_map=score_map, result=result)
