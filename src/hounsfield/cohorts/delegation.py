"""Work on many images that other processes do, where some were asked for, in place of the threads of this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

# The results of a function, in order: its name as ``module:name``, and picklable arguments, one a call.
Delegate = Callable[[str, Iterable[Any]], Iterator[Any]]


class _Asked(NamedTuple):
    delegate: Delegate
    least: int


_asked: ContextVar[_Asked | None] = ContextVar("asked", default=None)


@contextmanager
def delegating(delegate: Delegate, least: int = 1) -> Iterator[None]:
    """Let other processes do what can be delegated within a block.

    Args:
        delegate: calls a function in them.
        least: images of a piece of work that is worth it.
    """
    token = _asked.set(_Asked(delegate, least))
    try:
        yield
    finally:
        _asked.reset(token)


def delegate_for(count: int) -> Delegate | None:
    """What does work on so many images; ``None`` where this process does it."""
    asked = _asked.get()
    return asked.delegate if asked is not None and count >= max(asked.least, 1) else None
