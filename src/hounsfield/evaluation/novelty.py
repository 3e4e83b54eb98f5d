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

from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

# The share of images like those of training that may be called unlike.
FALSE_ALARMS = 0.01
# Stands for a limit of 0, where all images were one image.
TINY = 1e-12
# In how many parts the training images judge each other, and of how few they do not.
FOLDS, FEWEST = 10, 20


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Where descriptions of training images lie.

    A description may be made of B blocks of one length, such as the features of an ensemble's members side by side;
    its distance is the mean of the distances of its blocks.

    Attributes:
        mean: (B, F) float32.
        whitening: (B, F, F) float32: takes a centred block to one of unit variance without correlations.
    """

    mean: npt.NDArray[np.float32]
    whitening: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, rows: npt.NDArray[Any], num_blocks: int = 1) -> Self:
        """Fit on (n, B·F) descriptions of training images."""
        blocks = np.split(np.asarray(rows, dtype=np.float64), num_blocks, axis=1)
        matrices = np.stack([whitening(block - block.mean(axis=0)) for block in blocks])
        return cls(np.stack([block.mean(axis=0) for block in blocks]).astype(np.float32), matrices.astype(np.float32))

    def distances(self, rows: npt.NDArray[Any]) -> Floats:
        """The Mahalanobis distance of each block of (n, B·F) descriptions, over √F: (n, B), about 1 in training."""
        num_blocks, length = self.mean.shape
        centred = np.asarray(rows, dtype=np.float32).reshape(len(rows), num_blocks, length) - self.mean
        # Not a matrix product: BLAS would take the cores from the network, which runs on them meanwhile.
        white = np.einsum("nbf,bfg->nbg", centred, self.whitening)
        return np.asarray(np.sqrt(np.einsum("nbg,nbg->nb", white, white, dtype=np.float64) / length))


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
    """

    gaussians: Mapping[str, Gaussian]
    limits: Mapping[str, float]
    false_alarms: float

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
        return {
            name: gaussian.distances(descriptions[name]).sum(axis=1) / (len(gaussian.mean) * self.limits[name])
            for name, gaussian in self.gaussians.items()
            if name in descriptions
        }

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
        return arrays

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
        return cls(gaussians, limits, float(arrays["novelty/false_alarms"]))


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


def shrunken_covariance(centred: Floats) -> tuple[Floats, float]:
    """The covariance of centred rows (n, F), shrunken towards a multiple of the identity, and by which share.

    Ledoit, Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices", section 3.
    """
    count, length = centred.shape
    sample = centred.T @ centred / count
    scale = np.trace(sample) / length
    spread = np.square(sample).sum() / length - scale**2
    noise = (np.square(np.square(centred).sum(axis=1)).sum() / count - np.square(sample).sum()) / (count * length)
    share = float(min(max(noise, 0.0), spread) / spread) if spread > 0 else 1.0
    return (1 - share) * sample + share * scale * np.eye(length), share


def whitening(centred: Floats) -> Floats:
    """(F, F): the matrix W with W·Wᵀ the inverse of the shrunken covariance of centred rows (n, F).

    Columns are brought to one scale before they are shrunken together. A column that never varied in training (a
    feature that never fired) takes the largest scale, so that shrinking gives it a variance.
    """
    deviation = centred.std(axis=0)
    largest = float(deviation.max())
    scale = np.where(deviation > 1e-6 * largest, deviation, largest) if largest > 0 else np.ones_like(deviation)
    covariance, _ = shrunken_covariance(centred / scale)
    if np.trace(covariance) <= 0:
        return np.eye(len(scale))
    # With fewer rows than columns and little noise, shrinking may leave an eigenvalue that rounding makes negative.
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1])) / scale[:, None])
