"""Masked reconstruction, for U-Nets: a network learns to fill in what was hidden in patches of images.

He et al., "Masked autoencoders are scalable vision learners", 2022 (arXiv:2111.06377), in the form for convolutional
networks: hidden cells are set to the mean, and the loss counts these cells alone. On medical volumes such networks were
the best start for segmentation, encoder and decoder both (Wald et al., "An OpenMind for 3D medical vision
self-supervised learning", 2024, arXiv:2412.17041).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from hounsfield.augmentation.patches import draw_placement, read_patch
from hounsfield.cohorts import Cohort, SceneStore
from hounsfield.errors import PlanError
from hounsfield.models.training_model import jit_compilation, training_copy
from hounsfield.plans.masks import MaskPlan
from hounsfield.pretraining.base import LAST_EPOCH, lengths, refuse_collapse
from hounsfield.progress import Progress
from hounsfield.segmentation import residual_unet
from hounsfield.shares import WHOLE, Share
from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule

NAME, FOR_MASKS, HELD = "masked reconstruction", True, 32
# The share of a patch that is hidden, and the longest side of a cell in pixels.
HIDDEN_SHARE, CELL = 0.6, 8
# Fields of a plan that decide what the network is.
SETTINGS = ("width", "strides", "kernels", "spacing")
# Of the features' size, their deviation below which they have collapsed.
LEAST_SPREAD = 0.01
# Patches of each image in an epoch, at most as many as make so many in all.
EPOCH_PATCHES = 128


def plan_of(plan: MaskPlan, num_images: int) -> MaskPlan:
    """See ``Method``."""
    patches = max(1, math.ceil(EPOCH_PATCHES / num_images))
    return plan.model_copy(update=lengths(patches * num_images) | {"patches": patches, "learning_rate": 1e-3})


def settings(plan: MaskPlan) -> dict[str, Any]:
    """Width, strides, kernels and spacing; see ``Method``."""
    values = plan.model_dump(mode="json")
    return {name: values[name] for name in SETTINGS}


def build_store(plan: MaskPlan, cohort: Cohort, progress: Progress) -> SceneStore:
    """Images of any size; see ``Method``."""
    store = SceneStore.build(cohort, plan.pipeline, progress=progress)
    if (len(store.shape), store.shape[-1]) != (len(plan.input_shape), plan.input_shape[-1]):
        raise PlanError(
            f"The pipeline makes images of {len(store.shape) - 1} axes and {store.shape[-1]} channels, and the plan's "
            f"input_shape is {plan.input_shape}. Give images of the kind that the plan was made for."
        )
    return store


def build_network(plan: MaskPlan) -> keras.Model:
    """The U-Net, whose output "logits" is the image, and its features; see ``Method``."""
    channels = plan.input_shape[-1]
    network = residual_unet(plan.input_shape, channels, width=plan.width, strides=plan.strides, kernels=plan.kernels)
    return keras.Model(network.inputs[0], network.outputs[:2], name=plan.network)


def hidden_cells(shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(*shape) what is hidden of a patch: whole cells, drawn so that at least one is hidden and one is seen."""
    sides = [max(1, min(CELL, length // 4)) for length in shape]
    counts = [math.ceil(length / side) for length, side in zip(shape, sides, strict=True)]
    number = int(np.clip(round(HIDDEN_SHARE * math.prod(counts)), 1, math.prod(counts) - 1))
    cells = np.zeros(math.prod(counts), bool)
    cells[generator.permutation(len(cells))[:number]] = True
    grid = cells.reshape(counts)
    for axis, side in enumerate(sides):
        grid = np.repeat(grid, side, axis=axis)
    return grid[tuple(slice(length) for length in shape)]


class HiddenPatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    r"""One epoch of patches, in part hidden; (batch, \*patch, channels), and the same whole with what is hidden.

    What is drawn depends on the seed, the epoch and the place in the epoch alone.

    Args:
        store: the prepared images.
        rows: of which a patch each is drawn; a row may stand there several times. A last, smaller batch is left out.
        plan: of the pretraining.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, store: SceneStore, rows: npt.NDArray[np.int64], plan: MaskPlan, epoch: int) -> None:
        super().__init__()
        self._store, self._plan, self._draw = store, plan, (plan.seed, epoch)
        count = Schedule.of(plan).num_images(len(rows))
        self._order = np.random.default_rng(self._draw).permutation(rows)[:count]
        self.batch_size = min(plan.batch_size, count)

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._order) // self.batch_size

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What is seen; and the whole with, as its last channel, one where it is hidden."""
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        seen, whole = zip(*map(self._patch, places), strict=True)
        return np.stack(seen), np.stack(whole)

    def _patch(self, place: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        generator, plan = np.random.default_rng((*self._draw, place)), self._plan
        image, sides = self._store.pixels(int(self._order[place])), plan.input_shape[:-1]
        placement = draw_placement(generator, image.shape[:-1], sides, plan.augmentation, spacing=plan.spacing)
        patch = read_patch(image, placement)
        hidden = hidden_cells(sides, generator)[..., np.newaxis]
        return np.where(hidden, np.float32(0), patch), np.concatenate([patch, hidden.astype(np.float32)], axis=-1)


class Reconstruction(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A U-Net with the loss of what it fills in.

    Args:
        network: from patches to their reconstruction and to features.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__()
        self.network = network
        self.built = True

    def call(self, images: Any, training: bool | None = None) -> Any:
        """The reconstruction and the features."""
        return self.network(images, training=training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        """The mean squared error of hidden pixels."""
        whole, hidden = y[..., :-1], y[..., -1:]
        errors = hidden * ops.square(ops.cast(y_pred[0], "float32") - whole)
        return ops.sum(errors) / (ops.sum(hidden) * whole.shape[-1])


class ReconstructionTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: as ``build_network`` makes it; its weights are the start.
        store: the prepared images.
        rows: that it learns from.
        held: by which it is watched.
        plan: of the pretraining.
    """

    criterion = LAST_EPOCH
    # There are no statistics of batches.
    num_recalibrating = 0

    def __init__(
        self,
        network: keras.Model,
        store: SceneStore,
        rows: npt.NDArray[np.int64],
        held: npt.NDArray[np.int64],
        plan: MaskPlan,
    ) -> None:
        keras.utils.set_random_seed(plan.seed)
        self._store, self._plan = store, plan
        self._rows, self._held = np.repeat(rows, plan.patches), held
        self.model = Reconstruction(training_copy(network, plan.precision, ("logits", "features")))
        schedule = Schedule.of(plan)
        made = optimizer(schedule, schedule.num_batches(len(self._rows)), self.model.trainable_variables)
        self.model.compile(made, jit_compile=jit_compilation())
        self.forward: Callable[[np.ndarray], Any] = self.model.network

    def batches(self, epoch: int) -> HiddenPatches:
        """The batches of an epoch."""
        return HiddenPatches(self._store, self._rows, self._plan, epoch)

    plain_batches = batches

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:  # noqa: ARG002 - always all
        """The error on hidden pixels of images that were not seen, and how far features differ between images.

        Raises:
            RunError: the features collapsed.
        """
        batches = HiddenPatches(self._store, self._held, self._plan, epoch=0)
        errors, features = [], []
        for index in range(len(batches)):
            seen, whole = batches[index]
            filled = np.asarray(self.model.predict_on_batch(seen)[0], np.float32)
            errors.append(np.square(filled - whole[..., :-1])[whole[..., -1] > 0].mean())
            features.append(np.asarray(self.model.predict_on_batch(whole[..., :-1])[1], np.float64))
        found = np.concatenate(features)
        spread = float(np.sqrt(found.var(axis=0).mean() / max(np.square(found).mean(), 1e-12)))
        refuse_collapse(
            "the standard deviation of the features relative to their size", spread, LEAST_SPREAD, epoch + 1
        )
        return {"val_loss": float(np.mean(errors)), "feature_std": spread}

    def weights(self) -> list[np.ndarray]:
        """Those of the plain network."""
        values: list[np.ndarray] = self.model.network.get_weights()
        return values


make_trainee = ReconstructionTrainee
