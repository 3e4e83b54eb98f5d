"""Ends the process of a model whose work takes too long, so that it is started again."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time

logger = logging.getLogger(__name__)

# Seconds between looks, at most.
LOOK_SECONDS = 5.0


class Watchdog:
    """A context over each piece of work; several may go on at one time.

    A thread looks at the time that each has taken. Where native code, as that of a decoder, hangs and lets no thread
    of Python run, a timer of the interpreter's own ends the process, which that thread puts off at every look. Whoever
    waits for an answer hears that the process is gone.

    Args:
        seconds: that a piece of work may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: dict[int, float] = {}
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def __enter__(self) -> None:
        self._begun[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self._begun[threading.get_ident()]

    def stop(self) -> None:
        """Watch no longer; twice does no harm."""
        self._stopped.set()

    def _run(self) -> None:
        while True:
            faulthandler.dump_traceback_later(self._seconds, exit=True)
            if self._stopped.wait(min(self._seconds / 4, LOOK_SECONDS)):
                faulthandler.cancel_dump_traceback_later()
                return
            if time.monotonic() - min(list(self._begun.values()), default=float("inf")) > self._seconds:
                logger.error("a prediction took longer than %g s: this process ends", self._seconds)
                os._exit(1)
