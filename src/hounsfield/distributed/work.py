"""What a worker does: opened once in its process, then given one part after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hounsfield.inference import BadImage
from hounsfield.inference.fitting import Differences
from hounsfield.inference.prediction import Row

# Called with the number of the item that is begun, or with None where work on all of them goes on.
Begin = Callable[[int | None], None]


@dataclass
class Part:
    """What was made of some items, in their order.

    Attributes:
        rows: of the table.
        images: that were good.
        bad: those that were not, with their reasons.
        differences: of the images from those of training.
        engines: descriptions of those that predicted.
        written: rows that are in a file, and not here.
    """

    rows: list[Row] = field(default_factory=list)
    images: int = 0
    bad: list[BadImage] = field(default_factory=list)
    differences: Differences = field(default_factory=Differences)
    engines: set[str] = field(default_factory=set)
    written: int = 0

    @property
    def num_rows(self) -> int:
        """Of all rows, those that were written too."""
        return len(self.rows) + self.written

    def add(self, other: Part) -> None:
        """Append another part."""
        self.rows += other.rows
        self.images += other.images
        self.bad += other.bad
        self.engines |= other.engines
        self.written += other.written
        self.differences.add(other.differences)


class Opened(Protocol):
    """Work that has been opened in a process."""

    def run(self, items: Sequence[Any], begin: Begin) -> Any:
        """Work on some items.

        Args:
            items: that are worked on together.
            begin: to be called as the items are begun, so that one that never ends, or ends the process, is known.
        """


class Work(Protocol):
    """A picklable description of work, which every process opens for itself."""

    def open(self) -> Opened:
        """Load what is needed once, such as a network."""

    def failed(self, item: Any, reason: str) -> Any:
        """The answer for an item that no process could finish."""

    def packed(self) -> Work:
        """The same work for another machine: with the files that it may not have."""
