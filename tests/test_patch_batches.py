"""What a segmenter is shown: patches around every label, drawn again alike; and by which Dice epochs are compared."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.masks import IGNORE
from hounsfield.plans import MaskPlan
from hounsfield.plans.augmentation import PatchAugmentation
from hounsfield.training.segmenter import PatchBatches, SegmenterTrainee
from plans import hand_made_mask_plan as plan_of

# A large label, and one of a single pixel in a far corner.
SIDE, LARGE, SMALL = 60, (slice(5, 25), slice(5, 25)), (55, 52)


class Source:
    """Two images of 60×60 with both labels, and one in which nothing is marked."""

    def image(self, row: int) -> np.ndarray:
        pixels = np.zeros((SIDE, SIDE, 1), np.float32)
        pixels[self.mask(row) > 0] = 1
        return pixels

    def mask(self, row: int) -> np.ndarray:
        mask = np.zeros((SIDE, SIDE, 1), np.uint8)
        if row < 2:
            mask[LARGE], mask[SMALL] = 1, 2
        return mask

    def foreground(self, row: int) -> list[np.ndarray]:
        return [np.argwhere(self.mask(row)[..., 0] == label) for label in (1, 2)]


def drawn(plan: MaskPlan, rows: list[int], *, epoch: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    batches = PatchBatches(Source(), np.array(rows), plan, seed=0, epoch=epoch)
    return [batches[index] for index in range(len(batches))]


def test_each_label_is_seen_as_often_as_the_other() -> None:
    masks = np.concatenate([masks for _, masks in drawn(plan_of(foreground_share=1.0), [0, 1] * 100)])
    small = (masks == 2).any(axis=(1, 2, 3))
    large = (masks == 1).any(axis=(1, 2, 3))
    assert (small | large).all()
    assert small.mean() == pytest.approx(0.5, abs=0.1)


def test_without_a_share_a_single_pixel_is_rarely_seen() -> None:
    masks = np.concatenate([masks for _, masks in drawn(plan_of(foreground_share=0.0), [0, 1] * 100)])
    assert (masks == 2).any(axis=(1, 2, 3)).mean() < 0.15


def test_an_image_without_labels_is_shown_too() -> None:
    ((images, masks),) = drawn(plan_of(foreground_share=1.0), [2] * 4)
    assert images.shape == (4, 16, 16, 1)
    assert not masks.any()


def test_an_epoch_is_drawn_again_alike_and_another_differently() -> None:
    plan = plan_of(augmentation=PatchAugmentation(rotation=20, scale=0.2, flip_axes=(0, 1)))
    first, again, other = (drawn(plan, [0, 1] * 8, epoch=epoch) for epoch in (3, 3, 4))
    for (images, masks), (same, same_masks) in zip(first, again, strict=True):
        np.testing.assert_array_equal(images, same)
        np.testing.assert_array_equal(masks, same_masks)
    assert any(not np.array_equal(one[0], two[0]) for one, two in zip(first, other, strict=True))


def test_an_epoch_has_no_more_patches_than_the_plan_says() -> None:
    assert len(drawn(plan_of(epoch_images=9), [0, 1] * 30)) == 2


class Judged(Source):
    """Images whose values are the labels; of one pixel, with the value of the small label, the truth is not known."""

    def mask(self, row: int) -> np.ndarray:
        mask = super().mask(row)
        mask[0, 0] = IGNORE
        return mask

    def image(self, row: int) -> np.ndarray:
        pixels = super().mask(row).astype(np.float32)
        pixels[0, 0] = 2
        return pixels


def test_epochs_are_judged_by_the_dice_of_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of()
    trainee = SegmenterTrainee.__new__(SegmenterTrainee)
    trainee._plan, trainee._source, trainee._judged = plan, Judged(), np.array([0, 1, 2])

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        logits = 20.0 * np.stack([batch[..., 0] == label for label in range(3)], axis=-1).astype(np.float32)
        return logits, np.zeros((len(batch), 4), np.float32)

    monkeypatch.setattr(trainee, "_run", run)
    assert trainee.validate(0, last=True) == {"val_dice": 1.0, "val_dice_large": 1.0, "val_dice_small": 1.0}
    monkeypatch.setattr(trainee, "_run", lambda batch: run(np.where(batch == 2, 0, batch)))
    found = trainee.validate(0, last=True)
    assert (found["val_dice_large"], found["val_dice_small"], found["val_dice"]) == (1.0, 0.0, 0.5)
    sparse = plan_of(validate_every=3)
    trainee._plan = sparse
    assert trainee.validate(0, last=False) == {}
