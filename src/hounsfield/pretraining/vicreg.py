"""Variance-invariance-covariance regularisation, for networks that judge an image as a whole.

Bardes, Ponce, LeCun, "VICReg: variance-invariance-covariance regularization for self-supervised learning", 2022
(arXiv:2105.04906). Two views of each image, varied at random, are to have like embeddings, while each component of the
embeddings varies over the batch and is not correlated with the others. It needs neither negative pairs nor a second
network, and stands small batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from hounsfield.augmentation.build import build_layers
from hounsfield.cohorts import Cohort, Store
from hounsfield.models.training_model import compiled_forward, jit_compilation, training_copy
from hounsfield.plans.augmentation import STRENGTHS, Augmentation
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.pretrained import build_network as plain_network
from hounsfield.pretraining.base import LAST_EPOCH, lengths, refuse_collapse
from hounsfield.progress import Progress
from hounsfield.shares import WHOLE, Share
from hounsfield.training.batches import TrainingBatches, predict_rows
from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule
from hounsfield.training.whole_images import check_shape

NAME, FOR_MASKS, HELD = "VICReg", False, 256
# Weights of the three terms, and the deviation that each component is to have (section 4.2).
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0
DEVIATION, EPSILON = 1.0, 1e-4
# Components of an embedding; more of them help, and cost little beside the network.
EMBEDDED = 1024
# Of the deviation that is wanted, below which the embeddings have collapsed.
LEAST_DEVIATION = 0.1
# Images of a batch, and values of them.
BATCH, BATCH_VALUES = (16, 64), 2**23
# Batch-norm statistics are taken anew on so many images after each epoch.
RECALIBRATING = 512
# Views are varied more than images that are to keep their label.
VIEWS = {"scale": 0.5, "translation": 0.2, "unchanged_share": 0.0, "mixup": 0.0}
INTENSITIES = ("brightness", "contrast", "gamma", "sharpness", "noise", "erase", "scale", "stretch", "shear")


def plan_of(plan: WholeImagePlan, num_images: int) -> WholeImagePlan:
    """See ``Method``."""
    fitting = 2 ** int(math.log2(max(BATCH_VALUES // math.prod(plan.input_shape), 1)))
    update = lengths(num_images) | {
        "augmentation": _views(plan.augmentation),
        "batch_size": min(int(np.clip(fitting, *BATCH)), max(2, num_images // 2)),
        "learning_rate": 1e-3,
        "folds": 1,
        "train_share": 1.0,
        "views": None,
        "test_time_flips": (),
    }
    return plan.model_copy(update=update)


def _views(limits: Augmentation) -> Augmentation:
    """How strongly views are varied; what the planner does not vary at all in these images, such as masks, stays."""
    varied = STRENGTHS["strong"].model_copy(update={"flip_axes": limits.flip_axes} | VIEWS)
    if limits.changes() and not limits.brightness:
        return varied.model_copy(update=dict.fromkeys(INTENSITIES, 0.0))
    return varied


def settings(plan: WholeImagePlan) -> dict[str, Any]:
    """None: the network is loaded as a whole; see ``Method``."""
    return {"network": plan.network, "width": plan.width, "pooling": plan.pooling}


def build_store(plan: WholeImagePlan, cohort: Cohort, progress: Progress) -> Store:
    """Images of the network's input shape; see ``Method``."""
    store = Store.build(cohort, plan.pipeline, progress=progress)
    check_shape(plan, store)
    return store


def build_network(plan: WholeImagePlan) -> keras.Model:
    """The network up to its layer "features"; see ``Method``."""
    network = plain_network(plan)
    return keras.Model(network.inputs[0], network.get_layer("features").output, name=plan.network)


def vicreg_loss(first: Any, second: Any, weights: Sequence[float] = (INVARIANCE, VARIANCE, COVARIANCE)) -> Any:
    """The loss of the embeddings of two views, equations 1 to 6.

    Args:
        first: (batch, components).
        second: likewise, of the same images.
        weights: of invariance, variance and covariance.
    """
    first, second = (ops.cast(each, "float32") for each in (first, second))
    invariance = ops.mean(ops.square(first - second))
    variance = sum(_variance(each) for each in (first, second)) / 2
    covariance = sum(_covariance(each) for each in (first, second))
    return weights[0] * invariance + weights[1] * variance + weights[2] * covariance


def _variance(embeddings: Any) -> Any:
    """How far the deviations of the components fall short, in the mean (equation 1; halved by the caller)."""
    deviation = ops.sqrt(_spread(embeddings) + EPSILON)
    return ops.mean(ops.relu(DEVIATION - deviation))


def _spread(embeddings: Any) -> Any:
    """The unbiased variance of each component."""
    count = ops.cast(ops.shape(embeddings)[0], "float32")
    centred = embeddings - ops.mean(embeddings, axis=0, keepdims=True)
    return ops.sum(ops.square(centred), axis=0) / (count - 1)


