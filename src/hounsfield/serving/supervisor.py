"""The processes of the service: started together, started again when one dies, stopped together."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hounsfield.atomic import make_private
from hounsfield.errors import ServingError
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.serving.keeping import KeeperProcess
from hounsfield.serving.predicting import ModelProcess, Specification
from hounsfield.serving.settings import ServeSettings

logger = logging.getLogger(__name__)

# Seconds before a process that died is started again, twice as long each time, and after which it is forgiven.
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
FORGIVEN_AFTER = 300.0
MEGAPIXEL = 10**6


class Child(Protocol):
    """A process of the service."""

    def start(self) -> None:
        """Start it, and wait until it is ready; twice does no harm."""

    def stop(self, seconds: float = 10) -> None:
        """End it after what it works on; twice does no harm."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    @property
    def sentinel(self) -> int:
        """Becomes readable when it ends."""


@dataclass
class _Watch:
    child: Child
    started: float
    wait: float = FIRST_WAIT
    due: float | None = None


class Supervisor:
    """Starts the processes, watches them until it is told to stop, and stops them.

    Args:
        settings: of the service.
        say: told what a person at the terminal wants to know.
    """

    def __init__(self, settings: ServeSettings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self._say = say
        self._stopping = False
        make_private(settings.folder)
        # Names of sockets are short: folders of users are not.
        self._runtime = tempfile.TemporaryDirectory(prefix="hounsfield-")
        secret = secrets.token_bytes(32)
        place = Path(self._runtime.name)
        pixels = min(int(settings.limits.megapixels * MEGAPIXEL), MAX_PIXELS)
        self.models = {
            model.name: ModelProcess(
                Specification(model, settings.folder.absolute(), str(place / f"m{number}"), secret, pixels)
            )
            for number, model in enumerate(settings.models)
        }
        self.keeper = KeeperProcess(settings, self._describe, secret)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ServingError: a process could not be started the first time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        try:
            children: list[Child] = [*self.models.values(), self.keeper]
            for child in children:
                child.start()
            self._tell()
            self._watch([_Watch(child, time.monotonic()) for child in children])
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop everything, what writes records first; twice does no harm."""
        self.keeper.stop()
        for model in self.models.values():
            model.stop()
        self._runtime.cleanup()

    def _ask_to_stop(self, *_: Any) -> None:
        self._stopping = True

    def _describe(self) -> dict[str, dict[str, Any]]:
        """What the keeper has to know of the models."""
        return {name: model.info | {"address": model.specification.address} for name, model in self.models.items()}

    def _tell(self) -> None:
        settings = self.settings
        for name, model in self.models.items():
            self._say(f"Model {name}: {model.info['task']} on {model.info['engine']}")
        if settings.dicom is not None:
            self._say(f"DICOM: {settings.dicom.title} at {settings.dicom.host}:{self.keeper.info['dicom_port']}")
        self._say(f"Ready. Records and files: {settings.folder}. Stop with Ctrl+C.")

    def _watch(self, watches: list[_Watch]) -> None:
        while not self._stopping:
            alive = {watch.child.sentinel: watch for watch in watches if watch.child.alive}
            multiprocessing.connection.wait(list(alive), timeout=0.2)
            now = time.monotonic()
            for watch in watches:
                if not watch.child.alive and not self._stopping:
                    self._start_again(watch, now)

    def _start_again(self, watch: _Watch, now: float) -> None:
        if watch.due is None:
            watch.wait = FIRST_WAIT if now - watch.started > FORGIVEN_AFTER else watch.wait
            logger.error("a process ended unasked; it is started again in %.1f s", watch.wait)
            watch.due = now + watch.wait
        if now < watch.due:
            return
        watch.wait, watch.due, watch.started = min(2 * watch.wait, LONGEST_WAIT), None, now
        try:
            watch.child.start()
        except ServingError as error:
            logger.error("%s", error)  # noqa: TRY400 - a sentence for a person
