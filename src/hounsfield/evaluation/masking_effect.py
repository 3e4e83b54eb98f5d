"""Does taking something out of the images change the answers? Changes of probability, decision and AUC, with intervals.

A network that needs what was taken out loses AUC, or changes its mind, where it is taken out. What to take out is
decided elsewhere (``inference.interventions``); here are the predictions before and after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.comparison import adjust_p_values
from hounsfield.evaluation.delong import auc_difference, auc_estimate
from hounsfield.evaluation.gaps import mean_interval
from hounsfield.evaluation.group_figures import clusters_of
from hounsfield.evaluation.intervals import Clusters, Interval, make_clusters
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.proportions import clustered_proportion

SIGNIFICANCE = 0.01
LEAST_LOSS = 0.02  # of AUC
LEAST_FLIPPED = 0.05  # of the decisions


@dataclass(frozen=True)
class MaskingEffect:
    """What one intervention did.

    Attributes:
        intervention: its name.
        change: the mean over cases of how far the probabilities moved: half of the sum of their absolute changes in a
            multi-class task, the mean over labels elsewhere; with ``change_low`` and ``change_high``.
        flipped: the share of cases with another decision, with ``flipped_low`` and ``flipped_high``.
        auc: the AUC without what was taken out, a mean over labels where there are several; ``nan`` if undefined.
        auc_change: that AUC minus the one before, with ``auc_change_low`` and ``auc_change_high``.
        p_value: of no change of AUC.
        adjusted: the same after Holm (1979) over the interventions.
    """

    intervention: str
    change: float
    change_low: float
    change_high: float
    flipped: float
    flipped_low: float
    flipped_high: float
    auc: float
    auc_change: float
    auc_change_low: float
    auc_change_high: float
    p_value: float
    adjusted: float = math.nan

    @property
    def matters(self) -> bool:
        """Whether the network relies on what was taken out: AUC is lost, or many decisions change, beyond chance."""
        loses = self.adjusted < SIGNIFICANCE and self.auc_change <= -LEAST_LOSS
        return loses or self.flipped_low >= LEAST_FLIPPED

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is undefined becomes ``None``."""
        plain = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }
        return {**plain, "matters": self.matters}

    def line(self) -> str:
        """The outcome in words."""
        effect = "changes the predictions" if self.matters else "changes little"
        ranked = (
            f"AUC {self.auc:.3f}, {self.auc_change:+.3f} ({self.auc_change_low:+.3f} to {self.auc_change_high:+.3f}); "
            if math.isfinite(self.auc)
            else ""
        )
        return (
            f"{self.intervention} {effect}: {ranked}{100 * self.flipped:.1f} % of predictions change "
            f"({100 * self.flipped_low:.1f} to {100 * self.flipped_high:.1f})."
        )


def masking_effects(
    before: Outcomes,
    after: Mapping[str, Outcomes],
    *,
    groups: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[MaskingEffect, ...]:
    """Compare the answers to changed images with those to the images as they are, case by case.

    The AUC's change is DeLong's (1988), by patient; the probability's has Student's interval by patient; the share of
    changed decisions Wilson's.

    Args:
        before: of n cases as they are.
        after: by intervention, of the same cases in the same order.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        confidence: nominal coverage of each interval.

    Raises:
        EvaluationError: the truths, labels or tasks differ.
    """
    clusters = clusters_of(make_clusters(before.truth, groups).of_case)
    found = [_removal(name, before, answers, clusters, confidence) for name, answers in after.items()]
    adjusted = adjust_p_values({each.intervention: each.p_value for each in found})
    return tuple(replace(each, adjusted=adjusted[each.intervention]) for each in found)


def _removal(name: str, before: Outcomes, after: Outcomes, clusters: Clusters, confidence: float) -> MaskingEffect:
    if (before.labels, before.task) != (after.labels, after.task) or not np.array_equal(before.truth, after.truth):
        raise EvaluationError(
            f"The answers to '{name}' are of other cases or labels than those to the unchanged images; give the same "
            "cases in the same order."
        )
    moved = np.abs(after.scores - before.scores)
    moved = moved.sum(axis=1) / 2 if before.traits.exclusive else moved.mean(axis=1)
    moved_interval = mean_interval(moved, clusters, 0.0, confidence=confidence)
    flipped = (after.decisions != before.decisions).any(axis=1)
    share = clustered_proportion(flipped, np.ones_like(flipped), clusters, confidence=confidence)
    difference = auc_difference(
        before.truth, before.scores, after.scores, clusters, known=before.known, confidence=confidence
    )
    return MaskingEffect(
        name,
        float(moved.mean()),
        *Interval(max(0.0, moved_interval.low), moved_interval.high),
        float(flipped.mean()),
        *share,
        auc_estimate(after.truth, after.scores, clusters, known=after.known)[0],
        difference.value,
        difference.low,
        difference.high,
        difference.p_value,
    )
