"""Figures of detection against COCO's evaluator, LUNA16's rule written out, repeated data and cases worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn.metrics import roc_curve

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.average_precision import average_precisions
from hounsfield.evaluation.counting import counting_errors
from hounsfield.evaluation.detection import (
    assess_detections,
    choose_score,
    coco_record,
    evaluate_detections,
    image_errors,
)
from hounsfield.evaluation.detection_matching import class_events, match_class
from hounsfield.evaluation.detection_titles import detection_title
from hounsfield.evaluation.detections import Detections, Finding, Truth, as_detections, detections_from_tables
from hounsfield.evaluation.free_response import LUNA_RATES, free_response, sensitivities
from hounsfield.reports.sections.box_results import _class_table
from hounsfield.reports.sections.content import with_interval

if TYPE_CHECKING:
    from hounsfield.runs import BoxRun

LABELS = ("red", "white", "platelet")


def scattered(generator: np.random.Generator, count: int, rank: int) -> npt.NDArray[np.float64]:
    """Boxes of sides 4 to 160, whole pixels, so that equal overlaps and thresholds met exactly occur."""
    starts = generator.integers(0, 200, (count, rank))
    lengths = np.exp(generator.uniform(np.log(4), np.log(160), (count, rank))).astype(int)
    return np.concatenate([starts, starts + lengths], axis=1).astype(np.float64)


def random_case(
    seed: int, *, images: int = 12, rank: int = 2, num_labels: int = 3, most: int = 9
) -> tuple[list[Truth], list[Finding]]:
    """Truths, and findings that are near them, repeat them, mistake the class, or are of nothing; scores have ties."""
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        boxes = scattered(generator, int(generator.integers(0, most)), rank)
        classes = generator.integers(0, num_labels, len(boxes))
        again = generator.random(len(boxes)) < 0.85
        moved = boxes[again] + generator.integers(-3, 4, (int(again.sum()), 2 * rank))
        moved[:, rank:] = np.maximum(moved[:, rank:], moved[:, :rank] + 1)
        false = scattered(generator, int(generator.integers(0, 5)), rank)
        guesses = np.concatenate([moved, moved[: len(moved) // 2] + 1, false])
        labels = generator.integers(0, num_labels, len(guesses))
        labels[: len(moved)] = np.where(generator.random(len(moved)) < 0.8, classes[again], labels[: len(moved)])
        truths.append(Truth(boxes, classes))
        found.append(Finding(guesses, labels, generator.random(len(guesses)).round(2)))
    return truths, found


def detections_of(case: tuple[list[Truth], list[Finding]], labels: Sequence[str] = LABELS) -> Detections:
    return as_detections(*case, labels=labels)


def values_of(detections: Detections, **options: Any) -> dict[str, float]:
    estimates = evaluate_detections(detections, num_replicates=20, **options)
    return {name: estimate.value for name, estimate in estimates.items()}


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_cocos_evaluator(seed: int) -> None:
    detections = detections_of(random_case(seed, images=20))
    record = coco_record(detections)
    ours = values_of(detections)
    assert 0.02 < record["ap"] < 0.98
    for name, value in record.items():
        assert ours[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_average_precision_of_crowded_images_is_that_of_cocos_evaluator_with_as_many_findings() -> None:
    detections = detections_of(random_case(3, images=2, num_labels=1, most=300), ("particle",))
    assert detections.truth_counts().max() > 100
    record = coco_record(detections)
    ours = values_of(detections)
    for name, value in record.items():
        assert ours[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    assert "findings of a class were looked at" in assess_detections(detections, num_replicates=5).notes[0]


def test_a_class_that_no_image_has_and_sizes_that_none_has_are_left_out_as_in_coco() -> None:
    truths = [Truth([[0, 0, 10, 10]], [0]), Truth(np.zeros((0, 4)), [])]
    found = [Finding([[0, 0, 10, 10]], [0], [0.9]), Finding([[0, 0, 50, 50]], [2], [0.8])]
    # As two tests of one image each, which are joined.
    parts = [as_detections(truths[at : at + 1], found[at : at + 1], labels=LABELS) for at in (0, 1)]
    detections = Detections.join(parts)
    values, record = values_of(detections), coco_record(as_detections(truths, found, labels=LABELS))
    for name in ("ap", "ap50", "ap_small", "ap_medium", "ap_large"):
        assert values[name] == pytest.approx(record[name], nan_ok=True)
    assert (values["ap"], values["ap_small"]) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(values["ap_large"])
    assert math.isnan(values["ap_white"])


@pytest.mark.parametrize("seed", range(3))
def test_flat_boxes_in_3d_have_the_average_precision_of_2d(seed: int) -> None:
    truths, found = random_case(seed, images=15)

    def flat(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        values = np.asarray(boxes, np.float64).reshape(-1, 4)
        ones = np.ones((len(values), 1))
        return np.concatenate([0 * ones, values[:, :2], ones, values[:, 2:]], axis=1)

    volumes = (
        [Truth(flat(truth.boxes), truth.classes) for truth in truths],
        [Finding(flat(finding.boxes), finding.classes, finding.scores) for finding in found],
    )
    flat_values, deep_values = values_of(detections_of((truths, found))), values_of(detections_of(volumes))
    for name, value in flat_values.items():
        if name.rpartition("_")[2] not in {"small", "medium", "large"}:
            assert deep_values[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    with pytest.raises(EvaluationError, match="boxes of images"):
        coco_record(detections_of(volumes))


def test_average_precision_by_hand() -> None:
    # Two objects; in the order of scores: a hit, a false one, a hit. Precision 1 up to recall 1/2, then 2/3.
    truths = [Truth([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])]
    found = [Finding([[0, 0, 10, 10], [50, 50, 60, 60], [20, 20, 30, 30]], [0, 0, 0], [0.9, 0.8, 0.7])]
    values = values_of(as_detections(truths, found, labels=["x"]), threshold=0.75)
    assert values["ap50"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert (values["precision"], values["recall"], values["f1"]) == (0.5, 0.5, 0.5)
    assert (values["count_bias"], values["count_mae"]) == (0, 0)


@pytest.mark.parametrize("rank", [2, 3])
def test_whole_weights_are_repeated_images(rank: int) -> None:
    truths, tied = random_case(5, images=9, rank=rank, num_labels=2)
    generator = np.random.default_rng(1)
    # Equal scores would be ranked by image, and repeated images have others between them.
    found = [Finding(one.boxes, one.classes, generator.random(len(np.asarray(one.scores)))) for one in tied]
    weights = np.random.default_rng(0).integers(0, 4, (9, 6)).astype(np.float64)
    detections = detections_of((truths, found), LABELS[:2])
    weighted = [average_precisions(match_class(detections, label), weights) for label in range(2)]
    rates = sensitivities(class_events(detections, 0, criterion="centre"), weights)
    counts = counting_errors(detections.truth_counts()[:, 0], detections.counts(0.5)[:, 0], weights)
    for column in range(weights.shape[1]):
        rows = np.repeat(np.arange(9), weights[:, column].astype(int))
        one = np.ones((len(rows), 1))
        repeated = detections_of(([truths[row] for row in rows], [found[row] for row in rows]), LABELS[:2])
        for label in range(2):
            expected = average_precisions(match_class(repeated, label), one)
            np.testing.assert_allclose(weighted[label][..., column], expected[..., 0], atol=1e-12)
        expected = sensitivities(class_events(repeated, 0, criterion="centre"), one)
        np.testing.assert_allclose(rates[:, column], expected[:, 0], atol=1e-12)
        expected = counting_errors(repeated.truth_counts()[:, 0], repeated.counts(0.5)[:, 0], one)
        np.testing.assert_allclose(counts[:, column], expected[:, 0])


def luna_score(detections: Detections, label: int) -> list[float]:
    """LUNA16's evaluation script in short: each nodule takes its best candidate; what is near none is false."""
    probabilities, is_nodule, missed = [], [], 0
    for image in range(detections.num_images):
        here = (detections.images == image) & (detections.classes == label)
        middles = (detections.boxes[here][:, :3] + detections.boxes[here][:, 3:]) / 2
        scores = detections.scores[here]
        left = np.ones(len(scores), bool)
        mine = (detections.truth_images == image) & (detections.truth_classes == label)
        for box in detections.truth_boxes[mine]:
            radius = (box[3] - box[0]) / 2
            near = ((middles - (box[:3] + box[3:]) / 2) ** 2).sum(axis=1) <= radius**2
            left &= ~near
            if near.any():
                probabilities.append(scores[near].max())
                is_nodule.append(1)
            else:
                missed += 1
        probabilities += scores[left].tolist()
        is_nodule += [0] * int(left.sum())
    fpr, tpr, _ = roc_curve(is_nodule, probabilities, drop_intermediate=False)
    false = fpr * (len(is_nodule) - sum(is_nodule)) / detections.num_images
    sensitivity = tpr * sum(is_nodule) / (sum(is_nodule) + missed)
    return np.interp(LUNA_RATES, false, sensitivity).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_sensitivities_are_those_of_luna16(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(30):
        middles = generator.uniform(20, 80, (int(generator.integers(0, 4)), 3))
        radii = generator.uniform(3, 9, (len(middles), 1))
        truths.append(Truth(np.concatenate([middles - radii, middles + radii], axis=1), np.zeros(len(middles))))
        near = np.repeat(middles, 2, axis=0) + generator.normal(0, 4, (2 * len(middles), 3))
        points = np.concatenate([near, generator.uniform(0, 99, (int(generator.integers(0, 9)), 3))])
        found.append(
            Finding(
                np.concatenate([points - 4, points + 4], axis=1), np.zeros(len(points)), generator.random(len(points))
            )
        )
    detections = as_detections(truths, found, labels=["nodule"])
    expected = luna_score(detections, 0)
    events = class_events(detections, 0, criterion="centre")
    np.testing.assert_allclose(sensitivities(events, np.ones((30, 1)))[:, 0], expected, atol=1e-12)
    values = values_of(detections, criterion="centre")
    assert values["luna16"] == pytest.approx(np.mean(expected))
    assert values["sensitivity_fp_0.125"] == pytest.approx(expected[0])
    curve = free_response(events)
    assert (curve.false_findings[0], curve.sensitivity[0]) == (0, 0)
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.false_findings) >= 0).all()


