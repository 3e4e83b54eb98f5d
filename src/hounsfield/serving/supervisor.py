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
from typing import Any

from hounsfield.atomic import make_private
from hounsfield.errors import ServingError
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.keeper import Specification as KeeperSpecification
from hounsfield.serving.keeper import main as keeper_main
from hounsfield.serving.predicting import Specification as ModelSpecification
from hounsfield.serving.predicting import main as model_main
from hounsfield.serving.processes import ChildProcess
from hounsfield.serving.settings import Model, ServeSettings
from hounsfield.serving.web import Specification as WebSpecification
from hounsfield.serving.web import main as web_main

logger = logging.getLogger(__name__)

# Seconds before a process that died is started again, twice as long each time, and after which it is forgiven.
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
FORGIVEN_AFTER = 300.0
# Seconds within which the keeper listens, and a model is opened and checked.
OPENING_SECONDS = 30.0
MODEL_SECONDS = 120.0
MEGAPIXEL = 10**6


@dataclass
class _Watch:
    child: ChildProcess
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
        place = Path(self._runtime.name)
        self._secret = secrets.token_bytes(32)
        self.directory = Directory(place / "models.json")
        self._addresses = {model.name: str(place / f"m{number}") for number, model in enumerate(settings.models)}
        keeper = KeeperSpecification(settings, place / "models.json", str(place / "keeper"), self._secret)
        self.models = {model.name: self._model_process(model) for model in settings.models}
        self.keeper = ChildProcess("keeper", keeper_main, keeper, opening_seconds=OPENING_SECONDS)
        web = WebSpecification(settings, place / "models.json", str(place / "keeper"), self._secret)
        self.web = ChildProcess("web server", web_main, web, opening_seconds=OPENING_SECONDS)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ServingError: a process could not be started the first time.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        try:
            for model in self.models.values():
                model.launch()
            for model in self.models.values():
                model.wait()
            self._publish()
            self.keeper.launch()
            self.keeper.wait()
            self.web.launch()
            self.web.wait()
            self._tell()
            children = [*self.models.values(), self.keeper, self.web]
            self._watch([_Watch(child, time.monotonic()) for child in children])
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop everything, what takes requests first; twice does no harm."""
        self.web.stop()
        self.keeper.stop()
        for model in self.models.values():
            model.stop()
        self._runtime.cleanup()

    def _model_process(self, model: Model) -> ChildProcess:
        pixels = min(int(self.settings.limits.megapixels * MEGAPIXEL), MAX_PIXELS)
        specification = ModelSpecification(
            model, self.settings.folder.absolute(), self._addresses[model.name], self._secret, pixels
        )
        return ChildProcess(f"model {model.name}", model_main, specification, opening_seconds=MODEL_SECONDS)

    def _publish(self) -> None:
        runs = {model.name: str(model.run) for model in self.settings.models}
        self.directory.publish(
            [Served(name, runs[name], self._addresses[name], child.info) for name, child in self.models.items()]
        )

    def _ask_to_stop(self, *_: Any) -> None:
        self._stopping = True

    def _tell(self) -> None:
        settings = self.settings
        for name, model in self.models.items():
            self._say(f"Model {name}: {model.info['task']} on {model.info['engine']}")
        if settings.dicom is not None:
            self._say(f"DICOM: {settings.dicom.title} at {settings.dicom.host}:{self.keeper.info['dicom_port']}")
        scheme = "https" if settings.http.tls is not None else "http"
        self._say(f"Web: {scheme}://{settings.http.host}:{self.web.info['port']}")
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
            watch.child.launch()
            watch.child.wait()
        except ServingError as error:
            logger.error("%s", error)  # noqa: TRY400 - a sentence for a person
