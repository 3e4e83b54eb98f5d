"""Training: its batches, its averages, its loop, and the folder of a whole run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from hounsfield.augmentation.layers import RandomlyUnchanged
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import RunError
from hounsfield.models.training_model import compiled_forward, training_model
from hounsfield.plans.augmentation import Augmentation
from hounsfield.plans.labels import Plan
from hounsfield.progress import silent
from hounsfield.shares import WHOLE, Share
from hounsfield.training import averaging, loop, prepare
from hounsfield.training.averaging import WeightAverage, averaged_weights, recalibrate
from hounsfield.training.base import Specification
from hounsfield.training.batches import Feed, Mixing, TrainingBatches, predict_rows
from hounsfield.training.classifier import classification_loss, validation_scores
from hounsfield.training.fitted import Fitted
from hounsfield.training.image_trainee import Examples, ImageTrainee
from hounsfield.training.one_network import train_network
from hounsfield.training.run import fitted_plan
from hounsfield.training.schedule import Schedule
from hounsfield.training.table import TRAININGS
from plans import small_plan
from shared import contents
from trained import Trained

pytestmark = pytest.mark.usefixtures("drawn_by_numpy")

SHAPE = (8, 8, 1)
EXACT = keras.backend.backend() == "tensorflow"


class Pixels:
    """Prepared images in memory."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def batch(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


def examples(count: int = 40) -> Examples:
    generator = np.random.default_rng(0)
    targets = (np.arange(count) % 2).astype(np.float32)[:, None]
    images = generator.normal(size=(count, *SHAPE)).astype(np.float32)
    images[:, 2:5, 2:5] += 2 * targets[:, :, None, None]
    rows = np.arange(count)
    return Examples(Pixels(images), targets, np.ones(count, np.float32), rows[:-12], rows[-12:])


def schedule(**changes: Any) -> Schedule:
    usual: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.01,
        "weight_decay": 0.05,
        "warmup": 0.1,
        "accumulate": 1,
        "average_decay": 0.7,
        "patience": 10,
    }
    return Schedule(**usual | changes)


def trainee_of(
    network: keras.Model,
    data: Examples,
    schedule: Schedule,
    augmentation: Augmentation,
    *,
    seed: int,
    label_smoothing: float = 0.05,
) -> ImageTrainee:
    return ImageTrainee(
        network,
        data,
        schedule,
        augmentation,
        loss=classification_loss(network, label_smoothing),
        judge=validation_scores,
        precision="float32",
        seed=seed,
    )


def fit(
    network: keras.Model, data: Examples, schedule: Schedule, augmentation: Augmentation, *, seed: int, **options: Any
) -> Fitted:
    trainee = trainee_of(network, data, schedule, augmentation, seed=seed)
    fitted = loop.fit(trainee, schedule, seed=seed, **options)
    network.set_weights(fitted.weights)
    return fitted


def small_network(*, dropout: float = 0.2, normalised: bool = True) -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input(SHAPE, name="image")
    hidden = layers.Conv2D(4, 3, name="convolution")(inputs)
    if normalised:
        hidden = layers.BatchNormalization(momentum=0.9, name="normalisation")(hidden)
    features = layers.GlobalAveragePooling2D(name="features")(layers.ReLU()(hidden))
    dropped = layers.Dropout(dropout, name="dropout")(features)
    return keras.Model(inputs, layers.Dense(1, "sigmoid", name="probabilities")(dropped))


VARIED = Augmentation(flip_axes=(1,), rotation=10, noise=0.1, erase=0.3, mixup=0.2)


def same(found: Any, expected: Any) -> None:
    if EXACT:
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-6)


# Batches


def test_an_epoch_holds_each_row_once_in_an_order_of_seed_and_epoch() -> None:
    rows = np.arange(5, 29)
    pixels = Pixels(np.arange(40, dtype=np.float32).reshape(-1, 1, 1, 1))
    targets, weights = np.zeros((40, 1), np.float32), np.ones(40, np.float32)

    def order(**options: int) -> list[float]:
        batches = TrainingBatches(pixels, rows, targets, weights, batch_size=8, **options)
        return [float(value) for index in range(len(batches)) for value in batches[index][0].ravel()]

    assert sorted(order()) == rows.tolist()
    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) != order(seed=1, epoch=3) != order(seed=2, epoch=3)


