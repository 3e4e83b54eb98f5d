"""A fixed number of positive and negative examples per image, drawn at random (Ren et al., 2015, section 3.1.3)."""

from __future__ import annotations

from typing import Any, NamedTuple

from keras import ops


class Sample(NamedTuple):
    """(batch, count): which references were drawn, which of them are positive, and which slots are filled at all."""

    indices: Any
    positive: Any
    filled: Any


def balanced_sample(positive: Any, negative: Any, draws: Any, *, count: int, max_positive: int) -> Sample:
    """Draw up to ``max_positive`` positives and fill up with negatives.

    Args:
        positive: (batch, n) booleans.
        negative: (batch, n) booleans, nowhere true together with ``positive``.
        draws: (batch, n) uniform random numbers from 0 to 1: the randomness is the caller's.
        count: slots per image; where there are too few examples, slots stay empty. At most n.
        max_positive: of the slots.
    """
    lots = ops.where(positive, draws, -ops.ones_like(draws))
    last = ops.top_k(lots, max_positive)[0][:, -1:]
    chosen = ops.logical_and(positive, lots >= last)
    # Drawn positives come before all negatives, and those before what is ignored.
    priority = ops.where(chosen, draws + 2, ops.where(negative, draws + 0.5, -ops.ones_like(draws)))
    values, indices = ops.top_k(priority, count)
    return Sample(indices, values >= 2, values > 0)
