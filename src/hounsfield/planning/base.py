"""What every planner is given, and what it must be able to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.split import FRACTIONS
from hounsfield.plans.architecture import Adapt
from hounsfield.plans.base import BasePlan, Effort

AnyPlan = TypeVar("AnyPlan", bound=BasePlan)


@dataclass(frozen=True)
class Facts:
    """What a planner knows of the data: of the training rows, and of no others, but for ``num_images``.

    Attributes:
        fingerprint: of the training rows.
        truth: what the planner of the family measured of the training rows; ``None`` where the fingerprint is enough.
        num_images: images of all splits; where not given, the training rows are taken to be their usual share.
        seconds: that it took to read the images and to look at them.
    """

    fingerprint: Fingerprint
    truth: Any = None
    num_images: int | None = None
    seconds: float = 0.0

    @property
    def num_prepared(self) -> int:
        """How many images the store keeps: those of all splits."""
        return self.num_images or round(self.fingerprint.num_readable / FRACTIONS[0])


class Start(NamedTuple):
    """What a training starts from: the last three fields of a ``Wish``."""

    weights: str | None = None
    adapt: Adapt | None = None
    licence: str = ""


SCRATCH = Start()


@dataclass(frozen=True)
class Wish:
    """What the user asks of a plan.

    Attributes:
        effort: the recipe to begin with; where not given, standard, or the largest that fits into the minutes.
        minutes: that the training may take in all; those of the effort where not given.
        network: instead of the planner's choice.
        seed: of the training.
        weights: that the training starts from, as ``--weights`` takes them.
        adapt: how these are adapted; the planner's choice where not given.
        licence: of the weights, that the user accepts.
    """

    effort: Effort | None = None
    minutes: float | None = None
    network: str | None = None
    seed: int = 0
    weights: str | None = None
    adapt: Adapt | None = None
    licence: str = ""


class Planner(Protocol[AnyPlan]):
    """Everything about planning that differs by family."""

    def networks(self) -> tuple[str, ...]:
        """The names of the networks that can be trained."""

    def measure(self, train: Cohort, scanned: Scan) -> Any:
        """What the planner must know of the truth of the training rows, as ``Facts.truth``.

        Raises:
            CohortError: there is nothing to train on.
        """

    def make(self, facts: Facts, wish: Wish) -> AnyPlan:
        """Decide everything about a training, with reasons; nothing is trained."""

    def expect(self, plan: AnyPlan, facts: Facts) -> AnyPlan:
        """The plan with the time, memory and disk that it should take on this machine, measured anew."""
