"""Mahalanobis distances from rows of training images, with a shrunken covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.outcomes import Floats

# Stands for 0 where something is divided by it.
TINY = 1e-12


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
