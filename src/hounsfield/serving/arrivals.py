"""Instances between their receipt and their entry into the register.

An instance is acknowledged once its file, the name of the file and a record of its arrival are on disk. These three are
flushed side by side, since waiting for the disk takes longer than all else, so that the record may be on disk and the
file not. That does no harm: the name of a file is made of its content, and when the service starts, only arrivals whose
files are whole are entered. Entering moves studies on; all arrivals of a moment are entered in one transaction.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from hounsfield.atomic import flush, flush_folder
from hounsfield.serving import statements as sql
from hounsfield.serving.faults import reached
from hounsfield.serving.register import Received, Register


@dataclass(eq=False)
class _Arrival:
    """One instance on its way; ``number`` is that of its record, ``None`` before it is committed."""

    received: Received
    start: int
    time: float
    number: int | None = None
    settled: Future[None] = field(default_factory=Future)


class Arrivals:
    """Keeps instances until they are entered; what an earlier process left is entered at once.

    Args:
        folder: of the service.
        register: that they are entered into.
    """

    def __init__(self, folder: Path, register: Register) -> None:
        self._folder = folder
        self._register = register
        self._flushers = ThreadPoolExecutor(8, "flush")
        # The next commit is for all that wait for it; whoever gets the lock first does it.
        self._waiting: list[_Arrival] = []
        self._committing = threading.Lock()
        self._entering = threading.Lock()
        self._pending: dict[tuple[str, str], _Arrival] = {}
        self._recover()

    def keep(self, received: Received, content: bytes, start: int, now: float) -> bool:
        """Keep an instance: it is on disk when this returns.

        Args:
            received: what is known of it.
            content: of its file.
            start: of the data set within it.
            now: seconds since 1970.

        Returns:
            Whether it is new: ``False`` where the same instance was received before, and is on disk.

        Raises:
            OSError: the disk does not take it.
        """
        arrival, key = _Arrival(received, start, now), (received.uid, received.sha256)
        earlier = self._pending.setdefault(key, arrival)
        if earlier is not arrival:
            earlier.settled.result()
            return False
        try:
            is_new = not self._register.knows(*key)
            if is_new:
                self._flush(arrival, content)
        except BaseException as error:
            arrival.settled.set_exception(error)
            self._forget(key, arrival)
            raise
        arrival.settled.set_result(None)
        self._forget(key, arrival)
        return is_new

    def enter(self, also: Callable[[], object] | None = None) -> int:
        """Enter what has arrived, and return how many instances these were.

        Args:
            also: something else to be done in the same transaction.
        """
        with self._entering:
            settled = {
                key: each
                for key, each in list(self._pending.items())
                if each.number is not None and each.settled.done()
            }
            if not settled and also is None:
                return 0
            with self._register.database.transaction() as database:
                for arrival in settled.values():
                    if arrival.settled.exception() is None:
                        self._register.receive(arrival.received, arrival.time)
                    database.change(sql.REMOVE_ARRIVAL, (arrival.number,))
                if also is not None:
                    also()
            for key in settled:
                self._pending.pop(key, None)
        return len(settled)

    def close(self) -> None:
        """Enter what is left; twice does no harm."""
        self.enter()
        self._flushers.shutdown()

    def _forget(self, key: tuple[str, str], arrival: _Arrival) -> None:
        """Forget an arrival of which there is no record: one that has it is entered, or its record removed."""
        if arrival.number is None:
            self._pending.pop(key, None)

    def _flush(self, arrival: _Arrival, content: bytes) -> None:
        """Have file, name and record on disk."""
        path = self._folder / arrival.received.path
        descriptor = _write(path, content)
        try:
            reached("instance.written")
            flushed = self._flushers.submit(_flush, descriptor, path.parent)
            try:
                self._commit(arrival)
            finally:
                # The file stays open as long as it is flushed.
                flushed.result()
        finally:
            os.close(descriptor)
        reached("instance.registered")

    def _commit(self, arrival: _Arrival) -> None:
        """Have the record of an arrival on disk, in one transaction with those of others that wait."""
        self._waiting.append(arrival)
        with self._committing:
            if arrival.number is not None:
                return
            batch, numbers = list(self._waiting), []
            try:
                with self._register.database.transaction() as database:
                    for each in batch:
                        record = json.dumps(vars(each.received), ensure_ascii=False)
                        numbers.append(database.change(sql.INSERT_ARRIVAL, (record, each.start, each.time)).lastrowid)
            except BaseException:
                # The others try for themselves.
                self._waiting.remove(arrival)
                raise
            del self._waiting[: len(batch)]
            for each, number in zip(batch, numbers, strict=True):
                each.number = number

    def _recover(self) -> None:
        """Enter what arrived in an earlier process, as far as its file is whole: all that was acknowledged is."""
        with self._register.database.transaction() as database:
            for row in database.rows(sql.ARRIVALS):
                received = Received(**json.loads(row["received"]))
                path = self._folder / received.path
                if path.is_file() and name_of(path.read_bytes(), row["start"]) == (path.stem, received.sha256):
                    # Whether the one who wrote it had flushed it is not known.
                    flush(path)
                    flush_folder(path.parent)
                    self._register.receive(received, row["time"])
                database.change(sql.REMOVE_ARRIVAL, (row["id"],))


def _flush(descriptor: int, folder: Path) -> None:
    """Let the disk have a file and its name."""
    os.fsync(descriptor)
    flush_folder(folder)


def name_of(content: bytes, start: int) -> tuple[str, str]:
    """The name of the file of an instance, which no other content has, and the SHA-256 of its data set.

    Args:
        content: of the file.
        start: of the data set within it.
    """
    view = memoryview(content)
    dataset = hashlib.sha256(view[start:])
    return hashlib.sha256(bytes(view[:start]) + dataset.digest()).hexdigest(), dataset.hexdigest()


def _write(path: Path, content: bytes) -> int:
    """Write a file, and return its open descriptor.

    It has its own name at once: nothing refers to it before it is acknowledged, and what a process that died left
    half-written is removed at the next start. A file that is there has the same content, or a part of it. It is written
    again, since a flush of it may have failed, and never shortened, since older records may refer to it.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
