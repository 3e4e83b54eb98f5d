"""Associations that sleep until something happens, in place of pynetdicom's look at its queues every millisecond."""

from __future__ import annotations

import queue
import select
import socket
from contextlib import suppress
from typing import Any

from pynetdicom.transport import AssociationSocket

# Seconds after which timers and flags are looked at although nothing came.
LOOK_SECONDS = 0.05


class _Transport(AssociationSocket):
    """Waits for bytes of the peer or a message of ours, and reads a whole PDU at once."""

    def watch(self, woken: socket.socket) -> None:
        """Let what can be read from a socket end a wait, too."""
        self._woken = woken

    @property
    def ready(self) -> bool:
        """Whether something can be read from the peer; waits until this is so, or until it was woken."""
        if self.socket is None or not self._is_connected:
            return False
        # What TLS has decrypted already is not seen by ``select``.
        pending = getattr(self.socket, "pending", int)()
        try:
            found, _, _ = select.select([self.socket, self._woken], [], [], 0 if pending else LOOK_SECONDS)
        except (OSError, ValueError):
            # The connection was closed.
            self.event_queue.put("Evt17")
            return False
        if self._woken in found:
            self._woken.recv(4096)
        return bool(pending) or self.socket in found

    def recv(self, nr_bytes: int) -> bytearray:
        """So many bytes; fewer where the peer has closed the connection."""
        content, count = bytearray(nr_bytes), 0
        view = memoryview(content)
        while self.socket is not None and count < nr_bytes:
            read = self.socket.recv_into(view[count:])
            if not read:
                break
            count += read
        view.release()
        return content[:count] if count < nr_bytes else content


class _WakingQueue(queue.Queue[Any]):
    """Ends the wait of a transport when something is put in."""

    def __init__(self, waker: socket.socket) -> None:
        super().__init__()
        self._waker = waker

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """See ``queue.Queue``."""
        super().put(item, block, timeout)
        # The association may have ended meanwhile; or it was told so often already that it is awake.
        with suppress(OSError):
            self._waker.send(b"\0")


def sleep_until_something_happens(event: Any) -> None:
    """Handle ``evt.EVT_CONN_OPEN`` of an acceptor: let its association wait without looking around."""
    provider = event.assoc.dul
    transport, run = provider.socket, provider.run
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    transport.__class__ = _Transport
    transport.watch(woken)
    provider.to_provider_queue = _WakingQueue(waker)
    provider._run_loop_delay = 0

    def run_and_close() -> None:
        try:
            run()
        finally:
            waker.close()
            woken.close()

    provider.run = run_and_close
