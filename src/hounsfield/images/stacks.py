"""Which slices make one stack: slices that lie in the same place several times are several volumes."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.images.dicom_geometry import GAP_MILLIMETRES, Plane, are_parallel, is_even
from hounsfield.images.dicom_labels import DESCRIPTIONS, KINDS, LABELS, LAST_RANKS, RANKS, Labels, words

# Labels may have to be combined, as b-values and directions are; more than so many at once are not tried.
MOST_COMBINED = 3


@dataclass(frozen=True, eq=False)
class Place:
    """Where a slice or a frame lies, and what is special about it.

    Attributes:
        plane: in the patient.
        labels: see ``dicom_labels``.
        number: instance number, or the number of the frame.
        interleaves: whether acquisitions may be put between each other to make one stack, as in 2D MR.
    """

    plane: Plane
    labels: Labels = field(default_factory=dict)
    number: int | None = None
    interleaves: bool = False


@dataclass(frozen=True)
class Part:
    """One volume: the indices of its slices in their order along the normal, and a few words about it.

    Attributes:
        indices: of the slices.
        words: what tells the volume from the others; empty where it is the only one.
        is_certain: whether each position comes once; otherwise nothing could tell the slices there apart.
        varying: a label that differs between slices that were nevertheless taken for one stack.
    """

    indices: tuple[int, ...]
    words: str = ""
    is_certain: bool = True
    varying: str = ""


def partition(places: Sequence[Place]) -> list[Part]:
    """Sort slices into volumes: by orientation, then by what tells slices of one position apart."""
    clusters: list[list[int]] = []
    for index, place in enumerate(places):
        for cluster in clusters:
            if are_parallel(places[cluster[0]].plane, place.plane):
                cluster.append(index)
                break
        else:
            clusters.append([index])
    parts = [part for cluster in clusters for part in _Stack(places, cluster).parts()]
    if len(clusters) == 1:
        return parts
    return [_worded(part, f"orientation {_direction(places[part.indices[0]].plane)}") for part in parts]


def _worded(part: Part, more: str) -> Part:
    return Part(part.indices, ", ".join(filter(None, (more, part.words))), part.is_certain, part.varying)


def _direction(plane: Plane) -> str:
    """The name of the anatomical plane that is nearest."""
    return ("sagittal", "coronal", "axial")[int(np.abs(plane.normal).argmax())]


class _Stack:
    """Parallel slices, sorted along their normal, as they are taken apart."""

    def __init__(self, places: Sequence[Place], indices: Sequence[int]) -> None:
        normal = places[indices[0]].plane.normal
        depths = np.array([float(normal @ places[index].plane.position) for index in indices])
        order = np.argsort(depths, kind="stable")
        self.places = places
        self.indices = [indices[position] for position in order]
        self.depths: npt.NDArray[np.float64] = depths[order]
        steps = [0, *np.cumsum(np.diff(self.depths) > GAP_MILLIMETRES).tolist()]
        self.position = dict(zip(self.indices, steps, strict=True))
        self.counts = Counter(steps)
        self.multiplicity = max(self.counts.values())

    def parts(self) -> list[Part]:
        """The volumes; where nothing tells slices of one position apart, one that is not certain."""
        if self.multiplicity == 1:
            return self._interleaved()
        return (
            self._by_labels()
            or self._by_rank(RANKS)
            or self._by_description()
            or self._by_runs()
            or self._by_rank(LAST_RANKS)
            or (self._by_kind() or [Part(tuple(self.indices), is_certain=False)])
        )

    def _label(self, index: int, label: str) -> Hashable:
        return self.places[index].labels.get(label)

    def _informative(self) -> list[str]:
        """The labels that differ at all, in the order in which they are tried."""
        found = {label: None for index in self.indices for label in self.places[index].labels}
        named = [label for label in LABELS if label in found] + [label for label in found if label not in LABELS]
        return [label for label in named if label not in DESCRIPTIONS and self._differs(label)]

    def _differs(self, label: str) -> bool:
        return len({self._label(index, label) for index in self.indices}) > 1

    def _groups(self, labels: tuple[str, ...]) -> dict[tuple[Hashable, ...], list[int]]:
        groups: dict[tuple[Hashable, ...], list[int]] = defaultdict(list)
        for index in self.indices:
            groups[tuple(self._label(index, label) for label in labels)].append(index)
        return groups

    def _is_apart(self, indices: Sequence[int]) -> bool:
        return len({self.position[index] for index in indices}) == len(indices)

    def _by_labels(self) -> list[Part]:
        """By as few labels as give as many volumes as there are slices at a position."""
        informative = self._informative()
        for count in range(1, MOST_COMBINED + 1):
            for chosen in itertools.combinations(informative, count):
                groups = self._groups(chosen)
                if len(groups) == self.multiplicity and all(self._is_apart(group) for group in groups.values()):
                    return self._worded(groups, chosen)
        return []

    def _by_description(self) -> list[Part]:
        """By a text for people, before the mere order of the slices."""
        for label in filter(self._differs, DESCRIPTIONS):
            groups = self._groups((label,))
            if len(groups) == self.multiplicity and all(self._is_apart(group) for group in groups.values()):
                return self._worded(groups, (label,))
        return []

    def _worded(self, groups: dict[tuple[Hashable, ...], list[int]], chosen: tuple[str, ...]) -> list[Part]:
        keys = sorted(groups, key=_sort_key)
        orders = {
            label: list(dict.fromkeys(sorted((key[rank] for key in keys), key=lambda value: _sort_key((value,)))))
            for rank, label in enumerate(chosen)
        }
        return [Part(tuple(groups[key]), words(self.places[groups[key][0]].labels, chosen, orders)) for key in keys]

    def _by_rank(self, labels: tuple[str, ...]) -> list[Part]:
        """The first in time at every position, the second, and so on; where all positions come equally often."""
        if set(self.counts.values()) != {self.multiplicity}:
            return []
        for label in labels:
            ranked = self._ranked(label)
            if ranked:
                return [
                    Part(tuple(part), f"time {number + 1} of {len(ranked)} by {label}")
                    for number, part in enumerate(ranked)
                ]
        return []

    def _ranked(self, label: str) -> list[list[int]]:
        columns: dict[int, list[int]] = defaultdict(list)
        for index in self.indices:
            if self._label(index, label) is None:
                return []
            columns[self.position[index]].append(index)
        ordered = []
        for column in columns.values():
            if len({self._label(index, label) for index in column}) != len(column):
                return []
            ordered.append(sorted(column, key=lambda index: _sort_key((self._label(index, label),))))
        return [list(part) for part in zip(*ordered, strict=True)]

    def _by_runs(self) -> list[Part]:
        """By complete runs of instance numbers: volume after volume, or all times of a position after one another."""
        numbers = [self.places[index].number for index in self.indices]
        if None in numbers or len(set(numbers)) != len(numbers):
            return []
        ordered = sorted(self.indices, key=lambda index: self.places[index].number or 0)
        size = len(self.counts)
        if len(ordered) < 2 * size:
            return []
        runs = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        # The last one may have been broken off.
        if not all(self._is_apart(run) for run in runs):
            columns = [
                ordered[start : start + self.multiplicity] for start in range(0, len(ordered), self.multiplicity)
            ]
            if any(len({self.position[index] for index in column}) != 1 for column in columns):
                return []
            if set(self.counts.values()) != {self.multiplicity}:
                return []
            runs = [list(run) for run in zip(*columns, strict=True)]
        rank = {index: place for place, index in enumerate(self.indices)}
        return [
            Part(tuple(sorted(run, key=rank.__getitem__)), f"run {number + 1} of {len(runs)} by instance number")
            for number, run in enumerate(runs)
        ]

    def _by_kind(self) -> list[Part]:
        """One label at a time, each part taken apart by itself: three times b = 0 beside one of each direction."""
        for label in self._informative():
            groups = self._groups((label,))
            found: list[Part] = []
            for whole in self._worded(groups, (label,)):
                stack = _Stack(self.places, whole.indices)
                if stack.multiplicity == self.multiplicity:
                    break
                found.extend(_worded(part, whole.words) for part in stack.parts())
            else:
                if all(part.is_certain for part in found):
                    return found
        return []

    def _interleaved(self) -> list[Part]:
        """Slices of different positions that are nevertheless several stacks: interleaved, or of two kinds."""
        whole = Part(tuple(self.indices))
        if len(self.indices) < 3:
            return [whole]
        merged_is_even = is_even(self.depths)
        for label in (*KINDS, "AcquisitionNumber", *(() if merged_is_even else ("ImageType",))):
            groups = self._groups((label,))
            if len(groups) < 2 or not all(self._is_even_stack(group) for group in groups.values()):
                continue
            overlapping = self._overlap(list(groups.values()))
            if label in KINDS or not merged_is_even or (overlapping and not self.places[self.indices[0]].interleaves):
                return self._worded(groups, (label,))
            if overlapping:
                return [Part(whole.indices, varying=label)]
        varying = next((label for label in KINDS if len(self._groups((label,))) > 1), "")
        return [Part(whole.indices, varying=varying)]

    def _is_even_stack(self, indices: Sequence[int]) -> bool:
        chosen = set(indices)
        depths = np.array([depth for index, depth in zip(self.indices, self.depths, strict=True) if index in chosen])
        return len(depths) > 1 and is_even(depths)

    def _overlap(self, groups: Sequence[Sequence[int]]) -> bool:
        """Whether the ranges of two groups along the normal overlap."""
        ranges = sorted(
            (min(places), max(places)) for places in ([self.position[i] for i in group] for group in groups)
        )
        return any(first[1] > second[0] for first, second in itertools.pairwise(ranges))


def _sort_key(key: tuple[Hashable, ...]) -> tuple[Any, ...]:
    """Missing values first, then numbers, then texts: values of one label may be of several kinds."""
    return tuple(
        (0, 0.0, ())
        if value is None
        else (1, float(value), ())
        if isinstance(value, int | float)
        else (2, 0.0, tuple(map(str, value)) if isinstance(value, tuple) else (str(value),))
        for value in key
    )
