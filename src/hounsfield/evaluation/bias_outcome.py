"""The outcome of a bias audit: groups and their figures, gaps, findings; as plain values for JSON and in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.group_figures import GROUP_METRICS, LEAST_PATIENTS
from hounsfield.evaluation.opportunity import Opportunity
from hounsfield.evaluation.sample_size import cases_for_gap
from hounsfield.evaluation.subgroups import Attribute

SIGNIFICANCE = 0.01  # family-wise: of a hundred classifiers that are fair to all groups, at most one is accused
NAMED_SIGNIFICANCE = 0.05  # of attributes that were fixed before the data was seen
TELLING_GAP, POWER = 0.1, 0.8  # the gap whose number of patients is given
SINGLES_SHARE = 0.75  # of the significance goes to single attributes, the rest to pairs
LISTED = 6


@dataclass(frozen=True)
class Gap:
    """How a group differs from other cases in one metric.

    Attributes:
        group: its name.
        parts: its (column, level) pairs.
        metric: a key of ``GROUP_METRICS``.
        question: the label.
        against: the cases that it is compared with.
        value: the figure of the group minus that of the others; for scores, by how much the share of comparisons in
            which the group scores higher exceeds one half.
        low: lower end of the interval of ``value``, by itself; ``high`` the upper end.
        p_value: of no difference.
        adjusted: the same after Holm (1979) over all that the audit tested.
        inside: the figure in the group; ``nan`` for scores.
        outside: the figure among those compared with.
    """

    group: str
    parts: tuple[tuple[str, str], ...]
    metric: str
    question: str
    against: str
    value: float
    low: float
    high: float
    p_value: float
    adjusted: float = math.nan
    inside: float = math.nan
    outside: float = math.nan

    @property
    def title(self) -> str:
        """The figure's name within a sentence."""
        title = GROUP_METRICS[self.metric].title
        return title if title.isupper() else title[0].lower() + title[1:]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is undefined becomes ``None``."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "parts"}
        plain = {name: _plain(value) for name, value in values.items()}
        return {**plain, "attributes": dict(self.parts)}

    def text(self) -> str:
        """The gap in words, without the group's name and without a full stop."""
        sure = f"adjusted p {_p_text(self.adjusted)}"
        if math.isnan(self.inside):
            low, share, high = (f"{100 * (end + 0.5):.0f}" for end in (self.low, self.value, self.high))
            kind = "with" if self.metric == "case_scores" else "without"
            return (
                f"cases {kind} '{self.question}' score higher than those of {self.against} in {share} % of comparisons "
                f"({low} to {high} %; 50 % means no difference), {sure}"
            )
        return (
            f"{self.title} of '{self.question}' {self.inside:.3f} against {self.outside:.3f} in {self.against}, "
            f"difference {self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f}), {sure}"
        )


@dataclass(frozen=True, eq=False)
class GroupReport:
    """One group and its figures.

    Attributes:
        group: its name.
        parts: its (column, level) pairs; none for all cases.
        cases: how many it has.
        patients: how many it has.
        figures: by metric, and with ``_LABEL`` behind it where there are several questions; a figure on too few
            patients carries a note that says so.
    """

    group: str
    parts: tuple[tuple[str, str], ...]
    cases: int
    patients: int
    figures: dict[str, Estimate]

    @property
    def judged(self) -> bool:
        """Whether at least one figure rests on enough patients."""
        return any(not estimate.note for estimate in self.figures.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "group": self.group,
            "attributes": dict(self.parts),
            "cases": self.cases,
            "patients": self.patients,
            "judged": self.judged,
            "figures": {name: estimate.to_dict() for name, estimate in self.figures.items()},
        }


