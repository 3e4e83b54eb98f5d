"""What a family has to offer so that its bundles can be tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, Self

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.classification import Estimate
from hounsfield.evaluation.delong import Difference
from hounsfield.preprocessing import Pipeline
from hounsfield.progress import Progress
from hounsfield.tasks import Family

# Options of an audit, where a family has them, that need no run.
TABLE_AUDIT_OPTIONS = frozenset({"attributes"})
# What `assess` and `assess_table` of every family take.
COMMON_OPTIONS = frozenset({"threshold", "num_replicates", "seed", "confidence", "notes"})


class TestSource(NamedTuple):
    """What was tested: a run, on which data (``None`` for its own), at which threshold (``None`` for the bundle's)."""

    run: Path
    data: DataRequest | str | None
    threshold: float | None
    progress: Progress


class Raw(Protocol):
    """What a bundle's network gives for some rows of a store, before it is judged; each family adds its own."""

    @property
    def rows(self) -> np.ndarray:
        """(n,) numbers of the store's rows."""

    @property
    def features(self) -> np.ndarray:
        """(n, features)."""

    @classmethod
    def join(cls, parts: Sequence[Any]) -> Self:
        """Several raw outcomes of one store as one, in the order of their rows."""


class Shown(NamedTuple):
    """A figure of degraded images.

    Attributes:
        title: where people read it.
        share: whether it lies between 0 and 1.
        worse: "lower" or "higher" where the loss is told in words; ``None`` for a figure that is only shown.
    """

    title: str
    share: bool
    worse: Literal["lower", "higher"] | None = None


class Figures(NamedTuple):
    """The figures of images in one condition, and their paired differences from the same images as they are."""

    estimates: dict[str, Estimate]
    changes: dict[str, Difference]


class Degraded(NamedTuple):
    """What is measured of images that are degraded on purpose.

    Attributes:
        shown: figures by their name in ``robustness.json``, the main one first.
        measure: the figures of each condition, the first of which leaves the images as they are; from the bundle, the
            cohort, the network's outputs (images of the cohort, conditions, outputs) and the confidence.
    """

    shown: Mapping[str, Shown]
    measure: Callable[[Bundle, Cohort, np.ndarray, float], list[Figures]]


class Assessed(Protocol):
    """The outcome of one test: figures with intervals, and what a reader must know of them."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """Every figure by its name in ``metrics.json``."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was detected, decided or left out."""

    @property
    def family(self) -> Family:
        """Of what was tested."""

    def title(self, name: str) -> str:
        """What a figure is called where people read it."""

    def to_dict(self) -> dict[str, Any]:
        """The figures as ``metrics.json`` has them, and beside them what they were made from."""


class Audit(Protocol):
    """What a test finds beside its figures, such as how groups of patients compare."""

    @property
    def says_anything(self) -> bool:
        """Whether there was anything to compare."""

    def lines(self) -> list[str]:
        """In words."""

    def cells(self) -> list[list[str]]:
        """As a table, its header first; empty where there is none."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""


class FamilyTest(Protocol):
    """One entry of ``TESTS``: a module with these names.

    Attributes:
        OPTIONS: names of the options that ``assess`` takes beside ``COMMON_OPTIONS``.
        AUDIT_OPTIONS: names of the options that ``audit`` takes beside those below.
        TABLE_OPTIONS: names of the options that ``assess_table`` takes beside ``COMMON_OPTIONS``.
        TABLE: what the tables are called that ``assess_table`` reads, such as "table of predictions".
        DEGRADED: what is measured of degraded images; ``None`` for a family that is not tested so.
    """

    OPTIONS: frozenset[str]
    AUDIT_OPTIONS: frozenset[str]
    TABLE_OPTIONS: frozenset[str]
    TABLE: str
    DEGRADED: Degraded | None

    def check(self, bundle: Bundle, options: Mapping[str, Any]) -> None:
        """Refuse values of options that this bundle cannot be tested with, before any work is done.

        Raises:
            UsageError: there is one.
        """

    def build_store(self, cohort: Cohort, pipeline: Pipeline, progress: Progress) -> Store:
        """The cohort's images after the bundle's pipeline; errors as of ``Store.build``."""

    def predict(self, predictor: Any, store: Any, rows: np.ndarray, progress: Progress, name: str) -> Raw:
        """Run a predictor of this family on at least one row of a store of this family.

        Args:
            predictor: as ``open_predictor`` gives it.
            store: as ``build_store`` gives it.
            rows: (n,) of the store.
            progress: told of the images.
            name: which images they are, such as "test", for the progress.
        """

    def assess(self, cohort: Cohort, raw: Any, bundle: Bundle, **options: Any) -> Assessed:
        """Measure what the bundle makes of raw outcomes, with intervals by patient where all are known.

        Args:
            cohort: of the store.
            raw: as ``predict`` gives it.
            bundle: with its threshold.
            options: ``COMMON_OPTIONS`` and ``OPTIONS``; the bundle's threshold where none is given.
        """

    def table(self, cohort: Cohort, raw: Any, bundle: Bundle) -> pd.DataFrame:
        """The rows of ``predictions.csv``."""

    def audit(
        self, assessment: Any, *, seed: int, confidence: float, given: Mapping[str, Any], source: TestSource | None
    ) -> Audit | None:
        """What there is to find beside the figures; ``None`` for a family that has nothing of the kind.

        Args:
            assessment: as ``assess`` or ``assess_table`` gives it.
            seed: of what is drawn at random.
            confidence: nominal coverage of intervals.
            given: options of ``AUDIT_OPTIONS``.
            source: what was tested; ``None`` for a table.
        """

    def reads(self, path: Path, options: Mapping[str, Any]) -> bool:
        """Whether a table that comes with these options is one of this family."""

    def assess_table(self, path: Path, **options: Any) -> Assessed:
        """Measure anyone's table, given ``COMMON_OPTIONS`` and ``TABLE_OPTIONS``.

        Raises:
            CohortError, EvaluationError: the table cannot be read, or does not fit the truth.
            UsageError: the value of an option is not known.
        """

    def notes(self, bundle: Bundle, raw: Any, what: str) -> list[str]:
        """How many images are out of distribution, as sentences; ``what`` are the images, such as "test images"."""
