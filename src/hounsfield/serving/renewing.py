"""Renews claims while their holder works, so that nobody else takes what is under way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from hounsfield.errors import HounsfieldError
from hounsfield.serving.database import Row
from hounsfield.serving.lifecycle import Kind
from hounsfield.serving.register import Register

logger = logging.getLogger(__name__)


class Renewing:
    """A context over the work on some claims.

    Args:
        register: of the records.
        kind: of them.
        held: the rows of those that are still worked on or wait for their turn.
        clock: seconds since 1970.
    """

    def __init__(
        self, register: Register, kind: Kind, held: Callable[[], Sequence[Row]], clock: Callable[[], float]
    ) -> None:
        self._register = register
        self._kind = kind
        self._held = held
        self._clock = clock
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="renew", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._register.timing.lease / 3):
            for row in self._held():
                try:
                    self._register.move(self._kind, row["id"], row["attempt"], "renew", self._clock())
                except HounsfieldError as error:
                    # It has just been recorded, or was withdrawn; its holder hears of that.
                    logger.info("%s %s: %s", self._kind, row["id"], error)
