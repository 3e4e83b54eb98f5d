"""Ends the process of a model whose work takes too long, so that it is started again."""

from __future__ import annotations

import faulthandler
import threading
import time


class Watchdog:
    """A context over each piece of work; several may go on at one time.

    The timer is one of the interpreter's own, outside its lock: it also ends a process that hangs in native code, as
    that of a decoder, and never comes back to Python. Whoever waits for an answer hears that the process is gone.

    Args:
        seconds: that a piece of work may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: dict[int, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._begun[threading.get_ident()] = time.monotonic()
            self._arm()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            del self._begun[threading.get_ident()]
            self._arm()

    def _arm(self) -> None:
        if self._begun:
            left = min(self._begun.values()) + self._seconds - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True)
        else:
            faulthandler.cancel_dump_traceback_later()
