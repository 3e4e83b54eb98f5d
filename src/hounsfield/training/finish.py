"""What follows the last epoch: the bundle, what validation decides, the figures on each split, the diagnosis."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hounsfield.atomic import replacing, write_json
from hounsfield.bundle import Bundle, export_onnx
from hounsfield.cohorts.quality import with_intensities
from hounsfield.errors import BundleError, MissingDependency
from hounsfield.evaluation import estimates_to_dict
from hounsfield.images import Image
from hounsfield.reports.figures import learning_curves, save_figure
from hounsfield.reports.table import PAGES
from hounsfield.runs.test_use import TEST_USED, sealed_run
from hounsfield.safe_text import cell
from hounsfield.testing import TESTS
from hounsfield.training.base import Choice, Job, Member
from hounsfield.training.starts import start_decided
from hounsfield.training.table import TRAININGS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """What the end of a training gives.

    Attributes:
        metrics: the content of ``metrics.json``.
        diagnosis: lines on overfitting.
        uncertainty: lines on what validation decided, and on how sure the predictions are.
    """

    metrics: dict[str, Any]
    diagnosis: tuple[str, ...]
    uncertainty: tuple[str, ...]


def finish(job: Job[Any, Any], members: list[Member[Any, Any]]) -> Finished:
    """Write the bundle, metrics, predictions and figures of a training.

    Validation figures are those of each network on the rows that it was not trained on; test figures are those of the
    bundle, run by the engine that will run it later.
    """
    folder, cohort = job.folder, job.store.cohort
    entry, test = TRAININGS[job.plan.family], TESTS[job.plan.family]
    bundle = entry.deploy(job, members).with_quality(job.fingerprint.quality)
    _export(job, bundle)
    choice = entry.choose(job, members, bundle)
    engine = choice.predictor.engine
    folder.record("engine", name=engine.name, description=engine.description)
    raw = _predict(job, choice)
    assessed = {split: test.assess(cohort, each, choice.bundle) for split, each in raw.items()}
    lines = [*start_decided(job.plan), *choice.lines]
    if "test" in raw:
        lines += test.notes(choice.bundle, raw["test"], "test images")
    lines += entry.remarks(job, choice, raw, assessed)
    metrics = {split: estimates_to_dict(dict(each.estimates)) for split, each in assessed.items()}
    verdict = entry.diagnose(job, members, choice)
    folder.record("diagnosis", **verdict.record)
    folder.record("uncertainty", lines=lines)
    table = pd.concat([test.table(cohort, each, choice.bundle) for each in raw.values()])
    table = with_intensities(table, job.intensities)
    with replacing(folder.predictions) as temporary:
        table.map(cell).to_csv(temporary, index=False)
    split = list(raw)[-1]
    _draw(job, choice.bundle, raw[split], assessed[split], split)
    # Written last: a run that has its metrics has all else.
    write_json(folder.metrics, metrics)
    return Finished(metrics, verdict.lines, tuple(lines))


def _export(job: Job[Any, Any], bundle: Bundle) -> None:
    try:
        export_onnx(bundle)
    except (BundleError, MissingDependency) as error:
        job.folder.record("warning", text=str(error))
        logger.warning("%s", error)


def _predict(job: Job[Any, Any], choice: Choice[Any]) -> dict[str, Any]:
    """The raw outcomes of validation and, where there are any that are not sealed, of test rows."""
    raw = {"validation": choice.validation}
    rows = job.store.cohort.samples(job.store.cohort.rows("test"))
    if len(rows) and not sealed_run(job.folder.path):
        job.folder.record(TEST_USED, by="train")
        raw["test"] = TESTS[job.plan.family].predict(choice.predictor, job.store, rows, job.progress, "test")
    return raw


def _draw(job: Job[Any, Any], bundle: Bundle, raw: Any, assessed: Any, split: str) -> None:
    """The figures of one split, and the learning curves."""
    cohort = job.store.cohort

    def read(number: int) -> Image:
        image: Image = cohort.read(int(raw.rows[number]))
        return image

    family = job.plan.family
    drawn = PAGES[family].figures(assessed, read) | TRAININGS[family].figures(job, bundle, raw)
    figures = {f"{name}_{split}": figure for name, figure in drawn.items()}
    figures["learning_curves"] = learning_curves(pd.read_csv(job.folder.history))
    for name, figure in figures.items():
        save_figure(figure, job.folder.figures / f"{name}.png")
