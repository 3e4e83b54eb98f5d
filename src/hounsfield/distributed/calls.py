"""Functions that are called in the processes of workers, such as a training: one argument a call."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hounsfield.distributed.pool import Pool
from hounsfield.distributed.work import Begin
from hounsfield.distributed.worker import Worker
from hounsfield.errors import ResourceError


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
    """One call; a task of a ``Pool``."""

    argument: bytes

    def run(self, worker: Worker) -> bytes | Failed:
        """Make it."""
        answer: bytes | Failed = worker.run([self.argument])[0]
        return answer


def call_each(pool: Pool, arguments: Iterable[Any], *, ordered: bool = True) -> Iterator[Any]:
    """The results of a function for some arguments; few are taken ahead.

    Args:
        pool: of workers whose work is ``Calls``.
        arguments: picklable.
        ordered: whether the results are wanted in this order, or as they come.

    Raises:
        ResourceError: no process could finish a call.
        HounsfieldError: a call refused its argument.
    """
    for answer in pool.map((Call(pickle.dumps(argument)) for argument in arguments), ordered=ordered):
        if isinstance(answer, Failed):
            raise ResourceError(
                f"A part of the work could not be done in a worker's process: it {answer.reason}. Give fewer workers, "
                "or leave --workers out to see more."
            )
        # Packed by a worker of ours.
        yield pickle.loads(answer)  # noqa: S301
