"""The plan of a classifier."""

from __future__ import annotations

from typing import Any

import keras

from hounsfield import pretrained
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.models import network_names
from hounsfield.planning import whole_images
from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.expectations import expected
from hounsfield.plans.decision import Decision
from hounsfield.plans.labels import Plan
from hounsfield.tasks import TASKS, LabelTask

# Labels of more unequal frequency than this are balanced in the loss.
EVEN = 1.2


def networks() -> tuple[str, ...]:
    """The names of the networks that can be trained."""
    return network_names()


def measure(train: Cohort, scanned: Scan) -> None:
    """Nothing: the fingerprint counts the labels."""


def make(facts: Facts, wish: Wish) -> Plan:
    """Decide everything about the training of a classifier, with reasons; nothing is trained."""
    found = facts.fingerprint
    balanced = _balance(found)
    own: dict[str, Decision[Any]] = {
        "task": Decision(found.task),
        "labels": Decision(found.labels, "class order everywhere; in a binary task the second is the positive one"),
        "label_smoothing": Decision(
            0.05, "labels of images contain errors, and overconfident networks generalise worse across scanners"
        ),
        "balance_classes": balanced,
        "threshold": _threshold(found, balanced=balanced.value),
        "label_thresholds": _label_thresholds(found),
    }
    return whole_images.fitted_plan(facts, wish, found.labels, lambda shared: Plan.decided(shared | own), _network)


def expect(plan: Plan, facts: Facts) -> Plan:
    """The plan with the time, memory and disk that it should take on this machine, measured anew."""
    return expected(plan, _network(plan), facts)


def _network(plan: Plan) -> keras.Model:
    return pretrained.build_network(plan)


def _traits(found: Fingerprint) -> Any:
    task: LabelTask = found.task  # type: ignore[assignment]  # a fingerprint is of a cohort with this kind of truth
    return TASKS[task]


def _balance(found: Fingerprint) -> Decision[bool]:
    if _traits(found).multi_label:
        return _balance_of_each(found)
    counts = [max(count, 1) for count in next(iter(found.balance.values())).values()]
    ratio = max(counts) / min(counts)
    return Decision(ratio > EVEN, f"the most frequent label has {ratio:.1f} times the images of the rarest")


def _balance_of_each(found: Fingerprint) -> Decision[bool]:
    """Whether images with and without each label are weighed alike, in a multi-label task."""
    counts = next(iter(found.balance.values()))
    total = found.num_samples or found.num_images
    shares = {label: min(max(count / total, 1e-9), 1 - 1e-9) for label, count in counts.items()}
    label = max(shares, key=lambda each: abs(shares[each] - 0.5))
    ratio = max(shares[label], 1 - shares[label]) / min(shares[label], 1 - shares[label])
    why = f"'{label}' is on {counts[label]:,} of {total:,} images"
    if ratio <= EVEN:
        return Decision(value=False, why=f"every label is on about half of the images: {why}")
    return Decision(value=True, why=f"{why}: those with and those without a label weigh the same, label by label")


def _label_thresholds(found: Fingerprint) -> Decision[bool]:
    if not _traits(found).multi_label:
        return Decision(value=False, why="not used: one decision is made for each image")
    why = "each label gets its own threshold on validation images, where it is clearly better than the one above"
    return Decision(value=True, why=why)


def _threshold(found: Fingerprint, *, balanced: bool) -> Decision[float]:
    traits = _traits(found)
    if traits.exclusive:
        why = "not used: the most probable label is predicted"
    elif traits.multi_label:
        why = "each label is decided on its own" + (
            "; balanced in the loss, so .5 treats both kinds of error alike"
            if balanced
            else ": predicted where it is more probable than not"
        )
    else:
        frequent = "classes are balanced in the loss" if balanced else "both labels are about as frequent"
        why = f"{frequent}, so .5 treats both kinds of error alike"
    return Decision(0.5, why)
