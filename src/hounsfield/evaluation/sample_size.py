"""How many patients a test needs: for an interval of a wanted width, or to show a gap between groups."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.proportions import wilson_interval

MOST = 10_000_000


def cases_for_proportion(value: float, width: float, *, confidence: float = 0.95) -> int:
    """The fewest cases of a kind whose Wilson interval of a share is not wider than ``width``.

    Args:
        value: the share that is expected, such as a sensitivity of .9.
        width: of the whole interval.
        confidence: nominal coverage.

    Raises:
        EvaluationError: a number is out of range, or more than ten million cases would be needed.
    """
    _check_share(value, "expected share", closed=True)
    _check_share(width, "width")

    def wide(count: int) -> bool:
        low, high = wilson_interval(value * count, count, confidence=confidence)
        return high - low > width

    return _fewest(wide)


def patients_for_auc(value: float, width: float, prevalence: float, *, confidence: float = 0.95) -> int:
    """The fewest patients whose interval of an AUC is not wider than ``width``.

    The standard error of Hanley and McNeil (1982) with the exponential model, on the logit scale.

    Args:
        value: the AUC that is expected.
        width: of the whole interval.
        prevalence: share of the patients with the label.
        confidence: nominal coverage.

    Raises:
        EvaluationError: a number is out of range, or more than ten million patients would be needed.
    """
    for number, name in ((value, "AUC"), (width, "width"), (prevalence, "prevalence")):
        _check_share(number, name)
    z = float(stats.norm.ppf((1 + confidence) / 2))
    first, second = value / (2 - value), 2 * value**2 / (1 + value)

    def wide(count: int) -> bool:
        positives, negatives = prevalence * count, (1 - prevalence) * count
        if min(positives, negatives) < 2:
            return True
        spread = value * (1 - value) + (positives - 1) * (first - value**2) + (negatives - 1) * (second - value**2)
        half = z * math.sqrt(spread / (positives * negatives)) / (value * (1 - value))
        centre = math.log(value / (1 - value))
        low, high = (1 / (1 + math.exp(-end)) for end in (centre - half, centre + half))
        return high - low > width

    return _fewest(wide)


def cases_for_gap(
    value: float, gap: float, share: float, *, significance: float = 0.05, power: float = 0.8, comparisons: int = 1
) -> int:
    """Cases of a kind, inside and outside a group together, that show a gap of a share between the two.

    The test of two proportions with unequal groups (Fleiss, Levin, Paik 2003, "Statistical methods for rates and
    proportions", formula 4.17, without continuity correction); of several comparisons each is tested at its part of
    the significance (Bonferroni), which Holm's adjustment never falls short of.

    Args:
        value: the share among the other cases, such as a sensitivity of .9.
        gap: by how much it is lower in the group.
        share: of the cases that belong to the group.
        significance: two-sided, of all comparisons together.
        power: the chance to show the gap.
        comparisons: how many are tested together.

    Raises:
        EvaluationError: a number is out of range.
    """
    for number, name in ((value, "expected share"), (gap, "gap"), (share, "share of the group"), (power, "power")):
        _check_share(number, name, closed=name == "expected share")
    if gap > value:
        raise EvaluationError(
            f"The gap is {gap:g} and the expected share {value:g}: the group's share would be below 0. Give a smaller "
            "gap."
        )
    lower = value - gap
    pooled = share * lower + (1 - share) * value
    sure = float(stats.norm.ppf(1 - significance / max(comparisons, 1) / 2))
    chance = float(stats.norm.ppf(power))
    null = sure * math.sqrt(pooled * (1 - pooled) / (share * (1 - share)))
    other = chance * math.sqrt(lower * (1 - lower) / share + value * (1 - value) / (1 - share))
    return math.ceil(((null + other) / gap) ** 2)


def for_clusters(cases: int, per_patient: float, correlation: float) -> tuple[int, int]:
    """Images and patients that are worth so many independent cases.

    Args:
        cases: independent cases that are needed.
        per_patient: images of a patient.
        correlation: of two images of one patient (intraclass correlation), from 0 to 1.

    Returns:
        Images and patients: the design effect 1 + (m − 1) ρ of Donner and Klar (2000).

    Raises:
        EvaluationError: fewer than one image a patient, or no correlation.
    """
    if per_patient < 1 or not 0 <= correlation <= 1:
        raise EvaluationError(
            f"{per_patient:g} images a patient with a correlation of {correlation:g}: expected at least 1, and a "
            "number from 0 to 1."
        )
    images = math.ceil(cases * (1 + (per_patient - 1) * correlation))
    return images, math.ceil(images / per_patient)


def _fewest(wide: Callable[[int], bool]) -> int:
    """The smallest number for which the interval is narrow enough; width falls with the number."""
    high = 2
    while wide(high):
        high *= 2
        if high > MOST:
            raise EvaluationError("More than ten million patients would be needed. Allow a wider interval.")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high


def _check_share(value: float, name: str, *, closed: bool = False) -> None:
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        ends = "from 0 to 1" if closed else "strictly between 0 and 1"
        raise EvaluationError(f"The {name} is {value:g}; expected a number {ends}.")
