"""Testing a finished run: on its own test split, or on other data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store, load_cohort
from hounsfield.errors import RunError
from hounsfield.evaluation import Assessment
from hounsfield.inference import open_engine
from hounsfield.inference.decisions import refuse_threshold
from hounsfield.progress import Progress, silent
from hounsfield.training.doubt import unlike_lines
from hounsfield.training.engine_runs import run_engine
from hounsfield.training.finish import assess_rows
from hounsfield.training.preparation import DataRequest
from hounsfield.training.run_folder import RunFolder


def evaluate_run(
    run: Path | str,
    data: str | None = None,
    *,
    threshold: float | None = None,
    num_replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress = silent,
) -> Assessment:
    """Run the bundle of a run on test images, and measure it.

    Args:
        run: the run folder.
        data: other DATA, all rows of which are tested, or its test rows where it comes with splits; ``None`` for the
            test rows of the run's own data.
        threshold: of the decisions; the bundle's where not given.
        num_replicates: of the bootstrap.
        confidence: nominal coverage of the intervals.
        seed: of the bootstrap.
        progress: told of the images.

    Raises:
        RunError: the run has no test rows, or its data has changed.
        BundleError: the run was not finished.
        CohortError: the data cannot be tested on.
        UsageError: a threshold is given for a multi-class task.
    """
    bundle = Bundle.load(run)
    refuse_threshold(bundle.classifier_task, threshold)
    cohort, note = tested_cohort(run, data, bundle)
    store = Store.build(cohort, bundle.pipeline, progress=progress)
    engine = open_engine(bundle)
    tested = run_engine(engine, store, np.arange(len(store)), progress, "predicting")
    notes = (*store.cohort.notes, note, f"Predicted by {engine.description}.", *unlike_lines(bundle, tested, "images"))
    assessment = assess_rows(
        store.cohort,
        tested.rows,
        tested.probabilities,
        bundle,
        threshold=threshold,
        notes=notes,
        num_replicates=num_replicates,
        confidence=confidence,
        seed=seed,
    )
    return replace(assessment, table=store.cohort.table, features=tested.features)


def tested_cohort(run: Path | str, data: str | None, bundle: Bundle) -> tuple[Cohort, str]:
    """The rows that a run is tested on, and which they are, in words; see :func:`evaluate_run`."""
    return _own_test_rows(RunFolder.open(Path(run)), bundle) if data is None else _other(data, bundle)


def _load(request: DataRequest, bundle: Bundle) -> Cohort:
    return load_cohort(
        request.data,
        kind=request.kind,
        images=Path(request.images) if request.images else None,
        label_columns=request.label_columns or None,
        allow_outside=request.allow_outside,
        labels=bundle.labels,
        task=bundle.task,
    )


def _own_test_rows(folder: RunFolder, bundle: Bundle) -> tuple[Cohort, str]:
    """The test rows as the run's table of samples names them."""
    try:
        splits = pd.read_parquet(folder.cohort, columns=["image", "split"])
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder.cohort}, the run's table of samples, cannot be read ({' '.join(str(error).split())}), so its "
            f"test rows are not known. Restore the file, or name other data: hounsfield evaluate {folder.path} DATA."
        ) from error
    chosen = set(splits["image"][splits["split"] == "test"])
    if not chosen:
        raise RunError(
            f"The run {folder.path} has no test rows. Name other data: hounsfield evaluate {folder.path} DATA."
        )
    cohort = _load(DataRequest.from_dict(folder.read_environment()["data"]), bundle)
    cohort = cohort.subset(cohort.table["image"].isin(chosen).to_numpy())
    if len(cohort) < len(chosen):
        raise RunError(
            f"Of the {len(chosen):,} test rows of the run {folder.path}, {len(chosen) - len(cohort):,} are no longer "
            "in its data. Restore the data, or name other data to test on."
        )
    return cohort, f"Tested on the {len(cohort):,} test rows of the run."


def _other(data: str, bundle: Bundle) -> tuple[Cohort, str]:
    cohort = _load(DataRequest(data), bundle)
    test = cohort.rows("test")
    if len(test):
        return cohort.subset(test), f"The data comes with splits: tested on its {len(test):,} test rows."
    return cohort, f"Tested on all {len(cohort):,} rows; whether some of them were trained on is not known."
