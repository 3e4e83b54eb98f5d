"""Which groups of patients a regressor serves worse, how much, and how sure of that one can be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.classification import NOWHERE, Estimate
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
    title: str
    adjusted: float = math.nan

    def text(self) -> str:
        """The gap in words."""
        sure = "below .0001" if self.adjusted < 1e-4 else f"{self.adjusted:.4f}"
        return (
            f"{self.title} {self.inside:.4g} against {self.outside:.4g} in all others, difference "
            f"{self.value:+.4g} ({self.low:+.4g} to {self.high:+.4g}), adjusted p {sure}"
        )


@dataclass(frozen=True, eq=False)
class Compared:
    """What is averaged over the cases of each group.

    Attributes:
        columns: name → (n,); ``nan`` for a case that has no value.
        titles: what they are called, by name.
        groups: (n,) patients; ``None`` where unknown.
    """

    columns: Mapping[str, Floats]
    titles: Mapping[str, str]
    groups: npt.NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class GroupFigures:
    """One group: its cases and patients, and the means of what is compared with their intervals."""

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
    """The outcome of a comparison of groups; see ``compare_groups``.

    Attributes:
        attributes: by which cases are grouped.
        overall: all cases.
        groups: every group.
        gaps: every comparison, surest first.
        notes: what was left out.
        titles: what is compared, by name.
        least: name → the difference below which a gap is negligible, however sure it is.
        significance: family-wise.
    """

    attributes: tuple[Attribute, ...]
    overall: GroupFigures
    groups: tuple[GroupFigures, ...]
    gaps: tuple[GroupGap, ...]
    notes: tuple[str, ...]
    titles: Mapping[str, str]
    least: Mapping[str, float]
    significance: float = SIGNIFICANCE

    @property
    def findings(self) -> tuple[GroupGap, ...]:
        """The gaps that are beyond chance and not negligible, surest first."""
        return tuple(
            gap for gap in self.gaps if gap.adjusted < self.significance and abs(gap.value) >= self.least[gap.metric]
        )

    @property
    def says_anything(self) -> bool:
        """Whether there was an attribute to compare groups by."""
        return bool(self.attributes)

    def cells(self) -> list[list[str]]:
        """Figures of all groups, a header first; empty where there are no groups."""
        if not self.attributes:
            return []
        rows = [["group", "patients", *self.titles.values()]]
        groups = (self.overall, *self.groups)
        rows += [[group.group, f"{group.patients:,}", *map(_cell, group.figures.values())] for group in groups]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The content of ``bias.json``."""
        return {
            "significance": self.significance,
            "correction": "Holm",
            "least_patients": LEAST_PATIENTS,
            "titles": dict(self.titles),
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
    compared = Compared({"mae": np.abs(error), "bias": error}, TITLES, assessment.groups)
    least = LEAST_SHARE * float(np.abs(error).mean())
    return compare_means(
        assessment.table, compared, least=dict.fromkeys(TITLES, least), confidence=confidence, significance=significance
    )


def compare_means(
    table: pd.DataFrame,
    compared: Compared,
    *,
    least: Mapping[str, float],
    confidence: float = 0.95,
    significance: float = SIGNIFICANCE,
) -> ValueGroups:
    """Compare the means of every group that a table's attributes make with those of all other cases.

    Args:
        table: one row per case.
        compared: what is averaged.
        least: of each, the difference below which a gap is not reported, however sure it is.
        confidence: nominal coverage of the intervals.
        significance: family-wise; see :func:`compare_groups`.
    """
    of_case = make_clusters(np.zeros((len(table), 1), bool), compared.groups).of_case
    attributes, notes = read_attributes(table)
    groups = single_groups(attributes)
    everyone = Subgroup((), np.ones(len(table), dtype=bool))
    gaps = [gap for group in groups for gap in _gaps(group, compared, of_case, confidence)]
    adjusted = adjust_p_values({str(number): gap.p_value for number, gap in enumerate(gaps)})
    gaps = [replace(gap, adjusted=adjusted[str(number)]) for number, gap in enumerate(gaps)]
    return ValueGroups(
        attributes,
        _figures(everyone, compared.columns, of_case, confidence),
        tuple(_figures(group, compared.columns, of_case, confidence) for group in groups),
        tuple(sorted(gaps, key=lambda gap: (gap.adjusted, gap.p_value))),
        notes,
        compared.titles,
        least,
        significance,
    )


def _cell(estimate: Estimate) -> str:
    return "too small" if estimate.note else f"{estimate.value:.4g} ({estimate.low:.3g} to {estimate.high:.3g})"


def _patients(of_case: Integers, rows: Any) -> int:
    return len(np.unique(of_case[rows]))


def _figures(group: Subgroup, values: Mapping[str, Floats], of_case: Integers, confidence: float) -> GroupFigures:
    patients, cases = _patients(of_case, group.rows), int(group.rows.sum())
    note = "" if patients >= LEAST_PATIENTS else f"too small to judge: {patients} patients, {LEAST_PATIENTS} are needed"
    found = {}
    for name, each in values.items():
        rows = group.rows & ~np.isnan(each)
        enough = _patients(of_case, rows) > 1
        ends = mean_interval(each[rows], clusters_of(of_case[rows]), 0.0, confidence=confidence) if enough else NOWHERE
        value = float(each[rows].mean()) if rows.any() else math.nan
        found[name] = Estimate(value, ends.low, ends.high, int(rows.sum()), "Student's t by patient", note)
    return GroupFigures(group.name or "all cases", cases, patients, found)


def _gaps(group: Subgroup, compared: Compared, of_case: Integers, confidence: float) -> Sequence[GroupGap]:
    found = []
    for name, every in compared.columns.items():
        known = ~np.isnan(every)
        rows, each, patient = group.rows[known], every[known], of_case[known]
        if min(_patients(patient, rows), _patients(patient, ~rows)) < LEAST_PATIENTS:
            continue
        tested = contrast(Comparable(each, np.zeros(len(each), np.int64)), rows, patient)
        inside, outside = float(each[rows].mean()), float(each[~rows].mean())
        ends = [
            mean_interval(each[part], clusters_of(patient[part]), 0.0, confidence=confidence) for part in (rows, ~rows)
        ]
        # MOVER (Newcombe 1998) with symmetric intervals.
        half = math.hypot(inside - ends[0].low, outside - ends[1].low)
        value = inside - outside
        low, high, title = value - half, value + half, compared.titles[name]
        found.append(GroupGap(group.name, name, inside, outside, value, low, high, tested.p_value, title))
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
