"""What more data would bring: the plan of a run on smaller shares of its patients, and where that curve leads."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hounsfield.atomic import write_json
from hounsfield.errors import RunError
from hounsfield.evaluation.learning_curve import LearningCurve, learning_curve
from hounsfield.planning.budget import BUDGETS
from hounsfield.plans.labels import Plan
from hounsfield.plans.loading import classifier_plan
from hounsfield.progress import Progress, silent
from hounsfield.reports.figures import save_figure
from hounsfield.reports.subgroups import learning_curve_figure
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import adding
from hounsfield.training.variants import answers_of, finished_run, patients_of, trained_variant, validation_table

SHARES = (0.125, 0.25, 0.5)
LEAST_PATIENTS = 20  # a smaller training set says nothing of larger ones
LEAST_SHARES = 2  # beside the run itself


def forecast(run: Path | str, *, progress: Progress = silent) -> LearningCurve:
    """Train the plan of a run on an eighth, a quarter and half of its patients, and extrapolate the validation error.

    Each share has the run's own validation images and seed, smaller shares lie within larger ones, and a smaller set
    gets as many more passes as the planner would give it. The test images take no part. Networks are kept below
    ``learning_curve`` in the run, so that a forecast that was stopped goes on; the outcome is ``learning_curve.json``.

    Args:
        run: the folder of a finished run.
        progress: told of all that takes long.

    Raises:
        RunError: the run is not finished or has too few patients.
        EvaluationError: the errors leave nothing to extrapolate.
    """
    folder = finished_run(run)
    plan = classifier_plan(folder.plan, "A learning curve").settled()
    cohort = pd.read_parquet(folder.cohort)
    images, patients = int((cohort["split"] == "train").sum()), _patients(cohort)
    shares = [share for share in SHARES if share * plan.train_share * patients >= LEAST_PATIENTS]
    if len(shares) < LEAST_SHARES:
        least = round(LEAST_PATIENTS / SHARES[-LEAST_SHARES])
        raise RunError(
            f"The run {run} was trained on {round(patients * plan.train_share):,} patients; at least {least} are "
            "needed to see how the error falls with their number. Train on more first."
        )
    # An ensemble is compared by one of its networks at each size.
    members = {share: _train_share(folder, plan, share, images, progress) for share in shares}
    members[1.0] = folder if plan.folds == 1 else _train_share(folder, plan, 1.0, images, progress)
    tables = {share: validation_table(member) for share, member in members.items()}
    judged = tables[1.0].index
    answers = {
        round(patients * plan.train_share * share): answers_of(table.loc[judged], members[share])
        for share, table in tables.items()
    }
    curve = learning_curve(answers, groups=patients_of(tables[1.0]), seed=plan.seed)
    table, picture = folder.path / "learning_curve.json", folder.figures / "learning_curve.png"
    with adding(folder.path, [table, picture]):
        write_json(table, curve.to_dict())
        save_figure(learning_curve_figure(curve), picture)
    return curve


def _patients(cohort: pd.DataFrame) -> int:
    """How many patients were trained on; an image of an unknown patient counts as one."""
    rows = cohort[cohort["split"] == "train"]
    return int(rows["patient"].fillna(rows["sample"]).nunique())


def _train_share(folder: RunFolder, plan: Plan, share: float, num_images: int, progress: Progress) -> RunFolder:
    """One network on a share of the patients, who have ``num_images`` training images in all."""
    epochs = epochs_of_share(plan, share, num_images)
    changes = {
        "train_share": plan.train_share * share,
        "folds": 1,
        "epochs": epochs,
        "patience": max(plan.patience, epochs // 3),
    }
    path = folder.path / "learning_curve" / f"share-{share:g}"
    return trained_variant(folder, plan.model_copy(update=changes), path, progress)


def epochs_of_share(plan: Plan, share: float, num_images: int) -> int:
    """The passes over a share of ``num_images`` training images.

    As many as the planner would choose for so few, or, where a plan's epochs were set by hand, as many as show the
    network as many images in all; never more than the effort allows.
    """
    budget, rank, trained = BUDGETS[plan.effort], len(plan.input_shape) - 1, num_images * plan.train_share
    if plan.epochs == budget.epochs_for(trained, rank):
        return budget.epochs_for(trained * share, rank)
    return min(round(plan.epochs / share), max(plan.epochs, budget.epochs[1]))
