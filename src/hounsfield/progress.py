"""How long work reports on itself without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called as work advances; the command line draws it, a script may ignore it."""

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units (``None``: not known) of ``task`` are finished."""


def silent(task: str, done: int, total: int | None) -> None:
    """Ignore every report; the default wherever a ``Progress`` is taken."""