def test_a_batch_larger_than_the_cohort_holds_the_cohort() -> None:
    data = examples()
    batches = TrainingBatches(data.pixels, data.train[:5], data.targets, data.weights, batch_size=64)
    assert len(batches) == 1
    assert len(batches[0][0]) == 5


def test_mixup_mixes_images_targets_and_weights_by_one_share() -> None:
    """With images that hold their own target and weight, the mixture must hold them too."""
    targets = np.linspace(0, 1, 16, dtype=np.float32)[:, None]
    weights = np.linspace(1, 2, 16, dtype=np.float32)
    images = np.stack([targets[:, 0], weights], axis=-1).reshape(16, 1, 1, 2)
    batches = TrainingBatches(Pixels(images), np.arange(16), targets, weights, batch_size=16, mixing=Mixing(0.4))
    mixed, mixed_targets, mixed_weights = batches[0]
    np.testing.assert_allclose(mixed[:, 0, 0, 0], mixed_targets[:, 0], atol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 1], mixed_weights, atol=1e-6)
    assert np.abs(mixed_targets - targets).max() > 0.01


@pytest.mark.parametrize("layers", [True, False])
def test_mixing_and_layers_together_leave_the_plan_s_share_of_images_as_they_are(layers: bool) -> None:
    """2,000 images: the standard error of a share of .3 is .01."""
    augmentation = Augmentation(mixup=2.0, unchanged_share=0.3, noise=0.2 * layers)
    data, plan = examples(2012), schedule(batch_size=100)
    trainee = trainee_of(small_network(), data, plan, augmentation, label_smoothing=0.0, seed=0)
    mixed, plain = trainee.batches(0), trainee.plain_batches(0)
    changes = [layer for layer in trainee.model.layers if isinstance(layer, RandomlyUnchanged)]
    assert len(changes) == layers
    left = []
    for index in range(len(mixed)):
        (images, targets, _), (originals, own, _) = mixed[index], plain[index]
        for layer in changes:
            images = keras.ops.convert_to_numpy(layer(images, training=True))
        same = (images == originals).all((1, 2, 3))
        np.testing.assert_array_equal(targets[same], own[same])
        left.extend(same)
    assert np.mean(left) == pytest.approx(0.3, abs=0.04)


def test_rows_are_predicted_in_their_order_to_the_last() -> None:
    model = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten()])
    rows = np.array([7, 3, 9, 1, 0])
    pixels = Pixels(np.arange(10, dtype=np.float32).reshape(-1, 1, 1, 1))
    assert predict_rows(model, pixels, rows, batch_size=2).ravel().tolist() == rows.tolist()
    # By three processes, each of a part; not all parts are equally long.
    found = np.zeros(5, np.float32)
    for rank in range(3):
        share = Share(rank, 3, lambda vector: np.add(found, vector, out=found))
        predict_rows(model, pixels, rows, batch_size=2, share=share)
    assert found.tolist() == rows.tolist()


@pytest.mark.skipif(not EXACT, reason="the other backends have no such pipeline")
def test_one_pipeline_without_autotuning_feeds_every_epoch() -> None:
    """At the end of an epoch, TensorFlow's autotuning waits for a timer, for up to as long as the epoch took."""
    rows, numbers = np.arange(40), np.arange(40, dtype=np.float32)
    pixels, feed = Pixels(numbers.reshape(-1, 1, 1, 1)), Feed()
    epochs = [TrainingBatches(pixels, rows, numbers[:, None], numbers, batch_size=4, epoch=epoch) for epoch in (0, 1)]
    pipelines = [feed.epoch(epochs[0])]
    assert pipelines[0].options().autotune.enabled is False
    for batches in epochs:
        pipelines.append(feed.epoch(batches))
        found = list(pipelines[-1].as_numpy_iterator())
        assert len(found) == len(batches) == len(pipelines[-1])
        for index, arrays in enumerate(found):
            for array, expected in zip(arrays, batches[index], strict=True):
                np.testing.assert_array_equal(array, expected)
    assert all(pipeline is pipelines[0] for pipeline in pipelines)
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])


@pytest.mark.skipif(not EXACT, reason="the other backends trace no step")
def test_a_step_is_traced_once() -> None:
    plan, data = schedule(epochs=2), examples()
    trainee = trainee_of(small_network(), data, plan, Augmentation(), label_smoothing=0.0, seed=0)
    step, traced = trainee.model.train_step, []
    trainee.model.train_step = lambda batch: traced.append(1) or step(batch)
    loop.fit(trainee, plan, seed=0)
    assert len(traced) == 1


