"""Functions that are called in the processes of workers, such as a training: one argument a call."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hounsfield.distributed.pool import AHEAD, Pool
from hounsfield.distributed.work import Begin
from hounsfield.distributed.worker import Worker
from hounsfield.errors import ResourceError

# How often a call is given to a worker, where it is one of several that need each other.
TOGETHER = 3


@dataclass(frozen=True)
class Calls:
    """Work that is a function, by name.

    Arguments and results travel packed: only the process that computes imports what they need.

    Attributes:
        function: ``module:name``, of one argument.
        environment: variables that are set before its module is imported.
    """

    function: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> OpenedCalls:
        """Import the function."""
        os.environ.update(self.environment)
        module, _, name = self.function.partition(":")
        return OpenedCalls(getattr(importlib.import_module(module), name))

    def failed(self, item: bytes, reason: str) -> Failed:  # noqa: ARG002 - the arguments say nothing to a reader
        """That no process could finish the call."""
        return Failed(reason)

    def packed(self) -> Calls:
        """The same: it has no files."""
        return self


@dataclass(frozen=True)
class Failed:
    """A call that no process could finish, and why."""

    reason: str


class OpenedCalls:
    """The function in a worker's process."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def run(self, items: Sequence[bytes], begin: Begin) -> bytes:
        """Call it with the only item."""
        begin(0)
        # Packed by ``Call``, and received over this process's own pipe.
        return pickle.dumps(self._function(pickle.loads(items[0])))  # noqa: S301


@dataclass(frozen=True)
class Call:
    """One call; a task of a ``Pool``.

    Attributes:
        argument: packed.
        attempts: how often it is given to a worker, which tries it twice.
    """

    argument: bytes
    attempts: int = 1

    def run(self, worker: Worker) -> bytes | Failed:
        """Make it."""
        for _ in range(self.attempts):
            answer: bytes | Failed = worker.run([self.argument])[0]
            if not isinstance(answer, Failed):
                break
        return answer


def call_each(pool: Pool, arguments: Iterable[Any], *, ordered: bool = True, together: bool = False) -> Iterator[Any]:
    """The results of a function for some arguments; few are taken ahead.

    Args:
        pool: of workers whose work is ``Calls``.
        arguments: picklable.
        ordered: whether the results are wanted in this order, or as they come.
        together: whether the calls need each other: there are as many as workers, all run at the same time, and one
            that is lost is made again several times.

    Raises:
        ResourceError: no process could finish a call.
        HounsfieldError: a call refused its argument.
    """
    attempts, ahead = (TOGETHER, 1) if together else (1, AHEAD)
    calls = (Call(pickle.dumps(argument), attempts) for argument in arguments)
    for answer in pool.map(calls, ordered=ordered, ahead=ahead):
        if isinstance(answer, Failed):
            raise ResourceError(
                f"A part of the work could not be done in a worker's process: it {answer.reason}. Give fewer workers, "
                "or leave --workers out to see more."
            )
        # Packed by a worker of ours.
        yield pickle.loads(answer)  # noqa: S301
