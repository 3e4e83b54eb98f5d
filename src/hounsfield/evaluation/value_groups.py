"""Which groups of patients a regressor serves worse, how much, and how sure of that one can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.comparison import adjust_p_values
from hounsfield.evaluation.gaps import Comparable, contrast, mean_interval
from hounsfield.evaluation.group_figures import LEAST_PATIENTS, clusters_of
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Floats, Integers
from hounsfield.evaluation.subgroups import Attribute, Subgroup, read_attributes, single_groups
from hounsfield.evaluation.value_assessment import ValueAssessment

SIGNIFICANCE = 0.01  # family-wise, as for classifiers
# A difference of less than this share of the mean absolute error is not reported, however sure it is.
LEAST_SHARE = 0.1
TITLES = {"mae": "mean absolute error", "bias": "mean error"}
LISTED = 6


@dataclass(frozen=True)
class GroupGap:
    """How a group differs from all other cases in one figure: value is that of the group minus that of the others."""

    group: str
    metric: str
    inside: float
    outside: float
    value: float
    low: float
    high: float
    p_value: float
    adjusted: float = math.nan

    def text(self) -> str:
        """The gap in words."""
        sure = "below .0001" if self.adjusted < 1e-4 else f"{self.adjusted:.4f}"
        return (
            f"{TITLES[self.metric]} {self.inside:.4g} against {self.outside:.4g} in all others, difference "
            f"{self.value:+.4g} ({self.low:+.4g} to {self.high:+.4g}), adjusted p {sure}"
        )


@dataclass(frozen=True, eq=False)
class GroupFigures:
    """One group: its cases and patients, and its mean absolute error and mean error with intervals."""

    group: str
    cases: int
    patients: int
    figures: dict[str, Estimate]

    @property
    def judged(self) -> bool:
        """Whether it has enough patients."""
        return self.patients >= LEAST_PATIENTS


@dataclass(frozen=True, eq=False)
class ValueGroups:
    """The outcome of a comparison of groups; see ``compare_groups``."""

    attributes: tuple[Attribute, ...]
    overall: GroupFigures
    groups: tuple[GroupFigures, ...]
    gaps: tuple[GroupGap, ...]
    notes: tuple[str, ...]
    significance: float = SIGNIFICANCE

    @property
    def findings(self) -> tuple[GroupGap, ...]:
        """The gaps that are beyond chance and not negligible, surest first."""
        least = LEAST_SHARE * self.overall.figures["mae"].value
        return tuple(gap for gap in self.gaps if gap.adjusted < self.significance and abs(gap.value) >= least)

    @property
    def says_anything(self) -> bool:
        """Whether there was an attribute to compare groups by."""
        return bool(self.attributes)

    def cells(self) -> list[list[str]]:
        """Figures of all groups, a header first; empty where there are no groups."""
        if not self.attributes:
            return []
        rows = [["group", "patients", "mean absolute error", "mean error"]]
        groups = (self.overall, *self.groups)
        rows += [[group.group, f"{group.patients:,}", *map(_cell, group.figures.values())] for group in groups]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The content of ``bias.json``."""
        return {
            "significance": self.significance,
            "correction": "Holm",
            "least_patients": LEAST_PATIENTS,
            "attributes": {
                each.name: {"levels": list(each.levels), "binning": each.binning} for each in self.attributes
            },
            "overall": _plain_group(self.overall),
            "groups": [_plain_group(group) for group in self.groups],
            "findings": [_plain(gap) for gap in self.findings],
            "gaps": [_plain(gap) for gap in self.gaps],
            "too_small": [group.group for group in self.groups if not group.judged],
            "notes": list(self.notes),
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """The outcome in words, one line per statement."""
        if not self.attributes:
            return [
                "Subgroups: there is no column such as sex, age, site or scanner by which groups could be compared."
            ]
        names = ", ".join(each.name for each in self.attributes)
        told = f"beyond chance (family-wise error {self.significance * 100:g} %)"
        found = f"{told}:" if self.findings else f"none {told}, which does not prove that there is none."
        head = f"Subgroups: {len(self.groups)} groups by {names}, {len(self.gaps)} comparisons; {found}"
        lines = [head, *(f"  {gap.group}: {gap.text()}." for gap in self.findings[:LISTED])]
        small = [f"{group.group} ({group.patients} patients)" for group in self.groups if not group.judged]
        if small:
            more = f" and {len(small) - LISTED} more" if len(small) > LISTED else ""
            lines.append(f"Too small to judge: {', '.join(small[:LISTED])}{more}.")
        return [*lines, *self.notes]


def compare_groups(
    assessment: ValueAssessment, *, confidence: float = 0.95, significance: float = SIGNIFICANCE
) -> ValueGroups:
    """Compare mean absolute error and mean error of every group that the table's attributes make with all others.

    P-values are of permutations of patients (see ``gaps``), adjusted by Holm (1979). Groups with fewer than ten
    patients inside or outside are described and not tested. Intervals are Student's t by patient.

    Raises:
        EvaluationError: the assessment holds no table.
    """
    if assessment.table is None:
        raise EvaluationError("The assessment holds no table of its cases, so there are no groups. Add its table.")
    error = assessment.predicted - assessment.truth
    values = {"mae": np.abs(error), "bias": error}
    of_case = make_clusters(np.zeros((len(error), 1), bool), assessment.groups).of_case
    attributes, notes = read_attributes(assessment.table)
    groups = single_groups(attributes)
    everyone = Subgroup((), np.ones(len(error), dtype=bool))
    gaps = [gap for group in groups for gap in _gaps(group, values, of_case, confidence)]
    adjusted = adjust_p_values({str(number): gap.p_value for number, gap in enumerate(gaps)})
    gaps = [replace(gap, adjusted=adjusted[str(number)]) for number, gap in enumerate(gaps)]
    return ValueGroups(
        attributes,
        _figures(everyone, values, of_case, confidence),
        tuple(_figures(group, values, of_case, confidence) for group in groups),
        tuple(sorted(gaps, key=lambda gap: (gap.adjusted, gap.p_value))),
        notes,
        significance,
    )


def _cell(estimate: Estimate) -> str:
    return "too small" if estimate.note else f"{estimate.value:.4g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _patients(of_case: Integers, rows: Any) -> int:
    return len(np.unique(of_case[rows]))


def _figures(group: Subgroup, values: dict[str, Floats], of_case: Integers, confidence: float) -> GroupFigures:
    patients, cases = _patients(of_case, group.rows), int(group.rows.sum())
    note = "" if patients >= LEAST_PATIENTS else f"too small to judge: {patients} patients, {LEAST_PATIENTS} are needed"
    found = {}
    for name, each in values.items():
        part = each[group.rows]
        interval = mean_interval(part, clusters_of(of_case[group.rows]), 0.0, confidence=confidence)
        low = math.nan if patients < 2 else interval.low
        high = math.nan if patients < 2 else interval.high
        found[name] = Estimate(float(part.mean()), low, high, cases, "Student's t by patient", note)
    return GroupFigures(group.name or "all cases", cases, patients, found)


def _gaps(group: Subgroup, values: dict[str, Floats], of_case: Integers, confidence: float) -> Sequence[GroupGap]:
    rows = group.rows
    if min(_patients(of_case, rows), _patients(of_case, ~rows)) < LEAST_PATIENTS:
        return []
    found = []
    for name, each in values.items():
        tested = contrast(Comparable(each, np.zeros(len(each), np.int64)), rows, of_case)
        inside, outside = float(each[rows].mean()), float(each[~rows].mean())
        ends = [
            mean_interval(each[part], clusters_of(of_case[part]), 0.0, confidence=confidence) for part in (rows, ~rows)
        ]
        # MOVER (Newcombe 1998) with symmetric intervals.
        half = math.hypot(inside - ends[0].low, outside - ends[1].low)
        value = inside - outside
        found.append(GroupGap(group.name, name, inside, outside, value, value - half, value + half, tested.p_value))
    return found


def _plain_group(group: GroupFigures) -> dict[str, Any]:
    return {
        "group": group.group,
        "cases": group.cases,
        "patients": group.patients,
        "judged": group.judged,
        "figures": {name: estimate.to_dict() for name, estimate in group.figures.items()},
    }


def _plain(gap: GroupGap) -> dict[str, Any]:
    values = {name: getattr(gap, name) for name in gap.__dataclass_fields__}
    return {
        name: None if isinstance(each, float) and not math.isfinite(each) else each for name, each in values.items()
    }
