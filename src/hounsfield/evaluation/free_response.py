"""Free-response curves (sensitivity against false findings an image), and the LUNA16 score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.evaluation.detection_matching import Events
from hounsfield.evaluation.outcomes import Floats

# LUNA16's false findings an image (Setio et al., Medical Image Analysis 2017, section 2.3).
LUNA_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
CHUNK_ELEMENTS = 2_000_000


@dataclass(frozen=True, eq=False)
class FreeResponse:
    """One curve, from the highest threshold to the lowest; the first point is (0, 0).

    Attributes:
        thresholds: (p,) the score from which findings count.
        false_findings: (p,) false findings an image.
        sensitivity: (p,) share of the objects that are found.
    """

    thresholds: Floats
    false_findings: Floats
    sensitivity: Floats


def free_response(events: Events) -> FreeResponse:
    """The curve of all images."""
    thresholds, false, sensitivity = _curves(events, np.ones((len(events.num_truths), 1)))
    return FreeResponse(thresholds, false[:, 0], sensitivity[:, 0])


def sensitivities(events: Events, weights: Floats) -> Floats:
    """Sensitivity at LUNA16's numbers of false findings an image, in each replicate: (7, R).

    Between two points of the curve it is interpolated linearly, as LUNA16's evaluation does; beyond the last point it
    stays what it is there. ``nan`` where no object has any weight.

    Args:
        events: hits and false findings.
        weights: (n, R), how often each image counts.
    """
    result = np.empty((len(LUNA_RATES), weights.shape[1]))
    chunk = max(1, CHUNK_ELEMENTS // max(len(events.hit_scores) + len(events.false_scores), 1))
    for start in range(0, weights.shape[1], chunk):
        _, false, sensitivity = _curves(events, weights[:, start : start + chunk])
        for column in range(false.shape[1]):
            result[:, start + column] = np.interp(LUNA_RATES, false[:, column], sensitivity[:, column])
    return result


def _curves(events: Events, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Thresholds (p,), false findings an image (p, R) and sensitivity (p, R)."""
    scores = np.concatenate([events.hit_scores, events.false_scores])
    images = np.concatenate([events.hit_images, events.false_images])
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    is_hit = (order < len(events.hit_scores))[:, None]
    counted = weights[images[order]]
    starts = np.flatnonzero(np.diff(scores, prepend=np.inf))
    # Findings of one score appear together.
    hits, false = (
        np.cumsum(np.add.reduceat(counted * chosen, starts, axis=0), axis=0) if len(starts) else counted
        for chosen in (is_hit, ~is_hit)
    )
    nothing = np.zeros((1, weights.shape[1]))
    # A replicate without an image, or without an object, has no curve: not a number, and no warning.
    truths, total = events.num_truths.astype(np.float64) @ weights, weights.sum(axis=0)
    sensitivity = np.concatenate([nothing, hits]) / np.where(truths > 0, truths, np.nan)
    false_findings = np.concatenate([nothing, false]) / np.where(total > 0, total, np.nan)
    return np.append(np.inf, scores[starts]), false_findings, sensitivity
