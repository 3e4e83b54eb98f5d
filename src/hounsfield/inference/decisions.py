"""From probabilities to labels: the one place where a threshold is applied."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Task
from hounsfield.errors import UsageError


def decide(probabilities: npt.NDArray[Any], task: Task, threshold: float = 0.5) -> npt.NDArray[np.bool_]:
    """Which labels are said of each image.

    Args:
        probabilities: (n, 1) for a binary task, else (n, labels).
        task: a multi-class task takes the largest, the first of equal ones; the others all above the threshold.
        threshold: for binary and multi-label tasks.

    Returns:
        (n, 1) or (n, labels), like the probabilities; exactly one of a multi-class row is true.
    """
    if task == "multi-class":
        return np.asarray(np.arange(probabilities.shape[1]) == np.argmax(probabilities, axis=1)[:, np.newaxis])
    return np.asarray(probabilities > threshold)


def refuse_threshold(task: Task, threshold: float | None) -> None:
    """Refuse a threshold that would decide nothing.

    Raises:
        UsageError: one is given for a multi-class task.
    """
    if threshold is not None and task == "multi-class":
        raise UsageError(
            "A multi-class task has no threshold: its prediction is the most probable label. Leave the threshold out."
        )


def label_text(decision: npt.NDArray[np.bool_], labels: tuple[str, ...], task: Task) -> str:
    """One row of :func:`decide` in words; several labels with ``;`` between them, none as the empty text."""
    if task == "binary":
        return labels[int(decision[0])]
    return ";".join(label for label, said in zip(labels, decision, strict=True) if said)


def by_label(probabilities: npt.NDArray[Any], labels: tuple[str, ...], task: Task) -> dict[str, float]:
    """One row of probabilities with the label of each; a binary task has both labels."""
    if task == "binary":
        positive = float(probabilities[0])
        return {labels[0]: 1.0 - positive, labels[1]: positive}
    return {label: float(value) for label, value in zip(labels, probabilities, strict=True)}
