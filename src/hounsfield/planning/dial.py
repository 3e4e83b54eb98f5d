"""Time as a dial: the largest recipe that leaves time for enough passes, and what was given up for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

from hounsfield.planning.base import Facts, Wish
from hounsfield.planning.recipes import Budget, Less, Rounded
from hounsfield.planning.speed import Speed
from hounsfield.plans.base import EFFORT_MINUTES, BasePlan, Effort

# Fewer images than this share of those that a recipe wants to show its network make a smaller recipe the better one.
ENOUGH = 0.5
# With fewer passes than this, an epoch is a part of the training rows.
FEWEST_EPOCHS = 6
# Of the time, the part that is for training even if all else takes long; with less, nothing would be learned.
LEAST_PART = 0.25
# The pace of the training decides how many epochs fit; the plan leaves room for a machine that is so much faster.
ROOM = 2
# Seconds for what comes before and after the epochs, and for what is compiled for each network; and shares of the time
# that reading the images took, since they are also prepared.
START_AND_END, COMPILING, PREPARING = 15.0, 5.0, 1.5
# Without an effort, those are tried whose own time is at most so many times the one that is asked for.
OVERREACH = 8


BudgetT = TypeVar("BudgetT", bound=Budget)
AnyPlan = TypeVar("AnyPlan", bound=BasePlan)


@dataclass(frozen=True)
class Rung(Generic[BudgetT]):
    """One recipe; later rungs of a ladder take less time for an image."""

    effort: Effort
    budget: BudgetT


@dataclass(frozen=True)
class Passes:
    """How long a network is trained.

    Attributes:
        epochs: at most.
        epoch_images: images of an epoch; ``None`` for all rows.
        images: of which there is time for about so many, all epochs together.
        why: in words.
    """

    epochs: int
    epoch_images: int | None
    images: float
    why: str


@dataclass(frozen=True)
class Timing:
    """What a training takes on this machine, within a factor of two.

    Attributes:
        image: seconds for each training image in each epoch, by all networks, validation included.
        fixed: seconds for all else.
    """

    image: float
    fixed: float

    @classmethod
    def of(cls, image: float, speed: Speed, facts: Facts, *, num_networks: int = 1, after: float = 0.0) -> Timing:
        """What a training takes on a machine of this speed.

        Args:
            image: seconds for each training image in each epoch, by all networks.
            speed: as measured.
            facts: of the training rows.
            num_networks: that are trained.
            after: seconds for validations and predictions.
        """
        compiling = (START_AND_END + COMPILING * num_networks) * speed.slowness
        return cls(image, compiling + PREPARING * facts.seconds + after)

    def images_within(self, seconds: float) -> float:
        """How many images there is time for, all epochs together."""
        return max(LEAST_PART * seconds, seconds - self.fixed) / self.image

    def seconds(self, plan: BasePlan, num_rows: float) -> float:
        """What the training of a plan on so many rows takes, no longer than its limit allows."""
        images = plan.epochs * min(num_rows, plan.epoch_images or num_rows)
        if plan.minutes is not None:
            images = min(images, self.images_within(60 * plan.minutes))
        return self.fixed + self.image * images


def efforts_from(wish: Wish) -> tuple[Effort, ...]:
    """The efforts whose recipes may be taken, the largest first."""
    known: tuple[Effort, ...] = tuple(reversed(get_args(Effort)))
    if wish.effort is None and wish.minutes is not None:
        return tuple(each for each in known[:-1] if EFFORT_MINUTES[each] <= OVERREACH * wish.minutes) + known[-1:]
    return known[known.index(wish.effort or "standard") :]


def ladder(
    wish: Wish, budgets: Mapping[Effort, BudgetT], smaller: Mapping[Effort, Sequence[Less]], rounded: Rounded
) -> list[Rung[BudgetT]]:
    """The recipes that may be taken, from the largest to the smallest.

    Args:
        wish: of the user.
        budgets: of each effort.
        smaller: what each effort gives up, step by step, until the time is enough.
        rounded: the size that is taken for a smaller one.
    """
    return [
        Rung(effort, budgets[effort].reduced(less, rounded))
        for effort in efforts_from(wish)
        for less in (Less(), *smaller[effort])
    ]


def fit_to_time(
    rungs: Sequence[Rung[BudgetT]],
    make: Callable[[Rung[BudgetT], Passes | None], AnyPlan],
    time_of: Callable[[AnyPlan], Timing],
    facts: Facts,
    wish: Wish,
) -> AnyPlan:
    """The plan of the first rung whose training leaves time for enough images; its epochs are those that may fit.

    Args:
        rungs: from the largest recipe to the smallest.
        make: the plan of a rung, with its own passes or with the given ones.
        time_of: what a plan takes.
        facts: of the training rows.
        wish: of the user.
    """
    rank, num_rows = facts.fingerprint.rank, facts.fingerprint.num_readable
    minutes = wish.minutes or EFFORT_MINUTES[rungs[0].effort]
    ideal = make(rungs[0], None)
    tried: dict[int, tuple[AnyPlan, float, float]] = {}

    def attempt(number: int) -> bool:
        plan = ideal if number == 0 else make(rungs[number], None)
        wanted = plan.epochs * num_rows
        tried[number] = plan, time_of(plan).images_within(60 * minutes), wanted
        return tried[number][1] >= ENOUGH * min(wanted, rungs[number].budget.images[rank])

    number = 0
    if not attempt(0):
        # The first one that fits, by bisection: each attempt builds a network.
        low, number = 0, len(rungs) - 1
        while number - low > 1:
            middle = (low + number) // 2
            low, number = (low, middle) if attempt(middle) else (middle, number)
        if number not in tried:
            attempt(number)
    plan, images, wanted = tried[number]
    if images < wanted:
        plan = make(rungs[number], _passes(plan, images, num_rows, minutes))
    return _explained(plan, ideal, wish, minutes)


def _passes(plan: BasePlan, images: float, num_rows: int, minutes: float) -> Passes:
    """As many passes as there may be time for, where all that are wanted take too long."""
    wanted = plan.reasons.get("epochs", f"{plan.epochs} passes")
    limit = f"{minutes:g} min"
    if images >= FEWEST_EPOCHS * num_rows:
        fitting = images / num_rows
        why = f"{wanted}; about {fitting:.0f} passes fit into {limit} here, and the measured pace decides"
        return Passes(min(plan.epochs, math.ceil(ROOM * fitting)), None, images, why)
    part = max(math.ceil(images / FEWEST_EPOCHS), plan.batch_size)
    if part >= num_rows:
        why = f"{wanted}; not even one pass may fit into {limit} here: the measured pace decides"
        return Passes(min(plan.epochs, FEWEST_EPOCHS), None, images, why)
    why = (
        f"{wanted}; about {images:,.0f} images fit into {limit} here, so an epoch shows {part:,} of them; the measured "
        "pace decides how many epochs there are"
    )
    return Passes(ROOM * FEWEST_EPOCHS, part, images, why)


def _explained(plan: AnyPlan, ideal: AnyPlan, wish: Wish, minutes: float) -> AnyPlan:
    """The plan with its limit of time, and with what was given up for it."""
    given_up = "; ".join(_differences(ideal, plan))
    source = "asked for" if wish.minutes else f"what effort {ideal.effort} may take"
    why = source + (f"; to fit: {given_up}" if given_up else "; nothing has to be given up for it")
    if wish.effort is None and wish.minutes is not None:
        effort = f"the largest that fits into {minutes:g} min on this machine"
    else:
        effort = "asked for" if wish.effort else "the default"
    reasons = {"minutes": why, "effort": f"{effort}: the dial from which the rest follows"}
    asked: dict[str, Any] = {"effort": wish.effort} if wish.effort else {}
    return plan.model_copy(update={"minutes": minutes, "reasons": plan.reasons | reasons} | asked)


def _differences(ideal: BasePlan, plan: BasePlan) -> list[str]:
    """What the plan has less of than the ideal one."""
    found = []
    if (folds := getattr(ideal, "folds", 1)) > getattr(plan, "folds", 1):
        found.append(f"{getattr(plan, 'folds', 1)} instead of {folds} networks")
    if ideal.input_shape != plan.input_shape:
        sizes = ("×".join(map(str, each.input_shape[:-1])) for each in (plan, ideal))
        found.append(" instead of ".join(sizes) + " pixels")
    if ideal.network != plan.network:
        found.append(f"{plan.network} instead of {ideal.network}")
    if ideal.width and plan.width and plan.width < ideal.width:
        found.append(f"{plan.width} instead of {ideal.width} channels in the first stage")
    if plan.epoch_images:
        found.append(f"epochs of {plan.epoch_images:,} images")
    elif plan.epochs < ideal.epochs:
        found.append(f"at most {plan.epochs} instead of {ideal.epochs} epochs")
    return found
