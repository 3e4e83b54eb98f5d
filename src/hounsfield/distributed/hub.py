"""A hub for processes that train one network: it adds up their vectors, and passes on what the first of them decides.

Everything that it is sent is numbers or JSON, from processes that know its key. A process that is lost ends the round
of all: they connect again, and go on from what was kept.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any, NamedTuple

import numpy as np

from hounsfield.distributed.shared_memory import MemoryAddress, SharedVectors, is_worth_sharing
from hounsfield.errors import HounsfieldError, ResourceError

logger = logging.getLogger(__name__)

# The first byte of a message. SUM: a vector within a step; STEP: the gradients, which end it; END: a vector at the end
# of an epoch. NEWS: what the first process has decided; HEAR: that another one waits for it. JOIN: the rank of one that
# is there; FAIL: that its training failed, which its call reports.
SUM, STEP, END, NEWS, HEAR, JOIN, FAIL = b"S", b"G", b"E", b"N", b"H", b"J", b"F"
# The same where the vector lies in shared memory; then the message has its place and length. The answer is empty where
# all vectors lie there, which each process adds up by itself; otherwise it is the length of the sum, in the last place.
SHARED = {b"s": SUM, b"g": STEP, b"e": END}
PLACE, LENGTH = struct.Struct(">QQ"), struct.Struct(">Q")
KEY_BYTES = 32
# How long all processes together may take to come: importing a backend takes a minute on a busy machine, and a cluster
# that scales needs minutes to start one.
JOINING_SECONDS = 900.0
LOOK_SECONDS = 1.0
# How often processes may be lost before anything new is known.
MOST_LOSSES = 5


class Lost(Exception):  # noqa: N818 - not an error: the training goes on from the checkpoint
    """The hub has ended the round."""


class Address(NamedTuple):
    """Where a hub is, and what it asks for."""

    host: str
    port: int
    key: bytes


class Line:
    """The connection of one process to the hub.

    Args:
        address: of the hub.
        rank: of this process, from 0.

    Attributes:
        start: what the hub says once all are there.
        lost: whether the hub has ended the round.

    Raises:
        Lost: the round ended before it began.
        ResourceError: the hub cannot be reached.
    """

    def __init__(self, address: Address, rank: int) -> None:
        self.lost = False
        try:
            self._connection = Client((address.host, address.port), authkey=address.key)
        except (OSError, EOFError) as error:
            raise ResourceError(
                f"A worker cannot reach the command that started it at {address.host}, port {address.port} "
                f"({' '.join(str(error).split()) or type(error).__name__}). Look whether a firewall is between the "
                "machines."
            ) from error
        self._rank = rank
        self.start: dict[str, Any] = json.loads(self._ask(JOIN, json.dumps(rank).encode()))
        self._size: int = self.start["size"]
        self._turn = 0
        memory = self.start.get("memory")
        self._shared = SharedVectors.find(MemoryAddress(*memory)) if memory is not None else None

    def add_up(self, vector: np.ndarray) -> np.ndarray:
        """The sum of all processes' float32 vectors; NaN where there is none, since a backend cannot pass on errors."""
        return self._added_or_nan(SUM, [vector])

    def average(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The means of all processes' float32 arrays, which end a step; NaN in the same way."""
        flat = self._added_or_nan(STEP, arrays, 1 / self._size)
        starts = np.cumsum([0, *(array.size for array in arrays)])
        return [flat[start:][: each.size].reshape(each.shape) for start, each in zip(starts, arrays, strict=False)]

    def add_up_at_end(self, vector: np.ndarray) -> np.ndarray:
        """The sum of all processes' float32 vectors at the end of an epoch.

        Raises:
            Lost: the round was ended.
        """
        self.check()
        return self._added(END, [vector])

    def tell(self, news: bytes) -> None:
        """Tell the others; of the first process."""
        self.check()
        self._ask(NEWS, news)

    def hear(self) -> bytes:
        """What the first process tells."""
        self.check()
        return self._ask(HEAR, b"")

    def check(self) -> None:
        """Look whether the round goes on.

        Raises:
            Lost: it was ended.
        """
        if self.lost:
            raise Lost

    def __enter__(self) -> Line:
        """The line."""
        return self

    def __exit__(self, _: object, error: object, __: object) -> None:
        """End the connection."""
        if isinstance(error, HounsfieldError):
            with suppress(OSError):
                self._connection.send_bytes(FAIL)
        self._connection.close()
        if self._shared is not None:
            self._shared.close()

    def _added_or_nan(self, kind: bytes, arrays: Sequence[np.ndarray], factor: float = 1.0) -> np.ndarray:
        length = sum(array.size for array in arrays)
        if not self.lost:
            try:
                found = self._added(kind, arrays, factor)
            except Lost:
                self.lost = True
            else:
                # Another length is that of a process that has no finite numbers any more.
                return found if len(found) == length else np.full(length, np.nan, np.float32)
        return np.full(length, np.nan, np.float32)

    def _added(self, kind: bytes, arrays: Sequence[np.ndarray], factor: float = 1.0) -> np.ndarray:
        """What all processes' arrays, each times a factor, add up to, as one vector."""
        length = sum(array.size for array in arrays)
        if self._shared is None or not is_worth_sharing(length):
            content = _joined(arrays, factor, np.empty(length, np.float32)).tobytes()
            return np.frombuffer(self._ask(kind, content), np.float32).copy()
        # Two places in turn: the others may still read the one before.
        self._turn = 1 - self._turn
        place = self._rank + self._turn * self._size
        _joined(arrays, factor, self._shared.view(place, length))
        answer = self._ask(kind.lower(), PLACE.pack(place, length))
        if answer:
            return self._shared.view(2 * self._size, *LENGTH.unpack(answer)).copy()
        # In the order of the ranks, so that all have the same to the last digit.
        first = self._turn * self._size
        return added([self._shared.view(first + rank, length) for rank in range(self._size)])

    def _ask(self, kind: bytes, content: bytes) -> bytes:
        try:
            self._connection.send_bytes(kind + content)
            return self._connection.recv_bytes()
        except (OSError, EOFError) as error:
            self.lost = True
            raise Lost from error


@dataclass(frozen=True, eq=False)
class _Event:
    """What happened: a message of a process, its end (no kind), or a failure of the whole (no connection)."""

    connection: Connection | None
    kind: bytes = b""
    content: Any = b""


@dataclass(eq=False)
class Hub:
    """The middle of a training by several processes; used in one thread.

    Args:
        size: number of processes.
        host: address of this machine that they can reach.
        start: gives what each is told once all are there; JSON.
        on_step: called after each step.
        on_news: called with what the first process tells; says whether the training goes on.
    """

    size: int
    host: str
    start: Callable[[], dict[str, Any]]
    on_step: Callable[[], None]
    on_news: Callable[[bytes], bool]
    _events: queue.SimpleQueue[_Event] = field(default_factory=queue.SimpleQueue)
    _members: dict[int, Connection] = field(default_factory=dict)
    _waiting: dict[int, _Event] = field(default_factory=dict)
    _losses: int = 0
    _running: bool = False
    _over: bool = False
    _shared: SharedVectors | None = None
    # Of each process whose vector lies in shared memory, where.
    _places: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Listen."""
        self._key = secrets.token_bytes(KEY_BYTES)
        # Each connection is asked for the key in a thread of its own, so that one that does not answer keeps nobody.
        self._server = socket.create_server((self.host, 0), backlog=self.size)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> Address:
        """Where this hub is."""
        return Address(self.host, int(self._server.getsockname()[1]), self._key)

    def fail(self, error: BaseException) -> None:
        """Let ``serve`` raise this; from any thread."""
        self._events.put(_Event(None, content=error))

    def serve(self) -> None:
        """Do what the processes ask for, until the first one tells that the training is over.

        Raises:
            ResourceError: they do not come, or are lost again and again.
            BaseException: what ``fail`` was given.
        """
        since = time.monotonic()
        while not self._over:
            try:
                event = self._events.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self._running:
                    since = time.monotonic()
                self._check_patience(since)
                continue
            if event.connection is None:
                raise event.content
            since = time.monotonic()
            self._take(event)

    def close(self) -> None:
        """End all connections; safe twice."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._end_round()

    def _check_patience(self, since: float) -> None:
        if time.monotonic() - since > JOINING_SECONDS:
            raise ResourceError(
                f"Only {len(self._members)} of {self.size} workers have come within {JOINING_SECONDS / 60:.0f} minutes "
                "to train the network together. Give fewer workers, or look whether the cluster has free cores and its "
                f"machines can reach {self.host}."
            )

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._server.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(accepted.detach())
            threading.Thread(target=self._listen, args=(connection,), daemon=True).start()

    def _listen(self, connection: Connection) -> None:
        """Pass on what one process sends, once it has shown that it knows the key."""
        try:
            deliver_challenge(connection, self._key)
            answer_challenge(connection, self._key)
            while True:
                message = connection.recv_bytes()
                self._events.put(_Event(connection, message[:1], memoryview(message)[1:]))
        except Exception:  # noqa: BLE001 - whatever a stranger sends, this connection has ended
            self._events.put(_Event(connection))
        finally:
            connection.close()

    def _take(self, event: _Event) -> None:
        connection = event.connection
        rank = next((rank for rank, member in self._members.items() if member is connection), None)
        if event.kind == JOIN and connection is not None:
            self._join(connection, int(json.loads(bytes(event.content))))
        elif rank is None:
            return
        elif event.kind == FAIL:
            # What became of it comes by ``fail``: until then the others wait.
            self._members.pop(rank)
        elif not event.kind:
            self._lose(rank, "lost")
        else:
            self._waiting[rank] = self._found(rank, event)
            if len(self._waiting) == self.size:
                self._answer()

    def _join(self, connection: Connection, rank: int) -> None:
        if rank in self._members:
            # Its machine may have lost power: then nobody says that the one before is gone.
            self._lose(rank, "replaced")
        self._members[rank] = connection
        if len(self._members) == self.size:
            self._running = True
            # New in each round: a process that was replaced may still write.
            made = SharedVectors.make(self.size)
            address = None
            if made is not None:
                self._shared, address = made
            content = json.dumps({**self.start(), "size": self.size, "memory": address}).encode()
            for member in list(self._members.values()):
                self._send(member, content)

    def _lose(self, rank: int, what: str) -> None:
        if not self._running:
            _hang_up(self._members.pop(rank))
            return
        self._end_round()
        self._losses += 1
        reason = f"worker {rank + 1} of {self.size} was {what}"
        if self._losses > MOST_LOSSES:
            raise ResourceError(
                f"The training together was broken off {self._losses} times within one epoch: {reason}. Give fewer "
                "workers, or more memory; the run can be resumed, with any number of workers."
            )
        logger.warning("Training goes on from the last checkpoint: %s.", reason)

    def _end_round(self) -> None:
        members = list(self._members.values())
        self._members.clear()
        self._waiting.clear()
        self._running = False
        if self._shared is not None:
            self._shared.close()
            self._shared = None
        for member in members:
            _hang_up(member)

    def _found(self, rank: int, event: _Event) -> _Event:
        """The same event with its vector, where that lies in shared memory."""
        self._places.pop(rank, None)
        if event.kind not in SHARED or self._shared is None:
            return event
        self._places[rank], length = PLACE.unpack(event.content)
        vector = self._shared.view(self._places[rank], length)
        return _Event(event.connection, SHARED[event.kind], vector.data.cast("B"))

    def _answer(self) -> None:
        kinds = {event.kind for event in self._waiting.values()}
        if kinds <= {NEWS, HEAR}:
            self._pass_on()
        elif len(kinds) == 1:
            self._sum(list(self._waiting), ends_step=kinds == {STEP})
        else:
            # Some ended the epoch early, which happens only where there are no finite numbers any more.
            for rank in [rank for rank, event in self._waiting.items() if event.kind in (SUM, STEP)]:
                length = len(self._waiting.pop(rank).content) // 4
                self._reply(rank, np.full(length, np.nan, np.float32))

    def _sum(self, ranks: list[int], *, ends_step: bool) -> None:
        # In the order of the ranks, so that the sum is the same to the last digit whoever comes first.
        vectors = [np.frombuffer(self._waiting[rank].content, np.float32) for rank in sorted(ranks)]
        # One that has no finite numbers any more may have no more to send.
        alike = len({len(vector) for vector in vectors}) == 1
        self._waiting.clear()
        if (
            alike
            and len(self._places) == self.size
            and len({place // self.size for place in self._places.values()}) == 1
        ):
            for member in list(self._members.values()):
                self._send(member, b"")
        else:
            summed = added(vectors) if alike else np.full(max(map(len, vectors)), np.nan, np.float32)
            for rank in list(self._members):
                self._reply(rank, summed)
        if ends_step:
            self.on_step()

    def _reply(self, rank: int, vector: np.ndarray) -> None:
        """Give a process a vector where it has put its own."""
        if rank not in self._places or self._shared is None:
            self._send(self._members[rank], vector.tobytes())
            return
        self._shared.view(2 * self.size, len(vector))[:] = vector
        self._send(self._members[rank], LENGTH.pack(len(vector)))

    def _pass_on(self) -> None:
        news = bytes(next(event.content for event in self._waiting.values() if event.kind == NEWS))
        self._waiting.clear()
        self._losses = 0
        # Noted before anything is done by it.
        self._over = not self.on_news(news)
        for rank, member in list(self._members.items()):
            self._send(member, b"" if rank == 0 else news)

    def _send(self, connection: Connection, content: bytes) -> None:
        # The thread that listens to it notices too, and says so.
        with suppress(OSError):
            connection.send_bytes(content)


def added(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of vectors, in their order."""
    summed: np.ndarray = np.add(vectors[0], vectors[1]) if len(vectors) > 1 else vectors[0].copy()
    for vector in vectors[2:]:
        summed += vector
    return summed


def _joined(arrays: Sequence[np.ndarray], factor: float, out: np.ndarray) -> np.ndarray:
    """Arrays one after the other, each times a factor."""
    start = 0
    for array in arrays:
        np.multiply(array.reshape(-1), np.float32(factor), out=out[start : start + array.size])
        start += array.size
    return out


def _hang_up(connection: Connection) -> None:
    """End a connection that a thread may be reading: it wakes up and closes it."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as held:
        held.shutdown(socket.SHUT_RDWR)
