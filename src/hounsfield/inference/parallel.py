"""Work on a stream of items on every core, in order, a few items ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from hounsfield.inference.onnx_networks import num_cores

# Items that are worked on or wait to be taken, a core: the next one is always ready, and memory stays flat.
AHEAD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one of what is left."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


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
