"""The two tiers of a gate: a quick look at some slices, and all of them where the look is not clearly plain."""

from __future__ import annotations

from dataclasses import dataclass

from anomap.tables import require


@dataclass(frozen=True, slots=True, kw_only=True)
class Quick:
    """How a quick look is taken.

    Attributes:
        every: One slice in so many.
        margin: A look passes a series only when its p-value is above so many times the limit of review.
    """

    every: int = 4
    margin: float = 4.0

    def __post_init__(self) -> None:
        require(self.every >= 2, f"quick: expected one slice in 2 or more, got {self.every}")
        require(self.margin >= 1, f"quick: the margin must be at least 1, got {self.margin:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstLook:
    """What a quick look saw.

    Attributes:
        every: One slice in so many.
        p_value: Of the series, by these slices.
        patients: Of the thinned cohort, whom it counts.
        cohort_id: Of the thinned cohort.
    """

    every: int
    p_value: float
    patients: int
    cohort_id: str
