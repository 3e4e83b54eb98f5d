"""What every family says about the truth of a cohort: the one contract behind ``cohorts.TARGETS``."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.finding import Finding
from hounsfield.cohorts.masks import Masks
from hounsfield.tasks import Task


class Samples(Protocol):
    """What a family reads of a cohort; see ``Cohort`` for the attributes."""

    @property
    def table(self) -> pd.DataFrame:
        """One row per sample."""

    @property
    def task(self) -> Task:
        """What is predicted."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In class order."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def box_table(self) -> pd.DataFrame | None:
        """One row per box, where the truth is boxes."""

    @property
    def masks(self) -> Masks | None:
        """Where the masks come from, where the truth is masks."""

    def rows(self, split: str) -> npt.NDArray[np.int64]:
        """The row numbers of one split."""


class Targets(Protocol):
    """The truth of one family."""

    def check(self, samples: Samples) -> None:
        """Refuse truth that does not fit the task and the labels.

        Raises:
            CohortError: the message says what does not fit.
        """

    def targets(self, samples: Samples) -> npt.NDArray[np.float32]:
        """What a network should output for each row, float32 (rows, outputs)."""

    def strata(self, samples: Samples) -> npt.NDArray[np.int64]:
        """(rows, strata): how often each row counts in each stratum of splits and folds."""

    def check_trainable(self, samples: Samples) -> None:
        """Look whether training and validation rows hold all that a network must learn.

        Raises:
            CohortError: something has no row.
        """

    def truths(self, samples: Samples) -> list[Hashable | None]:
        """A value for each row, equal for rows with the same truth; ``None`` for a row without any."""

    def questions(self, samples: Samples, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str | None, pd.Series[Any]]]:
        """Each question that the truth answers, with the answer of the given rows as text.

        The question is ``None`` where one covers the whole truth, and otherwise the label that it asks about.
        """

    def balance(self, samples: Samples) -> dict[str, dict[str, int]]:
        """Split → label → rows; rows without a split are under ``unassigned``."""

    def trained_labels(self, samples: Samples) -> list[str]:
        """The labels that some training row has, in class order."""

    def findings(self, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:
        """What an audit finds in the truth itself.

        Args:
            samples: the cohort.
            shapes: the spatial shape of each row's image; empty where it could not be read.
        """

    def subset(self, samples: Samples, table: pd.DataFrame) -> dict[str, Any]:
        """The other attributes of a cohort whose table keeps only the rows of ``table``."""
