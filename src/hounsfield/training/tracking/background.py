"""A tracker on a thread of its own: a server that is slow, broken or gone neither stops nor delays a training."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from hounsfield.training.tracking.base import Ending, Setting, Tracker

logger = logging.getLogger(__name__)

# After so many failures in a row a tracker is given up.
MOST_FAILURES = 3
# Seconds that a finished training waits for what has not been sent, and one that failed.
PATIENCE, PATIENCE_OF_FAILED = 120.0, 10.0
Call = Callable[[Tracker], None]


class InBackground:
    """Hands every call to another tracker, in order, on a thread; see ``Tracker``.

    Args:
        name: of the tracker, for messages.
        tracker: whose calls may fail or take long.
        patience: seconds to wait at the end.
    """

    def __init__(self, name: str, tracker: Tracker, *, patience: float = PATIENCE) -> None:
        self._name, self._tracker, self._patience = name, tracker, patience
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._failures = 0
        self._given_up = threading.Event()
        # A daemon: the program does not wait for a server either.
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """See ``Tracker``."""
        self._calls.put(lambda tracker: tracker.begin(settings))

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """See ``Tracker``."""
        kept = dict(record)
        self._calls.put(lambda tracker: tracker.log(network, kept))

    def end(self, ending: Ending) -> None:
        """See ``Tracker``."""
        self._calls.put(lambda tracker: tracker.end(ending))

    def close(self, *, failed: bool) -> None:
        """Wait for what has not been sent, for a limited time; see ``Tracker``."""
        self._calls.put(lambda tracker: tracker.close(failed=failed))
        self._calls.put(None)
        try:
            self._thread.join(PATIENCE_OF_FAILED if failed else self._patience)
        except KeyboardInterrupt:
            # The run is complete: it is only the server that is not waited for.
            self._given_up.set()
        if self._thread.is_alive():
            self._given_up.set()
            logger.warning("%s did not take everything in time: it lacks figures that the run folder has.", self._name)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not self._given_up.is_set():
                self._try(call)

    def _try(self, call: Call) -> None:
        try:
            call(self._tracker)
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - whatever goes wrong there, the training goes on
            self._failures += 1
            reason = " ".join(str(error).split())[:500] or type(error).__name__
            if self._failures == 1:
                logger.warning("%s cannot be reached or refuses (%s). The training goes on.", self._name, reason)
            if self._failures >= MOST_FAILURES:
                self._given_up.set()
                logger.warning("%s is told no more of this training; the run folder has everything.", self._name)
