"""A finished run as reports read it: what runs of every family have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar
from zipfile import BadZipFile

import pandas as pd
import yaml

from hounsfield.bundle import Bundle
from hounsfield.bundle.about import About
from hounsfield.errors import EvaluationError, PlanError, RunError
from hounsfield.plans import BasePlan
from hounsfield.runs.test_use import TEST_USED, is_sealed

SPLITS = ("train", "validation", "test")
Content = TypeVar("Content")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """A finished run; each family adds its part in a class of its own, found by ``RUNS``.

    Attributes:
        folder: where it lies.
        plan: every decision of the training, with its reason.
        environment: where the data came from, versions, hardware.
        cohort: the table of samples with its splits, without those that could not be read.
        history: one row per epoch and network.
        events: the log.
        metrics: split → metric → value, low, high, n.
        bundle: what is deployed.
        additions: what further commands found, by the keys of ``ADDITIONS``.
        about: what its author says of it.
    """

    folder: Path
    plan: BasePlan
    environment: dict[str, Any]
    cohort: pd.DataFrame
    history: pd.DataFrame
    events: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    bundle: Bundle
    additions: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: About = field(default_factory=About)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The record from the fields above, with what the family reads beside them.

        Raises:
            RunError: a file is damaged or does not fit the others.
        """
        raise NotImplementedError

    @property
    def num_cases(self) -> int:
        """Images of the split that is shown."""
        raise NotImplementedError

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are unknown."""
        raise NotImplementedError

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of its figures must not miss, such as probabilities that are no risks; families add theirs."""
        return ()

    @property
    def prevalence(self) -> float | None:
        """Share of the positive label in the split that is shown; ``None`` where there is no such label."""
        return None

    @property
    def split(self) -> str:
        """The split that the figures of the report are on: test where there is one, else validation."""
        return "test" if "test" in self.metrics else "validation"

    @property
    def testable(self) -> str:
        """The arguments of commands that test this run: with other data where it has no test rows."""
        return "RUN" if self.split == "test" else "RUN DATA"

    @property
    def estimates(self) -> dict[str, Any]:
        """The metrics of the split that is shown."""
        return self.metrics[self.split]

    @property
    def sealed(self) -> bool:
        """Whether the training left its test images alone, and nobody has looked at them since."""
        return is_sealed(self.environment, self.events)

    @property
    def test_uses(self) -> list[dict[str, Any]]:
        """When figures were computed on the test images, and by which command."""
        return [event for event in self.events if event.get("event") == TEST_USED]

    @property
    def num_networks(self) -> int:
        """Networks of the model: as many as the plan's folds, or those that had a whole epoch when interrupted.

        A network and its companion count as one.
        """
        return min(self._num_trained, self._folds)

    @property
    def has_companions(self) -> bool:
        """Whether each network is averaged with one that was trained from scratch beside it."""
        return getattr(self.plan, "companion", None) is not None and self._num_trained == 2 * self._folds

    @property
    def _folds(self) -> int:
        return int(getattr(self.plan, "folds", 1))

    @property
    def _num_trained(self) -> int:
        return int(self.history["member"].nunique()) if "member" in self.history else 1

    @property
    def patients_known(self) -> bool:
        """Whether every image has a patient."""
        return bool(self.cohort["patient"].notna().all())

    @property
    def notes(self) -> list[str]:
        """What was detected, decided or left out while the data was read."""
        # A run that was resumed looked at its data again, and noted the same again.
        return list(dict.fromkeys(str(event["text"]) for event in self.events if event.get("event") == "note"))

    def event(self, *names: str) -> dict[str, Any]:
        """The last event of a name, or of those it had in earlier versions; empty where there was none."""
        return next((event for event in reversed(self.events) if event.get("event") in names), {})

    def rows(self, split: str) -> pd.DataFrame:
        """The samples of a split."""
        return self.cohort[self.cohort["split"] == split]


def read_file(path: Path, reader: Callable[[Path], Content]) -> Content:
    """What a reader makes of a file of the run.

    Raises:
        RunError: the file is missing, damaged or does not fit the others.
    """
    try:
        return reader(path)
    except (OSError, ValueError, TypeError, KeyError, BadZipFile, yaml.YAMLError, EvaluationError, PlanError) as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())}), and the report needs it. "
            "Restore the file from a copy of the run, or train again."
        ) from error
