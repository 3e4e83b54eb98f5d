"""The plan of a regressor, for values or for grades in order."""

from __future__ import annotations

from hounsfield.plans.whole_images import WholeImagePlan
from hounsfield.tasks import ValueTask


class ValuePlan(WholeImagePlan):
    """Every decision of a regressor's training, beside those of ``WholeImagePlan``.

    Attributes:
        task: "regression" or "ordinal".
        labels: of regression the name of the value; the grades in order otherwise.
        balance_values: weight rows so that each grade, or each tenth of the range of values, has the same weight in the
            loss, as far as it has enough images.
    """

    task: ValueTask
    balance_values: bool
