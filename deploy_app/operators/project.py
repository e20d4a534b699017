"""The most similar images that the generator can make."""

from __future__ import annotations

from dataclasses import replace

from anomap.pipeline import projection_config
from anomap.projection import project
from deploy_app.case import Case
from deploy_app.operators.stage import StageOperator


class ProjectOperator(StageOperator):
    """Port ``prepared`` to ``projected``: reconstruction by projection into the latent space."""

    takes, gives, stage = "prepared", "projected", "project"

    def advance(self, case: Case) -> Case:
        """Fill in `Case.reconstruction`."""
        case.need("bundle", "prepared")
        bundle, settings = case.bundle, projection_config(case.study.config)
        reconstruction = project(
            case.prepared,  # type: ignore[arg-type]
            bundle,  # type: ignore[arg-type]
            settings,
            bundle.device,  # type: ignore[union-attr]
            lambda done, total: case.study.stage("project", done, total),
        )
        return replace(case, reconstruction=reconstruction)
