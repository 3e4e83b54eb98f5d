"""Copies of an image that were mirrored, turned, shifted, cropped, zoomed, sheared, or changed in their grey values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.alignment import aligned, fitted, smoothed
from hounsfield.cohorts.changes import described
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.keypoints import Keypoints, keypoints
from hounsfield.cohorts.neighbours import candidate_pairs
from hounsfield.progress import Progress, silent

KEYPOINTS_TASK = "looking for changed copies"
COMPARING_TASK = "comparing likely copies"
# Pairs verified before those that have become needless are left out.
BATCH = 256


class CopyPair(NamedTuple):
    """Two images of one picture.

    Attributes:
        first: position of the one.
        second: position of the other, which is greater.
        kinds: what was done to the picture between the two, see ``changes``.
        text: the same with figures.
    """

    first: int
    second: int
    kinds: tuple[str, ...]
    text: str


class Joined:
    """Which of a number of items belong together, as more and more of them are joined (union and find)."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def root(self, item: int) -> int:
        """The lowest item that this one is joined with."""
        parents = self._parents
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    def join(self, first: int, second: int) -> bool:
        """Join two items; whether they were apart."""
        low, high = sorted((self.root(first), self.root(second)))
        self._parents[high] = low
        return low != high

    def roots(self) -> npt.NDArray[np.int64]:
        """The lowest item of each item's group."""
        return np.array([self.root(item) for item in range(len(self._parents))], np.int64)


def copy_pairs(pictures: Sequence[bytes | None], joined: Joined, *, progress: Progress = silent) -> list[CopyPair]:
    """Find pairs that connect every group of copies among small pictures (``signature.Signature.picture``).

    Of each picture the keypoints are taken; pictures with like keypoints are candidates (``neighbours``); a candidate
    is confirmed where an affine map lays keypoints over keypoints and grey values over grey values (``alignment``).
    Memory is linear in the number of pictures, about 30 kilobytes each.

    Args:
        pictures: ``None`` for an image that takes no part.
        joined: which of them are known to be copies already; what is found is added.
        progress: told of every few pictures.
    """
    usable = [at for at, picture in enumerate(pictures) if picture is not None]
    encoded = [pictures[at] or b"" for at in usable]
    images: list[Keypoints] = []
    for found in ordered_map(_keypoints_of, encoded, ahead=16):
        images.append(found)
        if len(images) % 200 == 0 or len(images) == len(encoded):
            progress(KEYPOINTS_TASK, len(images), len(encoded))
    candidates = candidate_pairs(images)

    def verified(candidate: Sequence[int]) -> CopyPair | None:
        first, second, mirrored = candidate
        fit = fitted(images[first], images[second], mirrored=bool(mirrored))
        if fit is None:
            return None
        one, other = (smoothed(decoded(encoded[at])) for at in (first, second))
        alignment = aligned(one, other, fit)
        if not alignment.confirmed:
            return None
        return CopyPair(usable[first], usable[second], *described(alignment.affine, one.shape, other.shape))

    pairs: list[CopyPair] = []
    for start in range(0, len(candidates), BATCH):
        batch = candidates[start : start + BATCH].tolist()
        apart = [row for row in batch if joined.root(usable[row[0]]) != joined.root(usable[row[1]])]
        confirmed = (pair for pair in ordered_map(verified, apart, ahead=16) if pair is not None)
        pairs.extend(pair for pair in confirmed if joined.join(pair.first, pair.second))
        progress(COMPARING_TASK, min(start + BATCH, len(candidates)), len(candidates))
    return pairs


def decoded(picture: bytes) -> npt.NDArray[np.uint8]:
    """The grey values (rows, columns) of a small picture."""
    return np.asarray(cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def _keypoints_of(picture: bytes) -> Keypoints:
    return keypoints(decoded(picture))
