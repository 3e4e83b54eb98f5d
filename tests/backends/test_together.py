"""Networks that several processes train together: what they become is what one process makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from hounsfield.detection.losses import masked_mean
from hounsfield.segmentation import segmentation_loss
from hounsfield.segmentation.losses import truth_of
from hounsfield.shares import Share, sharing
from hounsfield.training import together
from hounsfield.training.base import Specification
from hounsfield.training.company import read_news
from hounsfield.training.one_network import train_network
from hounsfield.training.together import train_together
from together import Crew, same_training, specified


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Specification[Any, Any]]:
    with specified(tmp_path_factory) as found:
        yield found


def test_two_workers_train_what_one_process_trains(
    specification: Specification[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    hear = together._Driver._hear

    def heard(driver: Any, content: bytes) -> bool:
        sent.append(len(read_news(content)[1]))
        return hear(driver, content)

    monkeypatch.setattr(together._Driver, "_hear", heard)
    batches: list[tuple[int, int, int]] = []
    epochs: list[int] = []
    member = train_together(
        replace(specification, checkpoint=tmp_path / "state.npz"),
        crew=Crew(),
        on_batch=lambda *batch: batches.append(batch),
        on_epoch=lambda history: epochs.append(len(history)),
    )
    same_training(member.fitted, train_network(specification).fitted)
    # Three epochs and the end: after the same steps each has the state of the first one, which need not be sent.
    assert sent == [0] * 4
    assert epochs == [1, 2, 3]
    count = len(specification.train) // specification.plan.batch_size
    assert batches == [(epoch, batch, count) for epoch in (1, 2, 3) for batch in range(1, count + 1)]


def _loss_of_boxes(values: np.ndarray, mask: np.ndarray) -> float:
    return float(masked_mean(ops.convert_to_tensor(values), mask > 0))


def _loss_of_masks(logits: np.ndarray, mask: np.ndarray) -> float:
    return float(segmentation_loss(logits, truth_of(mask, 3, overlapping=False), overlapping=False))


@pytest.mark.parametrize("loss", [_loss_of_boxes, _loss_of_masks])
def test_a_loss_over_a_shared_batch_is_that_of_the_whole(loss: Any) -> None:
    """Four of the first six images count, and one of the last six: a mean of the two parts' means would be wrong."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(12, 4, 3) if loss is _loss_of_masks else (12,)).astype(np.float32)
    mask = np.array([1, 1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1])
    mask = np.broadcast_to(mask[:, None, None], (12, 4, 1)) if loss is _loss_of_masks else mask
    sent: list[np.ndarray] = []

    def keep(vector: np.ndarray) -> np.ndarray:
        sent.append(vector)
        return vector

    parts = [Share(rank, 2, keep).of(len(values)) for rank in (0, 1)]
    with sharing(Share(1, 2, keep)):
        of_the_second = loss(values[parts[1]], mask[parts[1]])
    with sharing(Share(0, 2, lambda vector: vector + sent[0])):
        together = loss(values[parts[0]], mask[parts[0]])
    whole = loss(values, mask)
    assert together == pytest.approx(whole, abs=1e-6)
    assert abs(loss(values[parts[0]], mask[parts[0]]) + of_the_second - 2 * whole) > 0.01
