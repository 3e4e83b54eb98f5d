"""Whether one picture can be laid over another so that both show the same thing, and what was done to it if so."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.keypoints import Keypoints, unit

Floats = npt.NDArray[np.float32]
Affine = npt.NDArray[np.float64]

# Keypoints that must lie over each other, within so many pixels.
LEAST_MATCHES = 8
REPROJECTION = 3.0
# Product of two descriptors of which each is the other's nearest.
LEAST_LIKENESS = 0.8
# Both axes of a copy are scaled by factors between 1 / 1.8 and 1.8, and by no more than 1.6 times each other.
GREATEST_SCALE = 1.8
GREATEST_STRETCH = 1.6
# Pixels a side of a cell; windows of 3×3 cells are compared.
CELL = 5
# Standard deviation of grey values (of 255) below which a window shows nothing but noise.
LEAST_DEVIATION = 4.0
# Windows that show something, and the part of the smaller picture that must lie over the other.
LEAST_WINDOWS = 30
LEAST_OVERLAP = 0.3
# Part of a window that must lie within both pictures.
LEAST_COVERED = 0.9
SMOOTHING = 1.5
# Evidence from which on two pictures are copies. Chosen on glioma MRI and chest X-rays of bacterial pneumonia, where
# distinct images reach 4.7 (neighbouring slices of one brain) and 4.2 (X-rays of one patient), and on chest phantoms.
LEAST_EVIDENCE = 4.8
# How much evidence may be missing where refining the map is still worth its time: it would have to leave a tenth of
# what the pictures differ by.
WORTH_REFINING = 1.0
REFINEMENT_STEPS = 15


class Agreement(NamedTuple):
    """How far two pictures show the same, where they overlap and either shows something.

    Attributes:
        correlation: median over small windows of the correlation of grey values within the window.
        difference: share of the contrast of all windows that is not explained by the other picture's.
    """

    correlation: float
    difference: float


class Alignment(NamedTuple):
    """How a picture lies over another.

    Attributes:
        affine: float64 (2, 3), from x and y of the first picture to those of the second.
        matches: keypoints that lie over each other.
        agreement: of the grey values.
    """

    affine: Affine
    matches: int
    agreement: Agreement

    @property
    def evidence(self) -> float:
        """How much speaks for copies: log2(matches) / 2 − log10(1 − correlation) − log10(difference) / 2.

        Each alone fails: noise leaves fewer matches and a lower correlation, neighbouring slices of one head have
        nearly the same skull, and two chests have the same outline.
        """
        differing = 1.0001 - min(max(self.agreement.correlation, 0.0), 1.0)
        return float(
            0.5 * np.log2(self.matches) - np.log10(differing) - 0.5 * np.log10(self.agreement.difference + 0.001)
        )

    @property
    def confirmed(self) -> bool:
        """Whether the two pictures are copies."""
        return self.evidence >= LEAST_EVIDENCE


def smoothed(picture: npt.NDArray[np.uint8]) -> Floats:
    """A picture as it is compared: without the finest noise."""
    return np.asarray(cv2.GaussianBlur(picture.astype(np.float32), (0, 0), SMOOTHING), np.float32)


def fitted(first: Keypoints, second: Keypoints, *, mirrored: bool) -> tuple[Affine, int] | None:
    """The affine map under which most keypoints of two pictures lie over each other, and how many do.

    By random sampling (RANSAC) from the pairs of keypoints that are each other's nearest by descriptor.

    Returns:
        The map and the matches; ``None`` where too few match or the map distorts too much to be a copy's.
    """
    if min(len(first.sizes), len(second.sizes)) < LEAST_MATCHES:
        return None
    # Not by BLAS, which for so little would wake the other cores.
    likeness = np.einsum("ik,jk->ij", unit(first.descriptors), unit(second.descriptors, mirrored=mirrored))
    nearest = likeness.argmax(axis=1)
    rows = np.arange(len(nearest))
    mutual = (likeness.argmax(axis=0)[nearest] == rows) & (likeness[rows, nearest] > LEAST_LIKENESS)
    if mutual.sum() < LEAST_MATCHES:
        return None
    ends = first.places[mutual], second.places[nearest[mutual]]
    affine, inside = cv2.estimateAffine2D(*ends, ransacReprojThreshold=REPROJECTION, maxIters=500)
    if affine is None or inside.sum() < LEAST_MATCHES or not _plausible(affine, mirrored=mirrored):
        return None
    return np.asarray(affine, np.float64), int(inside.sum())


def _plausible(affine: npt.NDArray[np.float64], *, mirrored: bool) -> bool:
    large, small = np.linalg.svd(affine[:, :2], compute_uv=False)
    right_way = (np.linalg.det(affine[:, :2]) < 0) == mirrored
    scaled = large < GREATEST_SCALE and small > 1 / GREATEST_SCALE and large / small < GREATEST_STRETCH
    return bool(right_way and scaled)


def aligned(first: Floats, second: Floats, fit: tuple[Affine, int]) -> Alignment:
    """Compare two smoothed pictures under a map, which is refined where they do not agree enough yet."""
    affine, matches = fit
    found = Alignment(affine, matches, agreement(first, second, affine))
    if found.confirmed or found.evidence < LEAST_EVIDENCE - WORTH_REFINING:
        return found
    affine = _refined(first, second, affine)
    return max(found, Alignment(affine, matches, agreement(first, second, affine)), key=lambda one: one.evidence)


def _refined(first: Floats, second: Floats, affine: Affine) -> Affine:
    """The map near the given one under which the grey values correlate most (Evangelidis and Psarakis 2008)."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, REFINEMENT_STEPS, 1e-4)
    start = cv2.invertAffineTransform(affine).astype(np.float32)
    try:
        found = cv2.findTransformECC(second, first, start, cv2.MOTION_AFFINE, criteria, None, 3)[1]
    except cv2.error:
        # It does not converge: the pictures hardly overlap or one of them is flat there.
        return affine
    return np.asarray(cv2.invertAffineTransform(found), np.float64)


