"""Reliability plots: the share of results up to each p-value, beside what the cohort's size allows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anomap.calibration.watch import band
from anomap.output import appearing, writing
from anomap.types import Float64


def plot_reliability(stem: Path, p_values: Float64, patients: int, title: str) -> None:
    """Draw ``<stem>.png`` and ``<stem>.svg``; each is written under a temporary name and renamed.

    Args:
        stem: Path without suffix.
        p_values: ``(N,)`` of normal patients that are not in the cohort.
        patients: n of the cohort.
        title: Above the plot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    alphas = np.arange(1, patients + 1) / (patients + 1)
    low, high = np.array([band(alpha, patients, len(p_values)) for alpha in alphas]).T
    axes.fill_between(alphas, low, high, step="post", color="0.85", label="95 % band when nothing is wrong")
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1)
    share = np.array([np.mean(p_values <= alpha + 1e-12) for alpha in alphas])
    axes.step(
        alphas, share, where="post", color="tab:blue", label=f"{len(p_values)} results against {patients} patients"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="alpha", ylabel="share with p ≤ alpha (false-alarm rate)", title=title)
    axes.legend(loc="upper left", frameon=False)
    for suffix in (".png", ".svg"):
        with writing():
            stem.parent.mkdir(parents=True, exist_ok=True)
            with appearing(stem.with_name(stem.name + suffix)) as temporary:
                figure.savefig(temporary, dpi=120)
