"""Two runs on the same test images, paired by patient: what the second gained or lost. No Keras is needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.errors import EvaluationError
from hounsfield.evaluation import values
from hounsfield.evaluation.comparison import Bootstrap, Statistic, adjust_p_values, paired_differences
from hounsfield.evaluation.detection import weighted_figures
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers
from hounsfield.evaluation.pairing import Comparison, compare_predictions
from hounsfield.evaluation.predictions import Predictions
from hounsfield.evaluation.segmentation_assessment import CASE_COLUMNS
from hounsfield.evaluation.segmentation_figures import FIGURES, label_columns
from hounsfield.runs import BoxRun, LabelRun, MaskRun, RunRecord, ValueRun, read_run
from hounsfield.runs.test_use import record_test_use, refuse_sealed
from hounsfield.tasks import Family

DEFAULTS = Bootstrap()
# By what detectors, segmenters and regressors are compared; the first is the one by which they are judged.
BOX_FIGURES = ("ap", "ap50", "ap75", "mask_ap", "luna16", "precision", "recall", "f1")
MASK_FIGURES = ("dice", "iou", "nsd")
VALUE_FIGURES: dict[str, tuple[str, ...]] = {
    "regression": ("mae", "rmse", "r2", "concordance"),
    "ordinal": ("kappa_quadratic", "accuracy", "within_one", "mae"),
}
SMALLER_IS_BETTER = frozenset({"mae", "rmse"})


@dataclass(frozen=True, eq=False)
class Judged:
    """The test of one run on some images, as a comparison takes it.

    Attributes:
        names: of the figures; the first is the one by which runs are judged.
        titles: name → what it is called where people read it.
        of: weights (n, R) of the images → (names, R).
        truth: of each image, to see that both runs were tested on the same one.
        present: (n, K) labels, by which patients are drawn.
    """

    names: tuple[str, ...]
    titles: Mapping[str, str]
    of: Statistic
    truth: list[Hashable]
    present: Booleans


def compare_runs(first: Path, second: Path, *, by: str = "compare", options: Bootstrap = DEFAULTS) -> Comparison:
    """Compare two runs on the test images that both have; a use of them is counted in each run.

    Images of patients that one of the two was trained or chosen on are left out.

    Args:
        first: the folder of the one run.
        second: of the other.
        by: the command that is counted.
        options: of the bootstrap.

    Raises:
        RunError: one of them cannot be read, or its test images are sealed.
        EvaluationError: they do not answer one question, or share no test image of a patient new to both.
    """
    for path in (first, second):
        refuse_sealed(path)
    bundles = [Bundle.load(run) for run in (first, second)]
    if len({(bundle.task, bundle.labels) for bundle in bundles}) > 1:
        told = [f"{bundle.task} ({', '.join(bundle.labels)})" for bundle in bundles]
        raise EvaluationError(
            f"Two runs are compared on one question: {first} answers {told[0]}, and {second} {told[1]}. Train both for "
            "the same labels."
        )
    runs = read_run(first), read_run(second)
    if runs[0].split != runs[1].split:
        raise EvaluationError(
            f"{first} was tested on its {runs[0].split} images and {second} on its {runs[1].split} images: expected "
            "the test images of both."
        )
    for path, run in zip((first, second), runs, strict=True):
        if run.split == "test":
            record_test_use(path, by)
    known = _trained_patients(runs)
    if bundles[0].family == "labels":
        return _labels(cast("tuple[LabelRun, LabelRun]", runs), known, options)
    return _others(runs, known, options)


def _trained_patients(runs: tuple[RunRecord, RunRecord]) -> set[object]:
    """Patients that one of the runs has in another split than the one that is compared."""
    return {patient for run in runs for patient in run.cohort["patient"][run.cohort["split"] != run.split].dropna()}


def _left_out(count: int) -> tuple[str, ...]:
    told = f"{count:,} images of patients that one of the runs was trained or chosen on were left out."
    return (told,) if count else ()


def _labels(runs: tuple[LabelRun, LabelRun], known: set[object], options: Bootstrap) -> Comparison:
    kept = [_unknown_rows(run.shown, known) for run in runs]
    count = sum(len(run.shown.answers) - len(each.answers) for run, each in zip(runs, kept, strict=True))
    first, second = kept
    found = compare_predictions(first, second, **options._asdict())
    return replace(found, notes=(*_left_out(count), *found.notes))


def _unknown_rows(predictions: Predictions, known: set[object]) -> Predictions:
    if predictions.groups is None:
        return predictions
    rows = np.flatnonzero([patient not in known for patient in predictions.groups.tolist()])
    if not len(rows):
        raise EvaluationError(_NOTHING)
    return replace(
        predictions,
        answers=predictions.answers.take(rows),
        groups=predictions.groups[rows],
        table=predictions.table.iloc[rows],
    )


_NOTHING = (
    "The two runs share no test image of a patient that neither was trained or chosen on. Train the second with "
    "--extend, which keeps the test images of the first."
)


def _others(runs: tuple[RunRecord, RunRecord], known: set[object], options: Bootstrap) -> Comparison:
    tables = [run.rows(run.split).drop_duplicates("image").set_index("image") for run in runs]
    shared = [str(image) for image in tables[0].index if image in tables[1].index]
    patients = tables[0]["patient"].loc[shared]
    new = [image for image, patient in zip(shared, patients, strict=True) if patient not in known]
    if not new:
        raise EvaluationError(_NOTHING)
    judge = JUDGES[runs[0].bundle.family]
    first, second = (judge(run, new) for run in runs)
    different = [image for image, one, other in zip(new, first.truth, second.truth, strict=True) if one != other]
    if different:
        raise EvaluationError(
            f"The truths of {len(different):,} test images differ between the two runs, first '{different[0]}': they "
            "were tested on data that has changed. Test both on the same data."
        )
    names = tuple(name for name in first.names if name in second.names)
    statistics = tuple(_chosen(each, names) for each in (first, second))
    groups = patients.loc[new].to_numpy(dtype=object)
    unknown = bool(pd.isna(groups).all())
    clusters = make_clusters(first.present, None if unknown else groups)
    differences = paired_differences(
        names, cast("tuple[Statistic, Statistic]", statistics), first.present, clusters, options
    )
    ones = np.ones((len(new), 1))
    found = [dict(zip(names, each(ones)[:, 0].tolist(), strict=True)) for each in statistics]
    left = [len(table) - len(shared) for table in tables]
    notes = [f"Compared on the {len(new):,} images that both runs have; {left[0]:,} and {left[1]:,} left out."]
    if unknown:
        notes.append("No patients are known: every image is treated as a patient of its own.")
    return Comparison(
        found[0],
        found[1],
        differences,
        adjust_p_values({name: gap.p_value for name, gap in differences.items()}),
        len(new),
        None if unknown else len(clusters),
        (*_left_out(len(shared) - len(new)), *notes),
        {name: first.titles[name] for name in names},
        names[0],
        smaller=names[0] in SMALLER_IS_BETTER,
        confidence=options.confidence,
    )


def _chosen(judged: Judged, names: Sequence[str]) -> Statistic:
    rows = [judged.names.index(name) for name in names]
    return lambda weights: judged.of(weights)[rows]


def _places(known: Sequence[str], images: Sequence[str]) -> Integers:
    return np.asarray(pd.Index(known).get_indexer(pd.Index(images)))


def _boxes(run: BoxRun, images: Sequence[str]) -> Judged:
    shown = run.shown
    detections = shown.detections.take(_places(list(run.rows(run.split)["image"]), images))
    every, of = weighted_figures(
        detections, threshold=shown.threshold, criterion=shown.criterion, overlap=shown.overlap
    )
    names = tuple(name for name in BOX_FIGURES if name in every)
    rows = [every.index(name) for name in names]
    boxes = [detections.truth_images == image for image in range(len(images))]
    truth: list[Hashable] = [
        tuple(sorted(map(tuple, np.column_stack([detections.truth_classes, detections.truth_boxes])[at].tolist())))
        for at in boxes
    ]
    titles = {name: shown.title(name) for name in names}
    return Judged(names, titles, lambda weights: of(weights)[rows], truth, detections.truth_counts() > 0)


def _masks(run: MaskRun, images: Sequence[str]) -> Judged:
    shown = run.shown
    places = _places(shown.images, images)
    columns = [
        label_columns({name: shown.of_cases(name)[places, index] for name in CASE_COLUMNS})
        for index in range(len(shown.labels))
    ]

    def of(weights: Floats) -> Floats:
        found = np.stack([[FIGURES[name].weighted(each, weights) for each in columns] for name in MASK_FIGURES])
        defined = np.isfinite(found)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(defined, found, 0).sum(axis=1) / defined.sum(axis=1))

    sizes = shown.of_cases("size_true")[places]
    titles = {name: shown.title(name) for name in MASK_FIGURES}
    return Judged(MASK_FIGURES, titles, of, [tuple(row) for row in sizes.tolist()], sizes > 0)


def _values(run: ValueRun, images: Sequence[str]) -> Judged:
    shown = run.shown
    places = _places(list(run.table["image"][run.table["split"] == run.split]), images)
    true, predicted = shown.truth[places], shown.predicted[places]
    every, names = list(values.FIGURES[shown.task]), VALUE_FIGURES[shown.task]
    rows = [every.index(name) for name in names]
    return Judged(
        names,
        {name: shown.title(name) for name in names},
        lambda weights: values.figures(shown.task, true, predicted, weights)[rows],
        list(true.tolist()),
        np.zeros((len(images), 1), bool),
    )


# How each family but that of labels is compared, which has a test of its own (``evaluation.pairing``).
JUDGES: dict[Family, Callable[..., Judged]] = {"boxes": _boxes, "masks": _masks, "values": _values}
