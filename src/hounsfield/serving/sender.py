"""Results go out, and each outcome is recorded before the next one is sent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hounsfield.errors import HounsfieldError
from hounsfield.serving.database import Row
from hounsfield.serving.faults import reached
from hounsfield.serving.node import Committed
from hounsfield.serving.outgoing import RefusedError, Way, Word, over_dicom, over_web
from hounsfield.serving.register import Register
from hounsfield.serving.renewing import Renewing
from hounsfield.serving.settings import Destination

logger = logging.getLogger(__name__)

# Seconds between looks at the outbox when nobody woke the sender.
LOOK_SECONDS = 2.0
# Deliveries of one association.
BATCH = 50


class Sender:
    """Sends what waits for one destination, until it is stopped.

    Args:
        destination: where to.
        folder: of the service; paths of results are relative to it.
        register: of the deliveries.
        title: of our own application entity.
        clock: seconds since 1970.
        committed: told of each result that the destination says it keeps.
    """

    def __init__(
        self,
        destination: Destination,
        folder: Path,
        register: Register,
        *,
        title: str,
        clock: Callable[[], float],
        committed: Committed,
    ) -> None:
        self._destination = destination
        self._folder = folder
        self._register = register
        self._title = title
        self._clock = clock
        self._committed = committed
        self._awake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"send {destination.name}", daemon=True)

    def start(self) -> None:
        """Begin; twice does no harm."""
        if not self._thread.is_alive():
            self._thread.start()

    def wake(self) -> None:
        """Look at the outbox at once."""
        self._awake.set()

    def stop(self, seconds: float = 10) -> None:
        """End after the delivery that is under way; twice does no harm."""
        self._stopping = True
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def send_waiting(self) -> int:
        """Send what waits, and return how many deliveries these were."""
        rows = self._register.claim_deliveries(self._destination.name, self._clock(), limit=BATCH)
        if not rows:
            return 0
        reached("delivery.claimed")
        told: set[int] = set()
        try:
            with (
                Renewing(
                    self._register, "delivery", lambda: [row for row in rows if row["id"] not in told], self._clock
                ),
                self._way(rows) as way,
            ):
                self._send(way, rows, told)
        except RefusedError as error:
            self._record_others(rows, told, Word("reject", str(error)))
        except (OSError, HounsfieldError, RuntimeError, ValueError) as error:
            self._record_others(rows, told, Word("fail", str(error) or type(error).__name__))
        return len(rows)

    def _run(self) -> None:
        while not self._stopping:
            try:
                sent = self.send_waiting()
            except Exception:
                logger.exception("the sender to %s failed", self._destination.name)
                sent = 0
            if not sent:
                self._awake.wait(LOOK_SECONDS)
                self._awake.clear()

    def _way(self, rows: Sequence[Row]) -> AbstractContextManager[Way]:
        if self._destination.url is not None:
            return over_web(self._destination, self._folder)
        return over_dicom(self._destination, self._folder, rows, title=self._title, committed=self._committed)

    def _send(self, way: Way, rows: Sequence[Row], told: set[int]) -> None:
        stored = []
        for row in rows:
            if self._stopping:
                raise OSError("the service is stopping")
            word = way.send(row)
            reached("delivery.sent")
            told.add(row["id"])
            self._record(row, word)
            if word.event == "store":
                stored.append(row)
        if stored:
            way.ask_commitment(stored)

    def _record_others(self, rows: Sequence[Row], told: set[int], word: Word) -> None:
        for row in rows:
            if row["id"] not in told:
                self._record(row, word)

    def _record(self, row: Row, word: Word) -> None:
        try:
            self._register.move("delivery", row["id"], row["attempt"], word.event, self._clock(), reason=word.reason)
        except HounsfieldError as error:
            logger.warning("delivery %s: %s", row["id"], error)
        reached("delivery.recorded")
        if word.reason:
            logger.warning("delivery %s to %s: %s", row["id"], self._destination.name, word.reason)
