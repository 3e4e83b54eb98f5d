"""Several workers, and tasks that are spread over them: as processes of this machine, or as actors of a Ray cluster."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

import psutil

from hounsfield.distributed.work import Work
from hounsfield.distributed.worker import Limits, Worker

# Tasks that a worker has or that wait for it, and results that wait for an earlier one, a worker.
AHEAD = 2
KEPT = 4
# Share of the free memory that all workers of a machine may take together.
MEMORY_SHARE = 0.9


class Task(Protocol):
    """A piece of work of many items; picklable."""

    def run(self, worker: Worker) -> Any:
        """Give its items to a worker, and put together what it answers."""


class Pool(ABC):
    """Workers that share one kind of work.

    Attributes:
        size: how many they are, or are going to be.
        description: in words.
        host: address of this machine that the workers can reach.
    """

    size: int
    description: str
    host: str = "127.0.0.1"
    _ahead: int = AHEAD

    def map(self, tasks: Iterable[Task], *, ordered: bool = False, ahead: int = AHEAD) -> Iterator[Any]:
        """The results of tasks; few tasks are taken ahead, and few results are kept, however many there are.

        Args:
            tasks: in order.
            ordered: whether the results are wanted in this order, or as they come.
            ahead: tasks that a worker has or that wait for it; with 1, tasks of which there are as many as workers all
                run at the same time.
        """
        self._ahead = ahead
        numbered = enumerate(tasks)
        kept: dict[int, Any] = {}
        upcoming, running = 0, 0
        while True:
            while running < ahead * self.size and len(kept) < KEPT * self.size:
                number, task = next(numbered, (None, None))
                if number is None or task is None:
                    break
                self._submit(number, task)
                running += 1
            if not running:
                return
            for number, result in self._collect():
                running -= 1
                kept[number] = result
            while kept:
                number = upcoming if ordered else min(kept)
                if number not in kept:
                    break
                upcoming += 1
                yield kept.pop(number)

    @abstractmethod
    def _submit(self, number: int, task: Task) -> None:
        """Let a worker do a task."""

    @abstractmethod
    def _collect(self) -> list[tuple[int, Any]]:
        """Wait for at least one result, and give all that there are."""

    @abstractmethod
    def close(self) -> None:
        """End all workers; safe twice."""

    def __enter__(self) -> Pool:
        """The pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all workers."""
        self.close()


class LocalPool(Pool):
    """Processes of this machine.

    Args:
        work: of all of them.
        size: how many.
        limits: of one item; without a limit of memory each has its share of what is free.
    """

    def __init__(self, work: Work, size: int, limits: Limits) -> None:
        self.size = size
        self.description = f"{size} processes of this machine" if size > 1 else "1 process of this machine"
        if limits.memory is None:
            limits = Limits(limits.seconds, int(MEMORY_SHARE * free_memory() / size), limits.cores)
        self._threads = ThreadPoolExecutor(size, "worker")
        self._workers = [Worker(work, limits) for _ in range(size)]
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._running: dict[Future[Any], int] = {}

    def _submit(self, number: int, task: Task) -> None:
        self._running[self._threads.submit(self._run, task)] = number

    def _run(self, task: Task) -> Any:
        worker = self._idle.get()
        try:
            return task.run(worker)
        finally:
            self._idle.put(worker)

    def _collect(self) -> list[tuple[int, Any]]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [(self._running.pop(future), future.result()) for future in done]

    def close(self) -> None:
        """See :meth:`Pool.close`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True)


def free_memory() -> int:
    """Bytes that processes may still take here, by the system's and by the container's account."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        if os.path.isfile(limit):  # noqa: PTH113 - of a system that may not have it
            most, taken = (Path(path).read_text(encoding="ascii").strip() for path in (limit, used))
            if most.isdecimal() and taken.isdecimal():
                free = min(free, int(most) - int(taken))
    return max(free, 0)
