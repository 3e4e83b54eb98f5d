"""A detector in training: what it is shown, how it is judged, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from hounsfield.augmentation.build import build_layers
from hounsfield.augmentation.scenes import Scene, augmented
from hounsfield.cohorts import SceneStore
from hounsfield.detection import FasterRCNN
from hounsfield.evaluation import Finding, Truth, as_detections, quick_precision
from hounsfield.inference.windows import Found, find
from hounsfield.models.training_model import compiled_forward, jit_compilation
from hounsfield.object_masks import SIDE
from hounsfield.plans.boxes import DetectionPlan
from hounsfield.shares import WHOLE, Share, current_share
from hounsfield.testing.engine_runs import evenly
from hounsfield.training.fitted import Criterion
from hounsfield.training.optimizer import optimizer
from hounsfield.training.schedule import Schedule

# Canvases on which batch-norm statistics are taken anew, and images on which an epoch is judged.
RECALIBRATED, JUDGED = 128, 96


class DetectionBatches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no types
    """One epoch of shuffled batches: images (batch, *canvas, channels), and padded boxes and classes.

    Of each batch it gives the share of this process.
    What is drawn depends on the seed, the epoch and the row alone, so an epoch can be replayed.

    Args:
        store: the prepared images.
        rows: that are trained on; a last, smaller batch is left out.
        plan: canvas, batch size, augmentation, padding.
        seed: of the order and of every draw.
        epoch: number of the epoch, from 0.
    """

    def __init__(self, store: SceneStore, rows: np.ndarray, plan: DetectionPlan, *, seed: int, epoch: int) -> None:
        super().__init__()
        self._store, self._rows, self._plan = store, rows, plan
        self._draw = (seed, epoch)
        num_images = Schedule.of(plan).num_images(len(rows))
        self.batch_size = size = min(plan.batch_size, num_images)
        order = np.random.default_rng(self._draw).permutation(len(rows))[:num_images]
        share, starts = current_share().of(size), range(0, len(order) - size + 1, size)
        self._batches = [order[start : start + size][share] for start in starts]

    def __len__(self) -> int:
        """Number of batches in the epoch."""
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images, and a dictionary of boxes (batch, max_objects, 2·rank), classes, −1 for padding, and maybe masks."""
        scenes = [self._scene(int(number)) for number in self._batches[index]]
        padding = self._plan.max_objects
        boxes = np.zeros((len(scenes), padding, scenes[0].boxes.shape[-1]), np.float32)
        classes = np.full((len(scenes), padding), -1, np.int32)
        for row, scene in enumerate(scenes):
            boxes[row, : len(scene.boxes)] = scene.boxes
            classes[row, : len(scene.classes)] = scene.classes
        truth: dict[str, np.ndarray] = {"boxes": boxes, "classes": classes}
        if self._plan.mask_bins:
            truth["masks"] = np.zeros((len(scenes), padding, SIDE, SIDE), np.uint8)
            for row, scene in enumerate(scenes):
                truth["masks"][row, : len(scene.boxes)] = scene.masks
        return np.stack([scene.pixels for scene in scenes]), truth

    def _scene(self, number: int) -> Scene:
        scene = self._augmented(number, self._plan.augmentation.mosaic)
        # A mosaic may hold more objects than any image does: then the image stands alone.
        return scene if len(scene.boxes) <= self._plan.max_objects else self._augmented(number, 0.0)

    def _augmented(self, number: int, mosaic: float) -> Scene:
        return augmented(
            self._fetch,
            number,
            num_scenes=len(self._rows),
            shape=self._plan.input_shape[:-1],
            limits=self._plan.augmentation.model_copy(update={"mosaic": mosaic}),
            base=1.0,
            draw=self._draw,
        )

    def _fetch(self, number: int) -> Scene:
        row = int(self._rows[number])
        masks = self._store.box_masks(row) if self._plan.mask_bins else None
        return Scene(self._store.pixels(row), *self._store.boxes(row), masks)


class DetectorTrainee:
    """See :class:`hounsfield.training.loop.Trainee`.

    Args:
        network: a plain detector; its weights are the start.
        store: the prepared images.
        train: rows that are trained on.
        validation: rows by which epochs are compared.
        plan: of the training.
    """

    criterion = Criterion("val_ap", more_is_better=True)
    num_recalibrating = RECALIBRATED

    def __init__(
        self, network: FasterRCNN, store: SceneStore, train: np.ndarray, validation: np.ndarray, plan: DetectionPlan
    ) -> None:
        keras.utils.set_random_seed(plan.seed)
        self._store, self._train, self._plan = store, train, plan
        self._validation = evenly(validation, JUDGED)
        self.model = FasterRCNN(
            network.settings,
            precision=plan.precision,
            seed=plan.seed,
            augmentation=build_layers(plan.intensities, plan.seed),
        )
        for part, plain in zip(self.model.parts, network.parts, strict=True):
            part.set_weights(plain.get_weights())
        schedule = Schedule.of(plan)
        steps = schedule.num_batches(len(train))
        self.model.compile(optimizer(schedule, steps, self.model.trainable_variables), jit_compile=jit_compilation())
        self.forward: Callable[[np.ndarray], Any] = compiled_forward(
            self.model, lambda images: self.model.first_stage(images, training=True).logits
        )

    def batches(self, epoch: int) -> DetectionBatches:
        """The batches of an epoch."""
        return DetectionBatches(self._store, self._train, self._plan, seed=self._plan.seed, epoch=epoch)

    # Their objects are moved and scaled, but the values are still those of the images.
    plain_batches = batches

    def validate(self, epoch: int, *, last: bool, share: Share = WHOLE) -> dict[str, float]:
        """Average precision on the validation images, every few epochs and after the last; by the first process."""
        if share.rank or ((epoch + 1) % self._plan.validate_every and not last):
            return {}
        found = found_by(self.model, self._store, self._validation, self._plan)
        findings = [Finding(each.boxes, each.classes, each.scores) for each in found]
        truths = [Truth(*self._store.boxes(int(row))) for row in self._validation]
        ap, ap50 = quick_precision(as_detections(truths, findings, labels=self._plan.labels))
        return {"val_ap": ap, "val_ap50": ap50}

    def weights(self) -> list[np.ndarray]:
        """Those of one part after the other."""
        return [weight for part in self.model.parts for weight in part.get_weights()]


def found_by(model: FasterRCNN, store: SceneStore, rows: np.ndarray, plan: DetectionPlan) -> Iterator[Found]:
    """What a detector in Keras finds in rows of a store, in pixels of the prepared images."""
    settings = model.settings
    for row in rows:
        yield find(
            model.predict_on_batch,
            store.pixels(int(row)),
            settings.input_shape[:-1],
            window_overlap=plan.window_overlap,
            detection_overlap=settings.detection_overlap,
        )
