"""Boxes as offsets from reference boxes, and back (Ren et al., 2015, equation 2)."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from hounsfield import boxes as geometry

# Sides are at most this many times those of the reference: exp() of a wild logit stays finite.
LARGEST_LOG_RATIO = math.log(1000 / 16)
# Sides count as at least this many pixels, so that no logarithm of zero is taken.
SMALLEST_SIDE = 1e-3


def encode(boxes: Any, references: Any) -> Any:
    """Offsets that lead from references to boxes.

    Args:
        boxes: (…, 2·rank).
        references: (…, 2·rank), of a shape that broadcasts.

    Returns:
        (…, 2·rank): shifts of the centre in sides of the reference, then logarithms of the ratios of sides.
    """
    rank = geometry.rank_of(boxes)
    target = geometry.to_centres(boxes, namespace=ops)
    source = geometry.to_centres(references, namespace=ops)
    sides = ops.maximum(source[..., rank:], SMALLEST_SIDE)
    shifts = (target[..., :rank] - source[..., :rank]) / sides
    ratios = ops.log(ops.maximum(target[..., rank:], SMALLEST_SIDE) / sides)
    return ops.concatenate([shifts, ratios], axis=-1)


def decode(offsets: Any, references: Any) -> Any:
    """Boxes from offsets and references: the inverse of :func:`encode`."""
    rank = geometry.rank_of(references)
    source = geometry.to_centres(references, namespace=ops)
    sides = ops.maximum(source[..., rank:], SMALLEST_SIDE)
    centres = source[..., :rank] + offsets[..., :rank] * sides
    lengths = sides * ops.exp(ops.minimum(offsets[..., rank:], LARGEST_LOG_RATIO))
    return geometry.from_centres(ops.concatenate([centres, lengths], axis=-1), namespace=ops)