def test_a_second_finding_of_one_object_is_false_by_overlap_and_nothing_by_centre() -> None:
    truths = [Truth([[0, 0, 10, 10]], [0])]
    found = [Finding([[0, 0, 10, 10], [0, 0, 10, 9], [40, 40, 44, 44]], [0, 0, 0], [0.5, 0.9, 0.1])]
    detections = as_detections(truths, found, labels=["x"])
    by_overlap = class_events(detections, 0)
    assert (by_overlap.hit_scores.tolist(), by_overlap.false_scores.tolist()) == ([0.9], [0.5, 0.1])
    by_centre = class_events(detections, 0, criterion="centre")
    assert (by_centre.hit_scores.tolist(), by_centre.false_scores.tolist()) == ([0.9], [0.1])
    assert image_errors(detections, threshold=0.4)["false"].tolist() == [1]
    assert image_errors(detections, threshold=0.95)["missed"].tolist() == [1]


def test_counts_against_their_definition() -> None:
    truths, found = random_case(2, images=25)
    detections = detections_of((truths, found))
    values = values_of(detections, threshold=0.4)
    true = np.array([len(np.asarray(truth.classes)) for truth in truths])
    said = np.array([(np.asarray(finding.scores) >= 0.4).sum() for finding in found])
    difference = said - true
    assert values["count_bias"] == pytest.approx(difference.mean())
    assert values["count_mae"] == pytest.approx(np.abs(difference).mean())
    assert values["count_high"] == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1))
    white = [(np.asarray(f.classes)[np.asarray(f.scores) >= 0.4] == 1).sum() for f in found]
    expected = np.mean(np.array(white) - [(np.asarray(t.classes) == 1).sum() for t in truths])
    assert values["count_bias_white"] == pytest.approx(expected)


