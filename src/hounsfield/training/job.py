"""What every part of one training is given."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from hounsfield.cohorts import Store
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.planning import Plan
from hounsfield.progress import Progress
from hounsfield.training.loop import Examples, Fitted
from hounsfield.training.run_folder import RunFolder


@dataclass(frozen=True)
class Job:
    """One training: what was decided, on which images, where it is written, and who is told.

    Attributes:
        folder: the run folder.
        plan: with its pipeline fitted.
        store: the prepared images.
        seen: the fingerprint of the training rows.
        data: DATA as the user gave it.
        progress: told of all that takes long.
    """

    folder: RunFolder
    plan: Plan
    store: Store
    seen: Fingerprint
    data: str
    progress: Progress


@dataclass(frozen=True)
class Member:
    """One trained network, what it was trained on, and how that went."""

    network: keras.Model
    examples: Examples
    fitted: Fitted
