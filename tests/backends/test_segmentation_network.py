"""The U-Net, its normalisation and its loss, against references, and a whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from hounsfield.bundle import Bundle
from hounsfield.bundle import masks as form
from hounsfield.masks import IGNORE
from hounsfield.models.training_model import training_copy
from hounsfield.onnx_export.answers import largest_difference
from hounsfield.onnx_export.writing import write_onnx
from hounsfield.openvino_runtime import openvino_runtime
from hounsfield.segmentation import InstanceNormalization, deep_supervision_loss, residual_unet, segmentation_loss
from hounsfield.segmentation.losses import coarser, truth_of
from hounsfield.segmentation.unet import supervised_outputs
from hounsfield.testing import evaluate_run
from hounsfield.training.segmenter import SupervisedNetwork
from trained import Trained

pytestmark = pytest.mark.usefixtures("drawn_by_numpy")

# Input, strides, kernels: a plane, a volume, one of thick slices, and one of single slices.
SHAPES: dict[str, tuple[tuple[int, ...], tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]] = {
    "plane": ((16, 24, 3), ((2, 2),) * 2, ((3, 3),) * 3),
    "volume": ((8, 16, 8, 1), ((2, 2, 2),) * 3, ((3, 3, 3),) * 4),
    "thick": ((4, 16, 16, 2), ((1, 2, 2), (2, 2, 2)), ((1, 3, 3), (3, 3, 3), (3, 3, 3))),
    "slices": ((1, 16, 16, 1), ((1, 2, 2),), ((1, 3, 3), (1, 3, 3))),
    "no stage": ((6, 5, 1), (), ((3, 3),)),
}


def unet(name: str, outputs: int = 3) -> keras.Model:
    shape, strides, kernels = SHAPES[name]
    return residual_unet(shape, outputs, width=4, strides=strides, kernels=kernels)


def reference_loss(logits: np.ndarray, mask: np.ndarray, *, overlapping: bool) -> float:
    """Pixel by pixel, as the formulas are written."""
    outputs, known = logits.shape[-1], mask != IGNORE
    if overlapping:
        truth, shares = (mask == 1).astype(float), 1 / (1 + np.exp(-logits))
        entropy = -(truth * np.log(shares) + (1 - truth) * np.log(1 - shares))[known].mean()
        known = known.astype(float)
    else:
        raised = np.exp(logits - logits.max(-1, keepdims=True))
        shares = raised / raised.sum(-1, keepdims=True)
        truth = np.stack([(mask[..., 0] == each).astype(float) for each in range(outputs)], -1)
        entropy = -np.log((shares * truth).sum(-1)[known[..., 0]]).mean()
        known = known.astype(float)
    dices = []
    for each in range(0 if overlapping else 1, outputs):
        weight = known[..., each if overlapping else 0]
        p, g = shares[..., each] * weight, truth[..., each]
        if g.any():
            dices.append((2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1))
    return float(entropy + (np.mean([1 - dice for dice in dices]) if dices else 0))


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_loss_is_that_of_its_formula(overlapping: bool) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2, 4, 5, 3)).astype(np.float32)
    mask = generator.integers(0, 2 if overlapping else 3, (2, 4, 5, 3 if overlapping else 1)).astype(np.uint8)
    mask[0, 0] = IGNORE
    # The last class is nowhere.
    mask[..., -1] = np.where(mask[..., -1] == (1 if overlapping else 2), 0, mask[..., -1])
    found = segmentation_loss(logits, truth_of(mask, 3, overlapping=overlapping), overlapping=overlapping)
    assert float(found) == pytest.approx(reference_loss(logits, mask, overlapping=overlapping), rel=1e-5)


@pytest.mark.parametrize("mask", [0, IGNORE], ids=["nothing marked", "nothing known"])
def test_the_loss_is_finite_where_nothing_is_marked_or_known(mask: int) -> None:
    masks = np.full((1, 4, 4, 1), mask, np.uint8)
    logits = np.random.default_rng(0).normal(size=(1, 4, 4, 3)).astype(np.float32)
    loss = float(segmentation_loss(logits, truth_of(masks, 3, overlapping=False), overlapping=False))
    assert np.isfinite(loss)
    assert (loss == 0) == (mask == IGNORE)


def test_what_is_not_known_does_not_count() -> None:
    generator = np.random.default_rng(0)
    mask = generator.integers(0, 3, (1, 8, 8, 1)).astype(np.uint8)
    mask[:, 2:5] = IGNORE
    logits = generator.normal(size=(1, 8, 8, 3)).astype(np.float32)
    changed = logits.copy()
    changed[:, 2:5] += generator.normal(size=(1, 3, 8, 3)) * 5
    one, other = (
        float(deep_supervision_loss([each, each[:, :4, :4]], [(1, 1), (2, 2)], mask, overlapping=False))
        for each in (logits, changed)
    )
    fine, same = (
        float(segmentation_loss(each, truth_of(mask, 3, overlapping=False), overlapping=False))
        for each in (logits, changed)
    )
    assert fine == pytest.approx(same, rel=1e-6)
    assert one != other


def test_coarser_truth_is_the_share_of_each_class() -> None:
    mask = np.zeros((1, 4, 4, 1), np.uint8)
    mask[0, :2, :2, 0] = [[1, 2], [1, IGNORE]]
    truth = coarser(truth_of(mask, 3, overlapping=False), (2, 2))
    np.testing.assert_allclose(ops.convert_to_numpy(truth.classes)[0, 0, 0], [0, 0.5, 0.25])
    np.testing.assert_allclose(ops.convert_to_numpy(truth.known)[0, 0, 0], [0.75])


def test_instance_normalisation_keeps_its_digits_over_large_maps() -> None:
    maps = np.random.default_rng(0).normal(1, 1, (2, 40, 56, 40, 8)).astype(np.float32)
    exact = maps.astype(np.float64)
    mean, variance = (of(exact, axis=(1, 2, 3), keepdims=True) for of in (np.mean, np.var))
    found = ops.convert_to_numpy(InstanceNormalization()(maps))
    np.testing.assert_allclose(found, (exact - mean) / np.sqrt(variance + 1e-5), rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", SHAPES)
def test_outputs_have_the_shapes_that_are_told(name: str) -> None:
    shape, strides, _ = SHAPES[name]
    network = unet(name)
    logits, features, *others = network.outputs
    assert logits.shape[1:] == (*shape[:-1], 3)
    assert len(features.shape) == 2
    for output, told in zip(others, supervised_outputs(strides), strict=True):
        expected = tuple(side // factor for side, factor in zip(shape[:-1], told.reduction, strict=True))
        assert output.shape[1:-1] == expected


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_deployed_is_read_back_and_runs_on_openvino(name: str, tmp_path: Path) -> None:
    network = form.deployed(unet(name))
    generator = np.random.default_rng(0)
    network.set_weights([generator.normal(0.05, 0.3, each.shape) for each in network.get_weights()])
    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    ((part, ends),) = form.ends(again)
    (answer,) = write_onnx([(part, ends, tmp_path / "model.onnx")])
    images = generator.normal(size=(1, *SHAPES[name][0])).astype(np.float32)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_runtime("a test").Core().compile_model(tmp_path / "model.onnx", "CPU", options)
    found = dict(zip(form.OUTPUTS, compiled(images).values(), strict=True))
    expected = dict(zip(form.OUTPUTS, map(ops.convert_to_numpy, network(images)), strict=True))
    assert largest_difference(found, expected) < 1e-4
    assert set(answer.outputs) == set(form.OUTPUTS)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_bright_square_is_learned(precision: Any) -> None:
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    images = generator.normal(0, 0.3, (4, 16, 24, 3)).astype(np.float32)
    masks = np.zeros((4, 16, 24, 1), np.uint8)
    for number in range(4):
        images[number, 2 : 8 + number, 3:15] += 2
        masks[number, 2 : 8 + number, 3:15] = 1
    network, supervised = unet("plane", 2), supervised_outputs(SHAPES["plane"][1])
    copy = training_copy(network, precision, ("logits", "features", *(each.name for each in supervised)))
    model = SupervisedNetwork(copy, [(1, 1), *(each.reduction for each in supervised)], overlapping=False)
    model.compile(keras.optimizers.Adam(0.01), jit_compile=keras.backend.backend() == "jax")
    losses = [float(model.train_on_batch(images, masks)) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    predicted = np.asarray(model.predict_on_batch(images)[0]).argmax(-1)
    assert (predicted == masks[..., 0]).mean() > 0.97


def test_the_bundle_of_a_run_gives_the_figures_of_its_training(trained_segmenter: Trained) -> None:
    run, metrics = trained_segmenter.run.folder, trained_segmenter.run.metrics["test"]
    assert json.loads((run / "environment.json").read_text())["backend"] == keras.backend.backend()
    assert Bundle.load(run).network().output_names[0] == "logits"
    again = evaluate_run(run, num_replicates=20).assessment.estimates
    measured = {name: estimate["value"] for name, estimate in metrics.items() if estimate["value"] is not None}
    assert "dice" in " ".join(measured)
    for name, value in measured.items():
        assert again[name].value == pytest.approx(value, abs=1e-6), name
