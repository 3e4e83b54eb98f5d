"""The bias audit: which groups of patients a classifier serves worse, how much, and how sure of that one can be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.bias_outcome import (
    NAMED_SIGNIFICANCE,
    SIGNIFICANCE,
    SINGLES_SHARE,
    BiasAudit,
    Gap,
    GroupReport,
)
from hounsfield.evaluation.comparison import adjust_p_values
from hounsfield.evaluation.gaps import Contrast, contrast
from hounsfield.evaluation.group_figures import GROUP_METRICS, Question, figure, measure, too_small
from hounsfield.evaluation.intervals import make_clusters, renumbered
from hounsfield.evaluation.opportunity import equal_opportunity
from hounsfield.evaluation.outcomes import Booleans, Integers, Outcomes
from hounsfield.evaluation.subgroups import (
    MAX_LEVELS,
    Attribute,
    Subgroup,
    check_rows,
    paired_groups,
    read_attributes,
    single_groups,
)
from hounsfield.tasks import TASKS, LabelTask

ONE_SIDED = 1e-3  # a group of one label alone is told of where chance makes this unlikely


def audit_bias(
    answers: Outcomes,
    table: pd.DataFrame,
    *,
    groups: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    significance: float | None = None,
    attributes: Sequence[str] | None = None,
) -> BiasAudit:
    """Compare every group that the table's attributes make, and every pair of them, with the other cases.

    A group is compared with all cases outside it; a pair with the rest of each of its two groups, and the less clear
    of the two comparisons counts, so that a weak site does not accuse every sex and age within it. P-values are of
    permutations of patients (see ``gaps``), adjusted by Holm (1979). Groups with fewer than ten patients of a kind
    are described and not tested.

    Args:
        answers: truths, probabilities and decisions of n cases.
        table: (n rows) attributes of the cases; see ``read_attributes`` for the columns that count.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: nominal coverage of each interval, by itself.
        significance: the family-wise error of the findings; by default .01, and .05 for attributes that are named.
        attributes: columns that were fixed before the data was seen: only these are compared, and no pairs.

    Raises:
        EvaluationError: a named column is missing or makes no groups, the table has not one row a case, or a share is
            out of range.
    """
    named = attributes is not None
    significance = significance or (NAMED_SIGNIFICANCE if named else SIGNIFICANCE)
    if not 0 < confidence < 1 or not 0 < significance < 1:
        raise EvaluationError(
            f"The confidence is {confidence:g} and the significance {significance:g}; expected shares strictly between "
            "0 and 1, such as 0.95 and 0.01."
        )
    check_rows(table, len(answers))
    of_case = make_clusters(answers.truth, groups).of_case
    questions = {label: Question.of(answers, column, of_case) for column, label in enumerate(answers.questions)}
    found, notes = read_attributes(table) if attributes is None else _named_attributes(table, attributes)
    singles, (pairs, left_out) = single_groups(found), ((), ()) if named else paired_groups(found)
    share = 1.0 if named else SINGLES_SHARE
    everyone = Subgroup((), np.ones(len(answers), dtype=bool))
    gaps = [
        *_adjusted(_single_gaps(found, singles, questions, confidence), share),
        *_adjusted(_pair_gaps(singles, pairs, questions, confidence), 1 - SINGLES_SHARE),
    ]
    return BiasAudit(
        found,
        _report(everyone, questions, of_case, confidence),
        tuple(_report(group, questions, of_case, confidence) for group in (*singles, *pairs)),
        tuple(sorted(gaps, key=lambda each: (each.adjusted, each.p_value, -abs(each.value)))),
        tuple(equal_opportunity(answers, found, of_case, confidence=confidence)),
        (*notes, *left_out, *_one_sided(singles, questions, answers.task)),
        significance,
        confidence,
        named,
    )


def _named_attributes(table: pd.DataFrame, names: Sequence[str]) -> tuple[tuple[Attribute, ...], tuple[str, ...]]:
    """The attributes of columns that were fixed beforehand; each must make groups."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise EvaluationError(
            f"The table has no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}. Correct the "
            "names."
        )
    found, notes = read_attributes(table[list(dict.fromkeys(names))])
    without = [name for name in names if name not in {each.name for each in found}]
    if without:
        raise EvaluationError(
            f"{', '.join(without)} makes no groups to compare: a column needs two levels and at most {MAX_LEVELS}, and "
            "is neither an identifier nor a prediction. Name others."
        )
    return found, notes


def _report(group: Subgroup, questions: dict[str, Question], of_case: Integers, confidence: float) -> GroupReport:
    figures = {}
    for label, question in questions.items():
        part = question.take(question.among(group.rows))
        for name, metric in GROUP_METRICS.items():
            estimate = figure(metric, part, confidence)
            if estimate is not None:
                figures[name if len(questions) == 1 else f"{name}_{label}"] = estimate
    patients = renumbered(of_case[group.rows])[1]
    return GroupReport(group.name or "all cases", group.parts, int(group.rows.sum()), patients, figures)