# Averages


def test_the_average_of_weights_is_exponential_and_forgets_its_start() -> None:
    network = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    average = WeightAverage(0.6)
    expected = None
    for number, value in enumerate((1.0, 3.0, -2.0, 5.0)):
        network.set_weights([np.full((1, 1), value, np.float32)])
        average.update(network)
        decay = min(0.6, number / (number + 1))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        np.testing.assert_allclose(average.weights[0], expected, rtol=1e-6)


def _forward(twin: keras.Model) -> Callable[[np.ndarray], Any]:
    return compiled_forward(twin, lambda images: twin(images, training=True))


@pytest.mark.parametrize("together", [1, 2])
def test_recalibration_gives_the_statistics_of_the_present_weights(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving statistics are the momentum-weighted means of the passes' own mean and variance, over k passes."""
    data, network = examples(64), small_network(dropout=0.0)
    twin = training_model(network, "float32", [])
    batches = TrainingBatches(data.pixels, data.train, data.targets, data.weights, batch_size=8)
    monkeypatch.setattr(averaging, "PASSED_IMAGES", 8 * together)
    layer = twin.get_layer("network").get_layer("normalisation")
    # By one process, and by the second of two: the first has made two passes of the three.
    sent: list[np.ndarray] = []

    def first(vector: np.ndarray) -> np.ndarray:
        sent.append(vector)
        return vector

    found, forward = [], _forward(twin)
    for share in (WHOLE, Share(0, 2, first), Share(1, 2, lambda vector: vector + sent[0])):
        recalibrate(twin, forward, batches, 8 * 3 * together, share)
        found.append([keras.ops.convert_to_numpy(value) for value in (layer.moving_mean, layer.moving_variance)])
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5)
    before = keras.Model(network.inputs[0], network.get_layer("convolution").output)
    means, variances = [], []
    for index in range(3):
        images = [batches[together * index + number][0] for number in range(together)]
        values = keras.ops.convert_to_numpy(before(np.concatenate(images)))
        means.append(values.mean((0, 1, 2)))
        variances.append(values.var((0, 1, 2)))
    share = 0.9 ** np.arange(2, -1, -1)[:, None]
    found_mean, found_variance = found[0]
    np.testing.assert_allclose(found_mean, (share * means).sum(0) / share.sum(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found_variance, (share * variances).sum(0) / share.sum(), rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_those_of_images_as_they_are() -> None:
    """Neither varied nor mixed: what the passes leave is what they leave without any augmentation."""
    data, found = examples(), []
    for augmentation in (VARIED, Augmentation()):
        trainee = trainee_of(small_network(dropout=0.0), data, schedule(), augmentation, label_smoothing=0.0, seed=5)
        recalibrate(trainee.model, trainee.forward, trainee.plain_batches(0), trainee.num_recalibrating)
        layer = trainee.model.get_layer("network").get_layer("normalisation")
        found.append(keras.ops.convert_to_numpy(layer.moving_variance))
    same(*found)


def test_averaged_weights_are_lent_for_a_block_only() -> None:
    data, network = examples(), small_network()
    twin = training_model(network, "float32", [])
    average = WeightAverage(0.5)
    average.update(twin)
    own = [weight + 1 for weight in twin.get_weights()]
    twin.set_weights(own)
    batches = TrainingBatches(data.pixels, data.train, data.targets, data.weights, batch_size=8)
    trainee = SimpleNamespace(model=twin, forward=_forward(twin), num_recalibrating=1)
    with averaged_weights(trainee, average, batches):
        np.testing.assert_array_equal(twin.get_weights()[0], average.weights[0])
    for found, expected in zip(twin.get_weights(), own, strict=True):
        np.testing.assert_array_equal(found, expected)


# The loop


class KilledError(Exception):
    """Stands for the death of the process: nothing catches it."""


def stop_at(epoch: int, error: type[BaseException]) -> Any:
    def on_batch(now: int, batch: int, total: int) -> None:
        if (now, batch) == (epoch, 2):
            raise error

    return on_batch


def test_a_broken_training_continues_to_what_it_would_have_become(tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": schedule(epochs=4), "augmentation": VARIED, "seed": 5}
    unbroken, broken = small_network(), small_network()
    whole = fit(unbroken, examples(), **options)
    with pytest.raises(KilledError):
        fit(broken, examples(), **options, checkpoint=tmp_path / "state.npz", on_batch=stop_at(2, KilledError))
    interrupted = fit(
        small_network(),
        examples(),
        **options,
        checkpoint=tmp_path / "state.npz",
        on_batch=stop_at(4, KeyboardInterrupt),
    )
    assert interrupted.interrupted
    assert len(interrupted.history) == 3
    continued = fit(broken, examples(), **options, checkpoint=tmp_path / "state.npz")
    for name in ("loss", "val_loss", "learning_rate"):
        same([record[name] for record in continued.history], [record[name] for record in whole.history])
    for found, expected in zip(broken.get_weights(), unbroken.get_weights(), strict=True):
        same(found, expected)


def test_an_interrupt_before_the_first_epoch_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(small_network(), examples(), schedule(), VARIED, seed=0, on_batch=stop_at(1, KeyboardInterrupt))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"state\.npz cannot be continued from"):
        fit(small_network(), examples(), schedule(), VARIED, seed=0, checkpoint=tmp_path / "state.npz")


def test_training_learns_and_leaves_the_best_weights_in_the_plain_network() -> None:
    data, network = examples(), small_network(dropout=0.0)
    fitted = fit(network, data, schedule(epochs=8, learning_rate=0.03), Augmentation(), seed=0)
    losses = [record["val_loss"] for record in fitted.history]
    assert min(losses) < 0.8 * losses[0]
    predicted = network.predict(data.pixels.batch(data.validation), verbose=0)
    score = validation_scores(data.targets[data.validation], predicted)["val_loss"]
    assert score == pytest.approx(losses[fitted.best_epoch - 1], abs=1e-5)


def test_training_stops_when_patience_is_exhausted() -> None:
    data = examples()
    # Labels of validation are wrong, so learning makes its loss worse.
    wrong = data.targets.copy()
    wrong[data.validation] = 1 - wrong[data.validation]
    network = small_network(dropout=0.0)
    plan = schedule(epochs=40, learning_rate=0.1, patience=2)
    fitted = fit(network, replace(data, targets=wrong), plan, Augmentation(), seed=0)
    assert len(fitted.history) == fitted.best_epoch + 2 < 40


def test_a_loss_that_is_no_number_is_an_error_with_a_remedy() -> None:
    data = examples()
    images = data.pixels.batch(np.arange(40)) * np.float32(np.nan)
    with pytest.raises(RunError, match="learning_rate"):
        fit(small_network(), replace(data, pixels=Pixels(images)), schedule(), Augmentation(), seed=0)


def test_accumulated_batches_make_the_step_of_one_large_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.optimizers.schedules, "CosineDecay", lambda **_: 0.01)
    data = examples(count=28)
    networks = []
    for batch_size, accumulate in ((8, 1), (4, 2)):
        networks.append(small_network(dropout=0.0, normalised=False))
        plan = schedule(batch_size=batch_size, accumulate=accumulate, average_decay=0.0)
        fit(networks[-1], data, plan, Augmentation(), seed=0)
    start = small_network(dropout=0.0, normalised=False).get_weights()
    for large, accumulated, old in zip(*(network.get_weights() for network in networks), start, strict=True):
        np.testing.assert_allclose(accumulated, large, atol=1e-5)
        assert np.abs(large - old).max() > 1e-3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_rate_rises_to_its_peak_and_falls_as_a_cosine(accumulate: int) -> None:
    """Half of four epochs of four batches is warm-up from a 25th; the rest is half a cosine to 0.5 %."""
    plan = schedule(epochs=4, batch_size=4, warmup=0.5, accumulate=accumulate, learning_rate=0.1)
    network = small_network(dropout=0.0, normalised=False)
    history = fit(network, examples(count=28), plan, Augmentation(), seed=0).history
    found = [record["learning_rate"] for record in history]
    middle = 0.1 * (0.995 * 0.5 * (1 + np.cos(np.pi / 2)) + 0.005)
    np.testing.assert_allclose(found, [0.004 + 0.096 / 2, 0.1, middle, 0.0005], rtol=1e-4)


def test_more_batches_to_accumulate_than_an_epoch_has_still_train() -> None:
    network = small_network(dropout=0.0)
    before = network.get_weights()[0].copy()
    fit(network, examples(), schedule(accumulate=100, epochs=2), Augmentation(), seed=0)
    assert np.abs(network.get_weights()[0] - before).max() > 1e-5


def test_rows_without_weight_teach_nothing() -> None:
    data = examples()
    weights = data.weights * 0
    network = small_network(dropout=0.0)
    before = network.get_weights()[0].copy()
    fit(network, replace(data, weights=weights), schedule(weight_decay=0.0), Augmentation(), seed=0)
    np.testing.assert_allclose(network.get_weights()[0], before, atol=1e-7)


def test_validation_scores_against_hand_computed_ones() -> None:
    binary = validation_scores(np.array([[1.0], [0.0]]), np.array([[0.8], [0.6]]))
    assert binary["val_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.4)) / 2)
    assert binary["val_accuracy"] == 0.5
    several = validation_scores(np.eye(3)[[0, 2]], np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]]))
    assert several["val_loss"] == pytest.approx(-(np.log(0.7) + np.log(0.3)) / 2)
    assert several["val_accuracy"] == 0.5


