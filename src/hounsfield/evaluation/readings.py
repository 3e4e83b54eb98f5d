"""What a regressor's outputs say: values, or grades with their probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.outcomes import Floats, Integers
from hounsfield.tasks import TASKS, ValueTask


@dataclass(frozen=True, eq=False)
class Readings:
    """What is predicted of n images.

    Attributes:
        values: (n,) the value, or the expected grade.
        probabilities: (n, K) of each grade; ``None`` of values.
    """

    values: Floats
    probabilities: Floats | None = None

    @property
    def grades(self) -> Integers:
        """(n,) the place of the most probable grade, the lowest of equal ones."""
        assert self.probabilities is not None  # noqa: S101 - asked of grades alone
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def compared(self) -> Floats:
        """(n,) what is compared with the truth: the value, or the place of the most probable grade."""
        return self.values if self.probabilities is None else self.grades.astype(np.float64)


def readings_of(
    outputs: npt.NDArray[Any], labels: Sequence[str], task: ValueTask, settings: Mapping[str, Any]
) -> Readings:
    """Read a network's outputs.

    Args:
        outputs: (n, 1) standardised values, or (n, K − 1) probabilities of a grade above each but the last.
        labels: of grades the K grades in order.
        task: which of the two.
        settings: of a bundle; for values ``mean`` and ``deviation``, by which they were standardised.
    """
    outputs = np.asarray(outputs, np.float64)
    if not TASKS[task].ordered:
        return Readings(settings["mean"] + settings["deviation"] * outputs[:, 0])
    above = np.minimum.accumulate(outputs, axis=1)
    ends = np.ones((len(outputs), 1)), np.zeros((len(outputs), 1))
    probabilities = -np.diff(np.concatenate([ends[0], above, ends[1]], axis=1), axis=1)
    return Readings(probabilities @ np.array(labels, np.float64), probabilities)