@dataclass(frozen=True, eq=False)
class _Comparison:
    """A group and the cases that it is compared with, for one question."""

    group: Subgroup
    label: str
    against: str
    question: Question
    rows: Booleans

    @cached_property
    def sides(self) -> tuple[Question, Question]:
        """The cases of the group, and the others."""
        return self.question.take(self.rows), self.question.take(~self.rows)

    def without(self, other: Subgroup) -> _Comparison:
        """The same group against those that are not in another group."""
        kept = ~self.question.among(other.rows)
        against = f"{self.against} without {other.name}"
        return _Comparison(self.group, self.label, against, self.question.take(kept), self.rows[kept])

    def test(self, name: str) -> Contrast | None:
        """The test of one figure; ``None`` where a side is too small for it."""
        metric = GROUP_METRICS[name]
        if any(too_small(metric, side) for side in self.sides):
            return None
        tested = contrast(self.question.comparable(name), self.rows, self.question.of_case)
        return tested if math.isfinite(tested.p_value) else None

    def gap(self, name: str, tested: Contrast, confidence: float) -> Gap:
        """The size of a difference that was tested."""
        found = measure(GROUP_METRICS[name], self.question, self.rows, tested, confidence)
        return Gap(
            self.group.name,
            self.group.parts,
            name,
            self.label,
            self.against,
            found.value,
            *found.interval,
            tested.p_value,
            inside=found.inside,
            outside=found.outside,
        )


def _single_gaps(
    attributes: Sequence[Attribute], groups: Sequence[Subgroup], questions: dict[str, Question], confidence: float
) -> Iterator[Gap]:
    """Each group against all others; of the two groups of an attribute the smaller one, since the other mirrors it.

    Of three or more groups the one that differs most surely makes the others differ from a rest that it belongs to.
    So these are compared with the rest without it too, and the less clear comparison counts.
    """
    for attribute, (label, question) in product(attributes, questions.items()):
        own = [group for group in groups if group.parts[0][0] == attribute.name]
        if len(own) == 2:
            own = [min(own, key=lambda group: int(group.rows.sum()))]
        comparisons = [_Comparison(group, label, "the others", question, question.among(group.rows)) for group in own]
        for name in GROUP_METRICS:
            tested = [(found, each) for each in comparisons if (found := each.test(name))]
            if tested:
                surest = min(tested, key=_by_p_value)
                yield surest[1].gap(name, surest[0], confidence)
                yield from _also_without(surest[1].group, tested, name, confidence)


def _also_without(
    surest: Subgroup, tested: Sequence[tuple[Contrast, _Comparison]], name: str, confidence: float
) -> Iterator[Gap]:
    for found, comparison in tested:
        narrower = comparison.without(surest)
        if comparison.group is not surest and (again := narrower.test(name)):
            contrasted, clearest = max((found, comparison), (again, narrower), key=_by_p_value)
            yield clearest.gap(name, contrasted, confidence)


def _pair_gaps(
    singles: Sequence[Subgroup], pairs: Sequence[Subgroup], questions: dict[str, Question], confidence: float
) -> Iterator[Gap]:
    """Each pair against the rest of each of its groups; the less clear comparison stands for both."""
    rows_of = {group.parts[0]: group.rows for group in singles}
    within = {
        (part, label): question.take(question.among(rows))
        for part, rows in rows_of.items()
        for label, question in questions.items()
    }
    for pair, label in product(pairs, questions):
        comparisons = [
            _Comparison(
                pair,
                label,
                f"the rest of {part[0]} = {part[1]}",
                within[part, label],
                questions[label].among(pair.rows)[questions[label].among(rows_of[part])],
            )
            for part in pair.parts
        ]
        for name in GROUP_METRICS:
            tested = [(found, each) for each in comparisons if (found := each.test(name))]
            if len(tested) == len(comparisons):
                contrasted, clearest = max(tested, key=_by_p_value)
                yield clearest.gap(name, contrasted, confidence)


def _by_p_value(tested: tuple[Contrast, _Comparison]) -> float:
    return tested[0].p_value


def _adjusted(gaps: Iterable[Gap], share: float) -> list[Gap]:
    """Holm's adjustment within a family that has this share of the significance."""
    listed = list(gaps)
    adjusted = adjust_p_values({str(number): each.p_value for number, each in enumerate(listed)})
    return [replace(each, adjusted=min(1.0, adjusted[str(number)] / share)) for number, each in enumerate(listed)]


def _one_sided(groups: Sequence[Subgroup], questions: dict[str, Question], task: LabelTask) -> Iterator[str]:
    """Groups in which a label always or never occurs, where chance hardly makes that."""
    exclusive = TASKS[task].exclusive
    for group, (label, question) in product(groups, questions.items()):
        rows = question.among(group.rows)
        if not rows.any():
            continue
        share = float(question.truth.mean())
        truth = question.truth[rows]
        patients = renumbered(question.of_case[rows])[1]
        # That a group holds one class alone is said once, not again of each class that it lacks.
        one_class = exclusive and any(each.truth[group.rows].all() for each in questions.values())
        if truth.all() and share**patients < ONE_SIDED:
            yield _one_sided_note(group.name, f"every case is '{label}'", only=len(questions) == 1 or exclusive)
        elif not truth.any() and (1 - share) ** patients < ONE_SIDED and not one_class:
            yield _one_sided_note(group.name, f"no case is '{label}'", only=len(questions) == 1)


def _one_sided_note(group: str, found: str, *, only: bool) -> str:
    """What such a group means; ``only``: it has one label alone, so nothing can be judged in it."""
    if not only:
        return (
            f"{group}: {found}, so the attribute determines this label in these data, and performance on it cannot be "
            "judged in the group."
        )
    return (
        f"{group}: {found}, so the attribute determines the label in these data, and performance in the group cannot "
        "be judged. Test on data where both occur, or see whether masking the signs of the attribute changes "
        "predictions."
    )