def test_intervals_hold_the_value_repeat_by_seed_and_widen_by_patient() -> None:
    truths, found = random_case(9, images=24, num_labels=1)
    detections = detections_of((truths, found), LABELS[:1])
    first = evaluate_detections(detections, num_replicates=100, seed=4)
    again = evaluate_detections(detections, num_replicates=100, seed=4)
    for name in ("ap", "ap50", "luna16", "count_bias", "count_mae", "f1"):
        assert first[name].low < first[name].value < first[name].high
        assert (first[name].low, first[name].high) == (again[name].low, again[name].high)
    assert first["ap"].n == len(detections.truth_classes)
    assert first["count_mae"].n == 24
    # Each image three times, as of one patient: as much is known as of the images once.
    tripled = detections_of((truths * 3, found * 3), LABELS[:1])
    patients = np.tile(np.arange(24), 3)
    clustered = evaluate_detections(tripled, num_replicates=100, seed=4, groups=patients)["count_bias"]
    naive = evaluate_detections(tripled, num_replicates=100, seed=4)["count_bias"]
    width = first["count_bias"].high - first["count_bias"].low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.25)
    assert naive.high - naive.low < 0.75 * width
    assert assess_detections(tripled, groups=patients, num_replicates=5).to_dict()["patients"] == 24


