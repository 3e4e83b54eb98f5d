"""Which images of a cohort show the same picture: to the last bit, re-encoded or resized, or as augmented copies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.spatial import KDTree

from hounsfield.cohorts.changes import RESAVED
from hounsfield.cohorts.copies import Joined, copy_pairs
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.signature import CELLS, GREATEST_TOLERANCE, LEAST_TOLERANCE
from hounsfield.progress import Progress, silent

# Lowest spatial frequencies that make the perceptual hash by which candidates are looked up.
HASH_LENGTH = 16
# Candidates compared for each image: the nearest by hash. It bounds the work where thousands look alike.
NEIGHBOURS = 16
# The look-up is done in groups of like tolerance, since the tree takes one radius at a time.
RADII = (LEAST_TOLERANCE, 0.1, 0.15, GREATEST_TOLERANCE)
# Images a leaf of the tree: where all lie about equally far apart, as noise does, comparing beats descending.
LEAF_SIZE = 64
# Images looked up at once, which bounds the memory of the comparison.
BLOCK = 512
# From this frequency on a thumbnail shows detail, and copies correlate at least so much in it (measured: 0.90 and more
# after JPEG or halving at 28 pixels, 0.99 at 224; at most 0.77 for equal backdrops under different noise).
DETAIL_FREQUENCY = 6
LEAST_DETAIL = 0.85


@dataclass(frozen=True)
class Change:
    """Two images of one picture, and what was done to it between the first and the second.

    Attributes:
        rows: row numbers of the two.
        kinds: such as ``mirrored`` and ``rotated``; see ``changes.KINDS``.
        text: the same with figures, such as "mirrored, rotated by 12°".
    """

    rows: tuple[int, int]
    kinds: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows that show one picture.

    Attributes:
        rows: row numbers, ascending; two or more.
        exact: whether all have the same pixels to the last bit; else at least two of them differ.
        changes: pairs of rows that connect the ones that differ, and what was done to the picture.
    """

    rows: tuple[int, ...]
    exact: bool
    changes: tuple[Change, ...] = field(default=(), compare=False)


def duplicate_groups(scanned: Scan, *, progress: Progress = silent) -> tuple[DuplicateGroup, ...]:
    """Find every group of images that show one picture: first the exact ones, then those with changed copies.

    Images with equal digests are exact duplicates. One image of each digest then takes part in the search for
    near-duplicates: the perceptual hash is the lowest spatial frequencies of the thumbnail's discrete cosine transform
    (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2.1, without the
    final quantisation, so that no bit flips); its nearest neighbours in a k-d tree are the candidates, in time
    n log n; and a candidate is confirmed when the whole thumbnails lie within the tolerance of one of the two, see
    ``signature``, and correlate in their fine structure. Since the transform keeps distances, hashes never lie further
    apart than the thumbnails do. Augmented copies of slices are looked for among what is then still apart; see
    ``copies``. A group with changed copies holds the exact duplicates of its members as well.

    Args:
        scanned: the pass over the images.
        progress: receives a report every few images whose copies were looked for.
    """
    codes = pd.factorize(scanned.table["digest"])[0]
    first = np.unique(codes[codes >= 0], return_index=True)[1]
    first = np.flatnonzero(codes >= 0)[first]
    changes, picture = _changes(scanned, first, progress)
    # Only pictures with several digests have changed copies; −1 also keeps what could not be read out.
    several = np.bincount(picture, minlength=1) > 1
    changed = np.where((codes >= 0) & several[picture[codes]], picture[codes], -1) if len(first) else codes
    exact = [DuplicateGroup(rows, exact=True) for rows in _repeated(codes)]
    near = [
        DuplicateGroup(rows, exact=False, changes=tuple(changes[int(changed[rows[0]])])) for rows in _repeated(changed)
    ]
    return (*exact, *near)


def _changes(
    scanned: Scan, first: NDArray[np.int64], progress: Progress
) -> tuple[dict[int, list[Change]], NDArray[np.int64]]:
    """The changes within each group of different images of one picture, and the group's number for each of them."""
    joined = Joined(len(first))
    found = [
        (int(one), Change((int(first[one]), int(first[other])), (RESAVED,), RESAVED))
        for one, other in np.sort(near_pairs(scanned, first), axis=1)
        if joined.join(int(one), int(other))
    ]
    for pair in copy_pairs([scanned.facts[row].picture for row in first], joined, progress=progress):
        rows = (int(first[pair.first]), int(first[pair.second]))
        found.append((pair.first, Change(rows, pair.kinds, pair.text)))
    changes: dict[int, list[Change]] = {}
    for position, change in found:
        changes.setdefault(joined.root(position), []).append(change)
    return changes, joined.roots()


