"""Training on samples of several images: their batches, and the network in training."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from hounsfield.cohorts import Cohort, Store
from hounsfield.errors import PlanError
from hounsfield.models.training_model import Precision
from hounsfield.models.views import head_settings, view_training_model
from hounsfield.plans.architecture import ViewPooling
from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.training.averaging import Batches
from hounsfield.training.batches import TrainingBatches
from hounsfield.training.image_trainee import Examples, ImageTrainee, Judge
from hounsfield.training.lora import LowRankTrainee
from hounsfield.training.schedule import Schedule
from hounsfield.training.weights import group_attribute
from hounsfield.training.whole_images import check_mirroring

# Images that are predicted at once in a validation.
VALIDATED = 128


def check_images(plan: WholeImagePlan, cohort: Cohort) -> None:
    """Refuse a plan whose groups, mirroring or views do not fit the data.

    Raises:
        PlanError: it does not.
    """
    if plan.balance_groups:
        group_attribute(plan.balance_groups, cohort)
    check_mirroring(plan)
    check_views(plan, cohort)


def check_views(plan: WholeImagePlan, cohort: Cohort) -> None:
    """Refuse a plan that takes images one by one where the data has samples of several, and the other way round.

    Raises:
        PlanError: it does, or mixes images or trains an ensemble, which has no meaning for such samples.
    """
    if plan.channels != cohort.channels:
        found, planned = (", ".join(names) or "no names" for names in (cohort.channels, plan.channels))
        raise PlanError(
            f"The plan has the channels {planned}, but the data has {found}. Name those of the plan with --channels, "
            "or make a plan for this data with 'hounsfield plan DATA'."
        )
    if (plan.views is not None) != cohort.has_views:
        wanted = "a number, such as 4" if cohort.has_views else "null"
        has = "samples of several images" if cohort.has_views else "one image a sample"
        raise PlanError(
            f"The plan has views: {'null' if plan.views is None else plan.views}, but the data has {has}. Set views to "
            f"{wanted}, or choose which images are judged together with --sample-column."
        )
    if plan.views is None:
        return
    for name, value, allowed in (("folds", plan.folds, 1), ("augmentation.mixup", plan.augmentation.mixup, 0)):
        if value != allowed:
            raise PlanError(
                f"The plan has {name}: {value:g}, which is for images that are judged one by one. Set it to {allowed} "
                "for samples of several images."
            )


class ViewPixels:
    """The images of samples: a ``PixelSource`` whose rows are the first ones of samples.

    Args:
        store: with a row per image.
        views: images of each sample in a batch; a smaller sample repeats some, which are marked as absent.
        draw: of the images of larger samples, seed and epoch; taken at equal steps where not given.
    """

    def __init__(self, store: Store, views: int, draw: tuple[int, ...] | None = None) -> None:
        self.store, self.views, self._draw = store, views, draw

    def batch(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Images (rows, views, …) and which of them are present, (rows, views)."""
        chosen, present = zip(*(self._of_sample(int(row)) for row in rows), strict=True)
        images = self.store.batch(np.concatenate(chosen))
        return {
            "image": images.reshape(len(rows), self.views, *images.shape[1:]),
            "present": np.stack(present).astype(np.float32),
        }

    def _of_sample(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        members = self.store.cohort.views(row)
        present = np.arange(self.views) < len(members)
        if len(members) <= self.views:
            return np.resize(members, self.views), present
        if self._draw is None:
            return members[np.linspace(0, len(members) - 1, self.views).round().astype(int)], present
        generator = np.random.default_rng((*self._draw, row))
        return np.sort(generator.choice(members, self.views, replace=False)), present


class _Flat:
    """Batches of images without their samples, for batch-norm statistics."""

    def __init__(self, batches: TrainingBatches, views: int) -> None:
        self._batches = batches
        self.batch_size = batches.batch_size * views

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        images: Any = self._batches[index][0]
        return (images["image"].reshape(-1, *images["image"].shape[2:]),)


class ViewTrainee(ImageTrainee):
    """A network on samples of several images; see ``ImageTrainee``.

    Args:
        network: as ``models.views.with_attention`` made it.
        examples: whose rows are the first ones of samples, and whose pixels are the store.
        schedule: as of ``ImageTrainee``.
        augmentation: as of ``ImageTrainee``; images are changed one by one.
        views: images of each sample in a batch.
        pooling: how they are joined.
        options: as of ``ImageTrainee``.
    """

    def __init__(
        self,
        network: keras.Model,
        examples: Examples,
        *arguments: Any,
        views: int,
        pooling: ViewPooling,
        **options: Any,
    ) -> None:
        self._views, self._pooling = views, pooling
        store: Any = examples.pixels
        self._store: Store = store
        pixels: Any = ViewPixels(store, views)
        judged = dataclasses.replace(examples, pixels=pixels)
        super().__init__(network, judged, *arguments, **options)
        self._at_once = max(1, VALIDATED // views)

    def _build(
        self, network: keras.Model, precision: Precision, augmentation: list[keras.Layer]
    ) -> tuple[keras.Model, keras.Model]:
        return view_training_model(
            network, precision, augmentation, views=self._views, pooling=self._pooling, seed=self._seed
        )

    def plain_batches(self, epoch: int) -> Batches:
        """The images of the batches of an epoch; see ``Trainee``."""
        return _Flat(self.batches(epoch), self._views)

    def _pixels(self, epoch: int) -> Any:
        return ViewPixels(self._store, self._views, (self._seed, epoch))


def image_trainee(
    plan: WholeImagePlan, network: keras.Model, examples: Examples, *, loss: keras.losses.Loss, judge: Judge, seed: int
) -> ImageTrainee:
    """The network of a plan in training, on single images or on samples of several."""
    arguments = (network, examples, Schedule.of(plan), plan.augmentation)
    options: dict[str, Any] = {"loss": loss, "judge": judge, "precision": plan.precision, "seed": seed}
    if plan.views is None:
        kind = LowRankTrainee if plan.adapt == "lora" else ImageTrainee
        return kind(*arguments, **options)
    return ViewTrainee(*arguments, views=plan.views, pooling=plan.view_pooling, **options)


def sample_settings(network: keras.Model, plan: WholeImagePlan, cohort: Cohort) -> dict[str, Any]:
    """What a bundle keeps of samples: the names of their channels, and how any engine can join their images."""
    channels = {"channels": list(plan.channels)} if plan.channels else {}
    if plan.views is None:
        return channels
    head = head_settings(network)
    return channels | {"view_pooling": plan.view_pooling, "sample_column": cohort.sample_column, "head": head}
