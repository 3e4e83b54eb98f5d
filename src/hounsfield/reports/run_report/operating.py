"""The section on the operating point: the threshold in use, what others would do, and what decisions are worth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.operating import Rule, choose_threshold, decision_curve
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.proportions import clustered_proportion, effective_number, predictive_values
from hounsfield.reports.run_report.content import Block, Drawing, Paragraph, Section, Table, interval, number, percent
from hounsfield.reports.run_report.drawings import decision_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs.record import ClassifierRun

RULES: tuple[tuple[str, Rule, float | None], ...] = (
    ("at .5", "half", None),
    ("largest sensitivity + specificity (Youden)", "youden", None),
    ("sensitivity of at least .90", "sensitivity", 0.9),
    ("sensitivity of at least .95", "sensitivity", 0.95),
    ("specificity of at least .90", "specificity", 0.9),
    ("specificity of at least .95", "specificity", 0.95),
    ("a missed case costs ten false alarms", "cost", 10.0),
)
PREVALENCES = (0.01, 0.05, 0.1, 0.2, 0.5)
BENEFITS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


def operating_section(run: ClassifierRun) -> Section:
    """The threshold in use, what others would do, and what decisions are worth."""
    return Section("operating", "Operating point", tuple(_operating_blocks(run)))


def _operating_blocks(run: ClassifierRun) -> Iterator[Block]:
    answers = run.shown.answers
    if answers.task == "multi-class":
        yield Paragraph("The decision is the most probable label; there is no threshold to choose.")
        return
    yield Paragraph(
        f"A probability above {run.bundle.threshold:.3g} is a yes. It was set before the test images were looked at."
    )
    if answers.task == "binary" and answers.answerable.all():
        yield _threshold_table(run)
        yield _prevalence_table(run)
        yield _decision_curve(answers)


def _threshold_table(run: ClassifierRun) -> Table:
    """Thresholds chosen on validation, and what they do on the shown split."""
    chosen_on = run.tested["validation"].answers
    rows = [("in use", run.bundle.threshold)]
    if chosen_on.answerable.all():
        truth, scores = chosen_on.truth[:, 0], chosen_on.scores[:, 0]
        rows += [
            (name, choose_threshold(truth, scores, rule=rule, target=target).threshold) for name, rule, target in RULES
        ]
    cells = [(name, f"{threshold:.3f}", *_shares(run, threshold)) for name, threshold in rows]
    return Table(
        f"Thresholds chosen on validation, and what they do on {run.split} images",
        ("rule", "threshold", "sensitivity", "specificity", "called positive"),
        tuple(cells),
        "A wanted sensitivity is not a promise: validation images are few too. Another threshold is used by: "
        "hounsfield predict RUN INPUT --threshold T.",
    )


def _shares(run: ClassifierRun, threshold: float) -> Iterator[str]:
    answers = run.shown.answers
    truth, called = answers.truth[:, 0], answers.scores[:, 0] > threshold
    clusters = make_clusters(answers.truth, run.shown.groups)
    for hits, base in ((called & truth, truth), (~called & ~truth, ~truth)):
        found = clustered_proportion(hits, base, clusters)
        yield f"{hits.sum() / max(base.sum(), 1):.3f} ({interval(found.low, found.high)})"
    yield percent(float(called.mean()))


def _prevalence_table(run: ClassifierRun) -> Table:
    """What a positive and a negative decision mean where the finding is rarer or more frequent."""
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
        cells = [f"{percent(value)} ({percent(ends.low)} to {percent(ends.high)})" for value, ends in found.values()]
        rows.append((f"{percent(prevalence, 1)}{' (these images)' if prevalence == here else ''}", *cells))
    return Table(
        "What a decision means at another prevalence",
        ("prevalence", f"of those called {run.positive}, right", "of the others, right"),
        tuple(rows),
        "By Bayes' theorem from the sensitivity and specificity above, taken to hold in the other place too.",
        beside=True,
    )


def _decision_curve(answers: Outcomes) -> Drawing:
    curve = decision_curve(answers.truth[:, 0], answers.scores[:, 0])
    rows = []
    for at in BENEFITS:
        place = int(np.abs(curve.thresholds - at).argmin())
        rows.append((f"{at:g}", number(float(curve.model[place])), number(float(curve.everyone[place])), "0"))
    return Drawing(
        svg_of(decision_figure(curve), "decision", "Decision curve"),
        "Net benefit: right calls less false alarms, weighed by the probability from which one would act (Vickers, "
        "Elkin 2006). The model is of use where it is above both other lines.",
        Table("", ("acting from a probability of", "by the model", "on everyone", "on no one"), tuple(rows)),
    )