def test_a_test_without_a_miss_claims_no_certainty() -> None:
    truths = [Truth([[0, 0, 20, 20 + image]], [0]) for image in range(8)]
    found = [Finding(truth.boxes, [0], [0.9]) for truth in truths]
    estimates = evaluate_detections(as_detections(truths, found, labels=["x"]), num_replicates=50)
    for name in ("ap", "recall", "luna16", "count_bias"):
        assert math.isnan(estimates[name].low)
        assert math.isnan(estimates[name].high)
        assert "does not change" in estimates[name].note


def test_figures_of_classes_are_told_from_those_of_sizes_and_of_each_other() -> None:
    truths = [Truth([[0, 0, 50, 50], [60, 60, 70, 70], [80, 80, 90, 90]], [0, 1, 2])] * 6
    found = [Finding([[0, 0, 50, 50], [80, 80, 90, 90]], [0, 2], [0.9, 0.8])] * 5 + [Finding([], [], [])]
    labels = ("cell", "red_cell", "small")
    detections = as_detections([*truths, Truth([[0, 0, 9, 9]], [0])], [*found, Finding([], [], [])], labels=labels)
    estimates = evaluate_detections(detections, num_replicates=20)
    assert (estimates["ap50_cell"].n, estimates["ap50_red_cell"].n, estimates["ap_small"].n) == (7, 6, 13)
    assert (estimates["ap_medium"].n, estimates["ap_large"].n, estimates["precision"].n) == (6, 0, 10)
    # Of the small objects those of three classes count: 0 of 1, 0 of 6, 5 of 6; of the class called so, 5 of 6.
    reached = np.floor(5 / 6 * 100 + 1) / 101
    assert estimates["ap_label_small"].value == pytest.approx(reached)
    assert estimates["ap_small"].value == pytest.approx(reached / 3)
    plain = {name: estimate.to_dict() for name, estimate in estimates.items()}
    run = SimpleNamespace(
        bundle=SimpleNamespace(labels=labels), shown=SimpleNamespace(detections=detections), estimates=plain
    )
    (table,) = _class_table(cast("BoxRun", run))
    assert table.rows[2][:3] == ("small", "6", with_interval(plain["ap_label_small"]))
    assert detection_title("ap_label_small", labels) == "AP: small"
    assert detection_title("ap_small", labels) == "AP, sides below 32"
    assert detection_title("ap50_red_cell", labels) == "AP50: red_cell"


