"""A network of one patch run over an image of any size: overlapping windows, weighted towards their middles.

Windows of Isensee et al. 2021, "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation": neighbours share half, and the middle of a window, which sees most around it, counts most.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ResourceError
from hounsfield.inference.windows import window_starts
from hounsfield.masks import Mask
from hounsfield.progress import Progress, silent

Floats = npt.NDArray[np.float32]
# A batch (n, *patch, channels) to its logits (n, *patch, outputs) and features (n, features).
Run = Callable[[Floats], tuple[Floats, Floats]]

OVERLAP = 0.5
# The standard deviation of the weights as a share of the patch, and the least weight along one axis.
SPREAD, LEAST = 1 / 8, 1e-3
# Probabilities are kept as shares of this, rounded down: exact to 2e-5 in half of the memory of float32.
FULL = 65535
# Probabilities that take more than this are kept in a file without a name.
IN_MEMORY = 2**27
# Values of probabilities that are summed up at once.
SUMMED = 2**21


class Segmented(NamedTuple):
    """What the network makes of one prepared image.

    Attributes:
        mask: uint8 (spatial …, 1), or (spatial …, labels) where labels overlap; see ``hounsfield.masks``.
        probabilities: (spatial …, outputs) uint16 as shares of ``FULL``, memory-mapped where large; ``None`` where they
            were not kept.
        features: (features,), the mean over windows.
        expected: (labels,) the Dice that each mask has, were the probabilities true: 2 Σ_mask p / (Σ p + |mask|);
            ``nan`` where the mask is empty.
        uncertainty: (labels,) the mean entropy of a pixel in the mask, 0 to 1; ``nan`` where it is empty.
    """

    mask: Mask
    probabilities: npt.NDArray[np.uint16] | None
    features: Floats
    expected: npt.NDArray[np.float64]
    uncertainty: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sliding:
    """How a network is run over an image.

    Attributes:
        patch: spatial lengths of the network's input.
        overlapping: whether outputs are logits of labels that overlap; else of background and labels, exclusive.
        flips: axes along which mirrored views are averaged.
        thresholds: of each label, where labels overlap.
    """

    patch: tuple[int, ...]
    overlapping: bool = False
    flips: tuple[int, ...] = ()
    thresholds: tuple[float, ...] | float = 0.5

    def segment(self, run: Run, pixels: Floats, progress: Progress = silent, *, keep: bool = True) -> Segmented:
        """Run the network over a prepared image (spatial …, channels); an axis shorter than the patch is filled.

        Args:
            run: the network; called with one window at a time.
            pixels: of any size.
            progress: told of the windows.
            keep: whether the probabilities are asked for: they take most of the memory.
        """
        shape = pixels.shape[:-1]
        filled, inside = _filled(pixels, self.patch)
        slabs = _Slabs(self, run, filled, progress)
        tally, outcome, kept = _Tally(self.overlapping), None, None
        for rows, slab in slabs:
            within = slice(max(rows.start, inside[0].start), min(rows.stop, inside[0].stop))
            if within.start >= within.stop:
                continue
            chosen = slab[(slice(within.start - rows.start, within.stop - rows.start), *inside[1:])]
            masks = self.decide(chosen)
            if outcome is None:
                outcome = np.empty((*shape, masks.shape[-1] if self.overlapping else 1), np.uint8)
                kept = _room((*shape, slab.shape[-1])) if keep else None
            here = slice(within.start - inside[0].start, within.stop - inside[0].start)
            outcome[here] = masks if self.overlapping else _label_map(masks)
            if kept is not None:
                kept[here] = chosen * FULL
            # In parts: what is summed needs several times their memory.
            step = max(1, SUMMED // max(chosen[0].size, 1))
            for start in range(0, len(chosen), step):
                tally.add(chosen[start : start + step], masks[start : start + step])
        if outcome is None:
            raise ValueError(f"An image of the shape {shape} has no pixels.")
        return Segmented(outcome, kept, np.mean(slabs.features, axis=0, dtype=np.float32), *tally.result())

    def decide(self, probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """(…, labels) where each label is, from probabilities (…, outputs)."""
        if self.overlapping:
            return np.asarray(probabilities > np.asarray(self.thresholds, np.float32))
        first, *others = np.moveaxis(probabilities, -1, 0)
        top, best = first.copy(), np.zeros(first.shape, np.uint8)
        for index, each in enumerate(others, start=1):
            best[each > top] = index
            np.maximum(top, each, out=top)
        return np.asarray(best[..., np.newaxis] == np.arange(1, probabilities.shape[-1], dtype=np.uint8))

    def views(self, run: Run, window: Floats) -> tuple[Floats, Floats]:
        """The probabilities (patch …, outputs) of a window (patch …, channels), the mean over mirrored views."""
        sets = [axes for count in range(len(self.flips) + 1) for axes in itertools.combinations(self.flips, count)]
        parts, features = [], []
        for axes in sets:
            logits, seen = run(np.ascontiguousarray(np.flip(window, axes))[np.newaxis])
            parts.append(np.flip(_probabilities(logits[0], overlapping=self.overlapping), axes))
            # An engine may overwrite its outputs at the next call.
            features.append(seen[0].copy())
        # Features are those of the view that novelty was fitted on.
        return parts[0] if len(parts) == 1 else np.mean(parts, axis=0, dtype=np.float32), features[0]


class _Slabs:
    """Finished probabilities in slabs along the first axis; no more than a patch's depth is held."""

    def __init__(self, sliding: Sliding, run: Run, pixels: Floats, progress: Progress) -> None:
        self.features: list[Floats] = []
        self._sliding, self._run, self._pixels, self._progress = sliding, run, pixels, progress
        self._starts = [
            window_starts(length, side, OVERLAP) for length, side in zip(pixels.shape[:-1], sliding.patch, strict=True)
        ]
        self._weights = [weights(side) for side in sliding.patch]
        self._totals = [
            _summed(length, starts, each)
            for length, starts, each in zip(pixels.shape[:-1], self._starts, self._weights, strict=True)
        ]

    def __iter__(self) -> Iterator[tuple[slice, Floats]]:
        depth, (first, *others) = self._sliding.patch[0], self._starts
        held: Floats | None = None
        across = list(itertools.product(*others))
        weight = _outer(self._weights)[..., np.newaxis]
        for number, start in enumerate(first):
            for place in across:
                window = tuple(
                    slice(begin, begin + side) for begin, side in zip((start, *place), self._sliding.patch, strict=True)
                )
                found, features = self._sliding.views(self._run, self._pixels[window])
                self.features.append(features)
                if held is None:
                    held = np.zeros((depth, *self._pixels.shape[1:-1], found.shape[-1]), np.float32)
                held[(slice(None), *window[1:])] += found * weight
                self._progress("windows", len(self.features), len(first) * len(across))
            if held is None:
                return
            end = first[number + 1] if number + 1 < len(first) else start + depth
            done = end - start
            total = _outer([self._totals[0][start:end], *self._totals[1:]])
            # In place: beyond this slab nothing is needed of it.
            held[:done] /= total[..., np.newaxis]
            yield slice(start, end), held[:done]
            held[: depth - done] = held[done:].copy()
            held[depth - done :] = 0


