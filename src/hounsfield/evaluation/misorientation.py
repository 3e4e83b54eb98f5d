"""Whether an image is mirrored or turned against those of training.

A file may state another orientation than its pixels have. Then some mirrored or turned copy of the image is more like
the training images than the image itself is. Both are compared as layouts, the means over a grid of as many cells along
every axis, so that each of the 8 ways to mirror a picture and to exchange its axes, or the 48 of a volume, changes the
order of the cells alone. The distance of a single image depends on its patient and its scanner; the ratio of both
distances hardly does. (Geometric transformations tell unusual images in Golan, El-Yaniv 2018, "Deep anomaly detection
using geometric transformations", too; there a network learns which of them was applied.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.mahalanobis import TINY, Gaussian
from hounsfield.evaluation.outcomes import Floats

# In how many parts the training images judge each other, and of how few they do not.
FOLDS, FEWEST = 10, 10
# A change is told where it makes all but this share of the images that were not fitted to less usual.
ALIKE = 0.02
# The share of images as those of training that may lie beyond the limit.
FALSE_ALARMS = 0.01


class Turn(NamedTuple):
    """A change of orientation.

    Attributes:
        axes: which axis of the image becomes each axis.
        mirrored: the axes that are reversed afterwards.
    """

    axes: tuple[int, ...]
    mirrored: tuple[int, ...]

    def __call__(self, layouts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Layouts (n, cells …), changed."""
        return np.flip(
            layouts.transpose(0, *(axis + 1 for axis in self.axes)), tuple(axis + 1 for axis in self.mirrored)
        )


def turns(rank: int) -> list[Turn]:
    """Every change of orientation of an image with so many axes: 7 or 47."""
    return [
        Turn(axes, mirrored)
        for axes in itertools.permutations(range(rank))
        for count in range(rank + 1)
        for mirrored in itertools.combinations(range(rank), count)
        if axes != tuple(range(rank)) or mirrored
    ]


@dataclass(frozen=True, eq=False)
class Misorientation:
    """Which images are mirrored or turned.

    Attributes:
        gaussian: where layouts of training images lie.
        rank: axes of an image.
        told: of :func:`turns`, the numbers of those that training images are not like. A brain mirrored left to right
            looks like another brain, and is not told.
        limit: of the ratio, 1 at least.
    """

    gaussian: Gaussian
    rank: int
    told: npt.NDArray[np.int64]
    limit: float

    @classmethod
    def fit(cls, train: npt.NDArray[Any], validation: npt.NDArray[Any]) -> Self | None:
        """Learn how training images lie, and which changes of that can be told.

        Args:
            train: layouts (n, cells …) of training images, those of one patient after each other.
            validation: of images that were not trained on.

        Returns:
            ``None`` with fewer than ten training images, or where no change can be told.
        """
        if len(train) < FEWEST:
            return None
        # In blocks: several images of one patient are in one of them.
        folds = np.arange(len(train)) * FOLDS // len(train)
        ratios = [_ratios(_fitted(train[folds != fold]), train[folds == fold]) for fold in range(FOLDS)]
        gaussian = _fitted(train)
        known = np.concatenate([*ratios, _ratios(gaussian, validation)])
        told = np.flatnonzero(np.quantile(known, 1 - ALIKE, axis=0, method="higher") < 1)
        if not len(told):
            return None
        limit = float(np.quantile(known[:, told].max(axis=1), 1 - FALSE_ALARMS, method="higher"))
        return cls(gaussian, train.ndim - 1, told, max(1.0, limit))

    def ratios(self, layouts: npt.NDArray[Any]) -> Floats:
        """Over the limit, (n,): above 1 an image is mirrored or turned."""
        return np.asarray(_ratios(self.gaussian, layouts)[:, self.told].max(axis=1) / self.limit)

    def describe(self) -> str:
        """What is told, in a sentence."""
        count, every = len(self.told), len(turns(self.rank))
        if count == every:
            return f"Images in any other orientation than those of training are flagged ({every} orientations)."
        return (
            f"Images in {count} of {every} other orientations than those of training are flagged; in the others they "
            "look like training images."
        )

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        return {
            "misorientation/mean": self.gaussian.mean,
            "misorientation/whitening": self.gaussian.whitening,
            "misorientation/rank": np.array(self.rank),
            "misorientation/told": self.told,
            "misorientation/limit": np.array(self.limit),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self | None:
        """What ``to_arrays`` gave, ``None`` where it is not among the arrays.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays do not fit each other, or cannot be of an image.
        """
        if not any(key.startswith("misorientation/") for key in arrays):
            return None
        mean, whitening, rank, told, limit = (
            arrays[f"misorientation/{name}"] for name in ("mean", "whitening", "rank", "told", "limit")
        )
        axes, cells = int(rank), mean.shape[-1] if mean.ndim == 2 else 0
        if axes not in (2, 3) or round(cells ** (1 / axes)) ** axes != cells or len(mean) != 1:
            raise ValueError(f"layouts of the shape {mean.shape} are of no image with {axes} axes")
        if whitening.shape != (1, cells, cells):
            raise ValueError(f"the whitening of layouts has the shape {whitening.shape}")
        if told.ndim != 1 or told.dtype.kind != "i" or not np.isin(told, np.arange(len(turns(axes)))).all():
            raise ValueError("orientations are told that there are not")
        if not len(told) or not 1 <= float(limit) < np.inf:
            raise ValueError(f"the limit of orientations is {limit}, or it tells none")
        return cls(Gaussian(mean, whitening), axes, np.asarray(told, np.int64), float(limit))


def _levelled(layouts: npt.NDArray[Any]) -> Floats:
    """Layouts of mean 0 and deviation 1 each: brightness and contrast say nothing of the orientation."""
    axes = tuple(range(1, layouts.ndim))
    centred = layouts - layouts.mean(axis=axes, keepdims=True, dtype=np.float64)
    return np.asarray(centred / np.maximum(centred.std(axis=axes, keepdims=True), TINY))


def _fitted(layouts: npt.NDArray[Any]) -> Gaussian:
    return Gaussian.fit(_levelled(layouts).reshape(len(layouts), -1))


def _ratios(gaussian: Gaussian, layouts: npt.NDArray[Any]) -> Floats:
    """The distance of each image over that of its changed copies: (n, turns)."""
    levelled = _levelled(layouts)
    own, *others = (
        gaussian.distances(each.reshape(len(each), -1)).mean(axis=1)
        for each in (levelled, *(turn(levelled) for turn in turns(layouts.ndim - 1)))
    )
    return np.asarray(own[:, np.newaxis] / np.maximum(np.stack(others, axis=1), TINY))
