"""What is told of an image: the tasks, what each asks of a network, and how its outputs become decisions.

A family is one kind of truth (labels, values, boxes, masks); what differs by family is one entry in each room's table.
A task is how the truth of a family is put. This module is the only one that knows what a task's name means.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.errors import UsageError

# Of a network's input: values along an axis, and in all. A file that is damaged or made up may state any number.
MAX_LENGTH = 2**16
MAX_VALUES = 2**31
Family = Literal["labels", "values", "boxes", "masks"]
LabelTask = Literal["binary", "multi-class", "multi-label"]
ValueTask = Literal["regression", "ordinal"]
Task = Literal["binary", "multi-class", "multi-label", "regression", "ordinal", "detection", "segmentation"]
Activation = Literal["sigmoid", "softmax", "linear"]
# Above which a label is predicted: one for all, or one for each output.
Threshold = float | tuple[float, ...]


@dataclass(frozen=True)
class Traits:
    """What a task asks of a network.

    Attributes:
        family: the kind of truth.
        activation: of the network's last layer.
        least: labels that it has at least.
        most: labels that it has at most; ``None`` for any number.
        paired: two labels share one output, the probability of the second, positive one.
        exclusive: exactly one label holds, the most probable one is predicted, and there is no threshold.
        multi_label: an image may have several labels, or none.
        ordered: the labels are grades in order, and output k is the probability of a grade above the k-th.
    """

    family: Family
    activation: Activation
    least: int = 1
    most: int | None = None
    paired: bool = False
    exclusive: bool = False
    multi_label: bool = False
    ordered: bool = False


TASKS: dict[Task, Traits] = {
    "binary": Traits("labels", "sigmoid", 2, 2, paired=True),
    "multi-class": Traits("labels", "softmax", 2, exclusive=True),
    "multi-label": Traits("labels", "sigmoid", multi_label=True),
    "regression": Traits("values", "linear", 1, 1),
    "ordinal": Traits("values", "sigmoid", 2, ordered=True),
    "detection": Traits("boxes", "sigmoid", multi_label=True),
    "segmentation": Traits("masks", "linear", multi_label=True),
}


# Several labels of one image stand in one text, with this between them.
SEPARATOR = ";"
# What a model of a family is called in messages.
MODEL_NAMES: dict[Family, str] = {
    "labels": "classifier",
    "values": "regressor",
    "boxes": "detector",
    "masks": "segmenter",
}


def known_task(name: str) -> Task:
    """A task of the table, for validators of files.

    Raises:
        ValueError: there is none of this name.
    """
    for task in TASKS:
        if task == name:
            return task
    raise ValueError(f"the task must be one of {', '.join(TASKS)}")


def family_of(task: Task) -> Family:
    """The kind of truth of a task."""
    return TASKS[task].family


def questions(labels: Sequence[str], task: Task) -> tuple[str, ...]:
    """The labels that the network's outputs speak of, in their order: of a binary task the positive one alone.

    Of grades in order those above the lowest, each as the probability of that grade or a higher one.
    """
    return tuple(labels[1:] if TASKS[task].paired or TASKS[task].ordered else labels)


def num_outputs(num_labels: int, task: Task) -> int:
    """How many numbers the network puts out for one image."""
    return num_labels - (TASKS[task].paired or TASKS[task].ordered)


def label_kind(task: Task) -> LabelTask:
    """The task of labels that has the traits of a task, for what is looked up by task."""
    traits = TASKS[task]
    return "binary" if traits.paired else "multi-class" if traits.exclusive else "multi-label"


def num_labels(num_outputs: int, task: Task) -> int:
    """How many labels so many numbers speak of: the inverse of :func:`num_outputs`."""
    return num_outputs + (TASKS[task].paired or TASKS[task].ordered)


def fits_labels(count: int, task: Task) -> bool:
    """Whether a task can have so many labels."""
    least, most = TASKS[task].least, TASKS[task].most
    return least <= count and (most is None or count <= most)


def expected_labels(task: Task) -> str:
    """How many labels a task has, for messages."""
    least, most = TASKS[task].least, TASKS[task].most
    words = {1: "one label", 2: "two labels"}[least]
    return words if most == least else f"{words} or more"


def decide(probabilities: npt.NDArray[Any], task: LabelTask, threshold: Threshold = 0.5) -> npt.NDArray[np.bool_]:
    """The decision on each output; the one place where a threshold is applied.

    Args:
        probabilities: (n, 1) for a binary task, else (n, labels).
        task: a multi-class task takes the largest, the first of equal ones; the others all above the threshold.
        threshold: for tasks that have one; of a multi-label task also one for each label.

    Returns:
        (n, 1) or (n, labels), like the probabilities; exactly one of a multi-class row is true.
    """
    if TASKS[task].exclusive:
        return np.asarray(np.arange(probabilities.shape[1]) == np.argmax(probabilities, axis=1)[:, np.newaxis])
    return np.asarray(probabilities > np.asarray(threshold))


def refuse_threshold(task: Task, threshold: float | None) -> None:
    """Refuse a threshold that would decide nothing.

    Raises:
        UsageError: one is given for a task that has none.
    """
    if threshold is not None and TASKS[task].exclusive:
        raise UsageError(
            f"A {task} task has no threshold: its prediction is the most probable label. Leave the threshold out."
        )


def thresholds(threshold: Threshold, labels: Sequence[str], task: Task) -> dict[str, float]:
    """The threshold of each output, by the label that it speaks of; empty where the most probable label is taken."""
    if TASKS[task].exclusive:
        return {}
    asked = questions(labels, task)
    return dict(zip(asked, threshold if isinstance(threshold, tuple) else [threshold] * len(asked), strict=True))


def threshold_text(threshold: Threshold, labels: Sequence[str], digits: int = 3) -> str:
    """A threshold for people; where each label has its own, with their names."""
    if not isinstance(threshold, tuple):
        return f"{threshold:.{digits}g}"
    return ", ".join(f"{label} {each:.{digits}g}" for label, each in zip(labels, threshold, strict=True))


def label_text(decision: npt.NDArray[np.bool_], labels: Sequence[str], task: LabelTask) -> str:
    """One row of :func:`decide` in words; several labels with ``;`` between them, none as the empty text."""
    if TASKS[task].paired:
        return labels[int(decision[0])]
    return SEPARATOR.join(label for label, holds in zip(labels, decision, strict=True) if holds)


def labels_in(text: str, task: Task) -> list[str]:
    """The labels that a text of :func:`label_text` names."""
    return [part for part in text.split(SEPARATOR) if part] if TASKS[task].multi_label else [text]


def for_each_label(probabilities: npt.NDArray[Any], task: Task) -> npt.NDArray[Any]:
    """Probabilities (n, outputs) as (n, labels): those of a binary task gain the negative label, in front."""
    return np.concatenate([1 - probabilities, probabilities], axis=1) if TASKS[task].paired else probabilities


def by_label(probabilities: npt.NDArray[Any], labels: Sequence[str], task: LabelTask) -> dict[str, float]:
    """One row of probabilities with the label of each; a binary task has both labels."""
    if TASKS[task].paired:
        positive = float(probabilities[0])
        return {labels[0]: 1.0 - positive, labels[1]: positive}
    return {label: float(value) for label, value in zip(labels, probabilities, strict=True)}


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An input shape that a network can have, each length and all of them together.

    Raises:
        ValueError: a length is below 1 or above ``MAX_LENGTH``, or there are more than ``MAX_VALUES`` values.
    """
    if not all(1 <= length <= MAX_LENGTH for length in shape) or math.prod(shape) > MAX_VALUES:
        raise ValueError(f"each length must be from 1 to {MAX_LENGTH:,}, and their product at most {MAX_VALUES:,}")
    return shape


def check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels that can be told apart.

    Raises:
        ValueError: one occurs twice.
    """
    if twice := sorted(label for label, count in Counter(labels).items() if count > 1):
        raise ValueError(f"each label may stand once, and {', '.join(map(repr, twice[:5]))} stands twice")
    return labels