class _Tally:
    """Sums over the pixels of an image, slab by slab: what is expected of each mask."""

    def __init__(self, overlapping: bool) -> None:
        self._overlapping = overlapping
        self._sums: npt.NDArray[np.float64] | None = None

    def add(self, slab: Floats, masks: npt.NDArray[np.bool_]) -> None:
        """Take in probabilities (rows, …, outputs) and where each label is, (rows, …, labels)."""
        shares = slab if self._overlapping else slab[..., 1:]
        marked = masks.any(axis=-1)
        doubt = entropy(slab[marked], overlapping=self._overlapping)
        sums = np.zeros((4, masks.shape[-1]))
        for index in range(masks.shape[-1]):
            mask, share = masks[..., index], shares[..., index]
            told = doubt[..., min(index, doubt.shape[-1] - 1)][mask[marked]]
            parts = (share, share[mask], mask, told)
            sums[:, index] = [part.sum(dtype=np.float64) for part in parts]
        self._sums = sums if self._sums is None else self._sums + sums

    def result(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Expected Dice and uncertainty of each label."""
        every, inside, pixels, doubt = self._sums if self._sums is not None else np.zeros((4, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(pixels > 0, 2 * inside / (every + pixels), np.nan), doubt / pixels


def entropy(probabilities: Floats, *, overlapping: bool) -> Floats:
    """How uncertain a pixel is, from 0 to 1: (…, labels) of labels that overlap, else (…, 1) for all together."""
    safe = np.clip(probabilities, 1e-7, 1)
    if overlapping:
        other = np.clip(1 - probabilities, 1e-7, 1)
        return np.asarray(-(safe * np.log(safe) + other * np.log(other)) / math.log(2), np.float32)
    total = -(safe * np.log(safe)).sum(axis=-1, keepdims=True)
    return np.asarray(total / math.log(probabilities.shape[-1]), np.float32)


def _label_map(masks: npt.NDArray[np.bool_]) -> Mask:
    """(…, 1) from masks (…, labels) of which at most one holds."""
    found = np.zeros((*masks.shape[:-1], 1), np.uint8)
    for index in range(masks.shape[-1]):
        found[masks[..., index]] = index + 1
    return found


def weights(side: int) -> Floats:
    """(side,) how much each place along an axis of a window counts."""
    places = np.arange(side) - (side - 1) / 2
    return np.asarray(np.maximum(np.exp(-0.5 * (places / (SPREAD * side)) ** 2), LEAST), np.float32)


def _summed(length: int, starts: Sequence[int], weight: Floats) -> Floats:
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + len(weight)] += weight
    return total


def _outer(parts: Sequence[Floats]) -> Floats:
    result: Any = np.float32(1)
    for part in parts:
        result = np.multiply.outer(result, part)
    return np.asarray(result, np.float32)


def _probabilities(logits: Floats, *, overlapping: bool) -> Floats:
    if overlapping:
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), np.float32)
    # Channel by channel: NumPy reduces a short last axis several times as slowly.
    raised = np.exp(logits - functools.reduce(np.maximum, _channels(logits))[..., np.newaxis])
    raised /= functools.reduce(np.add, _channels(raised))[..., np.newaxis]
    return np.asarray(raised, np.float32)


def _channels(values: Floats) -> list[Floats]:
    return [values[..., index] for index in range(values.shape[-1])]


def _filled(pixels: Floats, patch: Sequence[int]) -> tuple[Floats, tuple[slice, ...]]:
    """The image with zeros on both sides of axes that are too short, and where it lies in it."""
    lacking = [max(0, side - length) for length, side in zip(pixels.shape[:-1], patch, strict=True)]
    inside = tuple(
        slice(each // 2, each // 2 + length) for each, length in zip(lacking, pixels.shape[:-1], strict=True)
    )
    if any(lacking):
        pixels = np.pad(pixels, [*((each // 2, each - each // 2) for each in lacking), (0, 0)])
    return pixels, inside


def _room(shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    if 2 * math.prod(shape) <= IN_MEMORY:
        return np.empty(shape, np.uint16)
    size = 2 * math.prod(shape)
    with tempfile.TemporaryFile() as file:
        try:
            # A mapping of a file that the disk has no room for would end the process at the first write.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError as error:
            raise ResourceError(
                f"The probabilities of an image of {' × '.join(map(str, shape))} values need {size / 2**30:.1f} GiB of "
                f"temporary disk space in {tempfile.gettempdir()}, which are not there ({error.strerror}). Free space, "
                "or name another folder with TMPDIR."
            ) from error
        # The mapping keeps the file until it goes itself.
        return np.memmap(file, np.uint16, "r+", shape=shape)
