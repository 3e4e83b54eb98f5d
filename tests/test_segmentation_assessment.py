"""Figures of a segmentation test with intervals by patient, empty masks, tables, subgroups, and what bundles keep."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from families import hounsfield
from hounsfield.drawing.outlines import Outline, outlined
from hounsfield.drawing.pictures import shown_slice
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.packed_masks import PackedPair
from hounsfield.evaluation.segmentation import compare_label_maps
from hounsfield.evaluation.segmentation_assessment import assess_masks, of_label
from hounsfield.evaluation.segmentation_figures import FIGURES
from hounsfield.evaluation.values import LIMIT
from hounsfield.images import Image
from hounsfield.masks import IGNORE, dice
from hounsfield.reports.mask_figures import compared_pictures, mask_figures, worst_images
from hounsfield.testing import evaluate_table
from hounsfield.testing.masks import RawMasks, audit, helped_by_largest_component

LABELS = ("organ", "lesion")


def block(start: int, stop: int, value: int = 1, base: np.ndarray | None = None) -> np.ndarray:
    mask = np.zeros((24, 24, 1), np.uint8) if base is None else base.copy()
    mask[start:stop, start:stop] = value
    return mask


def cases_of(pairs: list[tuple[np.ndarray, np.ndarray]], labels: tuple[str, ...] = LABELS) -> pd.DataFrame:
    rows = []
    for number, pair in enumerate(pairs):
        found = compare_label_maps(*pair, (1.0, 1.0), labels=labels)
        for label, each in zip(labels, found, strict=True):
            sizes = {"size_true": each.pop("true"), "size_predicted": each.pop("predicted")}
            rows.append({"image": f"i{number:02}", "label": label} | each | sizes | {"expected": each["dice"]})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Good, shifted, missed, drawn without truth, and empty in both."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(12):
        start = int(generator.integers(1, 6))
        true = block(start + 4, start + 8, 2, block(start, start + 14))
        found.append((true, np.roll(true, int(generator.integers(0, 3)), axis=0)))
    found.append((block(4, 14), block(16, 20, 2)))
    found.append((block(4, 8, 2), np.zeros((24, 24, 1), np.uint8)))
    return found


def test_figures_by_hand(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    cases = cases_of(pairs)
    found = assess_masks(cases, labels=LABELS, unit="mm²", num_replicates=300).estimates
    for label, rows in cases.groupby("label"):
        name = str(label)
        assert found[of_label("dice", name)].value == pytest.approx(rows["dice"].mean())
        assert found[of_label("dice", name)].n == rows["dice"].notna().sum()
        # A missed structure is infinitely far, and counts.
        assert found[of_label("hd95", name)].value == pytest.approx(rows["hd95"].dropna().median())
        difference = rows["size_predicted"] - rows["size_true"]
        assert found[of_label("size_bias", name)].value == pytest.approx(difference.mean())
        low = difference.mean() - LIMIT * difference.std(ddof=1)
        assert found[of_label("loa_low", name)].value == pytest.approx(low)
    assert found["missed_organ"].value == pytest.approx(1 / 13)
    assert found["missed_lesion"].value == pytest.approx(
        (cases[cases.label == "lesion"]["dice"] == 0).sum() / 13 - 1 / 13
    )
    assert found["false_lesion"].value == 1
    means = [found["dice_organ"].value, found["dice_lesion"].value]
    assert found["dice"].value == pytest.approx(np.mean(means))
    lesions = cases[cases.label == "lesion"]
    assert found["lesion_sensitivity_lesion"].value == pytest.approx(
        lesions.lesions_found.sum() / lesions.lesions_true.sum()
    )
    quality = lesions.lesions_iou.sum() / (0.5 * (lesions.lesions_true.sum() + lesions.lesions_predicted.sum()))
    assert found["pq_lesion"].value == pytest.approx(quality)
    for name, each in found.items():
        if math.isfinite(each.low):
            assert each.low <= each.value <= each.high, name


def test_the_median_is_undefined_where_half_of_the_structures_are_missed() -> None:
    nothing = np.zeros((24, 24, 1), np.uint8)
    pairs = [(block(2, 10), block(2, 10))] * 3 + [(block(2, 10), nothing)] * 4
    found = assess_masks(cases_of(pairs, ("organ",)), labels=("organ",), unit="mm²", num_replicates=200).estimates
    assert math.isnan(found["hd95"].value)
    assert "infinite" in found["hd95"].note
    pairs = [(block(2, 10), block(2, 11))] * 4 + [(block(2, 10), nothing)] * 3
    found = assess_masks(cases_of(pairs, ("organ",)), labels=("organ",), unit="mm²", num_replicates=200).estimates
    assert found["hd95"].value == pytest.approx(cases_of(pairs[:1], ("organ",))["hd95"].iloc[0])
    assert "upper end may be infinite" in found["hd95"].note


def test_a_label_that_is_nowhere_has_no_value_and_spoils_no_mean() -> None:
    pairs = [(block(2, 10 + number), block(2, 11)) for number in range(6)]
    found = assess_masks(cases_of(pairs), labels=LABELS, unit="mm²", num_replicates=200).estimates
    assert math.isnan(found["dice_lesion"].value)
    assert found["dice_lesion"].n == 0
    assert found["dice"].value == found["dice_organ"].value
    assert found["dice"].note == "of 1 of 2 labels"


def test_the_order_of_images_does_not_matter_and_intervals_are_by_patient(pairs: list[Any]) -> None:
    cases = cases_of(pairs)
    options: dict[str, Any] = {"labels": LABELS, "unit": "mm²", "num_replicates": 400}
    plain = assess_masks(cases, **options)
    turned = cases_of(pairs[::-1])
    assert {name: each.value for name, each in assess_masks(turned, **options).estimates.items()} == pytest.approx(
        {name: each.value for name, each in plain.estimates.items()}, nan_ok=True
    )
    # The same images of three patients alone say less.
    few = assess_masks(cases, groups=[f"P{number % 3}" for number in range(len(pairs))], **options)
    assert few.patients == 3
    thrice = cases_of([pair for pair in pairs for _ in range(3)])
    same = assess_masks(thrice, groups=[number // 3 for number in range(3 * len(pairs))], **options).estimates["dice"]
    alone = plain.estimates["dice"]
    assert same.high - same.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_rows_that_are_not_each_label_in_turn_are_refused(pairs: list[Any]) -> None:
    cases = cases_of(pairs)
    for wrong in (cases.iloc[1:], cases.iloc[::-1], cases.drop(columns="dice"), cases.iloc[:0]):
        with pytest.raises(EvaluationError, match="rows of cases"):
            assess_masks(wrong, labels=LABELS, unit="mm²")


def test_titles_and_names_do_not_collide(pairs: list[Any]) -> None:
    found = assess_masks(cases_of(pairs), labels=LABELS, unit="mm²", num_replicates=100)
    assert found.title("nsd_lesion") == "Surface Dice at 1 mm: lesion"
    assert found.title("loa_low_organ") == "Lower limit of agreement, mm²: organ"
    # A label called "bias" makes "size_bias", which is a figure of its own.
    assert of_label("size", "bias") not in FIGURES
    assert json.loads(json.dumps(found.to_dict()))["test"]["dice"]["value"] == pytest.approx(
        found.estimates["dice"].value
    )


def test_a_table_of_compared_masks_is_evaluated(
    pairs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = cases_of(pairs).assign(unit="mm²", tolerance=1.0, patient=np.repeat([f"P{n % 7}" for n in range(14)], 2))
    path = tmp_path / "predictions.csv"
    cases.sample(frac=1, random_state=0).to_csv(path, index=False)
    found = evaluate_table(path, num_replicates=200)
    expected = assess_masks(cases, labels=LABELS, unit="mm²", num_replicates=200)
    assert found.estimates["dice"].value == pytest.approx(expected.estimates["dice"].value)
    assert found.patients == 7
    assert any("missed entirely" in note for note in found.notes)
    assert hounsfield(monkeypatch, "evaluate", path, "--json", "--replicates", 200) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "segmentation"
    cases.iloc[1:].to_csv(path, index=False)
    with pytest.raises(EvaluationError, match="one for each"):
        evaluate_table(path)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("dice", "0,87", "expected a number"),
        ("hd95", None, "hd95 is missing"),
        ("dice", 1.2, "dice is above 1"),
        ("assd", -1, "assd is below 0"),
        ("size_true", None, "size_true is missing"),
        ("unit", "ml", "one for all rows"),
        ("tolerance", 3, "one for all rows"),
    ],
)
def test_a_table_that_would_make_figures_false_is_refused(
    pairs: list[Any], tmp_path: Path, column: str, value: Any, told: str
) -> None:
    cases = cases_of(pairs).assign(unit="mm²", tolerance=1.0).astype({column: object})
    cases.to_csv(tmp_path / "predictions.csv", index=False)
    evaluate_table(tmp_path / "predictions.csv", num_replicates=10)
    row = int(np.flatnonzero(cases["size_true"] > 0)[-1])
    cases.loc[row, column] = value
    cases.to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(EvaluationError, match=told):
        evaluate_table(tmp_path / "predictions.csv")


def raw_of(pairs: list[tuple[np.ndarray, np.ndarray]], labels: tuple[str, ...] = ("organ",)) -> RawMasks:
    """What a segmenter made of images, of which masks alone matter."""
    nothing = np.zeros((len(pairs), len(labels)))
    packed = tuple(PackedPair.of(*pair, None) for pair in pairs)
    names = tuple(f"i{number}" for number in range(len(pairs)))
    return RawMasks(np.arange(len(pairs)), names, labels, packed, {}, nothing, nothing, np.arange(len(pairs)))


def test_the_largest_component_alone_is_kept_where_it_helps_and_the_truth_is_in_one_piece() -> None:
    organ, stray = block(4, 14), block(20, 23, base=block(4, 14))
    speck = block(22, 23, base=organ)
    assert helped_by_largest_component(raw_of([(organ, stray), (speck, stray)])) == ["organ"]
    assert helped_by_largest_component(raw_of([(organ, organ), (organ, organ)])) == []
    # Two cells are the truth: single pixels all over the image are no reason to leave one of them out.
    cells = block(14, 19, base=block(2, 7))
    noise = (np.indices((24, 24)) % 2 == 0).all(axis=0)[..., np.newaxis].astype(np.uint8)
    noisy = np.maximum(cells, noise)
    first = cells == 1, noisy == 1, block(2, 7) == 1
    assert dice(first[0], first[2]) > dice(first[0], first[1])
    assert helped_by_largest_component(raw_of([(cells, noisy)] * 2)) == []


def test_what_is_drawn_where_nothing_is_known_has_no_say_on_components() -> None:
    organ, unknown = block(4, 14), block(20, 23, IGNORE, block(4, 14))
    drawn = block(20, 23, base=organ)
    assert helped_by_largest_component(raw_of([(organ, drawn)])) == ["organ"]
    assert helped_by_largest_component(raw_of([(unknown, drawn)])) == []


def test_groups_are_compared_by_the_mean_dice_of_an_image() -> None:
    generator = np.random.default_rng(1)
    number = 60
    pairs = []
    for each in range(number):
        true = block(2, 14)
        pairs.append((true, block(2, 14 if each % 2 else int(generator.integers(9, 12)))))
    assessed = assess_masks(cases_of(pairs, ("organ",)), labels=("organ",), unit="mm²", num_replicates=200)
    table = pd.DataFrame({"image": assessed.images, "site": ["ab"[each % 2] for each in range(number)]})
    groups = audit(
        assessed.__class__(**{**vars(assessed), "table": table}), seed=0, confidence=0.95, given={}, source=None
    )
    assert {gap.metric for gap in groups.findings} == {"dice", "nsd"}
    assert groups.cells()[0] == ["group", "patients", "mean Dice", "mean surface Dice"]
    assert "mean surface Dice 0.4732 against 1 in all others" in groups.lines()[1]


def test_figures_are_drawn_and_the_worst_images_come_first(pairs: list[Any]) -> None:
    assessed = assess_masks(cases_of(pairs), labels=LABELS, unit="mm²", num_replicates=100)
    assessed = assessed.__class__(
        **{**vars(assessed), "pairs": tuple(PackedPair.of(*pair, (1.0, 1.0)) for pair in pairs)}
    )
    assert set(worst_images(assessed)[:2].tolist()) == {12, 13}
    drawn = mask_figures(assessed, lambda number: Image(100 * pairs[number][0]))
    assert set(drawn) == {"dice", "sizes", "worst_cases"}
    assert "worst_cases" not in mask_figures(assessed)


def test_the_border_of_a_lesion_is_seen_within_its_organ() -> None:
    organ = np.zeros((40, 40), bool)
    organ[4:36, 4:36] = True
    lesion = np.zeros_like(organ)
    lesion[16:24, 16:24] = True
    both = [Outline(lesion, "#d55e00"), Outline(organ & ~lesion, "#009e73")]
    picture = outlined(Image(np.zeros((40, 40, 1), np.uint8)), both, side=400)
    alone = outlined(Image(np.zeros((40, 40, 1), np.uint8)), both[:1], side=400)
    drawn = alone.any(axis=-1)
    assert drawn.any()
    np.testing.assert_array_equal(picture[drawn], alone[drawn])


def test_a_volume_is_shown_plain_and_outlined_in_one_slice_and_one_range() -> None:
    generator = np.random.default_rng(0)
    pixels = (generator.random((9, 24, 24, 1)) * np.linspace(0.1, 1, 9)[:, None, None, None] * 900).astype(np.float32)
    true = np.zeros(pixels.shape, np.uint8)
    true[7, 8:16, 8:16] = 1
    plain, drawn = compared_pictures(Image(pixels), (true, true), ("organ",), side=240)
    # Beyond the outline both are the same slice; it is not the middle one.
    far = np.ones((240, 240), bool)
    far[70:170, 70:170] = False
    np.testing.assert_array_equal(plain[far], drawn[far])
    assert (plain != drawn).any()
    np.testing.assert_array_equal(plain, outlined(shown_slice(Image(pixels), 7), [], side=240))
    # The darkest slice stays dark.
    means = [float(shown_slice(Image(pixels), number).pixels.mean()) for number in (0, 8)]
    assert means[0] < means[1] / 5
    assert outlined(shown_slice(Image(pixels), 0), [], side=24).mean() == pytest.approx(means[0], abs=1)


def test_packed_masks_come_back() -> None:
    masks = np.random.default_rng(2).integers(0, 3, (2, 5, 6, 7, 1)).astype(np.uint8)
    for found, mask in zip(PackedPair.of(*masks, None).masks(), masks, strict=True):
        np.testing.assert_array_equal(found, mask)


def known(number: int, seed: int, visits: int = 1) -> MaskUncertainty:
    """Cases of two labels, of which the second has errors three times as large, alike at all visits of a patient."""
    generator = np.random.default_rng(seed)
    label, patient = np.arange(2 * visits * number) % 2, np.arange(2 * visits * number) // (2 * visits)
    larger = np.where(label == 1, 0.3, 0.1)

    def errors() -> np.ndarray:
        own = generator.normal(size=(number, 2))[patient, label]
        return larger * (own if visits == 1 else np.sqrt(0.7) * own + np.sqrt(0.3) * generator.normal(size=len(label)))

    expected = generator.beta(8, 2, len(label))
    dice = np.clip(0.9 * expected + (1 - expected) * errors(), 0, 1)
    true = generator.lognormal(2, 0.8, len(label))
    predicted = np.maximum(true + true ** (2 / 3) * errors(), 0)
    return MaskUncertainty(
        label=label,
        expected=expected,
        dice=dice,
        size_true=true,
        size_predicted=predicted,
        unit="ml",
        patient=None if visits == 1 else patient,
    )


@pytest.mark.parametrize(("number", "visits"), [(12, 1), (40, 1), (5, 2), (12, 2)])
def test_intervals_hold_the_true_dice_and_the_true_volume_as_often_as_promised(number: int, visits: int) -> None:
    """Of each label, however few patients there are, and however many images of each."""
    held: dict[str, list[bool]] = {"dice": [], "volume": [], "dice of the other": [], "volume of the other": []}
    changes = []
    for seed in range(60):
        fitted, new = known(number, seed, visits), known(20, 1000 + seed)
        for row in range(40):
            label, ending = row % 2, " of the other" * (row % 2)
            dice = fitted.predicted_dice(label, new.expected[row], 0.9)
            assert dice is not None
            held["dice" + ending].append(dice.low <= new.dice[row] <= dice.high)
            volume = fitted.volume(label, new.size_predicted[row], 0.9)
            held["volume" + ending].append(volume.low <= new.size_true[row] <= volume.high)
        for row in range(0, 38, 2):
            change = fitted.change(0, new.size_predicted[row], new.size_predicted[row + 2], 0.9)
            changes.append(change.low <= new.size_true[row + 2] - new.size_true[row] <= change.high)
    for name, each in held.items():
        assert 0.87 <= np.mean(each) <= 0.97, name
    assert 0.87 <= np.mean(changes) <= 0.97


def test_fewer_patients_than_the_coverage_needs_are_told() -> None:
    told = known(5, 0).describe(("organ", "lesion"), 0.9)
    assert "organ 5, lesion 5; 9 are needed" in told
    assert "reliable" not in known(9, 0).describe(("organ", "lesion"), 0.9)
    few = known(9, 0)
    sizes = np.where((few.label == 1) & (few.patient_numbers > 1), 0.0, few.size_true)
    rare = replace(few, size_true=sizes, size_predicted=sizes)
    assert "None for lesion: fewer than 3 validation patients" in rare.describe(("organ", "lesion"), 0.9)
    assert math.isinf(rare.volume(1, 5.0, 0.9).high)
    assert math.isfinite(rare.volume(0, 5.0, 0.9).high)


def test_too_few_cases_promise_nothing() -> None:
    fitted = known(2, 0)
    assert math.isinf(fitted.volume(0, 5.0, 0.9).high)
    assert fitted.volume(0, 5.0, 0.9).low == 0
    assert fitted.predicted_dice(0, 0.9, 0.9) is None
    assert known(5, 0).predicted_dice(0, math.nan, 0.9) is None
    # Two images of one patient are one patient.
    assert math.isinf(known(2, 0, visits=2).volume(0, 5.0, 0.9).high)


def test_what_is_kept_survives_its_file(tmp_path: Path) -> None:
    fitted = known(5, 0)
    np.savez(tmp_path / "kept.npz", **fitted.to_arrays())
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
        again = MaskUncertainty.from_arrays(dict(arrays))
    assert again.unit == "ml"
    assert again.volume(1, 4.0, 0.8) == fitted.volume(1, 4.0, 0.8)