def _covariance(embeddings: Any) -> Any:
    """The sum of squared covariances of different components, over their number (equations 3 and 4)."""
    count = ops.cast(ops.shape(embeddings)[0], "float32")
    centred = embeddings - ops.mean(embeddings, axis=0, keepdims=True)
    matrix = ops.matmul(ops.transpose(centred), centred) / (count - 1)
    return (ops.sum(ops.square(matrix)) - ops.sum(ops.square(_spread(embeddings)))) / embeddings.shape[-1]


class TwoViews(keras.Model):  # type: ignore[misc]  # Keras has no types
    """An encoder and what embeds its features, trained on two random views of each image.

    Args:
        encoder: from images to features.
        augmentation: random layers that make a view.
        weights: of the terms of the loss.
    """

    def __init__(
        self,
        encoder: keras.Model,
        augmentation: Sequence[keras.Layer],
        weights: Sequence[float] = (INVARIANCE, VARIANCE, COVARIANCE),
    ) -> None:
        super().__init__()
        self.encoder, self.augmentation = encoder, list(augmentation)
        self.expander = _expander(encoder.output_shape[-1])
        self._terms = tuple(weights)
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        """(batch, components) the embeddings; in training (2·batch, components), those of the first views first."""
        if training:
            images = ops.concatenate([images, images], axis=0)
            for layer in self.augmentation:
                images = layer(images, training=True)
        return self.embed(images, training=training)

    def embed(self, images: Any, *, training: bool | None) -> Any:
        """The embeddings of images as they are."""
        return self.expander(self.encoder(images, training=training), training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        """The loss of the two halves."""
        first, second = ops.split(y_pred, 2, axis=0)
        return vicreg_loss(first, second, self._terms)


def _expander(num_features: int) -> keras.Model:
    """Three dense layers, the first two normalised over the batch (section 4.2)."""
    inputs = keras.Input((num_features,), name="features")
    hidden = inputs
    for number in (1, 2):
        hidden = layers.Dense(EMBEDDED, use_bias=False, name=f"dense{number}")(hidden)
        hidden = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"normalisation{number}")(hidden)
        hidden = layers.ReLU(name=f"relu{number}")(hidden)
    return keras.Model(inputs, layers.Dense(EMBEDDED, name="embeddings")(hidden), name="expander")


class VicregTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: from images to features; its weights are the start.
        store: the prepared images.
        rows: that it learns from.
        held: by which it is watched.
        plan: of the pretraining.
    """

    criterion = LAST_EPOCH
    num_recalibrating = RECALIBRATING

    def __init__(
        self,
        network: keras.Model,
        store: Store,
        rows: npt.NDArray[np.int64],
        held: npt.NDArray[np.int64],
        plan: WholeImagePlan,
    ) -> None:
        keras.utils.set_random_seed(plan.seed)
        self._store, self._rows, self._held, self._plan = store, rows, held, plan
        encoder = training_copy(network, plan.precision, ("features",), seed=plan.seed)
        self.model = TwoViews(encoder, build_layers(plan.augmentation, plan.seed))
        schedule = Schedule.of(plan)
        made = optimizer(schedule, schedule.num_batches(len(rows)), self.model.trainable_variables)
        self.model.compile(made, jit_compile=jit_compilation())
        model = self.model
        self.forward: Callable[[np.ndarray], Any] = compiled_forward(
            model, lambda images: model.embed(images, training=True)
        )

    def batches(self, epoch: int) -> TrainingBatches:
        """The batches of an epoch; their targets say nothing."""
        plan = self._plan
        shown = np.random.default_rng((plan.seed, epoch)).permutation(self._rows)
        shown = shown[: Schedule.of(plan).num_images(len(shown))]
        nothing = np.zeros((len(self._store), 1), np.float32)
        return TrainingBatches(
            self._store, shown, nothing, nothing[:, 0] + 1, batch_size=plan.batch_size, seed=plan.seed, epoch=epoch
        )

    plain_batches = batches

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:  # noqa: ARG002 - always all
        """The deviation of the embeddings' components, in the mean.

        Raises:
            RunError: the embeddings collapsed.
        """
        embedded = predict_rows(self.model, self._store, self._held, batch_size=64).astype(np.float64)
        deviation = float(embedded.std(axis=0).mean())
        refuse_collapse("the standard deviation of the embeddings", deviation, LEAST_DEVIATION * DEVIATION, epoch + 1)
        return {"embedding_std": deviation}

    def weights(self) -> list[np.ndarray]:
        """Those of the encoder."""
        values: list[np.ndarray] = self.model.encoder.get_weights()
        return values


make_trainee = VicregTrainee
