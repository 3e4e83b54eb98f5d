"""The scan of a cohort by many processes: each reads some of the images, and gives back what it saw of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hounsfield.cohorts import Cohort
from hounsfield.cohorts.scan import Describe, Facts, describe_all
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.distributed.pool import Pool
from hounsfield.distributed.work import Work

# Rows that a worker is given at once.
ROWS = 64


def describe_by(crew: Callable[[Work], Pool]) -> Describe:
    """What describes the rows of a cohort by workers.

    Args:
        crew: makes the workers, when there are rows to be described.
    """

    def describe(cohort: Cohort, rows: Sequence[int]) -> Iterator[Facts]:
        parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        with crew(Calls(f"{describe_all.__module__}:{describe_all.__name__}")) as pool:
            for found in call_each(pool, (cohort.subset(part) for part in parts)):
                yield from found

    return describe
