"""The section on the operating point: the threshold in use, others, and the net benefit of decisions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.operating import Rule, choose_threshold, decision_curve
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.proportions import clustered_proportion, effective_number, predictive_values
from hounsfield.reports.sections.content import (
    Block,
    Drawing,
    Paragraph,
    Section,
    Table,
    interval,
    number,
    of_hundred,
    percent,
)
from hounsfield.reports.sections.drawings import decision_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs import LabelRun
from hounsfield.tasks import threshold_text, thresholds

RULES: tuple[tuple[str, Rule, float | None], ...] = (
    (".5", "half", None),
    ("largest sensitivity + specificity (Youden)", "youden", None),
    ("sensitivity of at least .90", "sensitivity", 0.9),
    ("sensitivity of at least .95", "sensitivity", 0.95),
    ("specificity of at least .90", "specificity", 0.9),
    ("specificity of at least .95", "specificity", 0.95),
    ("a missed case costs ten false alarms", "cost", 10.0),
)
PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.5)
BENEFITS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


def operating_section(run: LabelRun) -> Section:
    """The threshold in use, what others would do, and the net benefit of decisions."""
    return Section("operating", "Operating point", tuple(_operating_blocks(run)))


def _operating_blocks(run: LabelRun) -> Iterator[Block]:
    answers = run.shown.answers
    if not thresholds(run.bundle.threshold, run.bundle.labels, answers.task):
        yield Paragraph("The most probable label is predicted; there is no threshold to choose.")
        return
    yield Paragraph(
        f"Decision threshold {threshold_text(run.bundle.threshold, run.bundle.labels)}: a label is predicted when its "
        "probability is above it. It was set before the test images were used."
    )
    if isinstance(run.bundle.threshold, tuple):
        yield _label_table(run, run.bundle.threshold)
    if answers.two_sided:
        yield _threshold_table(run)
        yield _prevalence_table(run)
        yield _decision_curve(run)


def _label_table(run: LabelRun, limits: tuple[float, ...]) -> Table:
    """The threshold of each label, and what it does on validation images, where it was chosen, and on those shown."""
    rows = []
    for column, (label, threshold) in enumerate(zip(run.bundle.labels, limits, strict=True)):
        found = [f"{share:.3f}" for share in _both_shares(run.tested["validation"].answers, column)]
        shown = [f"{share:.3f}" for share in _both_shares(run.shown.answers, column)]
        rows.append((label, f"{threshold:.3f}", *found, *shown))
    names = ("sensitivity", "specificity")
    return Table(
        "Threshold of each label",
        ("label", "threshold", *(f"{name}, validation" for name in names), *(f"{name}, {run.split}" for name in names)),
        tuple(rows),
        "Each label has the threshold with the largest sensitivity + specificity on validation images, where that is "
        "better than the plan's by more than a standard error.",
    )


def _both_shares(answers: Outcomes, column: int) -> tuple[float, float]:
    """Sensitivity and specificity of one label; ``nan`` without a case."""
    decided, present, absent = (each[:, column] for each in (answers.decisions, answers.truth, answers.absent))
    return (
        float(decided[present].mean()) if present.any() else float("nan"),
        float((~decided[absent]).mean()) if absent.any() else float("nan"),
    )


def _threshold_table(run: LabelRun) -> Table:
    """Thresholds chosen on validation images, and what they do on the split that is shown."""
    chosen_on = run.tested["validation"].answers
    in_use = run.bundle.threshold
    rows = [("in use", in_use)] if isinstance(in_use, float) else []
    if chosen_on.answerable.all():
        truth, scores = chosen_on.truth[:, 0], chosen_on.scores[:, 0]
        rows += [
            (name, choose_threshold(truth, scores, rule=rule, target=target).threshold) for name, rule, target in RULES
        ]
    merged: dict[bytes, tuple[float, list[str]]] = {}
    for name, threshold in rows:
        # Two thresholds without a score between them decide alike: they are one operating point.
        decided = np.concatenate([each.scores[:, 0] > threshold for each in (chosen_on, run.shown.answers)])
        merged.setdefault(decided.tobytes(), (threshold, []))[1].append(name)
    cells = [("; ".join(names), f"{threshold:.3f}", *_shares(run, threshold)) for threshold, names in merged.values()]
    return Table(
        f"Thresholds chosen on validation images, and their effect on {run.split} images",
        ("rule", "threshold", "sensitivity", "specificity", "predicted positive"),
        tuple(cells),
        "A target reached on validation images may be missed on others. To use another threshold: hounsfield predict "
        "RUN INPUT --threshold T.",
    )


def _shares(run: LabelRun, threshold: float) -> Iterator[str]:
    answers = run.shown.answers
    truth, called = answers.truth[:, 0], answers.scores[:, 0] > threshold
    clusters = make_clusters(answers.truth, run.shown.groups)
    for hits, base in ((called & truth, truth), (~called & ~truth, ~truth)):
        found = clustered_proportion(hits, base, clusters)
        yield f"{hits.sum() / max(base.sum(), 1):.3f} ({interval(found.low, found.high)})"
    yield percent(float(called.mean()))


def _prevalence_table(run: LabelRun) -> Table:
    """Predictive values where the finding is rarer or more frequent."""
    answers = run.shown.answers
    truth, called = answers.truth[:, 0], answers.decisions[:, 0]
    clusters, counts = make_clusters(answers.truth, run.shown.groups), []
    for hits, base in ((called, truth), (~called, ~truth)):
        effective = effective_number(hits, base, clusters)
        counts += [float(hits[base].mean()) * effective, effective]
    here = round(float(truth.mean()), 3)
    rows = []
    for prevalence in sorted({*PREVALENCES, here}):
        found = predictive_values(counts[0], counts[1], counts[2], counts[3], prevalence)
        cells = [
            f"{percent(value, 1)} ({of_hundred(ends.low, 1)} to {of_hundred(ends.high, 1)})"
            for value, ends in found.values()
        ]
        rows.append((f"{percent(prevalence, 1)}{' (these images)' if prevalence == here else ''}", *cells))
    return Table(
        "Predictive values at other prevalences",
        ("prevalence", f"PPV ({run.positive})", "NPV"),
        tuple(rows),
        "By Bayes' theorem, assuming the sensitivity and specificity above.",
        beside=True,
    )


def _decision_curve(run: LabelRun) -> Drawing:
    answers = run.shown.answers
    curve = decision_curve(answers.truth[:, 0], answers.scores[:, 0], groups=run.shown.groups)
    rows = []
    for at in BENEFITS:
        place = int(np.abs(curve.thresholds - at).argmin())
        model = f"{number(float(curve.model[place]))} ({interval(float(curve.low[place]), float(curve.high[place]))})"
        rows.append((f"{at:g}", model, number(float(curve.everyone[place])), "0"))
    note = f" {curve.note[0].upper()}{curve.note[1:]}." if curve.note else ""
    return Drawing(
        svg_of(decision_figure(curve), "decision", "Decision curve"),
        "Net benefit: true positives minus false positives, weighted by the odds of the threshold probability "
        "(Vickers, Elkin 2006), with 95 % intervals. One acts on a probability above the threshold. The model is "
        f"useful where its line is above both others.{note}",
        Table("", ("threshold probability", "model", "treat all", "treat none"), tuple(rows)),
    )
