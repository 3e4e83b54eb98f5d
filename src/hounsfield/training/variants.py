"""Trainings of a finished run's plan with something changed, to be compared with it on its validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts.request import DataRequest
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.errors import RunError
from hounsfield.evaluation import Outcomes, predictions_from_table
from hounsfield.evaluation.predictions import MISSING_CELLS
from hounsfield.plans.labels import Plan
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.safe_text import plain_cells
from hounsfield.training.run import resume, train
from hounsfield.training.together import Crew


def finished_run(run: Path | str) -> RunFolder:
    """The folder of a run that has its metrics.

    Raises:
        RunError: there is none, or it is not finished.
    """
    folder = RunFolder.open(Path(run))
    if not folder.finished:
        raise RunError(
            f"The run {run} is not finished, so there is nothing to compare with. Continue it with: hounsfield train "
            f"--resume {run}"
        )
    return folder


class Variant(NamedTuple):
    """A training of a plan on the data of a run.

    Attributes:
        run: whose data.
        plan: that is trained.
        path: of its own run.
    """

    run: Path
    plan: Plan
    path: Path


def train_variant(variant: Variant) -> None:
    """Train one in this process, which may be a worker's."""
    trained_variant(RunFolder.open(variant.run), variant.plan, variant.path, silent)


def train_variants(variants: Sequence[Variant], progress: Progress, crew: Crew | None) -> list[RunFolder]:
    """Train several, one after another, or side by side by workers; those that are there are taken as they are."""
    if crew is None:
        for variant in variants:
            trained_variant(RunFolder.open(variant.run), variant.plan, variant.path, progress)
    else:
        task = f"training {len(variants)} variants"
        progress(task, 0, len(variants))
        function = f"{__name__}:{train_variant.__name__}"
        with crew(Calls(function, {"KERAS_BACKEND": keras.backend.backend()})) as pool:
            for done, _ in enumerate(call_each(pool, variants, ordered=False), start=1):
                progress(task, done, len(variants))
    return [RunFolder.open(variant.path) for variant in variants]


def trained_variant(folder: RunFolder, plan: Plan, path: Path, progress: Progress) -> RunFolder:
    """A training of ``plan`` on the data of a run; one that is in ``path`` already is finished or taken as it is."""
    path.parent.mkdir(exist_ok=True)
    if (path / "plan.yaml").is_file():
        if not RunFolder.open(path).finished:
            resume(path, progress=progress)
        return RunFolder.open(path)
    # It is judged on validation images alone; those for test may be sealed, and a use of them would not be counted.
    request, splits = DataRequest.from_dict(folder.read_environment()["data"]), pd.read_parquet(folder.cohort)["split"]
    train(request, path, plan=plan, seal=bool((splits == "test").any()), progress=progress)
    return RunFolder.open(path)


def validation_table(folder: RunFolder) -> pd.DataFrame:
    """What a run says of its validation images, by image."""
    texts = dict.fromkeys(("image", "label", "patient", "prediction"), str)
    table = plain_cells(pd.read_csv(folder.predictions, dtype=texts, **MISSING_CELLS))
    return table[table["split"] == "validation"].set_index("image", drop=False)


def answers_of(table: pd.DataFrame, folder: RunFolder) -> Outcomes:
    """Truths, probabilities and decisions of such a table, at the threshold of its run or those of its labels."""
    bundle = Bundle.load(folder.path)
    return predictions_from_table(table, task=bundle.classifier_task, threshold=bundle.threshold).answers


def patients_of(table: pd.DataFrame) -> np.ndarray | None:
    """The patient of each image of such a table, where all are known."""
    return table["patient"].to_numpy() if table["patient"].notna().all() else None