def test_figures_do_not_depend_on_the_order_of_images_or_on_the_scale_of_scores() -> None:
    truths, found = random_case(11, images=14)
    generator = np.random.default_rng(2)
    found = [Finding(one.boxes, one.classes, generator.random(len(np.asarray(one.scores)))) for one in found]
    order = generator.permutation(14)
    turned = detections_of(([truths[row] for row in order], [found[row] for row in order]))
    bent = detections_of((truths, [Finding(one.boxes, one.classes, np.asarray(one.scores) ** 3 / 7) for one in found]))
    plain = values_of(detections_of((truths, found)))
    for name, value in values_of(turned).items():
        assert value == pytest.approx(plain[name], abs=1e-12, nan_ok=True), name
    for name, value in values_of(bent).items():
        if name.startswith(("ap", "sens", "luna")):
            assert value == pytest.approx(plain[name], abs=1e-12, nan_ok=True), name


def test_the_chosen_score_has_the_best_f1() -> None:
    detections = detections_of(random_case(13, images=20))
    chosen = choose_score(detections)
    best = values_of(detections, threshold=chosen)["f1"]
    others = [values_of(detections, threshold=float(score))["f1"] for score in np.unique(detections.scores)[::9]]
    assert best >= max(others)
    nothing = as_detections([Truth([[0, 0, 1, 1]], [0])], [Finding([], [], [])], labels=["x"])
    assert choose_score(nothing) == 0.5


def test_nothing_found_is_nothing_won_and_no_warning() -> None:
    truths = [Truth([[0, 0, 4, 4]], [0]), Truth([], [])]
    values = values_of(as_detections(truths, [Finding([], [], [])] * 2, labels=["x"]))
    assert (values["ap"], values["recall"], values["luna16"], values["count_bias"]) == (0, 0, 0, -0.5)
    assert math.isnan(values["precision"])


BOX = [[0, 0, 4, 4]]


@pytest.mark.parametrize(
    ("truths", "found", "said"),
    [
        ([Truth(BOX, [0])], [], "1 images and findings of 0"),
        ([Truth(BOX, [0, 0])], [Finding(BOX, [0], [1])], "1 boxes and 2 classes among the truths"),
        ([Truth(BOX, [0])], [Finding(BOX, [0], [np.nan])], "one that is no number"),
        ([Truth(BOX, [0])], [Finding([[0, 0, np.inf, 4]], [0], [1])], "a coordinate that is no number"),
        ([Truth(BOX, [0])], [Finding([[0] * 6], [0], [1])], r"\[4, 6\] coordinates"),
        ([Truth(BOX, [0])], [Finding(BOX, [-1], [1])], "the class -1 among the findings"),
        ([Truth([[0, 0, 0, 4]], [0])], [Finding(BOX, [0], [1])], "zero or negative size"),
    ],
)
def test_what_does_not_fit_is_refused(truths: list[Truth], found: list[Finding], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        as_detections(truths, found, labels=["x"])


def test_tables_with_a_row_a_box() -> None:
    truths, found = random_case(4, images=5)
    columns = ["y0", "x0", "y1", "x1"]
    names = [f"{number}.png" for number in range(5)]

    def table(entries: Sequence[Any]) -> pd.DataFrame:
        parts = [
            pd.DataFrame(np.asarray(entry.boxes).reshape(-1, 4), columns=columns).assign(
                image=name, label=[LABELS[number] for number in np.asarray(entry.classes)]
            )
            for name, entry in zip(names, entries, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)

    scores = np.concatenate([np.asarray(entry.scores) for entry in found])
    tables = table(truths).sample(frac=1, random_state=0), table(found).assign(score=scores)
    read = detections_from_tables(*tables, images=names, labels=LABELS)
    expected = values_of(detections_of((truths, found)))
    for name, value in values_of(read).items():
        assert value == pytest.approx(expected[name], nan_ok=True), name
    with pytest.raises(EvaluationError, match="findings lacks score"):
        detections_from_tables(tables[0], tables[0], images=names, labels=LABELS)
    with pytest.raises(EvaluationError, match="in one of the 4 images"):
        detections_from_tables(*tables, images=names[:4], labels=LABELS)


def test_shares_out_of_range_are_refused() -> None:
    detections = detections_of(random_case(0))
    with pytest.raises(EvaluationError, match="The overlap is 0"):
        evaluate_detections(detections, overlap=0.0)
