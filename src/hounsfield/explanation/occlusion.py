"""What is lost when a place is hidden: the loop that occlusion and activation maps share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float32]
# (n, …) hidden versions -> (n,) score of what is explained.
Score = Callable[[Floats], npt.NDArray[np.floating]]

BATCH = 64
# Rank -> steps of a window along an axis; in 3D more would be thousands of windows.
STEPS = {2: 16, 3: 6}
# Standard deviation of the blur, as a share of the longest side, that takes findings away and leaves the anatomy.
BLUR = 0.1


def without_detail(pixels: Floats) -> Floats:
    r"""An image (\*spatial, channels) blurred: what evidence is measured against.

    Something grey or black would be a finding of its own in many images; a blurred one shows nothing new.
    """
    rank = pixels.ndim - 1
    sigma = BLUR * max(pixels.shape[:-1])
    return np.asarray(ndimage.gaussian_filter(pixels, (*(sigma,) * rank, 0), mode="nearest"), np.float32)


def lost_by_hiding(score: Score, whole: Floats, hidden: Floats, *, span: int = 2) -> Floats:
    r"""How much the score falls when a window of ``whole`` is replaced by that of ``hidden``, at each place.

    Args:
        score: of a batch.
        whole: (\*grid, channels), an image or its feature maps.
        hidden: the same shape.
        span: how many steps a window is wide.

    Returns:
        (\*grid) the mean fall over the windows that cover each place.
    """
    grid = whole.shape[:-1]
    total, count = np.zeros(grid), np.zeros(grid)
    before = float(score(whole[np.newaxis])[0])
    places = windows(grid, span)
    while chosen := list(itertools.islice(places, BATCH)):
        # A last, smaller batch is filled up: another shape would be compiled anew by some backends.
        batch = np.repeat(whole[np.newaxis], BATCH, axis=0)
        for row, window in enumerate(chosen):
            batch[row][window] = hidden[window]
        after = score(batch)
        for row, window in enumerate(chosen):
            total[window] += before - float(after[row])
            count[window] += 1
    return np.asarray(total / count, np.float32)


def windows(grid: tuple[int, ...], span: int) -> Iterator[tuple[slice, ...]]:
    """Overlapping windows that cover every place of a grid ``span`` times an axis, cut at its border."""
    steps = STEPS[len(grid)]
    axes = []
    for length in grid:
        edges = np.unique(np.round(np.linspace(0, length, min(steps, length) + 1)).astype(int))
        padded = [*[0] * (span - 1), *edges, *[length] * (span - 1)]
        axes.append([slice(int(start), int(end)) for start, end in zip(padded, padded[span:], strict=False)])
    yield from itertools.product(*axes)
