"""Taking something out of images, and what that does to the answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.errors import EvaluationError, ImageError
from hounsfield.evaluation.delong import auc_difference
from hounsfield.evaluation.masking_effect import masking_effects
from hounsfield.evaluation.outcomes import as_outcomes
from hounsfield.evaluation.proportions import wilson_interval
from hounsfield.images import Image
from hounsfield.inference import Predictor
from hounsfield.inference.interventions import (
    INTERVENTIONS,
    UNCHANGED,
    mask_border,
    mask_corner,
    predict_interventions,
    shift_exposure,
)
from networks import SHAPE, tiny_bundle

LABELS = ("normal", "opacity")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(20, 30, 1), (7, 2, 3), (4, 24, 20, 1)]), st.sampled_from(["uint8", "int16", "float32"]))
def test_interventions_keep_shape_and_leave_the_image_alone(shape: tuple[int, ...], kind: str) -> None:
    image = Image(np.random.default_rng(0).integers(0, 200, shape).astype(kind))
    before = image.pixels.copy()
    for change in INTERVENTIONS.values():
        assert change(image).pixels.shape == shape
    np.testing.assert_array_equal(image.pixels, before)


def test_a_corner_is_filled_with_the_median_around_it_in_each_slice() -> None:
    pixels = np.zeros((2, 20, 40, 1), dtype=np.int16)
    pixels[0], pixels[1] = 7, 9
    pixels[:, -3:, -6:] = 500
    masked = mask_corner(Image(pixels), bottom=True, right=True).pixels
    assert np.unique(masked[0]).tolist() == [7]
    assert np.unique(masked[1]).tolist() == [9]
    kept = mask_corner(Image(pixels), bottom=False, right=True).pixels
    np.testing.assert_array_equal(kept, pixels)
    with pytest.raises(ImageError, match="nothing around a corner"):
        mask_corner(Image(np.zeros((1, 1, 1))), bottom=False, right=False)


def test_the_border_takes_the_nearest_values_on_every_axis() -> None:
    pixels = np.full((10, 20, 30, 1), 3.0)
    pixels[0] = pixels[:, 0] = pixels[:, :, -1] = 99.0
    assert np.unique(mask_border(Image(pixels)).pixels).tolist() == [3.0]


def test_exposure_moves_by_a_share_of_the_range() -> None:
    pixels = np.linspace(100, 300, 101).reshape(101, 1, 1)
    moved = shift_exposure(Image(pixels), share=0.1).pixels
    np.testing.assert_allclose(moved - pixels, 0.1 * (298 - 102), rtol=1e-5)


@pytest.mark.parametrize(("task", "columns"), [("binary", 1), ("multi-class", 3)])
def test_images_are_predicted_as_they_are_and_after_each_intervention(tmp_path: Path, task: str, columns: int) -> None:
    predictor = Predictor(tiny_bundle(tmp_path / "bundle", task), engine="keras")
    images = [Image(np.random.default_rng(seed).random((*SHAPE[:2], 1)).astype(np.float32)) for seed in range(5)]
    told: list[tuple[int, int | None]] = []
    found = predict_interventions(
        predictor, iter(images), progress=lambda _, done, total: told.append((done, total)), total=5
    )
    assert list(found) == [UNCHANGED, *INTERVENTIONS]
    labels = predictor.bundle.labels[-columns:]
    for name, change in {UNCHANGED: lambda image: image, **INTERVENTIONS}.items():
        expected = [predictor.predict(change(image))[0].probabilities for image in images]
        np.testing.assert_allclose(found[name], [[each[label] for label in labels] for each in expected], atol=1e-6)
    assert told[-1] == (5, 5)
    with pytest.raises(ImageError, match="Image 1 could not be predicted"):
        predict_interventions(predictor, [images[0].replace(pixels=np.full((12, 10, 1), np.nan))])
    with pytest.raises(ImageError, match="predictions; one each"):
        predict_interventions(predictor, [Image(np.zeros((3, 12, 10, 1), np.float32))])


def test_what_the_network_relies_on_is_told_from_what_it_does_not_need() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(200), 2)
    truth = (rng.random(200) < 0.5)[patients]
    noise = rng.normal(size=200)[patients]
    needed = 1 / (1 + np.exp(-(noise + 3.0 * truth - 1.5)))
    answers = {
        name: as_outcomes(truth, scores, labels=LABELS, task="binary")
        for name, scores in {
            "marker": 1 / (1 + np.exp(-(noise + 0.8 * truth - 0.4))),
            "border": np.clip(needed + 0.005 * rng.normal(size=400), 0, 1),
        }.items()
    }
    before = as_outcomes(truth, needed, labels=LABELS, task="binary")
    marker, border = masking_effects(before, answers, groups=patients)
    assert marker.matters
    assert not border.matters
    first, second = before.scores[:, 0], answers["marker"].scores[:, 0]
    single = masking_effects(before, answers)[0]
    expected = auc_difference(truth, first, second)
    assert (single.auc_change, single.auc_change_low, single.auc_change_high, single.p_value) == pytest.approx(expected)
    assert single.change == pytest.approx(np.abs(second - first).mean())
    flips = int(np.sum((first > 0.5) != (second > 0.5)))
    assert (single.flipped_low, single.flipped_high) == pytest.approx(wilson_interval(flips, 400))
    assert marker.auc_change_high - marker.auc_change_low > single.auc_change_high - single.auc_change_low
    assert "marker changes the predictions: AUC" in marker.line()
    assert "border changes little" in border.line()
    json.dumps([marker.to_dict(), border.to_dict()], allow_nan=False)


def test_a_ranking_that_is_lost_altogether_matters() -> None:
    """All scores are alike afterwards, so neither AUC has a variance by itself."""
    truth = np.arange(60) >= 30
    before = as_outcomes(truth, np.linspace(0.55, 0.95, 60), labels=LABELS, task="binary")
    after = as_outcomes(truth, np.full(60, 0.6), labels=LABELS, task="binary")
    (lost,) = masking_effects(before, {"everything": after})
    assert (lost.auc, lost.auc_change, lost.flipped) == (0.5, -0.5, 0.0)
    assert lost.matters


def test_no_change_is_no_change_and_other_cases_are_refused() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2])
    scores = np.eye(3)[[0, 1, 2, 1, 1, 0]] * 0.7 + 0.1
    answers = as_outcomes(truth, scores, labels=("a", "b", "c"), task="multi-class")
    (same,) = masking_effects(answers, {"nothing": answers})
    assert (same.change, same.flipped, same.auc_change, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    moved = as_outcomes(truth, np.roll(scores, 1, axis=1), labels=("a", "b", "c"), task="multi-class")
    assert masking_effects(answers, {"rolled": moved})[0].change == pytest.approx(0.7)
    with pytest.raises(EvaluationError, match="same cases in the same order"):
        masking_effects(answers, {"other": answers.take(np.arange(6)[::-1])})
    alone = as_outcomes([1, 1], [0.2, 0.9], labels=LABELS, task="binary")
    (undefined,) = masking_effects(alone, {"nothing": alone})
    assert undefined.to_dict()["auc"] is None
    assert "AUC" not in undefined.line()
