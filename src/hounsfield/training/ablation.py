"""What the remedies against overfitting brought: the plan of a run without one of them at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.atomic import write_json
from hounsfield.errors import RunError
from hounsfield.evaluation.ablation import Ablation
from hounsfield.plans.augmentation import Augmentation
from hounsfield.plans.labels import Plan
from hounsfield.plans.loading import classifier_plan
from hounsfield.progress import Progress, silent
from hounsfield.reports.figures import save_figure
from hounsfield.reports.subgroups import ablation_figure
from hounsfield.runs.manifest import adding
from hounsfield.training.together import Crew
from hounsfield.training.variants import (
    Variant,
    answers_of,
    finished_run,
    patients_of,
    train_variants,
    validation_table,
)


def ablate(run: Path | str, *, progress: Progress = silent, crew: Crew | None = None) -> Ablation:
    """Train the plan of a run again without each of its remedies, and compare on the run's validation images.

    The remedies are augmentation, weight decay, dropout, label smoothing, the averaging of weights and a companion, as
    far as the plan has them. Data, split and seed are the run's; the test images take no part. Networks are kept below
    ``ablation`` in the run, so that an ablation that was stopped goes on; the outcome is ``ablation.json``.

    Args:
        run: the folder of a finished run.
        progress: told of all that takes long.
        crew: makes workers that train the variants side by side.

    Raises:
        RunError: the run is not finished, or its plan has no remedy.
        PlanError: the run is a detector's.
    """
    folder = finished_run(run)
    plan = classifier_plan(folder.plan, "An ablation").settled()
    remedies = _remedies(plan)
    if not remedies:
        raise RunError(
            f"The plan of the run {run} has no augmentation, weight decay, dropout, label smoothing or averaging, so "
            "there is nothing to take out. Give a run whose plan has some."
        )
    # An ensemble is compared by one of its networks.
    single = plan.model_copy(update={"folds": 1})
    path = folder.path.absolute()
    variants = [
        Variant(path, single.model_copy(update=changes), path / "ablation" / f"without-{'-'.join(changes)}")
        for changes in remedies.values()
    ]
    if plan.folds > 1:
        variants.append(Variant(path, single, path / "ablation" / "as-planned"))
    trained = train_variants(variants, progress, crew)
    planned = folder if plan.folds == 1 else trained[-1]
    kept = validation_table(planned)
    found = Ablation.of(
        answers_of(kept, planned),
        {
            remedy: answers_of(validation_table(run).loc[kept.index], run)
            for remedy, run in zip(remedies, trained, strict=False)
        },
        groups=patients_of(kept),
        seed=plan.seed,
    )
    table, picture = folder.path / "ablation.json", folder.figures / "ablation.png"
    with adding(folder.path, [table, picture]):
        write_json(table, found.to_dict())
        save_figure(ablation_figure(found), picture)
    return found


def _remedies(plan: Plan) -> dict[str, dict[str, Any]]:
    """Each remedy that the plan has, with the fields that take it out."""
    if plan.adapt == "probe":
        return {}
    varies = plan.augmentation.changes()
    # A network that was trained on no mirrored image is not asked about one.
    variation = "augmentation and mirrored views" if plan.test_time_flips else "augmentation"
    unvaried: dict[str, Any] = {"augmentation": Augmentation(), "test_time_flips": ()}
    if plan.companion is not None:
        unvaried["companion"] = plan.companion.model_copy(update={"augmentation": Augmentation()})
    found: tuple[tuple[Any, str, dict[str, Any]], ...] = (
        (varies, variation, unvaried),
        (plan.weight_decay, f"weight decay {plan.weight_decay:g}", {"weight_decay": 0.0}),
        (plan.dropout, f"dropout {plan.dropout:g}", {"dropout": 0.0}),
        (plan.label_smoothing, f"label smoothing {plan.label_smoothing:g}", {"label_smoothing": 0.0}),
        (plan.average_decay, "averaged weights", {"average_decay": 0.0}),
        (plan.companion, "the companion", {"companion": None}),
    )
    return {remedy: changes for used, remedy, changes in found if used}
