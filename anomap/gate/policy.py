"""The policy of a gate: how rare is odd, which scores count, and what an input must be before anything is computed.

A small TOML file (docs/gate.md); every key may be left out. A check says what is expected of the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from anomap.config import AnalyzeConfig, check_alphas
from anomap.domain import body_regions
from anomap.errors import AnomapError
from anomap.gate.tiers import Quick
from anomap.tables import build, read_toml, require
from anomap.types import ImageSeries, Verdict

Range = tuple[float, float]
_WORDS = ("modality", "body_part", "view", "laterality")
_RANGES = ("slices", "slice_spacing_mm", "pixel_spacing_mm", "field_of_view_mm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """What a series must be; None and () ask nothing.

    Attributes:
        on_failure: Verdict of a series that fails.
        when_unknown: What an absent tag does: "fail" or "pass".
        modality: DICOM modalities.
        body_part: Regions as in `anomap.domain`, in any spelling scanners use.
        view, laterality: View Position, Image Laterality (radiographs).
        slices: Least and most slices.
        slice_spacing_mm, pixel_spacing_mm, field_of_view_mm: Least and most; the field of view is the wider side.
    """

    on_failure: Literal["review", "reject"] = "reject"
    when_unknown: Literal["fail", "pass"] = "fail"
    modality: tuple[str, ...] = ()
    body_part: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    laterality: tuple[str, ...] = ()
    slices: Range | None = None
    slice_spacing_mm: Range | None = None
    pixel_spacing_mm: Range | None = None
    field_of_view_mm: Range | None = None

    def __post_init__(self) -> None:
        for name in _RANGES:
            limits = getattr(self, name)
            require(limits is None or limits[0] <= limits[1], f"{name} must be [least, most]")
        require(
            all(map(body_regions, self.body_part)), f"body_part names an unknown region: {', '.join(self.body_part)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A gate's policy.

    Attributes:
        alpha_review, alpha_reject: Largest p-values that are reviewed and rejected.
        weights: Score -> weight, 1 where it isn't named.
        checks: Before any compute.
        quick: A look at some slices first; None: always at all of them.
    """

    alpha_review: float = 0.05
    alpha_reject: float = 0.01
    weights: Mapping[str, float] = field(default_factory=dict)
    checks: Checks = field(default_factory=Checks)
    quick: Quick | None = None

    def __post_init__(self) -> None:
        check_alphas(self.alpha_review, self.alpha_reject)

    def refusal(self, series: ImageSeries) -> tuple[Verdict, AnomapError] | None:
        """The verdict on a series that fails a check, and why; None when it fails none."""
        failed = [text for text in _expectations(self.checks, series) if text]
        if not failed:
            return None
        verdict = Verdict.REJECT if self.checks.on_failure == "reject" else Verdict.REVIEW
        return verdict, AnomapError("E118", "; ".join(failed))


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        AnomapError: E200 when it can't be read, has an unknown key or a value of the wrong kind.
    """
    return policy_from_dict(read_toml(path, f"the contents of policy {path.name!r}"))


def policy_for(path: Path | None, config: AnalyzeConfig) -> Policy:
    """The policy of a file; without one, the limits and weights of a configuration and no checks.

    Raises:
        AnomapError: As `read_policy`.
    """
    if path is not None:
        return read_policy(path)
    weights = dict(config.score_weights)
    return Policy(alpha_review=config.alpha_review, alpha_reject=config.alpha_reject, weights=weights)


def policy_from_dict(content: Mapping[str, Any]) -> Policy:
    """A policy from the values of a TOML file.

    Raises:
        AnomapError: E200 for an unknown key or a value of the wrong kind.
    """
    policy: Policy = build(Policy, content, "policy", Path())
    words: dict[str, Any] = {name: tuple(map(str.upper, getattr(policy.checks, name))) for name in _WORDS}
    return replace(policy, checks=replace(policy.checks, **words))


def _expectations(checks: Checks, series: ImageSeries) -> list[str]:
    """One text for each check, empty where it is met."""
    header = series.headers[0] if series.headers else {}

    def tag(*keywords: str) -> str:
        return next((str(header.get(k)).upper().strip() for k in keywords if header.get(k)), "")

    spacing = series.spacing_mm if series.has_physical_spacing else None
    rows, columns = series.pixels.shape[1:]
    is_ct = series.modality == "CT"
    part = body_regions(tag("BodyPartExamined"))
    wanted = frozenset().union(*map(body_regions, checks.body_part)) if checks.body_part else part
    width = None if spacing is None else max(rows * spacing[1], columns * spacing[2])
    lenient = checks.when_unknown == "pass"
    return [
        _one_of("modality", series.modality, checks.modality, lenient=lenient),
        "" if part & wanted or not checks.body_part or (lenient and not part) else "body part is not the expected one",
        "" if is_ct else _one_of("view", tag("ViewPosition"), checks.view, lenient=lenient),
        ""
        if is_ct
        else _one_of("laterality", tag("ImageLaterality", "Laterality"), checks.laterality, lenient=lenient),
        _within("number of slices", float(len(series.pixels)), checks.slices if is_ct else None, lenient=lenient),
        _within(
            "slice spacing (mm)", spacing and spacing[0], checks.slice_spacing_mm if is_ct else None, lenient=lenient
        ),
        _within("pixel spacing (mm)", spacing and max(spacing[1:]), checks.pixel_spacing_mm, lenient=lenient),
        _within("field of view (mm)", width, checks.field_of_view_mm, lenient=lenient),
    ]


def _one_of(name: str, value: str, wanted: tuple[str, ...], *, lenient: bool) -> str:
    if not wanted or value in wanted or (not value and lenient):
        return ""
    return f"{name} is {value if value.isalnum() else 'not stated'}, expected {' or '.join(wanted)}"


def _within(name: str, value: float | None, limits: Range | None, *, lenient: bool) -> str:
    if limits is None or (value is None and lenient):
        return ""
    if value is not None and limits[0] <= value <= limits[1]:
        return ""
    found = "not stated" if value is None else f"{value:g}"
    return f"{name} is {found}, expected {limits[0]:g} to {limits[1]:g}"