def test_the_best_epoch_has_the_smallest_loss() -> None:
    history = [{"val_loss": loss} for loss in (0.5, 0.3, 0.4)]
    assert Fitted([], history).best_epoch == 2
    for start, kept, best in ((None, 2, 0.3), (0.31, 2, 0.3), (0.29, 0, 0.29)):
        found = Fitted([], history, start=start)
        assert (found.kept_epoch, found.best_figure) == (kept, best)


@pytest.mark.parametrize("start", [0.0, 9.0])
def test_a_finetuning_keeps_statistics_and_what_it_began_with_unless_an_epoch_is_better(start: float) -> None:
    network = small_network()
    network.get_layer("normalisation").set_weights([np.ones(4), np.zeros(4), np.full(4, 0.1), np.full(4, 2.0)])
    before = network.get_weights()
    began = Fitted([each.copy() for each in before], [{"val_loss": start}])
    found = fit(network, examples(), schedule(in_stages=True), Augmentation(), seed=0, start=began)
    assert (found.kept_epoch > 0) is (start > 0)
    changed = [not np.allclose(old, new, atol=1e-6) for old, new in zip(before, network.get_weights(), strict=True)]
    # Kernel and bias of the convolution, the normalisation, kernel and bias of the last layer.
    assert changed == [start > 0] * 2 + [False] * 4 + [start > 0] * 2


