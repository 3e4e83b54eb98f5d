"""What each remedy against overfitting brought: a training without it, beside the one with all."""

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

# Measured beside each other; the log loss decides, since it needs no threshold and feels overconfidence.
FIGURES = ("log_loss", "auc")
UNKNOWN_PATIENTS = (
    "Patients are unknown, so validation images may be of patients in the training images: that favours a network that "
    "memorises, and says little for or against a measure."
)


@dataclass(frozen=True)
class Bought:
    """One remedy, and how the figures change without it.

    Attributes:
        remedy: its name, with its strength.
        without: figure → its value in the training without the remedy.
        changes: figure → without the remedy less with it, on the same images.
    """

    remedy: str
    without: dict[str, float]
    changes: dict[str, Difference]

    @property
    def verdict(self) -> str:
        """Whether the remedy helped or cost, by the interval of the change of the log loss."""
        change = self.changes["log_loss"]
        if change.low > 0:
            return "it helped here"
        return "it cost here" if change.high < 0 else "no difference beyond chance"


@dataclass(frozen=True)
class Ablation:
    """What the remedies of one plan brought, on validation images.

    Attributes:
        planned: figure → its value in the training as planned.
        bought: one for each remedy.
        cases: validation images.
        patients: their patients; ``None`` where unknown.
    """

    planned: dict[str, float]
    bought: tuple[Bought, ...]
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
        bought = []
        for remedy, answers in without.items():
            found = compare(planned, answers, groups=groups, num_replicates=num_replicates, seed=seed)
            bought.append(Bought(remedy, _figures(answers), {name: found[name] for name in FIGURES}))
        patients = None if groups is None else len(np.unique(np.asarray(groups).astype(str)))
        return cls(_figures(planned), tuple(bought), len(planned), patients)

    def lines(self) -> list[str]:
        """The outcome in words, one line per measure against overfitting."""
        of = "" if self.patients is None else f" of {self.patients:,} patients"
        planned = f"log loss {self.planned['log_loss']:.3f}, AUC {self.planned['auc']:.3f}"
        return [
            f"On {self.cases:,} validation images{of}, as planned: {planned}.",
            *(_line(each) for each in self.bought),
            "One training each: the intervals are over patients; another seed would change the figures too.",
            *([UNKNOWN_PATIENTS] if self.patients is None else []),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the lines in words."""
        plain = asdict(self)
        for each, kept in zip(self.bought, plain["bought"], strict=True):
            kept["changes"] = {name: change._asdict() for name, change in each.changes.items()}
            kept["verdict"] = each.verdict
        return plain | {"lines": self.lines()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_dict`` gave.

        Raises:
            KeyError, TypeError: something is missing.
        """
        bought = tuple(
            Bought(
                each["remedy"],
                dict(each["without"]),
                {name: Difference(**change) for name, change in each["changes"].items()},
            )
            for each in values["bought"]
        )
        return cls(dict(values["planned"]), bought, values["cases"], values["patients"])


def _figures(answers: Outcomes) -> dict[str, float]:
    tally = Tally(answers, np.ones((len(answers), 1)))
    return {name: float(headline(METRICS[name].compute(tally))[0]) for name in FIGURES}


def _line(bought: Bought) -> str:
    told = ", ".join(
        f"{title} {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        for title, change in (("log loss", bought.changes["log_loss"]), ("AUC", bought.changes["auc"]))
    )
    return f"Without {bought.remedy}: {told}; {bought.verdict}."
