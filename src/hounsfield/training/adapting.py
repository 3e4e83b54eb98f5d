"""What a training has to see to where it starts from weights that were trained before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.scan import scan
from hounsfield.containers import read_parquet
from hounsfield.errors import CohortError, PlanError
from hounsfield.plans.architecture import Adapt
from hounsfield.plans.loading import load_plan
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained import find_source
from hounsfield.pretrained.folder import PATIENT, PIXELS, seen_images
from hounsfield.tasks import TASKS


def check_adapting(plan: WholeImagePlan, cohort: Cohort) -> None:
    """Refuse what cannot be adapted, and weights that know images by which they would be judged.

    Raises:
        PlanError: a probe of samples of several images, or of grades in order.
        CohortError: the weights are of a run that was trained on patients of this validation or test.
    """
    if plan.adapt is None or plan.weights is None:
        return
    if plan.adapt == "probe" and (plan.views is not None or TASKS[plan.task].ordered):
        what = "samples of several images" if plan.views is not None else "grades in order"
        raise PlanError(f"The plan has adapt: probe, which is not for {what}. Set adapt: finetune.")
    if plan.adapt == "lora" and plan.views is not None:
        raise PlanError("The plan has adapt: lora, which is not for samples of several images. Set adapt: finetune.")
    check_unseen(plan.weights, cohort)


def check_unseen(weights: str, cohort: Cohort) -> None:
    """Refuse weights that know images by which they would be judged.

    Raises:
        CohortError: they were trained, or pretrained, on patients of this validation or test.
    """
    judged = cohort.table[cohort.table["split"].isin(["validation", "test"])]
    shared = max((known(cohort, judged) for known in _learned_from(weights)), default=0)
    if shared:
        raise CohortError(
            f"{shared:,} of {len(judged):,} images of validation and test are of patients, or are images, that the "
            f"weights {weights} were trained on, so figures on them would be too good. Split the data as it was split "
            "there (the same seed, or a column 'split'), leave those patients out of one of the two, or take other "
            "weights."
        )


# How many of the judged rows of a cohort are known.
Known = Callable[[Cohort, pd.DataFrame], int]


def _learned_from(weights: str) -> Iterator[Known]:
    """What a run of one's own learned from, then that of the weights from which it started, and so on."""
    followed: set[Path] = set()
    while True:
        source = find_source(weights)
        if source.kind == "own pretraining":
            yield partial(_pretrained_on, seen_images(source.folder))
            return
        run = source.folder.parent
        if run in followed or not (run / "cohort.parquet").is_file():
            return
        followed.add(run)
        plan = load_plan(run / "plan.yaml")
        known = read_parquet(run / "cohort.parquet")
        # Each network of an ensemble learned from images that are validation for another one.
        own = ["train"] if getattr(plan, "folds", 1) == 1 else ["train", "validation"]
        yield partial(_trained_on, known[known["split"].isin(own)])
        if plan.weights is None or not Path(plan.weights).is_dir():
            return
        weights = plan.weights


def _trained_on(known: pd.DataFrame, cohort: Cohort, judged: pd.DataFrame) -> int:  # noqa: ARG001 - see ``Known``
    """How many images of ``judged`` are known themselves, by their paths, or by their patient."""
    images = {_absolute(image) for image in known["image"]}
    return int((judged["image"].map(_absolute).isin(images) | _of_patients(known, judged)).sum())


def _pretrained_on(known: pd.DataFrame, cohort: Cohort, judged: pd.DataFrame) -> int:
    """How many images of ``judged`` are known by their pixels, wherever they lay then, or by their patient."""
    pixels = scan(cohort).table["digest"].iloc[judged.index]
    same = pixels.isin(known[PIXELS].dropna()).to_numpy()
    return int((same | _of_patients(known, judged)).sum())


def _of_patients(known: pd.DataFrame, judged: pd.DataFrame) -> pd.Series[bool]:
    patients = set(known[PATIENT].dropna().astype(str))
    return judged[PATIENT].astype("object").map(str).isin(patients) & judged[PATIENT].notna()


def _absolute(image: object) -> str:
    return str(Path(str(image)).absolute())


def origin(weights: str | None, adapt: Adapt | None) -> dict[str, dict[str, str]]:
    """What a bundle keeps of the weights that its training started from."""
    if adapt is None or weights is None:
        return {}
    return {"origin": find_source(weights).origin(adapt)}
