"""The sections on what a probability is worth: calibration, and when not to answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.calibration import brier_decomposition, calibration_line, reliability
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.selective import decision_confidence, risk_coverage
from hounsfield.reports.figures import reliability_figure
from hounsfield.reports.run_report.content import (
    Block,
    Drawing,
    Paragraph,
    Section,
    Table,
    interval,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.run_report.drawings import risk_coverage_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs.record import ClassifierRun

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def calibration_section(run: ClassifierRun) -> Section:
    """Whether a probability of .8 comes true in 80 of 100 cases."""
    return Section("calibration", "Calibration", tuple(_calibration_blocks(run)))


def _calibration_blocks(run: ClassifierRun) -> Iterator[Block]:
    answers = run.shown.answers
    yield Paragraph(_scaling(run))
    yield Drawing(
        svg_of(reliability_figure(answers, run.shown.groups), "reliability", "Reliability diagram"),
        "Observed frequency against predicted probability, in bins of equal numbers; on the dotted line a probability "
        "means what it says.",
        _reliability_table(run),
    )
    rows = [
        (METRICS[name].title, with_interval(run.estimates[name]))
        for name in ("ece", "brier", "log_loss")
        if name in run.estimates
    ]
    if "ece_uncalibrated" in run.estimates:
        rows.insert(0, ("calibration error before scaling", with_interval(run.estimates["ece_uncalibrated"])))
    for column, question in enumerate(answers.questions if answers.task != "multi-class" else ()):
        rows += _calibration_rows(run, column, f" ({question})" if len(answers.questions) > 1 else "")
    yield Table(f"Calibration on {run.split} images", ("figure", "value"), tuple(rows), beside=True)


def _scaling(run: ClassifierRun) -> str:
    record = run.bundle.calibration
    if not record:
        return "The probabilities are those of the network as it is; no scaling was looked for."
    ece, cases = record["ece"], f"{record['cases']:,} validation images"
    if len(record["log_loss"]) == 1:
        return f"The {cases} are too few to choose a scaling by, so probabilities stay as they are."
    told = {
        "none": "No scaling was better beyond noise on left-out validation images, so probabilities stay as they are",
        "temperature": "All logits are divided by one temperature",
        "platt": "Logits are moved along a line (Platt scaling)",
        "isotonic": "Probabilities are mapped by a rising step function (isotonic scaling)",
    }[run.bundle.scaling.name]
    change = (
        ""
        if run.bundle.scaling.name == "none"
        else (
            f" The calibration error on left-out validation images is {with_interval(ece['before'])} before and "
            f"{with_interval(ece['after'])} after."
        )
    )
    return f"{told}; this was chosen on {cases}.{change}"


def _reliability_table(run: ClassifierRun) -> Table:
    rows, answers = [], run.shown.answers
    questions = answers.questions if answers.task != "multi-class" else ("decided class",)
    for column, question in enumerate(questions):
        bins = reliability(answers.outcome[:, column], answers.confidence[:, column], groups=run.shown.groups)
        both = zip(bins.count, bins.probability, bins.frequency, bins.low, bins.high, strict=True)
        rows += [
            (question, f"{int(count):,}", number(float(said)), number(float(found)), interval(float(low), float(high)))
            for count, said, found, low, high in both
        ]
    return Table("", ("label", "images", "mean probability", "observed", "95 % interval"), tuple(rows))


def _calibration_rows(run: ClassifierRun, column: int, name: str) -> Iterator[tuple[str, str]]:
    answers = run.shown.answers
    truth, scores = answers.truth[:, column], answers.scores[:, column]
    parts = brier_decomposition(truth, scores)
    yield (f"Brier score{name}: miscalibration", number(parts.reliability, 4))
    yield (f"Brier score{name}: resolution", number(parts.resolution, 4))
    yield (f"Brier score{name}: uncertainty of the question", number(parts.uncertainty, 4))
    try:
        line = calibration_line(truth, scores, groups=run.shown.groups)
    except EvaluationError:
        return
    slope, intercept = line.slope_interval, line.intercept_interval
    yield (f"calibration slope{name} (1 is perfect, below 1 too extreme)", f"{line.slope:.2f} ({interval(*slope, 2)})")
    yield (f"calibration in the large{name} (0 is perfect)", f"{line.intercept:+.2f} ({interval(*intercept, 2)})")


def uncertainty_section(run: ClassifierRun) -> Section:
    """When the answer had better not be given."""
    return Section("uncertainty", "Uncertainty: when not to answer", tuple(_uncertainty_blocks(run)))


def _uncertainty_blocks(run: ClassifierRun) -> Iterator[Block]:
    answers = run.shown.answers
    confidence, right = decision_confidence(answers, run.bundle.threshold)
    curve = risk_coverage(confidence, right)
    rows = []
    for coverage in COVERAGES:
        place = int(np.searchsorted(curve.coverage, coverage - 1e-9))
        place = min(place, len(curve.coverage) - 1)
        rows.append((percent(coverage), percent(float(curve.risk[place]), 1), number(float(curve.confidence[place]))))
    yield Drawing(
        svg_of(risk_coverage_figure(curve), "uncertainty", "Risk against coverage"),
        "How many of the answers are wrong when only the surest images are answered and the others are left to a "
        "person.",
    )
    yield Table(
        "When only the surest are answered",
        ("answered", "wrong among these", "least confidence"),
        tuple(rows),
        beside=True,
    )
    told = {
        str(line)
        for line in run.event("uncertainty", "doubt").get("lines", ())
        if str(line).startswith(("Unlike", "Disagreement"))
    }
    yield Paragraph(
        "The model answers every image unless it is told otherwise. hounsfield predict RUN INPUT --abstain 0.05 "
        "answers only where at most 5 % of answers are expected to be wrong; --sets 0.9 gives sets of labels that hold "
        "the true one in 90 of 100 cases. Images unlike those of training are flagged in any case."
    )
    for line in sorted(told):
        yield Paragraph(line)
