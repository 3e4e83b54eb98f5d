"""What every part of a training is given, and everything about a training that differs by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import keras
import numpy as np
from matplotlib.figure import Figure

from hounsfield.bundle import Bundle, SourceRange
from hounsfield.cohorts import Cohort, Store
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.plans.base import BasePlan
from hounsfield.progress import Progress
from hounsfield.runs.folder import RunFolder
from hounsfield.testing.base import Raw
from hounsfield.training.fitted import Criterion, Fitted
from hounsfield.training.loop import Trainee
from hounsfield.training.pace import Decisions, TimeLimit

PlanT = TypeVar("PlanT", bound=BasePlan)
StoreT = TypeVar("StoreT", bound=Store)
RawT = TypeVar("RawT", bound=Raw)


@dataclass(frozen=True)
class Job(Generic[PlanT, StoreT]):
    """One training: what was decided, on which images, where it is written, and who is told.

    Attributes:
        folder: the run folder.
        plan: with its pipeline fitted.
        store: the prepared images.
        fingerprint: of the training rows.
        pictures: reference → a number that images of the same picture share.
        intensities: image → mean and standard deviation of its values as read.
        data: DATA and its options, as they stand in a command.
        progress: told of all that takes long.
        deadline: by ``time.monotonic``, where the time is limited.
        done: epochs of its network that were trained before the job was begun, of which no tracker was told.
    """

    folder: RunFolder
    plan: PlanT
    store: StoreT
    fingerprint: Fingerprint
    pictures: Mapping[str, int]
    intensities: Mapping[str, tuple[float, float]]
    data: str
    progress: Progress
    deadline: float | None = None
    done: Sequence[Mapping[str, Any]] = ()

    def origin(self) -> dict[str, Any]:
        """What a bundle keeps of the images that it was trained on, as keyword arguments of its saving."""
        found = self.fingerprint
        return {
            "source_range": SourceRange(
                smallest=found.min_shape,
                largest=found.max_shape,
                channels=tuple(sorted(found.channel_counts)),
                modalities=tuple(sorted(found.modalities)),
                colour=found.num_grey < found.num_readable,
            ),
        }


@dataclass(frozen=True, eq=False)
class Specification(Generic[PlanT, StoreT]):
    """Everything that decides what one network becomes; it can be pickled.

    Attributes:
        plan: with its pipeline fitted.
        store: the prepared images.
        train: (n,) rows of the store that the network is trained on.
        validation: (m,) rows by which its epochs are compared.
        number: of the network in its ensemble, from 0.
        checkpoint: where its state is kept after each epoch.
        decided: what was decided before on the number of its epochs; where anything was, the clock decides nothing.
        limit: of time, where there is one.
    """

    plan: PlanT
    store: StoreT
    train: np.ndarray
    validation: np.ndarray
    number: int = 0
    checkpoint: Path | None = None
    decided: Decisions = ()
    limit: TimeLimit | None = None

    @property
    def seed(self) -> int:
        """Of everything random in this network's training."""
        return self.plan.seed + self.number


@dataclass(frozen=True, eq=False)
class Member(Generic[PlanT, StoreT]):
    """One trained network with its best weights, what it was trained on, and how that went."""

    network: keras.Model
    specification: Specification[PlanT, StoreT]
    fitted: Fitted


@dataclass(frozen=True, eq=False)
class Choice(Generic[RawT]):
    """What was decided on validation rows.

    Attributes:
        bundle: with its threshold, its calibration and what it keeps of uncertainty.
        predictor: which runs the bundle from now on.
        train: raw outcomes of some training rows.
        validation: raw outcomes of the validation rows, each by a network that was not trained on it.
        lines: what was chosen, in words.
    """

    bundle: Bundle
    predictor: Any
    train: RawT
    validation: RawT
    lines: tuple[str, ...] = ()


class GapLimits(NamedTuple):
    """From which figure on training images a network has fitted them, and from which gap on it overfits."""

    learned: float
    notable_gap: float