def agreement(first: Floats, second: Floats, affine: Affine) -> Agreement:
    """Compare the grey values of two smoothed pictures under a map, window by window.

    Within windows, because brightness, contrast and gamma then hardly matter; the median, because two chests agree in
    the coarse and differ in most details; the share of contrast, because neighbouring slices differ in few places, and
    there much. What a shifted copy's edge is filled with lies outside the original, and so plays no part.

    Returns:
        A correlation of 0 and a difference of 1 where too little overlaps or shows anything.
    """
    height, width = second.shape
    laid = cv2.warpAffine(first, affine, (width, height))
    inside = cv2.warpAffine(np.ones_like(first), affine, (width, height), flags=cv2.INTER_NEAREST)
    laid, under = laid * inside, second * inside
    cells = (-(-width // CELL), -(-height // CELL))
    means = [_windows(one, cells) for one in (inside, laid, under, laid * laid, under * under, laid * under)]
    weight = np.maximum(means[0], 1e-6)
    m1, m2, square1, square2, product = (one / weight for one in means[1:])
    variance1, variance2 = np.maximum(square1 - m1 * m1, 0), np.maximum(square2 - m2 * m2, 0)
    floor = LEAST_DEVIATION**2
    counted = means[0] > LEAST_COVERED
    shown = counted & (np.maximum(variance1, variance2) > floor)
    smaller = min(first.size, second.size) / CELL**2
    if shown.sum() < LEAST_WINDOWS or counted.sum() < LEAST_OVERLAP * smaller:
        return Agreement(0.0, 1.0)
    spread = np.sqrt(np.maximum(variance1, floor) * np.maximum(variance2, floor))
    correlations = ((product - m1 * m2) / spread)[shown]
    contrast = np.sqrt(variance1 * variance2)[shown]
    unexplained = (contrast * (1 - np.square(np.clip(correlations, 0, 1)))).sum() / max(contrast.sum(), 1e-6)
    return Agreement(float(np.median(correlations)), float(unexplained))


def _windows(values: Floats, cells: tuple[int, int]) -> Floats:
    return np.asarray(cv2.blur(cv2.resize(values, cells, interpolation=cv2.INTER_AREA), (3, 3)), np.float32)