@dataclass(frozen=True, eq=False)
class BiasAudit:
    """The outcome of an audit.

    Attributes:
        attributes: the columns that were compared.
        overall: the figures of all cases.
        groups: every group of one attribute, then every pair that has a case.
        gaps: every difference that was tested, most significant first.
        opportunity: what equal sensitivity for all groups would take.
        notes: what was left out, decided, or could not be judged.
        significance: the family-wise error of ``findings``.
        confidence: nominal coverage of each interval.
        named: whether the attributes were fixed beforehand, so that no pairs are compared.
    """

    attributes: tuple[Attribute, ...]
    overall: GroupReport
    groups: tuple[GroupReport, ...]
    gaps: tuple[Gap, ...]
    opportunity: tuple[Opportunity, ...]
    notes: tuple[str, ...]
    significance: float = SIGNIFICANCE
    confidence: float = 0.95
    named: bool = False

    @property
    def not_excluded(self) -> tuple[Gap, ...]:
        """Of each common figure, the gap of one attribute's group whose interval reaches furthest from 0."""
        found: dict[str, Gap] = {}
        for each in self.gaps:
            if len(each.parts) > 1 or each.metric not in ("auc", "sensitivity", "specificity"):
                continue
            if each.metric not in found or _reach(each) > _reach(found[each.metric]):
                found[each.metric] = each
        return tuple(found[name] for name in ("auc", "sensitivity", "specificity") if name in found)

    def needed(self, gap: Gap) -> tuple[int, int] | None:
        """Independent cases of the kind that would show a gap of .1 in this group at 80 % power, and those here.

        At this audit's significance over as many comparisons; ``None`` for an AUC, which has no such formula.
        """
        key = gap.metric if gap.metric in self.overall.figures else f"{gap.metric}_{gap.question}"
        group = next((each for each in self.groups if each.parts == gap.parts), None)
        if gap.metric == "auc" or group is None or not TELLING_GAP < gap.outside <= 1:
            return None
        inside, every = group.figures[key].n, self.overall.figures[key].n
        if not 0 < inside < every:
            return None
        share = 1.0 if self.named else SINGLES_SHARE
        cases = cases_for_gap(
            gap.outside,
            TELLING_GAP,
            inside / every,
            significance=self.significance * share,
            power=POWER,
            comparisons=sum(len(each.parts) == 1 for each in self.gaps),
        )
        return cases, every

    @property
    def findings(self) -> tuple[Gap, ...]:
        """The gaps that are beyond chance and not negligible, most significant first."""
        return tuple(
            each
            for each in self.gaps
            if each.adjusted < self.significance and abs(each.value) >= GROUP_METRICS[each.metric].least
        )

    @property
    def too_small(self) -> tuple[GroupReport, ...]:
        """The groups that are too small for any figure."""
        return tuple(group for group in self.groups if not group.judged)

    @property
    def worst(self) -> dict[str, GroupReport]:
        """By figure, the group of one attribute in which it is lowest, among groups large enough to judge by it."""
        found: dict[str, GroupReport] = {}
        for group in self.groups:
            for name, estimate in group.figures.items():
                if len(group.parts) > 1 or estimate.note or name.startswith("calibration"):
                    continue
                if name not in found or estimate.value < found[name].figures[name].value:
                    found[name] = group
        return found

    def to_dict(self) -> dict[str, Any]:
        """The content of ``bias.json``, except what was predicted from the network's features."""
        return {
            "significance": self.significance,
            "confidence": self.confidence,
            "correction": "Holm"
            if self.named
            else f"Holm; {SINGLES_SHARE:.0%} of the significance for single attributes, the rest for pairs",
            "named": self.named,
            "not_excluded": [
                {**each.to_dict(), "needed": needed and needed[0], "here": needed and needed[1]}
                for each in self.not_excluded
                for needed in (self.needed(each),)
            ],
            "least_patients": LEAST_PATIENTS,
            "in_the_large": "observed share minus mean probability",
            "attributes": {
                each.name: {"levels": list(each.levels), "binning": each.binning} for each in self.attributes
            },
            "overall": self.overall.to_dict(),
            "groups": [group.to_dict() for group in self.groups],
            "findings": [each.to_dict() for each in self.findings],
            "gaps": [each.to_dict() for each in self.gaps],
            "worst": {name: group.group for name, group in self.worst.items()},
            "too_small": [group.group for group in self.too_small],
            "opportunity": [row.to_dict() for row in self.opportunity],
            "notes": list(self.notes),
            "lines": self.lines(),
        }

    def lines(self) -> list[str]:
        """The outcome in words, one line per statement."""
        if not self.attributes:
            told = "Subgroups: the table has no column such as sex, age, site or scanner to compare groups by."
            return [told, *self.notes]
        pairs = sum(len(group.parts) == 2 for group in self.groups)
        names = ", ".join(each.name for each in self.attributes)
        error = f"family-wise error {self.significance * 100:g} %"
        told = (
            f"differences beyond chance ({error}):"
            if self.findings
            else f"no difference beyond chance ({error}). This does not prove that there is none: see the intervals."
        )
        head = (
            f"Subgroups: {len(self.groups) - pairs} groups by {names}"
            f"{', fixed beforehand' if self.named else f' and {pairs} pairs'}, {len(self.gaps):,} comparisons; {told}"
        )
        power = () if self.findings else self._power_lines()
        return [head, *self._finding_lines(), *power, *self._worst_lines(), *self._small_lines(), *self.notes]

    def _power_lines(self) -> Iterator[str]:
        """What an audit without findings could not have seen."""
        if self.not_excluded:
            told = "; ".join(
                f"{each.title} of {each.group} {each.value:+.2f} ({each.low:+.2f} to {each.high:+.2f})"
                for each in self.not_excluded
            )
            yield f"Largest gaps that are not excluded ({self.confidence:.0%} intervals, each by itself): {told}."
        needs = [(each, found) for each in self.not_excluded if (found := self.needed(each)) is not None]
        if needs:
            kinds = {"sensitivity": "with", "specificity": "without"}
            told = "; ".join(
                f"{each.title} of {each.group}: about {cases:,} patients {kinds[each.metric]} '{each.question}', here "
                f"{here:,} images"
                for each, (cases, here) in needs
            )
            yield f"To show a gap of {TELLING_GAP:g} with a power of {POWER:g}: {told}."

    def _finding_lines(self) -> Iterator[str]:
        """One line per group: its largest gap, and the other metrics that differ."""
        groups: dict[str, list[Gap]] = {}
        for each in self.findings:
            groups.setdefault(each.group, []).append(each)
        for name, found in list(groups.items())[:LISTED]:
            largest, *others = sorted(found, key=_telling)
            also = ", ".join(f"{each.title} ({each.value:+.2f})" for each in others if not math.isnan(each.inside))
            yield f"  {name}: {largest.text()}{f'; also {also}' if also else ''}."
        if len(groups) > LISTED:
            yield f"  and {len(groups) - LISTED} more groups."

    def _worst_lines(self) -> Iterator[str]:
        name = next((name for name in self.worst if name.startswith("auc")), None)
        if name is not None:
            group = self.worst[name]
            estimate = group.figures[name]
            yield (
                f"Worst group by AUC: {group.group} with {estimate.value:.3f} ({estimate.low:.3f} to "
                f"{estimate.high:.3f}), {group.patients:,} patients; the lowest of several groups is partly low by "
                "chance."
            )

    def _small_lines(self) -> Iterator[str]:
        small = self.too_small
        single = [group for group in small if len(group.parts) == 1]
        if small:
            named = ", ".join(f"{group.group} ({group.patients} patients)" for group in single[:LISTED])
            others = len(small) - len(single[:LISTED])
            told = " and ".join(filter(None, [named, f"{others} {'others' if single else 'pairs'}" if others else ""]))
            yield f"Too small to judge: {told}."


def _reach(each: Gap) -> float:
    """How far from 0 the interval of a gap reaches."""
    return max(abs(each.low), abs(each.high))


def _telling(each: Gap) -> tuple[bool, float]:
    """Common metrics before shifts of scores, and the largest gap first."""
    return math.isnan(each.inside), -abs(each.value)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: ``None`` where undefined."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _p_text(value: float) -> str:
    return "below .0001" if value < 1e-4 else f"{value:.4f}"
