"""How far the networks of an ensemble differ about one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.outcomes import Floats
from hounsfield.evaluation.scaling import probabilities_of
from hounsfield.tasks import LabelTask


@dataclass(frozen=True, eq=False)
class Heads:
    """The last layers of an ensemble's networks, which tell what each says from the features of all.

    Attributes:
        kernels: (members, features of one, outputs).
        biases: (members, outputs).
    """

    kernels: npt.NDArray[np.float32]
    biases: npt.NDArray[np.float32]

    def probabilities(self, features: npt.NDArray[np.floating], task: LabelTask) -> Floats:
        """What each network says by itself, before any scaling: (members, n, outputs).

        Args:
            features: (n, members · features of one), the members' features side by side.
            task: decides between softmax and a sigmoid for each output.
        """
        members, length, _ = self.kernels.shape
        each = np.asarray(features, np.float64).reshape(-1, members, length).swapaxes(0, 1)
        logits = each @ self.kernels.astype(np.float64) + self.biases[:, np.newaxis].astype(np.float64)
        return probabilities_of(logits, task)

    def disagreement(self, features: npt.NDArray[np.floating], task: LabelTask) -> Floats:
        """The standard deviation of the networks' probabilities, of the label on which they differ most.

        The spread of independently trained networks tells what the data left open (Lakshminarayanan et al., "Simple and
        scalable predictive uncertainty estimation using deep ensembles", 2017, arXiv:1612.01474).

        Args:
            features: (n, members · features of one).
            task: as for ``probabilities``.

        Returns:
            (n,) of 0 (all say the same) to .5 (half of them are sure of it, half of its opposite).
        """
        return np.asarray(self.probabilities(features, task).std(axis=0).max(axis=-1))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Plain arrays for a file."""
        return {"heads/kernels": self.kernels, "heads/biases": self.biases}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self | None:
        """What ``to_arrays`` gave; ``None`` where there is nothing of it."""
        return cls(arrays["heads/kernels"], arrays["heads/biases"]) if "heads/kernels" in arrays else None