def _repeated(codes: NDArray[np.integer[Any]]) -> list[tuple[int, ...]]:
    """The positions of each code that stands twice or more, ascending; −1 is no code."""
    known = np.flatnonzero(codes >= 0)
    repeated = known[np.bincount(codes[known], minlength=1)[codes[known]] > 1]
    order = repeated[np.argsort(codes[repeated], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return sorted(tuple(part.tolist()) for part in parts if len(part))


def near_pairs(scanned: Scan, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions (pairs, 2) within ``rows`` of images whose thumbnails agree."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for rank, cells in CELLS.items():
        usable = [at for at, row in enumerate(rows) if _has_thumbnail(scanned, int(row), rank)]
        if len(usable) > 1:
            facts = [scanned.facts[rows[at]] for at in usable]
            stored = np.frombuffer(b"".join(fact.thumbnail or b"" for fact in facts), dtype=np.int8)
            thumbnails = stored.reshape(len(usable), *(cells,) * rank)
            found = _pairs_of_rank(thumbnails, np.array([fact.tolerance for fact in facts]))
            pairs.append(np.asarray(usable, dtype=np.int64)[found])
    return np.concatenate(pairs)


def _has_thumbnail(scanned: Scan, row: int, rank: int) -> bool:
    return scanned.facts[row].thumbnail is not None and len(scanned.facts[row].shape) == rank


def _pairs_of_rank(thumbnails: NDArray[np.int8], tolerances: NDArray[np.float64]) -> NDArray[np.int64]:
    blocks = range(0, len(thumbnails), BLOCK)
    hashes = np.concatenate([perceptual_hashes(thumbnails[start : start + BLOCK]) for start in blocks])
    tree = KDTree(hashes, leafsize=LEAF_SIZE)
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for least, radius in zip((0.0, *RADII), RADII, strict=False):
        members = np.flatnonzero((tolerances > least) & (tolerances <= radius))
        for start in range(0, len(members), BLOCK):
            left = members[start : start + BLOCK]
            _, right = tree.query(hashes[left], k=NEIGHBOURS + 1, distance_upper_bound=radius, workers=-1)
            candidates = np.stack([np.repeat(left, NEIGHBOURS + 1), right.ravel()], axis=1)
            found = (candidates[:, 1] < len(thumbnails)) & (candidates[:, 0] != candidates[:, 1])
            pairs.append(_confirmed(thumbnails, tolerances, candidates[found]))
    return np.concatenate(pairs)


def _confirmed(
    thumbnails: NDArray[np.int8], tolerances: NDArray[np.float64], pairs: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Those pairs whose thumbnails agree as a whole and in their fine structure."""
    left, right = thumbnails[pairs[:, 0]], thumbnails[pairs[:, 1]]
    close = thumbnail_distance(left, right) <= tolerances[pairs[:, 0]]
    alike = detail_correlation(left[close], right[close]) >= LEAST_DETAIL
    return pairs[close][alike]


def perceptual_hashes(thumbnails: NDArray[np.int8]) -> NDArray[np.float32]:
    """The lowest frequencies but the constant one, (images, 16), of thumbnails (images, cells, cells[, cells])."""
    order = np.argsort(_frequency(thumbnails), axis=None, kind="stable")
    return _spectrum(thumbnails).reshape(len(thumbnails), order.size)[:, order[1 : HASH_LENGTH + 1]]


def thumbnail_distance(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.float64]:
    """Euclidean distance of thumbnails (pairs, cells, …) brought to length 1 each: 0 for the same, at most 2.

    With the correlation r of the two thumbnails it is the square root of 2 − 2 r.
    """
    squares = np.square(_of_length_one(left) - _of_length_one(right))
    return np.asarray(np.sqrt(squares.sum(axis=tuple(range(1, left.ndim)))), dtype=np.float64)


def detail_correlation(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.float64]:
    """Correlation of the upper frequencies of thumbnails (pairs, cells, …), 0 where one has none.

    Two pictures of one anatomy, or of one backdrop, may agree in all that is coarse; copies agree in what is fine too.
    """
    fine = _frequency(left) >= DETAIL_FREQUENCY
    first, second = (_spectrum(thumbnails)[:, fine] for thumbnails in (left, right))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    products = (first * second).sum(axis=1)
    return np.asarray(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0), dtype=np.float64)


def _of_length_one(thumbnails: NDArray[np.int8]) -> NDArray[np.float32]:
    values = thumbnails.astype(np.float32)
    lengths = np.sqrt(np.square(values).sum(axis=tuple(range(1, values.ndim)), keepdims=True))
    return np.asarray(values / lengths, dtype=np.float32)


def _spectrum(thumbnails: NDArray[np.int8]) -> NDArray[np.float32]:
    """The orthonormal cosine transform of each thumbnail, of length 1."""
    axes = tuple(range(1, thumbnails.ndim))
    return np.asarray(dctn(_of_length_one(thumbnails), axes=axes, norm="ortho"), dtype=np.float32)


def _frequency(thumbnails: NDArray[np.int8]) -> NDArray[np.int64]:
    """The frequency of each coefficient of a spectrum, summed over the axes, in half periods across the image."""
    return np.asarray(np.indices(thumbnails.shape[1:]).sum(axis=0), dtype=np.int64)
