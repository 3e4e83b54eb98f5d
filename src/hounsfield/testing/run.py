"""Testing a finished run: on its own test split, or on other data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.cohorts.delegation import delegate_for
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import UsageError
from hounsfield.images import Image
from hounsfield.inference import open_predictor
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Family, family_of
from hounsfield.testing.base import COMMON_OPTIONS, Assessed, Raw
from hounsfield.testing.cohort import tested_cohort
from hounsfield.testing.engine_runs import BATCH
from hounsfield.testing.table import TESTS


@dataclass(frozen=True, eq=False)
class Tested:
    """A bundle tested on rows of a cohort.

    Attributes:
        bundle: what was tested.
        cohort: the rows that could be read, in the order of the raw outcomes.
        raw: what the network gave.
        assessment: an ``Assessment``, of a detector a ``DetectionAssessment``.
        trained: how many of the rows the run was trained or chosen on, as far as it knows.
    """

    bundle: Bundle
    cohort: Cohort
    raw: Raw
    assessment: Any
    trained: int = 0

    def read(self, number: int) -> Image:
        """The image of one row, as it was before preprocessing."""
        return self.cohort.read(number)


def evaluate_table(path: Path | str, **options: Any) -> Assessed:
    """Measure anyone's table of predictions, or of findings with boxes.

    Args:
        path: the table.
        options: ``threshold``, ``num_replicates``, ``seed`` and ``confidence``; ``task`` of a table of predictions;
            ``truth``, the true boxes, of a table of findings, with ``criterion`` and ``overlap``.

    Raises:
        CohortError, EvaluationError: the table cannot be read, or does not fit the truth.
        UsageError: the value of an option is not known.
    """
    return TESTS[table_family(path, options)].assess_table(Path(path), **options)


def table_family(path: Path | str, options: Mapping[str, Any]) -> Family:
    """Of which family a table is that comes with these options."""
    return next(family for family, test in reversed(TESTS.items()) if test.reads(Path(path), options))


# Of one evaluation, at most.
MOST_PORTIONS = 64


class Portion(NamedTuple):
    """Rows of a store that another process predicts with a bundle, which it has to see."""

    folder: Path
    store: Store
    rows: np.ndarray


def predict_portion(portion: Portion) -> tuple[Raw, str]:
    """What the bundle gives for a portion, and by which engine."""
    predictor = _opened(portion.folder)
    test = TESTS[family_of(predictor.bundle.task)]
    return test.predict(predictor, portion.store, portion.rows, silent, "test"), predictor.engine.description


@lru_cache(maxsize=1)
def _opened(folder: Path) -> Any:
    return open_predictor(Bundle.load(folder))


def _predicted(bundle: Bundle, store: Store, progress: Progress) -> tuple[Raw, str]:
    """What the bundle gives for every sample of a store, by this process or by others, and the engine in words."""
    rows = store.cohort.samples()
    delegate = delegate_for(len(rows))
    if delegate is None:
        predictor = open_predictor(bundle)
        raw = TESTS[family_of(bundle.task)].predict(predictor, store, rows, progress, "test")
        return raw, predictor.engine.description
    # Whole batches, so that each network sees what it sees in one process. Each portion has the table of the store.
    count = BATCH * math.ceil(len(rows) / (BATCH * MOST_PORTIONS))
    portions = (
        Portion(bundle.folder.absolute(), store, rows[start : start + count]) for start in range(0, len(rows), count)
    )
    parts, engines, done = list[Raw](), set[str](), 0
    for raw, engine in delegate(f"{__name__}:{predict_portion.__name__}", portions):
        parts.append(raw)
        engines.add(engine)
        done += len(raw.rows)
        progress("predicting test images", done, len(rows))
    return type(parts[0]).join(parts), "; ".join(sorted(engines))


def evaluate_run(
    run: Path | str, data: DataRequest | str | None = None, *, progress: Progress = silent, **options: Any
) -> Tested:
    """Run the bundle of a run on test images, and measure it.

    Args:
        run: the run folder.
        data: other DATA, perhaps with the options that say how it is read; all rows are tested, or its test rows where
            it comes with splits. ``None`` for the test rows of the run's own data.
        progress: told of the images.
        options: ``threshold`` (the bundle's where not given), ``num_replicates``, ``seed`` and ``confidence`` of the
            intervals, and those that ``TESTS`` names for the run's family, such as ``overlap`` of a detector.

    Raises:
        RunError: the run has no test rows, or its data has changed.
        BundleError: the run was not finished.
        CohortError: the data cannot be tested on.
        UsageError: an option or its value does not fit the task.
    """
    bundle = Bundle.load(run)
    test = TESTS[family_of(bundle.task)]
    if unknown := set(options) - COMMON_OPTIONS - test.OPTIONS:
        raise UsageError(
            f"A test of a {bundle.task} bundle has no option {', '.join(sorted(unknown))}: expected some of "
            f"{', '.join(sorted(COMMON_OPTIONS | test.OPTIONS))}."
        )
    test.check(bundle, options)
    rows = tested_cohort(run, data, bundle, "evaluate")
    store = test.build_store(rows.cohort, bundle.pipeline, progress)
    raw, engine = _predicted(bundle, store, progress)
    notes = (
        *store.cohort.notes,
        rows.note,
        f"Predicted by {engine}.",
        *test.notes(bundle, raw, "images"),
        *options.pop("notes", ()),
    )
    assessment = test.assess(store.cohort, raw, bundle, notes=notes, **options)
    return Tested(bundle, store.cohort, raw, assessment, rows.trained)
