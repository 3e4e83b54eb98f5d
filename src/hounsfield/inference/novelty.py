"""Which prepared images are out of distribution, and why, where that can be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.novelty import Novelty
from hounsfield.inference.appearance import appearances
from hounsfield.inference.onnx_networks import Floats


class Distances(NamedTuple):
    """How far images are from those of training: (n,) scores and their flags; no scores where nothing is known."""

    scores: npt.NDArray[np.float64] | None
    flags: list[tuple[str, ...]]


def described(novelty: Novelty, batch: Floats, features: Floats) -> dict[str, Floats]:
    """The descriptions of a batch that the limits of ``novelty`` are of."""
    if "appearance" not in novelty.gaussians:
        return {"features": features}
    return {"features": features, "appearance": appearances(batch)}


def out_of_distribution(
    novelty: Novelty, batch: Floats, features: Floats, others: Mapping[str, Floats] | None = None
) -> Distances:
    r"""The score of each image, and its flags.

    Args:
        novelty: where images like those of training lie.
        batch: prepared images (n, \*spatial, channels).
        features: of these, (n, features).
        others: further descriptions of them, (n, …) each.

    Returns:
        (n,) as multiples of the limit; of each image "blank" or "inverted" where it is so, and the descriptions in
        which it is beyond the limit.
    """
    ratios = novelty.ratios(described(novelty, batch, features) | dict(others or {}))
    scores = np.maximum.reduce(list(ratios.values()))
    values = batch.reshape(len(batch), -1)
    blank = values.min(axis=1) == values.max(axis=1)
    flags = []
    for row in range(len(batch)):
        beyond = tuple(name for name, each in ratios.items() if each[row] > 1)
        flags.append((*(("blank",) if blank[row] else _reasons(batch[row], novelty, beyond)), *beyond))
    return Distances(scores, flags)


def sample_out_of_distribution(novelty: Novelty, images: Iterable[Floats], features: Floats) -> Distances:
    r"""The score of one sample of several images, and its flags.

    Args:
        novelty: where samples like those of training lie.
        images: its prepared images, each (\*spatial, channels).
        features: of the sample, (1, features).
    """
    looks, blank = [], False
    for image in images:
        looks.append(appearances(image[np.newaxis])[0])
        blank = blank or bool(image.min() == image.max())
    descriptions = {"features": features, "appearance": np.mean(looks, axis=0, keepdims=True)}
    ratios = novelty.ratios({name: each for name, each in descriptions.items() if name in novelty.gaussians})
    beyond = tuple(name for name, each in ratios.items() if each[0] > 1)
    return Distances(np.maximum.reduce(list(ratios.values())), [((*(("blank",) if blank else ()), *beyond))])


def _reasons(pixels: Floats, novelty: Novelty, beyond: tuple[str, ...]) -> tuple[str, ...]:
    """What is wrong with a picture that looks unlike those of training, where that can be told."""
    if "appearance" not in beyond:
        return ()
    # Of an image normalised by itself the negative is its opposite; of others the range is turned round.
    negatives = np.stack([-pixels, pixels.min() + pixels.max() - pixels])
    back_in_range = novelty.ratios({"appearance": appearances(negatives)})["appearance"]
    return ("inverted",) if back_in_range.min() <= 1 else ()
