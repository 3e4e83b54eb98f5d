"""What every part of one training is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from hounsfield.bundle import SourceRange
from hounsfield.cohorts import Store
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.plans.labels import Plan
from hounsfield.progress import Progress
from hounsfield.runs.folder import RunFolder
from hounsfield.training.classifier import Examples
from hounsfield.training.fitted import Fitted


@dataclass(frozen=True)
class Job:
    """One training: what was decided, on which images, where it is written, and who is told.

    Attributes:
        folder: the run folder.
        plan: with its pipeline fitted.
        store: the prepared images.
        seen: the fingerprint of the training rows.
        pictures: reference → a number that images of the same picture share.
        data: DATA and its options, as they stand in a command.
        progress: told of all that takes long.
    """

    folder: RunFolder
    plan: Plan
    store: Store
    seen: Fingerprint
    pictures: dict[str, int]
    data: str
    progress: Progress


@dataclass(frozen=True)
class Member:
    """One trained network, what it was trained on, and how that went."""

    network: keras.Model
    examples: Examples
    fitted: Fitted


def origin(seen: Fingerprint) -> dict[str, Any]:
    """What a bundle keeps of the images that it was trained on, as keyword arguments of its saving."""
    modalities = tuple(sorted(seen.modalities))
    return {
        "source_range": SourceRange(
            smallest=seen.min_shape,
            largest=seen.max_shape,
            channels=tuple(sorted(seen.channel_counts)),
            modalities=modalities,
            colour=seen.num_grey < seen.num_readable,
        ),
    }
