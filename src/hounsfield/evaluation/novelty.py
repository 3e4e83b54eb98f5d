"""How far an image lies from those of training, in any description of it, and beyond which distance to say so.

A description is a vector: the network's pooled features, or a few plain figures of the picture. Each gets a Gaussian
with a shrunken covariance, fitted on training images; the distance from its centre is Mahalanobis's (Lee et al. 2018,
"A simple unified framework for detecting out-of-distribution samples"). The limit comes from validation images, which
the network was not fitted to: the distance of training images alone may be too small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.mahalanobis import TINY, Gaussian
from hounsfield.evaluation.misorientation import Misorientation
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

# The share of images like those of training that may be called unlike.
FALSE_ALARMS = 0.01
# In how many parts the training images judge each other, and of how few they do not.
FOLDS, FEWEST = 10, 20


@dataclass(frozen=True, eq=False)
class Novelty:
    """Which images are unlike those of training.

    Attributes:
        gaussians: description → where training images lie in it.
        limits: description → the distance beyond which an image is unlike in it.
        false_alarms: the share of images like those of training that are expected to be called unlike, at most: by the
            rank of the limit among the n validation images and a new one, 1 − rank/(n + 1). With fewer than 99 of them
            it is larger than wanted, since no image can be rarer than the rarest seen; the limit is then also at least
            that of validation and training images together, each training image judged by the others.
        misorientation: tells images that are mirrored or turned; ``None`` where it was not fitted.
    """

    gaussians: Mapping[str, Gaussian]
    limits: Mapping[str, float]
    false_alarms: float
    misorientation: Misorientation | None = None

    @classmethod
    def fit(
        cls,
        train: Mapping[str, npt.NDArray[Any]],
        validation: Mapping[str, npt.NDArray[Any]],
        *,
        unseen_block: Mapping[str, Integers] | None = None,
        num_blocks: Mapping[str, int] | None = None,
        false_alarms: float = FALSE_ALARMS,
    ) -> Self:
        """Fit on training images, and find the limits on validation images.

        Args:
            train: description → (n, B·F) of training images.
            validation: description → (m, B·F) of images that were not trained on.
            unseen_block: for a description in blocks: (m,) the block whose network was not trained on the image.
            num_blocks: description → B where it is not 1.
            false_alarms: how often a new image like those of training may be called unlike.
        """
        blocks, unseen = num_blocks or {}, unseen_block or {}
        gaussians = {name: Gaussian.fit(rows, blocks.get(name, 1)) for name, rows in train.items()}
        own = {name: gaussian.distances(train[name]).mean(axis=1) for name, gaussian in gaussians.items()}
        # What makes the descriptions comparable comes from training images: a scale that the validation images had
        # chosen for themselves would suit them better than new ones, and break the promise.
        scales = {name: max(float(np.quantile(each, 1 - false_alarms)), TINY) for name, each in own.items()}
        scores = []
        for name, gaussian in gaussians.items():
            each = gaussian.distances(validation[name])
            distances = each[np.arange(len(each)), unseen[name]] if name in unseen else each.mean(axis=1)
            scores.append(distances / scales[name])
        together = np.sort(np.max(scores, axis=0))
        rank = min(math.ceil((len(together) + 1) * (1 - false_alarms) - 1e-9), len(together))
        limit = float(together[rank - 1])
        if 1 - rank / (len(together) + 1) > false_alarms:
            # The greatest of few distances is often small by chance: the training images tell more.
            outside = [_held_out(rows, blocks.get(name, 1)) / scales[name] for name, rows in train.items()]
            pooled = np.concatenate([together, np.max(outside, axis=0)])
            limit = max(limit, float(np.quantile(pooled, 1 - false_alarms)))
        limits = {name: max(limit * scale, TINY) for name, scale in scales.items()}
        return cls(gaussians, limits, 1 - rank / (len(together) + 1))

    @property
    def few(self) -> bool:
        """Whether the validation images were too few for the share of false alarms that was wanted."""
        return self.false_alarms > FALSE_ALARMS + TINY

    def at_most(self, confidence: float = 0.95) -> float:
        """The share of images like those of training that is called unlike at most, where validation images were few.

        ``false_alarms`` is the mean over all draws of validation images. The limit is the greatest of n distances then,
        and beyond it lies more than a share x of new ones with the probability (1 − x)ⁿ.

        Args:
            confidence: in which share of draws this holds.
        """
        return float(1 - (1 - confidence) ** (self.false_alarms / (1 - self.false_alarms)))

    def ratios(self, descriptions: Mapping[str, npt.NDArray[Any]]) -> dict[str, Floats]:
        """Distance over limit in each description, (n,): above 1 an image is unlike those of training."""
        found = {
            name: gaussian.distances(descriptions[name]).sum(axis=1) / (len(gaussian.mean) * self.limits[name])
            for name, gaussian in self.gaussians.items()
            if name in descriptions
        }
        if self.misorientation is not None and "orientation" in descriptions:
            found["orientation"] = self.misorientation.ratios(descriptions["orientation"])
        return found

    def unlike(self, descriptions: Mapping[str, npt.NDArray[Any]]) -> Booleans:
        """(n,): whether an image is unlike those of training in any description."""
        return np.asarray(np.max(list(self.ratios(descriptions).values()), axis=0) > 1)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        arrays: dict[str, npt.NDArray[Any]] = {"novelty/false_alarms": np.array(self.false_alarms)}
        for name, gaussian in self.gaussians.items():
            arrays[f"novelty/{name}/mean"] = gaussian.mean
            arrays[f"novelty/{name}/whitening"] = gaussian.whitening
            arrays[f"novelty/{name}/limit"] = np.array(self.limits[name])
        return arrays | (self.misorientation.to_arrays() if self.misorientation else {})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays do not fit each other.
        """
        names = [key.split("/")[1] for key in arrays if key.startswith("novelty/") and key.endswith("/limit")]
        gaussians = {
            name: Gaussian(arrays[f"novelty/{name}/mean"], arrays[f"novelty/{name}/whitening"]) for name in names
        }
        for name, gaussian in gaussians.items():
            if gaussian.mean.ndim != 2 or gaussian.whitening.shape != (*gaussian.mean.shape, gaussian.mean.shape[-1]):
                raise ValueError(f"the mean of {name} has the shape {gaussian.mean.shape}, which its whitening has not")
        limits = {name: float(arrays[f"novelty/{name}/limit"]) for name in names}
        return cls(gaussians, limits, float(arrays["novelty/false_alarms"]), Misorientation.from_arrays(arrays))


def _held_out(rows: npt.NDArray[Any], num_blocks: int) -> Floats:
    """The distance (n,) of each training image from the others, fitted without its fold.

    From a fit to themselves all would lie equally near, where there are fewer of them than the description is long.
    """
    folds = np.arange(len(rows)) % FOLDS
    distances = np.zeros(len(rows))
    if len(rows) < FEWEST:
        return distances
    for fold in range(FOLDS):
        inside = folds == fold
        distances[inside] = Gaussian.fit(rows[~inside], num_blocks).distances(rows[inside]).mean(axis=1)
    return distances
