"""What differs by the kind of network that is pretrained, and the watch over collapse."""

from __future__ import annotations

from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from hounsfield.cohorts import Cohort, Store
from hounsfield.errors import RunError
from hounsfield.plans.base import BasePlan
from hounsfield.progress import Progress
from hounsfield.training.fitted import Criterion
from hounsfield.training.loop import Trainee

# The last epoch is kept: the loss of a pretraining says little of what its features are worth.
LAST_EPOCH = Criterion("epoch", more_is_better=True)
# Of an epoch, so that a limit of time can end a pretraining on many images, and the passes over all images.
EPOCH_IMAGES, PASSES, EPOCHS = 4096, 100, (30, 400)


class Method(Protocol):
    """One entry of ``METHODS``: a module with these functions.

    Attributes:
        NAME: of the method.
        FOR_MASKS: whether its network is one for segmentation.
        HELD: images by which the pretraining is watched and which it does not see, at most.
    """

    NAME: str
    FOR_MASKS: bool
    HELD: int

    def plan_of(self, plan: Any, num_images: int) -> BasePlan:
        """The plan of a training on labels, changed to that of a pretraining on so many images."""

    def settings(self, plan: Any) -> dict[str, Any]:
        """The fields of the plan that a later training must have too, as plain values."""

    def build_store(self, plan: Any, cohort: Cohort, progress: Progress) -> Store:
        """The prepared images.

        Raises:
            PlanError: they do not fit the plan.
        """

    def build_network(self, plan: Any) -> keras.Model:
        """The network that is pretrained and written."""

    def make_trainee(
        self, network: keras.Model, store: Any, rows: npt.NDArray[np.int64], held: npt.NDArray[np.int64], plan: Any
    ) -> Trainee:
        """The network in training.

        Args:
            network: as ``build_network`` makes it.
            store: the prepared images.
            rows: that it learns from.
            held: by which it is watched.
            plan: of the pretraining.
        """


def lengths(num_images: int) -> dict[str, Any]:
    """Epochs and images of an epoch for so many images."""
    images = min(num_images, EPOCH_IMAGES)
    return {"epochs": int(np.clip(PASSES * num_images // images, *EPOCHS)), "epoch_images": images}


def refuse_collapse(figure: str, value: float, least: float, epoch: int) -> None:
    """End a pretraining whose network gives (nearly) the same vector for every image.

    Args:
        figure: what was measured.
        value: of it.
        least: below which it is a collapse; NaN is one too.
        epoch: after which it was measured, counted from 1.

    Raises:
        RunError: it collapsed.
    """
    if not value >= least:
        raise RunError(
            f"The pretraining collapsed: after epoch {epoch}, {figure} over images that it does not learn from is "
            f"{value:.2g}, and at least {least:g} is expected, so all images look the same to the network. Give more "
            "images that differ, or a lower learning rate (--set learning_rate=…)."
        )
