"""A worker: a process that is watched, and replaced where an item does not end, ends it, or takes too much memory."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import psutil

from hounsfield import errors
from hounsfield.distributed.frames import receive, send
from hounsfield.distributed.work import Work
from hounsfield.errors import HounsfieldError, ResourceError
from hounsfield.hardware import CORES_VARIABLE

# How long opening the work may take: importing a backend on a busy machine takes a minute.
OPENING_SECONDS = 600.0
# How often a worker that says nothing is looked at.
LOOK_SECONDS = 0.25
# How many threads the libraries take that a worker loads.
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", CORES_VARIABLE),
    # TensorFlow, and JAX.
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)


@dataclass(frozen=True)
class Limits:
    """What an item may take.

    Attributes:
        seconds: for one item.
        memory: bytes of a worker's process; ``None`` for no limit.
        cores: that a worker may use.
    """

    seconds: float = 300.0
    memory: int | None = None
    cores: int = 1


class _Lost(Exception):  # noqa: N818 - not an error: the item is tried again, or named as bad
    """The process did not finish.

    Attributes:
        suspect: the number of the item that it was at; ``None`` where it was at all of them.
        reason: what happened, after "the image".
    """

    def __init__(self, suspect: int | None, reason: str) -> None:
        super().__init__(reason)
        self.suspect = suspect
        self.reason = reason


class Worker:
    """Does work in a process of its own.

    Args:
        work: what it does.
        limits: of one item.
    """

    def __init__(self, work: Work, limits: Limits) -> None:
        self._work = work
        self._limits = limits
        self._closed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, items: Sequence[Any]) -> list[Any]:
        """Work on some items together.

        An item at which the process was lost is tried once more by itself; if that fails too, it is given up.

        Returns:
            One answer for all items; several, in order, where items had to be tried by themselves.

        Raises:
            HounsfieldError: the work cannot be opened, or refuses the whole part.
        """
        if not items:
            return []
        try:
            return [self._attempt(items)]
        except _Lost as lost:
            if len(items) == 1:
                return [self._alone(items[0])]
            if lost.suspect is None:
                return [self._alone(item) for item in items]
            before, after = items[: lost.suspect], items[lost.suspect + 1 :]
            return [*self.run(before), self._alone(items[lost.suspect]), *self.run(after)]

    def close(self) -> None:
        """End the process for good, also while another thread waits for it; safe twice."""
        self._closed = True
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    _close_quietly(stream)

    def _alone(self, item: Any) -> Any:
        try:
            return self._attempt([item])
        except _Lost as lost:
            return self._work.failed(item, lost.reason)

    def _attempt(self, items: Sequence[Any]) -> Any:
        process = self._process or self._start()
        try:
            send(cast("BinaryIO", process.stdin), items)
        except OSError:
            raise self._lost(process, None) from None
        suspect: int | None = None
        allowed, since = self._limits.seconds, time.monotonic()
        while True:
            message = self._next(process, suspect, since + allowed)
            if message[0] == "begun":
                suspect, since = message[1], time.monotonic()
                allowed = self._limits.seconds * (len(items) if suspect is None else 1)
            elif message[0] == "done":
                return message[1]
            elif message[0] == "fault":
                raise _Lost(suspect, message[1])
            else:
                raise _refusal(message)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise ResourceError("The worker was closed while it had something to do. Start the command again.")
        environment = os.environ | dict.fromkeys(THREADS, str(self._limits.cores))
        process = subprocess.Popen(
            [sys.executable, "-m", "hounsfield.distributed.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._process, self._messages = process, queue.SimpleQueue()
        threading.Thread(target=_listen, args=(process, self._messages), daemon=True).start()
        try:
            send(cast("BinaryIO", process.stdin), self._work)
            message = self._next(process, None, time.monotonic() + OPENING_SECONDS)
        except (OSError, _Lost) as lost:
            self._end()
            raise ResourceError(
                f"A worker could not be started: its process {_reason(process, str(lost))}. Give fewer workers, "
                "or more memory."
            ) from lost
        if message[0] != "opened":
            self._end()
            raise _refusal(message)
        return process

    def _next(self, process: subprocess.Popen[bytes], suspect: int | None, deadline: float) -> Any:
        while True:
            try:
                message = self._messages.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                self._look(process, suspect, deadline)
                continue
            if message is None:
                raise self._lost(process, suspect)
            return message

    def _look(self, process: subprocess.Popen[bytes], suspect: int | None, deadline: float) -> None:
        if time.monotonic() > deadline:
            self._end()
            raise _Lost(suspect, f"took longer than {self._limits.seconds:g} s, the limit of --time-limit")
        if self._limits.memory is not None and _memory_of(process) > self._limits.memory:
            self._end()
            raise _Lost(
                suspect,
                f"took more than the {self._limits.memory / 2**30:.2g} GiB that a worker may have; give fewer workers, "
                "or more memory by --worker-memory",
            )

    def _lost(self, process: subprocess.Popen[bytes], suspect: int | None) -> _Lost:
        process.wait()
        self._end()
        return _Lost(suspect, f"ended the process that read it ({_reason(process, '')})")


def _listen(process: subprocess.Popen[bytes], messages: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            messages.put(receive(cast("BinaryIO", process.stdout)))
    except (EOFError, OSError, ValueError):
        messages.put(None)


def _close_quietly(stream: Any) -> None:
    try:
        stream.close()
    except OSError:
        return


def _memory_of(process: subprocess.Popen[bytes]) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:
        return 0


def _reason(process: subprocess.Popen[bytes], otherwise: str) -> str:
    status = process.poll()
    if status is None:
        return otherwise or "does not answer"
    if status < 0:
        return f"was ended by signal {-status}" + (", as where memory runs out" if status == -9 else "")
    return f"ended with status {status}"


def _refusal(message: tuple[str, str, str]) -> HounsfieldError:
    """The error that a worker reports, as the class that it was where this takes a message alone."""
    kind = getattr(errors, message[1], HounsfieldError)
    return cast(
        "HounsfieldError", kind(message[2]) if kind is not errors.SeveralVolumes else errors.ImageError(message[2])
    )
