"""Which images to label next: those that a model doubts, each unlike the others, and some drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def value_of(doubt: float, disagreement: float | None, ood_score: float | None) -> float:
    """How much a label may teach, 0 to 1: the mean of doubt, disagreement and unlikeness, as far as known.

    Args:
        doubt: how near the answer is to another one, 0 to 1.
        disagreement: how far the networks of an ensemble differ, 0 to .5.
        ood_score: the out-of-distribution score.
    """
    parts = [doubt]
    if disagreement is not None:
        parts.append(min(2 * disagreement, 1.0))
    if ood_score is not None:
        parts.append(min(ood_score / 2, 1.0))
    return sum(parts) / len(parts)


@dataclass(frozen=True)
class Candidate:
    """An image that nobody has labelled.

    Attributes:
        image: its name.
        doubt: how near the answer is to another one, 0 to 1; see ``doubt.doubt_of``.
        disagreement: how far the networks of an ensemble differ, 0 to .5; ``None`` of a single network.
        ood_score: the out-of-distribution score; ``None`` where the bundle has no limit.
        features: (features,) of the network.
    """

    image: str
    doubt: float
    disagreement: float | None
    ood_score: float | None
    features: npt.NDArray[np.float32]

    @property
    def value(self) -> float:
        """How much a label may teach; see ``value_of``."""
        return value_of(self.doubt, self.disagreement, self.ood_score)


@dataclass(frozen=True)
class Choice:
    """An image to label: at its place in the list, or drawn at random and to be read without the model's answer."""

    candidate: Candidate
    is_random: bool


def ranked(candidates: Sequence[Candidate], *, count: int, random_share: float, seed: int) -> list[Choice]:
    """The images to label next, in their order.

    Each is the one of most value among those far from what was chosen before it: value times the distance to the
    nearest one chosen (greedy k-center, Sener and Savarese 2018, weighted). A share is drawn at random from all:
    figures that are estimated on these alone are not led by the model.

    Args:
        candidates: of the pool.
        count: how many to choose.
        random_share: of them, 0 to 1, that are drawn at random.
        seed: of the draw.
    """
    count = min(count, len(candidates))
    generator = np.random.default_rng(seed)
    drawn = generator.permutation(len(candidates))[: round(random_share * count)].tolist()
    chosen = _greedy(candidates, count, set(drawn))[: count - len(drawn)]
    choices = [Choice(candidates[index], is_random=False) for index in chosen]
    # Among the others, so that nobody tells them by their place.
    for index in drawn:
        choices.insert(int(generator.integers(len(choices) + 1)), Choice(candidates[index], is_random=True))
    return choices


def _greedy(candidates: Sequence[Candidate], count: int, left_out: set[int]) -> list[int]:
    if not candidates:
        return []
    values = np.array([candidate.value for candidate in candidates])
    features = _scaled(np.stack([candidate.features for candidate in candidates]).astype(np.float64))
    nearest = np.full(len(candidates), 1.0)
    is_free = np.array([index not in left_out for index in range(len(candidates))])
    chosen: list[int] = []
    while len(chosen) < count and is_free.any():
        index = int(np.argmax(np.where(is_free, values * nearest, -1.0)))
        distances = np.linalg.norm(features - features[index], axis=1)
        # Before the first choice nothing is near.
        nearest = distances if not chosen else np.minimum(nearest, distances)
        chosen.append(index)
        is_free[index] = False
    return chosen


def _scaled(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each feature with mean 0 and standard deviation 1; one that is the same everywhere tells nothing."""
    deviation = features.std(axis=0)
    return np.asarray((features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0))