@dataclass(frozen=True)
class Verdict:
    """Whether the networks overfitted: lines to be read, and facts for the log."""

    lines: tuple[str, ...]
    record: dict[str, Any] = field(default_factory=dict)


def gap_verdict(
    job: Job[Any, Any], name: str, trained: float, validated: float, *, revisited: int, epochs: int, limits: GapLimits
) -> Verdict:
    """Whether a network overfits, by a figure of which more is better, and what to try next.

    Args:
        job: of the training.
        name: of the figure.
        trained: its value on training images.
        validated: its value on validation images.
        revisited: how many training images that were.
        epochs: of the training.
        limits: what is told from chance.
    """
    gap = trained - validated
    figures = f"{name} {trained:.3f} on {revisited} training images and {validated:.3f} in validation"
    lines = [f"Diagnosis: {figures}, gap {gap:+.3f}."]
    command = f"hounsfield train {job.data} --plan {job.folder.plan}"
    if trained < limits.learned:
        lines.append(f"  Try: a longer training: {command} --set epochs={2 * epochs}")
    elif gap > limits.notable_gap:
        lines.append(f"  Try: stronger augmentation, or more images: {command} --set augmentation=strong")
    return Verdict(tuple(lines), {"lines": lines})


class Training(Protocol[PlanT, StoreT]):
    """One entry of ``TRAININGS``: a module with these functions.

    Attributes:
        CRITERION: by which epochs are compared, and trials of a search.
    """

    CRITERION: Criterion

    def check(self, plan: PlanT, cohort: Cohort) -> None:
        """Refuse a plan that does not fit the cohort, before any image is prepared.

        Raises:
            PlanError: it does not fit; the message names the field.
            UsageError: the network cannot be built.
        """

    def build_store(self, plan: PlanT, cohort: Cohort, progress: Progress) -> StoreT:
        """The images after the plan's fitted pipeline.

        Raises:
            PlanError: they do not fit the plan.
            CohortError: too many are unreadable, or those that are left cannot be trained on.
        """

    def rows(self, job: Job[PlanT, StoreT]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Training and validation rows of each network of the ensemble."""

    def num_predicted(self, job: Job[PlanT, StoreT], train: np.ndarray) -> int:
        """How many inputs of the network are predicted after its last epoch.

        Args:
            job: the training.
            train: the rows that it is trained on.
        """

    def build_network(self, plan: PlanT) -> keras.Model:
        """A plain network with the weights that its training starts from."""

    def make_trainee(self, network: keras.Model, specification: Specification[PlanT, StoreT]) -> Trainee:
        """The network in training."""

    def put_weights(self, network: keras.Model, weights: list[np.ndarray]) -> None:
        """Put what the trainee's ``weights`` gave into a plain network."""

    def deploy(self, job: Job[PlanT, StoreT], members: list[Member[PlanT, StoreT]]) -> Bundle:
        """Write the bundle of the trained networks, without its ONNX form."""

    def choose(self, job: Job[PlanT, StoreT], members: list[Member[PlanT, StoreT]], bundle: Bundle) -> Choice[Any]:
        """Run the bundle on training and validation rows, and decide what is decided by them.

        Thresholds, calibration, the limit of the out-of-distribution score, and whether bfloat16 decides the same.
        """

    def diagnose(self, job: Job[PlanT, StoreT], members: list[Member[PlanT, StoreT]], choice: Any) -> Verdict:
        """Whether the networks overfitted, and what to try next."""

    def remarks(self, job: Job[PlanT, StoreT], choice: Any, raw: dict[str, Any], assessed: dict[str, Any]) -> list[str]:
        """What else is to be read of the splits; further files of the run are written here.

        Args:
            job: the training.
            choice: as ``choose`` gave it.
            raw: raw outcomes by split.
            assessed: the assessment by split, as ``TESTS`` gives it.
        """

    def figures(self, job: Job[PlanT, StoreT], bundle: Bundle, raw: Any) -> dict[str, Figure]:
        """Figures of one split, by name, beside those that ``reports.PAGES`` draws."""
