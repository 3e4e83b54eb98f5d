"""Work on a stream of items on every core, in order, a few items ahead."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import chain, islice
from typing import Any, TypeVar

from hounsfield.hardware import num_cores
from hounsfield.progress import Progress, silent

# Items that are worked on or wait to be taken, a core: the next one is always ready, and memory stays flat.
AHEAD = 2
# Images of at most so many values are small: what Python does for one, of which only one thread at a time is capable,
# takes as long as decoding and preprocessing it (measured with PNG and JPEG files of 28 to 1024 pixels a side).
SMALL_VALUES = 128 * 128

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one of what is left."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Turns:
    """Lets threads take turns at Python's work on small images.

    Threads that hand the interpreter to each other at every call take twice as long as one after another.

    Attributes:
        small: whether the images are small, as far as they were seen.
        progress: told of the parts of one image, by families that predict in parts.
    """

    def __init__(self, progress: Progress = silent) -> None:
        self.small = False
        self.progress = progress
        self._lock = threading.Lock()

    def see(self, num_values: int) -> None:
        """Take note of an image of so many values."""
        self.small = num_values <= SMALL_VALUES

    def turn(self) -> AbstractContextManager[Any]:
        """Hold this while preparing images and judging outputs, and not while the network runs."""
        return self._lock if self.small else nullcontext()


def on_all_cores(work: Callable[[Item, bool], Result], items: Iterator[Item]) -> Iterator[Result]:
    """The results of ``work`` in the order of the items, a few items ahead; a single item gets every core by itself.

    ``work`` is given an item, and whether it has the machine for itself.
    """
    ahead = list(islice(items, 2))
    if len(ahead) < 2:
        for item in ahead:
            yield work(item, True)
        return
    cores = num_cores()
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores, thread_name_prefix="predict") as pool:
        try:
            for item in chain(ahead, items):
                pending.append(pool.submit(work, item, False))
                if len(pending) > cores * AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
