"""The plan of a regressor."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from hounsfield import pretrained
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.targets.values import numbers
from hounsfield.models import network_names
from hounsfield.planning import whole_images
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.expectations import expected
from hounsfield.plans.augmentation import Augmentation
from hounsfield.plans.decision import Decision
from hounsfield.plans.values import ValuePlan
from hounsfield.tasks import TASKS

# Grades of more unequal frequency than this are balanced in the loss.
EVEN = 1.2
# Changes of an image that change the size of what is in it.
SIZES = dict.fromkeys(("scale", "stretch", "shear", "erase"), 0.0)


def networks() -> tuple[str, ...]:
    """The names of the networks that can be trained."""
    return network_names()


def measure(train: Cohort, scanned: Scan) -> np.ndarray:  # noqa: ARG001 - of the contract
    """The values of the training rows."""
    return numbers(train)


def make(facts: Facts, wish: Wish) -> ValuePlan:
    """Decide everything about the training of a regressor, with reasons; nothing is trained."""
    found = facts.fingerprint

    def complete(shared: dict[str, Decision[Any]]) -> ValuePlan:
        own: dict[str, Decision[Any]] = {
            "task": Decision(found.task, _about(found, facts.truth)),
            "labels": Decision(found.labels, _names(found)),
            "augmentation": _augmentation(shared["augmentation"]),
            "balance_values": _balance(found),
        }
        return ValuePlan.decided(shared | own)

    return whole_images.fitted_plan(facts, wish, found.labels, complete, _network)


def expect(plan: ValuePlan, facts: Facts) -> ValuePlan:
    """The plan with the time, memory and disk that it should take on this machine, measured anew."""
    return expected(plan, _network(plan), facts)


def _network(plan: ValuePlan) -> keras.Model:
    return pretrained.build_network(plan)


def _about(found: Fingerprint, values: np.ndarray) -> str:
    task: Any = found.task
    if TASKS[task].ordered:
        return (
            "one score with a threshold between neighbouring grades (cumulative logits), so that near misses cost less"
        )
    return (
        f"values from {np.min(values):g} to {np.max(values):g}, standardised for training; the Huber loss limits the "
        "influence of outliers"
    )


def _names(found: Fingerprint) -> str:
    task: Any = found.task
    return "the grades in order" if TASKS[task].ordered else "the name of the value"


def _augmentation(decided: Decision[Augmentation]) -> Decision[Augmentation]:
    """Without changes of size, which a value may be a measure of, and without hidden parts."""
    limits = decided.value.model_copy(update=SIZES)
    return Decision(limits, f"{decided.why}; images are not scaled or erased, since the value may depend on size")


def _balance(found: Fingerprint) -> Decision[bool]:
    task: Any = found.task
    if not TASKS[task].ordered:
        why = "values are weighted as they are frequent: rare values would otherwise shift the others"
        return Decision(value=False, why=why)
    counts = [max(count, 1) for count in next(iter(found.balance.values())).values()]
    ratio = max(counts) / min(counts)
    return Decision(ratio > EVEN, f"the most frequent grade has {ratio:.1f} times the images of the rarest")
