"""What a bundle says of one image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError


@dataclass(frozen=True)
class Prediction:
    """What the network says of one image, and how far that can be trusted.

    Attributes:
        image: its name: the path as given, with the frame in brackets where a file holds several.
        label: the label; several with ``;`` between them, and none as "", in a multi-label task.
        probabilities: of each label, calibrated, in the bundle's order; both labels of a binary task.
        features: the pooled vector (features,), float32.
        ood_score: how far the image lies from those of training, as a multiple of the limit that 1 % of images
            like those would pass; ``None`` where the bundle has no limit.
        flags: in what the image is unlike those of training, such as "blank" or "inverted" (see docs/uncertainty.md).
        disagreement: how far the networks of an ensemble differ, 0 to .5; ``None`` of a single network.
        possible: the labels that stay possible at the coverage asked for; ``None`` where none was asked for.
        confidence: how far the decision lies from the threshold, 0 to 1, where a risk was asked for.
        answered: whether the confidence is enough for that risk, and the image like those of training.
    """

    image: str
    label: str
    probabilities: dict[str, float]
    features: npt.NDArray[np.float32] = field(repr=False, compare=False)
    ood_score: float | None = None
    flags: tuple[str, ...] = ()
    disagreement: float | None = None
    possible: tuple[str, ...] | None = None
    confidence: float | None = None
    answered: bool | None = None


@dataclass(frozen=True)
class BadImage:
    """An image that could not be predicted, and why."""

    image: str
    reason: str

    def __str__(self) -> str:
        """The reason, with the image's name in front where it does not have it."""
        return self.reason if self.image in self.reason else f"{self.image}: {self.reason}"


@dataclass(frozen=True, eq=False)
class DetectionPrediction:
    """What a detector says of one image.

    Attributes:
        image: its name: the path as given, with the frame in brackets where a file holds several.
        shape: its spatial lengths as read.
        boxes: (n, 2·rank) float32, half-open, in pixels of the image as read, best first.
        labels: of each box.
        scores: (n,) float32, all at or above the threshold.
        counts: label → how many boxes have it, for every label of the bundle.
        features: the means of the coarsest and of the finest level of the pyramid, float32.
        ood_score: as of :class:`Prediction`.
        flags: as of :class:`Prediction`.
    """

    image: str
    shape: tuple[int, ...]
    boxes: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    counts: dict[str, int]
    features: npt.NDArray[np.float32] = field(repr=False)
    ood_score: float | None = None
    flags: tuple[str, ...] = ()


Said = TypeVar("Said", Prediction, DetectionPrediction)


def without_bad(results: Iterable[Said | BadImage]) -> list[Said]:
    """Results that are all good.

    Raises:
        ImageError: an image could not be read or does not fit; the message counts them and names the first five.
    """
    good: list[Said] = []
    bad: list[BadImage] = []
    for result in results:
        if isinstance(result, BadImage):
            bad.append(result)
        else:
            good.append(result)
    if bad:
        named = " ".join(map(str, bad[:5]))
        raise ImageError(f"{len(bad)} of {len(bad) + len(good)} images could not be predicted. {named}")
    return good
