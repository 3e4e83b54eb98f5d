"""Whether an explanation can be trusted: does it need what the network learned, and does the answer hang on it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import integrate, stats

from hounsfield.errors import require
from hounsfield.explanation.occlusion import without_detail

Floats = npt.NDArray[np.float32]
# (n, *input_shape) -> (n,) probability of the label that is explained.
Probability = Callable[[Floats], npt.NDArray[np.floating]]


def randomised(network: Any, seed: int = 0) -> Any:
    """The same network with every weight array shuffled: what it learned is gone, the distribution of weights stays.

    An explanation that looks the same for it shows the image's edges and not what the network has learned (Adebayo et
    al., "Sanity checks for saliency maps", NeurIPS 2018).
    """
    keras = require("keras", "randomising a network")
    generator = np.random.default_rng(seed)
    copy = keras.Model.from_config(network.get_config())
    copy.set_weights([generator.permuted(weight.ravel()).reshape(weight.shape) for weight in network.get_weights()])
    return copy


def similarity(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation of two maps of one shape; 0 where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(stats.spearmanr(first.ravel(), second.ravel()).statistic)


def points_into(heat: Floats, box: npt.NDArray[Any]) -> float:
    """The pointing game for one image: 1 where the largest evidence lies in the box, else 0 (Zhang et al., ECCV 2016).

    Args:
        heat: evidence at each pixel.
        box: (y0, x0, y1, x1) or (z0, y0, x0, z1, y1, x1), half-open.

    Returns:
        1 or 0; of several equal maxima, the share that lies in the box.
    """
    rank = heat.ndim
    largest = np.argwhere(heat == heat.max())
    inside = ((largest >= box[:rank]) & (largest < box[rank:])).all(axis=1)
    return float(inside.mean())


@dataclass(frozen=True, eq=False)
class HidingCurve:
    """How the probability changes while ever more of the image is hidden, or shown.

    Attributes:
        share: (m,) of the pixels, from 0 to 1.
        probability: (m,) of the label.
    """

    share: npt.NDArray[np.float64]
    probability: npt.NDArray[np.float64]

    @property
    def area(self) -> float:
        """Under the curve: the mean probability."""
        return float(integrate.trapezoid(self.probability, self.share))


def deletion_curve(probability: Probability, pixels: Floats, heat: Floats, *, steps: int = 20) -> HidingCurve:
    r"""Hide the most telling pixels first (Petsiuk et al., "RISE", BMVC 2018): a small area speaks for the map.

    Hidden pixels are those of the image without its detail, which is less strange to a network than grey.

    Args:
        probability: of a batch of network inputs.
        pixels: (\*spatial, channels), the network's input.
        heat: (\*spatial) evidence on the same pixels.
        steps: points on the curve, less one.
    """
    return _hiding_curve(probability, pixels, without_detail(pixels), heat, steps)


def insertion_curve(probability: Probability, pixels: Floats, heat: Floats, *, steps: int = 20) -> HidingCurve:
    """Begin with the image without its detail and show the most telling pixels first: a large area speaks for the map.

    The arguments are those of :func:`deletion_curve`.
    """
    return _hiding_curve(probability, without_detail(pixels), pixels, heat, steps)


def _hiding_curve(probability: Probability, start: Floats, end: Floats, heat: Floats, steps: int) -> HidingCurve:
    order = np.argsort(-heat.ravel(), kind="stable")
    counts = np.linspace(0, len(order), steps + 1).round().astype(int)
    flat_start, flat_end = start.reshape(len(order), -1), end.reshape(len(order), -1)
    batch = np.repeat(flat_start[np.newaxis], steps + 1, axis=0)
    for row, count in enumerate(counts):
        batch[row, order[:count]] = flat_end[order[:count]]
    found = probability(batch.reshape(steps + 1, *start.shape))
    return HidingCurve(counts / len(order), np.asarray(found, np.float64))
