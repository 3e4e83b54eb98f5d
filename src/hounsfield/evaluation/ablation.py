"""What each measure against overfitting contributes: a training without it, beside the one with all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hounsfield.evaluation.comparison import compare
from hounsfield.evaluation.delong import Difference
from hounsfield.evaluation.metrics import METRICS, Tally, headline
from hounsfield.evaluation.outcomes import Outcomes

# The log loss decides, since it needs no threshold and is sensitive to overconfidence.
FIGURES = ("log_loss", "auc")
UNKNOWN_PATIENTS = (
    "Patients are unknown, so validation images may be of patients in the training images: that favours a network that "
    "memorises, and says little for or against a measure."
)


@dataclass(frozen=True)
class Contribution:
    """One measure against overfitting, and how the figures change without it.

    Attributes:
        remedy: its name, with its strength.
        without: metric → its value in the training without the measure.
        changes: metric → without the measure minus with it, on the same images.
    """

    remedy: str
    without: dict[str, float]
    changes: dict[str, Difference]

    @property
    def verdict(self) -> str:
        """Whether the measure helped or harmed, by the interval of the change of the log loss."""
        change = self.changes["log_loss"]
        if change.low > 0:
            return "it helped"
        return "it harmed" if change.high < 0 else "no difference beyond chance"


@dataclass(frozen=True)
class Ablation:
    """What the measures against overfitting of one plan contributed, on validation images.

    Attributes:
        planned: metric → its value in the training as planned.
        contributions: one for each measure.
        cases: validation images.
        patients: their patients; ``None`` where unknown.
    """

    planned: dict[str, float]
    contributions: tuple[Contribution, ...]
    cases: int
    patients: int | None

    @classmethod
    def of(
        cls,
        planned: Outcomes,
        without: Mapping[str, Outcomes],
        *,
        groups: npt.ArrayLike | None = None,
        num_replicates: int = 2000,
        seed: int = 0,
    ) -> Self:
        """Compare answers on the same cases, in the same order.

        Args:
            planned: of the training with all remedies.
            without: remedy → answers of the training without it.
            groups: (n,) patient of each case.
            num_replicates: bootstrap replicates.
            seed: of the bootstrap.

        Raises:
            EvaluationError: the truths, labels or tasks differ.
        """
        contributions = []
        for remedy, answers in without.items():
            found = compare(planned, answers, groups=groups, num_replicates=num_replicates, seed=seed)
            contributions.append(Contribution(remedy, _figures(answers), {name: found[name] for name in FIGURES}))
        patients = None if groups is None else len(np.unique(np.asarray(groups).astype(str)))
        return cls(_figures(planned), tuple(contributions), len(planned), patients)

    def lines(self) -> list[str]:
        """The outcome in words, one line per measure against overfitting."""
        of = "" if self.patients is None else f" of {self.patients:,} patients"
        planned = f"log loss {self.planned['log_loss']:.3f}, AUC {self.planned['auc']:.3f}"
        return [
            f"On {self.cases:,} validation images{of}, as planned: {planned}.",
            *(_line(each) for each in self.contributions),
            "One training each: the intervals are over patients; another seed would change the figures too.",
            *([UNKNOWN_PATIENTS] if self.patients is None else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the lines in words."""
        plain = asdict(self)
        for each, kept in zip(self.contributions, plain["contributions"], strict=True):
            kept["changes"] = {name: change._asdict() for name, change in each.changes.items()}
            kept["verdict"] = each.verdict
        return plain | {"lines": self.lines()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            KeyError, TypeError: something is missing.
        """
        contributions = tuple(
            Contribution(
                each["remedy"],
                dict(each["without"]),
                {name: Difference(**change) for name, change in each["changes"].items()},
            )
            # Earlier versions had another name for them.
            for each in values.get("contributions", values.get("bought", ()))
        )
        return cls(dict(values["planned"]), contributions, values["cases"], values["patients"])


def _figures(answers: Outcomes) -> dict[str, float]:
    tally = Tally(answers, np.ones((len(answers), 1)))
    return {name: float(headline(METRICS[name].compute(tally))[0]) for name in FIGURES}


def _line(one: Contribution) -> str:
    told = ", ".join(
        f"{title} {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        for title, change in (("log loss", one.changes["log_loss"]), ("AUC", one.changes["auc"]))
    )
    return f"Without {one.remedy}: {told}; {one.verdict}."
