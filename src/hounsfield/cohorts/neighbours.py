"""Which images have keypoints that look alike, found among millions of keypoints in memory linear in their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.keypoints import MIRRORED, Keypoints, unit

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

# The strongest keypoints of an image that are looked up.
LOOKED_UP = 40
# Principal components in which distances are compared.
DIMENSIONS = 32
# Keypoints a cell, of which one is searched for each keypoint.
CELL_SIZE = 256
# Like keypoints of other images that vote for theirs.
NEIGHBOURS = 8
# Copies are made larger or smaller by far less; another factor is chance.
GREATEST_SCALE = 1.6
# Keypoints from which the components and the cells are learned.
LEARNED_FROM = 50_000
LLOYD_STEPS = 3
# Directions that are told apart: a copy is turned as a whole, so its votes agree on the angle.
BINS = 16
# Votes below which a pair is chance, and the pairs that an image takes part in at most by its own votes.
LEAST_VOTES = 3
CANDIDATES = 8
# Rows compared at once, which bounds memory.
BLOCK = 4096
# Keypoints of a cell compared at once.
QUERIES = 2048


def candidate_pairs(images: Sequence[Keypoints]) -> Ints:
    """Pairs of images that may be copies of each other, most votes first.

    Each keypoint is looked up as it is and mirrored, among those in the nearest cell of a k-means clustering (an
    inverted file; Jégou, Douze and Schmid 2011, "Product quantization for nearest neighbor search", section IV), and
    votes for the images of its nearest neighbours, with the angle between them (Lowe 2004, section 7.3).

    Returns:
        int64 (pairs, 3): the lower position, the higher one, and 1 where the one is like the other's mirror image.
    """
    owners = np.repeat(np.arange(len(images)), [min(len(one.sizes), LOOKED_UP) for one in images])
    if len(owners) < 2:
        return np.empty((0, 3), np.int64)
    descriptors = np.concatenate([one.descriptors[:LOOKED_UP] for one in images])
    sizes = np.concatenate([one.sizes[:LOOKED_UP] for one in images])
    angles = np.concatenate([one.angles[:LOOKED_UP] for one in images])
    search = _Search(descriptors)
    votes = []
    for mirrored in (False, True):
        queries, found = search.nearest(mirrored)
        ratio = sizes[queries] / sizes[found]
        kept = (owners[queries] != owners[found]) & (ratio < GREATEST_SCALE) & (ratio > 1 / GREATEST_SCALE)
        queries, found = queries[kept], found[kept]
        turned = angles[found] + angles[queries] if mirrored else angles[found] - angles[queries]
        pair = (owners[queries] * len(images) + owners[found]) * 2 + int(mirrored)
        votes.append(np.stack([pair, ((turned % 360) * (2 * BINS / 360)).astype(np.int64) % (2 * BINS)], axis=1))
    return _elected(np.concatenate(votes), len(images))


def _elected(votes: Ints, count: int) -> Ints:
    """The pairs with the most votes of each image, whose votes agree on the angle."""
    # Bins overlap by half, so that no angle lies at the edge of both of its bins.
    half_bins = np.concatenate([votes[:, 1], (votes[:, 1] + 1) % (2 * BINS)])
    ballots, numbers = np.unique(np.tile(votes[:, 0], 2) * 2 * BINS + half_bins // 2 * 2, return_counts=True)
    pairs, starts = np.unique(ballots // (2 * BINS), return_index=True)
    best = np.maximum.reduceat(numbers, starts) if len(starts) else numbers
    pairs, best = pairs[best >= LEAST_VOTES], best[best >= LEAST_VOTES]
    order = np.lexsort((-best, pairs // (2 * count)))
    image = (pairs // (2 * count))[order]
    chosen = order[np.arange(len(image)) - np.searchsorted(image, image) < CANDIDATES]
    pairs, best = pairs[chosen], best[chosen]
    first, second, mirrored = pairs // (2 * count), pairs // 2 % count, pairs % 2
    rows = np.stack([np.minimum(first, second), np.maximum(first, second), mirrored], axis=1)
    distinct, at = np.unique(rows, axis=0, return_inverse=True)
    most = np.zeros(len(distinct), np.int64)
    np.maximum.at(most, at.reshape(-1), best)
    return np.asarray(distinct[np.argsort(-most, kind="stable")])


class _Search:
    """Descriptors in few dimensions, sorted into cells."""

    def __init__(self, descriptors: npt.NDArray[np.uint8]) -> None:
        self._descriptors = descriptors
        generator = np.random.default_rng(0)
        sample = unit(descriptors[np.sort(generator.permutation(len(descriptors))[:LEARNED_FROM])])
        both = np.concatenate([sample, sample[:, MIRRORED]])
        self._mean = both.mean(axis=0)
        centred = both - self._mean
        self._basis = np.linalg.eigh(centred.T @ centred)[1][:, : -DIMENSIONS - 1 : -1].astype(np.float32)
        self._centres = _clustered(centred @ self._basis, max(1, len(descriptors) // CELL_SIZE), generator)
        self._reduced = self._reduce(mirrored=False)
        cells = _nearest_centre(self._reduced, self._centres)
        self._order = np.argsort(cells, kind="stable")
        self._starts = np.searchsorted(cells[self._order], np.arange(len(self._centres) + 1))

    def _reduce(self, *, mirrored: bool) -> Floats:
        starts = range(0, len(self._descriptors), BLOCK)
        blocks = (unit(self._descriptors[start : start + BLOCK], mirrored=mirrored) for start in starts)
        return np.concatenate([(block - self._mean) @ self._basis for block in blocks])

    def nearest(self, mirrored: bool) -> tuple[Ints, Ints]:
        """Each keypoint with its nearest neighbours within its cell, itself among them: two arrays of positions."""
        reduced = self._reduce(mirrored=True) if mirrored else self._reduced
        cells = _nearest_centre(reduced, self._centres)
        order = np.argsort(cells, kind="stable")
        starts = np.searchsorted(cells[order], np.arange(len(self._centres) + 1))

        def tasks() -> Iterator[tuple[Ints, Ints]]:
            for cell in range(len(self._centres)):
                members = self._order[self._starts[cell] : self._starts[cell + 1]]
                for start in range(starts[cell], starts[cell + 1], QUERIES):
                    yield order[start : min(start + QUERIES, starts[cell + 1])], members

        def search(task: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
            queries, members = task
            if not len(members):
                return queries[:0], members
            inside = self._reduced[members]
            # Not by BLAS, whose own threads would contend with these.
            distances = np.square(inside).sum(axis=1) - 2 * np.einsum("ik,jk->ij", reduced[queries], inside)
            number = min(NEIGHBOURS + 1, len(members))
            at = np.argpartition(distances, number - 1, axis=1)[:, :number]
            return np.repeat(queries, number), members[at.reshape(-1)]

        found = list(ordered_map(search, tasks()))
        return np.concatenate([queries for queries, _ in found]), np.concatenate([rows for _, rows in found])


def _clustered(points: Floats, count: int, generator: np.random.Generator) -> Floats:
    """The centres of a k-means clustering after a few of Lloyd's steps; a centre that no point is near stays."""
    centres = points[generator.permutation(len(points))[:count]]
    for _ in range(LLOYD_STEPS):
        nearest = _nearest_centre(points, centres)
        belongs = csr_array((np.ones(len(points), np.float32), nearest, np.arange(len(points) + 1)))
        numbers = np.bincount(nearest, minlength=len(centres))[:, None]
        sums = np.zeros_like(centres)
        sums[: belongs.shape[1]] = belongs.T @ points
        centres = np.where(numbers > 0, sums / np.maximum(numbers, 1), centres).astype(np.float32)
    return centres


def _nearest_centre(points: Floats, centres: Floats) -> Ints:
    squares = np.square(centres).sum(axis=1)
    starts = range(0, len(points), BLOCK)
    return np.concatenate(
        [(squares - 2 * (points[start : start + BLOCK] @ centres.T)).argmin(axis=1) for start in starts]
    )
