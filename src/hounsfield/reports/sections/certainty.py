"""The sections on how far probabilities can be trusted: calibration, and when to abstain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hounsfield.evaluation.calibration import brier_decomposition, reliability
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.promises import ANSWERED, Promise
from hounsfield.evaluation.selective import decision_confidence, risk_coverage
from hounsfield.evaluation.verdict import CalibrationVerdict
from hounsfield.reports.figures import reliability_figure
from hounsfield.reports.sections.content import (
    Block,
    Drawing,
    Paragraph,
    Points,
    Section,
    Table,
    interval,
    number,
    percent,
    with_interval,
)
from hounsfield.reports.sections.drawings import risk_coverage_figure
from hounsfield.reports.svg import svg_of
from hounsfield.runs import LabelRun
from hounsfield.tasks import TASKS

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


def calibration_section(run: LabelRun) -> Section:
    """Whether 80 of 100 images with a probability of .8 have the label."""
    return Section("calibration", "Calibration", tuple(_calibration_blocks(run)))


def _calibration_blocks(run: LabelRun) -> Iterator[Block]:
    answers = run.shown.answers
    yield Paragraph(_scaling(run))
    if run.verdicts:
        yield Points(tuple(verdict.text() for verdict in run.verdicts))
    yield Drawing(
        svg_of(reliability_figure(answers, run.shown.groups), "reliability", "Reliability diagram"),
        "Observed frequency against predicted probability, in bins with equal numbers of images. On the dotted line "
        "calibration is perfect.",
        _reliability_table(run),
    )
    rows = [
        (METRICS[name].title, with_interval(run.estimates[name]))
        for name in ("ece", "brier", "log_loss")
        if name in run.estimates
    ]
    if "ece_uncalibrated" in run.estimates:
        rows.insert(0, ("Calibration error before scaling", with_interval(run.estimates["ece_uncalibrated"])))
    for column, question in enumerate(answers.questions if not TASKS[answers.task].exclusive else ()):
        rows += _brier_rows(run, column, f" ({question})" if len(answers.questions) > 1 else "")
    for verdict in run.verdicts:
        rows += _line_rows(verdict, f" ({verdict.question})" if len(run.verdicts) > 1 else "")
    yield Table(f"Calibration on {run.split} images", ("metric", "value"), tuple(rows), beside=True)


def _scaling(run: LabelRun) -> str:
    record = run.bundle.calibration
    if not record:
        return "The probabilities are the network's own; no scaling was tried."
    ece, cases = record["ece"], f"{record['cases']:,} validation images"
    if len(record["log_loss"]) == 1:
        return f"The {cases} are too few to choose a scaling, so the probabilities are the network's own."
    told = {
        "none": "No scaling was better beyond chance on held-out images, so the probabilities are the network's own",
        "temperature": "All logits are divided by one temperature (temperature scaling)",
        "platt": "Logits are transformed linearly (Platt scaling)",
        "isotonic": "Probabilities are mapped by an increasing step function (isotonic regression)",
    }[run.bundle.scaling.name]
    change = (
        ""
        if run.bundle.scaling.name == "none"
        else (
            f" The calibration error on held-out validation images is {with_interval(ece['before'])} before and "
            f"{with_interval(ece['after'])} after."
        )
    )
    return f"{told}; this was chosen on {cases}.{change}"


def _reliability_table(run: LabelRun) -> Table:
    rows, answers = [], run.shown.answers
    for column, question in enumerate(answers.judged):
        known = answers.known_rows(column)
        if not len(known):
            continue
        groups = None if run.shown.groups is None else run.shown.groups[known]
        bins = reliability(answers.outcome[known, column], answers.confidence[known, column], groups=groups)
        both = zip(bins.count, bins.probability, bins.frequency, bins.low, bins.high, strict=True)
        rows += [
            (
                question,
                f"{int(count):,}",
                number(float(predicted)),
                number(float(found)),
                interval(float(low), float(high)),
            )
            for count, predicted, found, low, high in both
        ]
    return Table("", ("label", "images", "mean probability", "observed", "95 % interval"), tuple(rows))


def _brier_rows(run: LabelRun, column: int, name: str) -> Iterator[tuple[str, str]]:
    truth, scores = run.shown.answers.column(column)
    if not len(truth):
        return
    parts = brier_decomposition(truth, scores)
    yield (f"Brier score{name}: miscalibration", number(parts.reliability, 4))
    yield (f"Brier score{name}: resolution", number(parts.resolution, 4))
    yield (f"Brier score{name}: uncertainty", number(parts.uncertainty, 4))


def _line_rows(verdict: CalibrationVerdict, name: str) -> Iterator[tuple[str, str]]:
    line, unreliable = verdict.line, " unreliable" if verdict.line.note else ""
    yield (
        f"Calibration slope{name} (1 is perfect; below 1 probabilities are too extreme)",
        f"{number(line.slope, 2)} ({interval(*line.slope_interval, 2)}){unreliable}",
    )
    yield (
        f"Calibration intercept{name} (log odds, slope held at 1; below 0 probabilities are too high)",
        f"{line.intercept:+.2f} ({interval(*line.intercept_interval, 2)}){unreliable}",
    )
    yield (
        f"Calibration in the large{name} (observed share minus mean probability)",
        f"{verdict.observed - verdict.predicted:+.3f} ({interval(*verdict.large)})",
    )


def _promise_table(promises: tuple[Promise, ...], split: str) -> Table:
    rows = [
        (
            promise.name,
            promise.promised or "nothing",
            f"{number(promise.value)} ({interval(*promise.interval)})",
            f"{promise.cases:,}",
            "no" if promise.broken else "yes" if promise.promised else "",
        )
        for promise in promises
    ]
    return Table(
        f"What is promised, and what was found on {split} images",
        ("--sets 0.9 and --abstain 0.05", "promised", "found", "cases", "held"),
        tuple(rows),
        "A promise was not held where its interval lies on the wrong side. Within a class nothing is promised, unless "
        "sets are made with --by-class.",
    )


def uncertainty_section(run: LabelRun) -> Section:
    """When the model should abstain."""
    return Section("uncertainty", "Uncertainty: when to abstain", tuple(_uncertainty_blocks(run)))


def _uncertainty_blocks(run: LabelRun) -> Iterator[Block]:
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
        "Share of wrong answers when only the most confident predictions are given and the other images are left to a "
        "reader.",
    )
    yield Table(
        "Answering only the most confident",
        ("answered", "wrong among these", "lowest confidence"),
        tuple(rows),
        beside=True,
    )
    yield Paragraph(
        "The model answers every image unless told to abstain. hounsfield predict RUN INPUT --abstain 0.05 answers "
        "only where at most 5 % of answers are expected to be wrong; --sets 0.9 gives sets of labels that contain "
        "the true one in 90 of 100 cases. Both hold for cases like the validation images."
    )
    if run.promises:
        yield _promise_table(run.promises, run.split)
        if not any(promise.name == ANSWERED for promise in run.promises):
            yield Paragraph("--abstain 0.05 is refused: there are too few validation images to promise so few errors.")
    if run.bundle.uncertainty is not None and run.bundle.uncertainty.novelty is not None:
        yield Paragraph("Images unlike the training images are always flagged as out of distribution.")
    # What the test said beside calibration and subgroups, which have sections of their own.
    lines = (str(line) for line in run.event("uncertainty", "doubt").get("lines", ()))
    told = ("Calibration", "Probabilities of", "Label sets hold", "Wrong among", "Subgroups:")
    yield from (Paragraph(line) for line in dict.fromkeys(lines) if not line.startswith(told))