# A whole run


@pytest.fixture(scope="module")
def data(trained_classifier: Trained) -> str:
    return trained_classifier.data


@pytest.fixture(scope="module")
def unbroken(trained_classifier: Trained) -> Path:
    return trained_classifier.run.folder


def test_a_run_folder_is_complete(unbroken: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert {"plan.yaml", "cohort.parquet", "history.csv", "log.jsonl", "environment.json", "bundle"} <= names
    assert {"metrics.json", "predictions.csv", "figures"} <= names
    assert "checkpoints" not in names
    assert not [name for name in contents(unbroken) if name.endswith(".part")]
    assert {"model.keras", "model.onnx", "pipeline.json", "bundle.json"} <= {
        path.name for path in (unbroken / "bundle").iterdir()
    }
    assert Plan.load(unbroken / "plan.yaml").width == 4
    assert pd.read_csv(unbroken / "history.csv")["epoch"].tolist() == [1, 2, 3]
    events = [json.loads(line)["event"] for line in (unbroken / "log.jsonl").read_text().splitlines()]
    assert [events.count(name) for name in ("epoch", "trained", "engine", "diagnosis", "finished")] == [3, 1, 1, 1, 1]
    assert json.loads((unbroken / "environment.json").read_text())["backend"] == keras.backend.backend()


def test_a_network_is_a_function_of_its_specification_which_can_be_pickled(data: str) -> None:
    """As another process would train it."""
    cohort = prepare(DataRequest(data), seed=0).cohort
    plan = fitted_plan(small_plan(network="simple_cnn", width=None, epochs=1), cohort)
    store = TRAININGS["labels"].build_store(plan, cohort, silent)
    specification = Specification(plan, store, cohort.rows("train"), cohort.rows("validation"), number=1)
    found = [train_network(one) for one in (specification, pickle.loads(pickle.dumps(specification)))]  # noqa: S301
    for one, other in zip(*(member.fitted.weights for member in found), strict=True):
        same(one, other)
