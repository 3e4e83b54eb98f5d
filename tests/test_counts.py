"""Intervals of counts hold what they promise, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.counting import count_intervals


def test_the_case_worked_by_hand() -> None:
    # Misfits 1/√4, 0, 2/√1, 3/√9, 0, 1/√1, 0, 0, 0: of nine the ⌈10·.8⌉ = 8th smallest is 1.
    true = np.array([4, 0, 2, 5, 3, 1, 7, 1, 2])
    found = np.array([3, 0, 0, 8, 3, 0, 7, 1, 2])
    low, high = count_intervals(true, found, np.array([0, 3, 8, 24]), coverage=0.8)
    assert low.tolist() == [0, 1, 5, 19]
    assert high.tolist() == [1, 5, 11, 29]


def test_nine_images_are_needed_for_nine_in_ten() -> None:
    counts = np.arange(9)
    assert np.isfinite(count_intervals(counts, counts, counts)[1]).all()
    assert np.isinf(count_intervals(counts[:8], counts[:8], counts)[1]).all()
    assert not count_intervals(counts[:8], counts[:8], counts)[0].any()


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("num_images", [20, 100])
def test_the_true_count_is_inside_as_often_as_promised(coverage: float, num_images: int) -> None:
    generator = np.random.default_rng(0)
    held, widths = [], []
    for _ in range(400):
        true = generator.poisson(generator.gamma(2, 10, num_images + 50))
        # Misses a tenth of the objects, and finds some that are none.
        found = generator.binomial(true, 0.9) + generator.poisson(1.5, len(true))
        calibration, new = slice(num_images), slice(num_images, None)
        low, high = count_intervals(true[calibration], found[calibration], found[new], coverage=coverage)
        held.append(((low <= true[new]) & (true[new] <= high)).mean())
        widths.append((high - low).mean())
    # At least as promised, and hardly above.
    assert coverage - 0.01 < np.mean(held) < coverage + 0.03
    assert np.mean(widths) < 8


def test_the_coverage_must_be_a_share() -> None:
    with pytest.raises(EvaluationError, match="strictly between 0 and 1"):
        count_intervals(np.ones(9), np.ones(9), np.ones(1), coverage=1.0)
