"""``MODEL_CARD.md``: the report on one page of plain text, to lie beside the bundle."""

from __future__ import annotations

from collections.abc import Iterator

from hounsfield.evaluation.detection_titles import TITLES
from hounsfield.evaluation.metrics import METRICS
from hounsfield.reports.run_report.content import with_interval
from hounsfield.reports.run_report.summary import (
    for_whom_not,
    how_well,
    limitations,
    uncertainty_question,
    what_it_does,
    when_not,
)
from hounsfield.runs.record import DetectorRun, Run
from hounsfield.version import __version__

SHOWN = ("auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "ppv", "npv", "ece")


def model_card(run: Run) -> str:
    """The card as Markdown, after Mitchell et al., "Model cards for model reporting" (2019)."""
    return "\n".join(_lines(run)) + "\n"


def _lines(run: Run) -> Iterator[str]:
    yield f"# Model card: {(' and ' if isinstance(run, DetectorRun) else ' or ').join(run.bundle.labels)}"
    yield from ("", "Not a medical device. Not for diagnosis or treatment.", "")
    yield from ("## Model", "", what_it_does(run), "", *_facts(run), "")
    yield from ("## Intended use", "", "The author's to fill: for whom, in which step of care, by whom.", "")
    yield from ("## How well", "", " ".join(how_well(run)), "", *_figures(run), "")
    yield from ("## For whom not", "", " ".join(for_whom_not(run)), "")
    yield from (f"## {uncertainty_question(run)}", "", " ".join(when_not(run)), "")
    yield from ("## Data", "", *_data(run), "")
    yield from ("## Limitations", "", *(f"- {line}" for line in limitations(run)), "")
    yield from ("## Use", "", "```sh", "hounsfield predict RUN images/ -o predictions.csv", "```", "")
    yield f"Made by Hounsfield {__version__}; the whole report is report.html."


def _facts(run: Run) -> Iterator[str]:
    plan, facts = run.plan, run.environment
    yield f"- Network: {plan['network']}, input {'×'.join(map(str, run.bundle.input_shape))}"
    if isinstance(run, DetectorRun):
        yield f"- Findings are said from a score of {run.bundle.threshold:.4g}"
    else:
        yield f"- Calibration: {run.bundle.scaling.name}"
        if run.bundle.task != "multi-class":
            yield f"- Threshold: {run.bundle.threshold:.4g}"
    yield f"- Made with Hounsfield {facts['hounsfield']}, Keras on {facts['backend']}, seed {plan['seed']}"


def _figures(run: Run) -> Iterator[str]:
    yield f"| metric | {run.split}, 95 % interval | n |"
    yield "| --- | --- | --- |"
    titles = TITLES if isinstance(run, DetectorRun) else {name: METRICS[name].title for name in SHOWN}
    for name, title in titles.items():
        if name in run.estimates:
            found = run.estimates[name]
            yield f"| {title} | {with_interval(found)} | {found['n']:,} |"


def _data(run: Run) -> Iterator[str]:
    for split in ("train", "validation", "test"):
        rows = run.rows(split)
        if rows.empty:
            continue
        patients = f" of {rows['patient'].nunique():,} patients" if rows["patient"].notna().all() else ""
        yield f"- {split}: {len(rows):,} images{patients}"
