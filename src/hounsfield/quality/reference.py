"""Which pictures are faulty beside those of training, and which faults can be told of such pictures at all.

Rotated, cut and collimated pictures are told by linear discriminants (Fisher 1936) between the training pictures and
the same with a fault planted, blurred ones by such a discriminant of their sharpness, clipped ones by the share of
saturated values. Each limit lies beyond nearly all training images, which are judged out of fold; a fault of which most
planted ones stay below it cannot be told, and is never named.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hounsfield.evaluation.mahalanobis import shrunken_covariance
from hounsfield.quality.measures import PICTURE, Measures
from hounsfield.quality.planting import VARIANTS, Pictures, Planted

Floats = NDArray[np.float64]

FAULTS = ("rotated", "cut", "collimated", "blurred", "clipped")
# Of fewer training images no limit is made; of more than the most an even part counts.
LEAST_IMAGES, MOST_IMAGES = 50, 2000
FOLDS = 5


class Tail(NamedTuple):
    """Where a limit lies: beyond which share of the training images, and by how many deviations further."""

    beyond: float
    further: float


# Of one variant of the picture, and of the sharpness, where single unsharp training images would hide all others.
SHAPES, BLURRED = Tail(0.001, 0.8), Tail(0.005, 0.3)
# Saturation has no common scale: so many lie beyond the limit of each end, which is never below the least share.
SATURATED_BEYOND, LEAST_SATURATED = 0.005, 0.03
# A variant is looked for where so many planted ones are found.
LEAST_FOUND = 0.5
# Levels of grey by which an empty line may vary, and the weight of such lines beside the picture's cells.
EMPTY, EMPTY_WEIGHT = 6, 10.0
CELLS = PICTURE // 2


class Shape(NamedTuple):
    """A fault that a picture as a whole shows, "" where it shows none, and whether lines at its edge are empty."""

    fault: str
    has_empty_edge: bool


@dataclass(frozen=True, eq=False)
class QualityReference:
    """What pictures like those of training look like, and what faults would make of them.

    Attributes:
        found: fault → the share of planted ones that was found among training images, the mean over its variants.
        variants: the (fault, variant) of each discriminant of the picture that is used.
        weights: (V, D) of these; ``offsets`` and ``limits`` (V,) likewise.
        naming: (V, D + 1) weights and offset of the likelihood ratio by which one of several faults is named.
        sharpness: weights of both figures and limit; the limit is infinite where blurred pictures cannot be told.
        saturated: limits of the shares at the maximum and the minimum, infinite likewise.
        images: training images that it rests on.
    """

    found: Mapping[str, float]
    variants: tuple[tuple[str, str], ...]
    weights: Floats
    offsets: Floats
    limits: Floats
    naming: Floats
    sharpness: tuple[float, float, float]
    saturated: tuple[float, float]
    images: int

    @classmethod
    def fit(
        cls, measured: Sequence[Measures], faulty: Sequence[Planted], patients: NDArray[np.int64] | None = None
    ) -> Self | None:
        """Learn from training images, or ``None`` of fewer than 50.

        Args:
            measured: of each image.
            faulty: what planted faults make of its measures.
            patients: (n,) codes, so that no image is judged by others of its patient, where there are five patients.
        """
        if len(measured) < LEAST_IMAGES:
            return None
        rows = np.unique(np.linspace(0, len(measured) - 1, min(len(measured), MOST_IMAGES)).round().astype(int))
        codes = np.arange(len(rows)) if patients is None else np.unique(patients[rows], return_inverse=True)[1]
        folds = (codes if codes.max() >= FOLDS - 1 else np.arange(len(rows))) % FOLDS
        kept = [measured[row] for row in rows]
        sharp, share_blurred = _fit_sharpness(kept, [faulty[row] for row in rows], folds)
        ends, share_clipped = _fit_saturation(kept, [faulty[row] for row in rows])
        pictures = [each.picture for each in kept if each.picture is not None]
        variants, parts, found = _fit_pictures(np.stack(pictures), folds) if len(pictures) == len(kept) else NO_PICTURES
        found = {**found, "blurred": share_blurred, "clipped": share_clipped}
        weights, offsets, limits, naming = parts
        return cls(found, variants, weights, offsets, limits, naming, sharp, ends, len(rows))

    @property
    def missed(self) -> tuple[str, ...]:
        """What cannot be told: faults, and of others the variants that are not looked for."""
        whole = self.untold
        names = [variant for variant in VARIANTS if variant[0] not in whole and variant not in self.variants]
        return (*whole, *(f"{fault} ({variant})" for fault, variant in names))

    @property
    def untold(self) -> tuple[str, ...]:
        """The faults of which fewer than half of the planted ones were found."""
        return tuple(fault for fault in FAULTS if self.found.get(fault, 0.0) < LEAST_FOUND)

    def faults(self, measured: Sequence[Measures | None]) -> list[tuple[str, ...]]:
        """The faults of each picture, in the order of ``FAULTS``; none of one that could not be measured."""
        pictures = [each.picture for each in measured if each is not None and each.picture is not None]
        shapes = iter(self._shapes(pictures))
        found: list[tuple[str, ...]] = []
        for each in measured:
            if each is None:
                found.append(())
            else:
                found.append(self._named(each, Shape("", False) if each.picture is None else next(shapes)))
        return found

    def _named(self, each: Measures, shape: Shape) -> tuple[str, ...]:
        first, second, limit = self.sharpness
        found = [shape.fault] if shape.fault else []
        if first * each.sharpness[0] + second * each.sharpness[1] > limit:
            found.append("blurred")
        # What is empty stands at one end of the range too.
        explained = shape.fault and shape.has_empty_edge
        if not explained and any(map(operator.gt, each.saturated, self.saturated)):
            found.append("clipped")
        return tuple(found)

    def _shapes(self, pictures: Sequence[Pictures]) -> list[Shape]:
        """Of each picture the likeliest fault of those beyond their limits, and whether an edge of it is empty."""
        if not pictures or not self.variants:
            return [Shape("", False)] * len(pictures)
        descriptions = described(np.stack(pictures))
        beyond = descriptions @ self.weights.T - self.offsets > self.limits
        ratios = descriptions @ self.naming[:, :-1].T - self.naming[:, -1]
        best = np.where(beyond, ratios, -np.inf).argmax(axis=1)
        is_empty = descriptions[:, CELLS**2 :] > 0
        return [
            Shape(self.variants[place][0] if any(row) else "", any(sides))
            for place, row, sides in zip(best.tolist(), beyond.tolist(), is_empty.tolist(), strict=True)
        ]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Plain arrays for a file."""
        return {
            "found": np.array([self.found.get(fault, np.nan) for fault in FAULTS]),
            "variants": np.array([list(VARIANTS).index(each) for each in self.variants], np.int64),
            "weights": self.weights.astype(np.float32),
            "offsets": self.offsets,
            "limits": self.limits,
            "naming": self.naming.astype(np.float32),
            "sharpness": np.array(self.sharpness),
            "saturated": np.array(self.saturated),
            "images": np.array(self.images),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What ``to_arrays`` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: arrays do not fit each other.
        """
        names = list(VARIANTS)
        variants = tuple(names[int(place)] for place in arrays["variants"])
        names_of_parts = ("weights", "offsets", "limits", "naming")
        parts = [arrays[name].astype(np.float64) for name in names_of_parts]
        count = len(variants)
        shapes = ((count, LENGTH), (count,), (count,), (count, LENGTH + 1))
        for name, part, shape in zip(names_of_parts, parts, shapes, strict=True):
            if part.shape != shape:
                raise ValueError(f"{name} has the shape {part.shape}; expected {shape}")
        shares = zip(FAULTS, arrays["found"].tolist(), strict=True)
        found = {fault: share for fault, share in shares if math.isfinite(share)}
        first, second, limit = (float(each) for each in arrays["sharpness"])
        top, bottom = (float(each) for each in arrays["saturated"])
        weights, offsets, limits, naming = parts
        images = int(arrays["images"])
        return cls(found, variants, weights, offsets, limits, naming, (first, second, limit), (top, bottom), images)


# Of a description: cells, and the share of empty lines at each side.
LENGTH = CELLS**2 + 4
NO_PICTURES: tuple[tuple[tuple[str, str], ...], list[Floats], dict[str, float]] = (
    (),
    [np.empty((0, LENGTH)), np.empty(0), np.empty(0), np.empty((0, LENGTH + 1))],
    {},
)


def described(pictures: Pictures) -> Floats:
    """(n, 260): the cells of (n, 32, 32) pictures with mean 0 and variance 1, and the empty lines at each side."""
    values = pictures.astype(np.float32)
    rows = values[:, ::2] + values[:, 1::2]
    cells = (rows[..., ::2] + rows[..., 1::2]).reshape(len(values), -1)
    cells = cells - cells.mean(axis=1, keepdims=True)
    cells /= np.maximum(np.sqrt(np.square(cells).mean(axis=1, keepdims=True)), 1e-6)
    across, along = (pictures.max(axis=axis) - pictures.min(axis=axis) <= EMPTY for axis in (2, 1))
    sides = (across[:, ::-1], across, along[:, ::-1], along)
    empty = np.stack([np.cumprod(each, axis=1).mean(axis=1) for each in sides], axis=1)
    return np.concatenate([cells, EMPTY_WEIGHT * empty], axis=1, dtype=np.float64)


def _fit_pictures(
    pictures: Pictures, folds: NDArray[np.int64]
) -> tuple[tuple[tuple[str, str], ...], list[Floats], dict[str, float]]:
    """The variants that can be told; weights, offsets, limits and naming of these; the share found by fault."""
    clean = described(pictures)
    faulty = [described(np.ascontiguousarray(plant(pictures))) for plant in VARIANTS.values()]
    scores, planted = np.empty((len(clean), len(faulty))), np.empty((len(clean), len(faulty)))
    for fold in range(FOLDS):
        inside = folds != fold
        weights, offsets = _discriminants(clean[inside], [each[inside] for each in faulty])
        scores[~inside] = clean[~inside] @ weights.T - offsets
        for column, each in enumerate(faulty):
            planted[~inside, column] = each[~inside] @ weights[column] - offsets[column]
    limits = np.array([_limit(column, SHAPES) for column in scores.T])
    shares = (planted > limits).mean(axis=0)
    used = np.flatnonzero(shares >= LEAST_FOUND)
    names = list(VARIANTS)
    found = {
        fault: float(np.mean([share for name, share in zip(names, shares, strict=True) if name[0] == fault]))
        for fault in dict.fromkeys(name[0] for name in names)
    }
    parts = (*_discriminants(clean, faulty), limits, _naming(clean, faulty))
    return tuple(names[place] for place in used), [part[used] for part in parts], found


def _discriminants(clean: Floats, faulty: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Weights (V, D) and offsets (V,) of the log likelihood ratio of each variant and the clean pictures.

    Clean and faulty ones are normal distributions of one covariance, shrunken by Ledoit and Wolf's rule.
    """
    mean, weights, offsets = clean.mean(axis=0), [], []
    for each in faulty:
        its = each.mean(axis=0)
        covariance, _ = shrunken_covariance(np.concatenate([clean - mean, each - its]))
        weights.append(np.linalg.solve(covariance, its - mean))
        offsets.append(weights[-1] @ (its + mean) / 2)
    return np.stack(weights), np.array(offsets)


def _naming(clean: Floats, faulty: Sequence[Floats]) -> Floats:
    """(V, D + 1) the same with one covariance of all, so that the ratios of several variants can be compared."""
    mean, means = clean.mean(axis=0), np.stack([each.mean(axis=0) for each in faulty])
    centred = np.concatenate([clean - mean, *(each - its for each, its in zip(faulty, means, strict=True))])
    weights = np.linalg.solve(shrunken_covariance(centred)[0], (means - mean).T).T
    return np.concatenate([weights, (weights * (means + mean)).sum(axis=1, keepdims=True) / 2], axis=1)


def _limit(scores: Floats, tail: Tail) -> float:
    middle, upper = np.quantile(scores, [0.5, 0.84])
    return float(np.quantile(scores, 1 - tail.beyond) + tail.further * (upper - middle))


def _fit_sharpness(
    measured: Sequence[Measures], faulty: Sequence[Planted], folds: NDArray[np.int64]
) -> tuple[tuple[float, float, float], float]:
    """Weights and limit of the discriminant of blurred pictures, and the share of them that is found."""
    clean = np.array([each.sharpness for each in measured])
    blurred = np.array([each.sharpness for each in faulty])
    scores, planted = np.empty(len(clean)), np.empty(len(clean))
    for fold in range(FOLDS):
        inside = folds != fold
        weights, offsets = _discriminants(clean[inside], [blurred[inside]])
        scores[~inside] = clean[~inside] @ weights[0] - offsets[0]
        planted[~inside] = blurred[~inside] @ weights[0] - offsets[0]
    limit = _limit(scores, BLURRED)
    share = float((planted > limit).mean())
    weights, offsets = _discriminants(clean, [blurred])
    first, second = weights[0]
    limit += float(offsets[0])
    return (float(first), float(second), limit if share >= LEAST_FOUND else np.inf), share


def _fit_saturation(measured: Sequence[Measures], faulty: Sequence[Planted]) -> tuple[tuple[float, float], float]:
    """The limits of the shares at both ends, and the share of clipped pictures that is found."""
    clean = np.array([each.saturated for each in measured])
    clipped = np.array([each.saturated for each in faulty])
    limits = np.maximum(np.quantile(clean, 1 - SATURATED_BEYOND, axis=0), LEAST_SATURATED)
    shares = (clipped > limits).mean(axis=0)
    top, bottom = np.where(shares >= LEAST_FOUND, limits, np.inf)
    return (float(top), float(bottom)), float(shares.mean())
