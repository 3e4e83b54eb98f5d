"""Workers that scan, prepare and test the images of a cohort for the command."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from hounsfield.cohorts.delegation import delegating
from hounsfield.distributed.calls import Calls, call_each
from hounsfield.distributed.pool import Pool
from hounsfield.distributed.work import Work

# Images for which it is worth to start workers, where they are there for something else.
WORTH_WORKERS = 512


def delegating_to(crew: Callable[[Work], Pool] | None, least: int = WORTH_WORKERS) -> AbstractContextManager[None]:
    """Let workers do what can be delegated within a block.

    Args:
        crew: makes the workers when there is work; ``None`` to leave it to this process.
        least: images of a piece of work that is worth it.
    """
    if crew is None:
        return nullcontext()

    def call(function: str, arguments: Iterable[Any]) -> Iterator[Any]:
        with crew(Calls(function)) as pool:
            yield from call_each(pool, arguments)

    return delegating(call, least)
