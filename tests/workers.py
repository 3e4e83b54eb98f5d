"""Work for tests of workers: it hangs, ends its process, takes memory or fails where an item says so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Word:
    """An item that does what it says."""

    text: str


class Spelling:
    """The work: answers what it was given, and by which process."""

    def open(self) -> Spelling:
        return self

    def packed(self) -> Spelling:
        return self

    def failed(self, item: Word, reason: str) -> list[str]:
        return [f"{item.text} {reason}"]

    def run(self, items: Sequence[Word], begin: Callable[[int | None], None]) -> list[str]:
        held: list[Any] = []
        for number, item in enumerate(items):
            begin(number)
            if item.text == "hang":
                time.sleep(600)
            elif item.text == "die":
                os._exit(9)
            elif item.text == "fill":
                held.append(bytearray(b"1" * 2**30))
                time.sleep(600)
            elif item.text == "fail":
                raise ZeroDivisionError("a fault")
        begin(None)
        if any(item.text == "tire" for item in items):
            time.sleep(600)
        return [item.text for item in items]


@dataclass(frozen=True)
class Words:
    """A task: its words are one part."""

    items: tuple[Word, ...]
    seconds: float = 0.0

    def run(self, worker: Any) -> list[list[str]]:
        time.sleep(self.seconds)
        return list(worker.run(self.items))


def words(*texts: str) -> tuple[Word, ...]:
    return tuple(map(Word, texts))
