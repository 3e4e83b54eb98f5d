"""The processes of the service: started together, started again when one dies, stopped together."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import multiprocessing.connection
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.atomic import make_private
from hounsfield.errors import ServingError
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.serving.calls import Caller, CallServer, Functions
from hounsfield.serving.control import ServedRuns, alone, remove_control, write_control
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.processes import ChildProcess
from hounsfield.serving.settings import ServeSettings, is_loopback
from hounsfield.serving.specifications import KeeperSpecification, ModelSpecification, WebSpecification
from hounsfield.serving.tokens import Tokens

logger = logging.getLogger(__name__)

# Seconds before a process that died is started again, twice as long each time, and after which it is forgiven.
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
FORGIVEN_AFTER = 300.0
# Seconds within which a model is opened and checked, and within which the keeper and the web server listen, which wait
# for the models.
MODEL_SECONDS = 120.0
OPENING_SECONDS = MODEL_SECONDS + 30.0
# Modules of the processes. They are imported by these alone, so that the first of them starts at once.
KEEPER, MODEL, WEB = (f"hounsfield.serving.{name}" for name in ("keeper", "predicting", "web"))
# Needed at a swap alone, and slow to import.
COMPARING = "hounsfield.serving.comparing"
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
        self._number = 0
        make_private(settings.folder)
        # Names of sockets are short: folders of users are not.
        self._runtime = tempfile.TemporaryDirectory(prefix="hounsfield-")
        place = Path(self._runtime.name)
        self._secret = secrets.token_bytes(32)
        self.directory = Directory(place / "models.json")
        self._place = place
        self._changing, self._swapping = threading.Lock(), threading.Lock()
        self._runs = ServedRuns(settings)
        self._children = {
            model.name: self._model_process(model.name, self._runs.current(model.name), 0) for model in settings.models
        }
        keeper = KeeperSpecification(settings, place / "models.json", str(place / "keeper"), self._secret)
        self.keeper = ChildProcess("keeper", KEEPER, keeper, opening_seconds=OPENING_SECONDS)
        web = WebSpecification(
            settings, place / "models.json", str(place / "keeper"), str(place / "control"), self._secret
        )
        self.web = ChildProcess("web server", WEB, web, opening_seconds=OPENING_SECONDS)
        self._control: CallServer | None = None

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            ServingError: a process could not be started the first time, or another service runs in the folder.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        with alone(self.settings.folder):
            self._require_tokens()
            self._run()

    def _run(self) -> None:
        try:
            for child in (*self._children.values(), self.keeper, self.web):
                child.launch()
            for child in self._children.values():
                child.wait()
            self._publish()
            self.keeper.wait()
            self.web.wait()
            functions: Functions = {"swap": self.swap, "release_all": lambda: self._call_keeper("release_all")}
            self._control = CallServer(str(self._place / "control"), self._secret, functions)
            self._control.start()
            write_control(self.settings.folder, str(self._place / "control"), self._secret)
            self._tell()
            self._watch()
        finally:
            self.stop()

    def _require_tokens(self) -> None:
        http = self.settings.http
        if not is_loopback(http.host) and not Tokens(self.settings.folder, alone=False).all():
            raise ServingError(
                f"The web server would listen at {http.host}, and there is no token that tells who may ask. Make one "
                f"first: hounsfield serve --folder {self.settings.folder} --add-token NAME --role admin"
            )

    def stop(self) -> None:
        """Stop everything, what takes requests first; twice does no harm."""
        remove_control(self.settings.folder)
        for child in (self.web, self.keeper, *self._children.values()):
            child.stop()
        if self._control is not None:
            self._control.stop()
        self._runtime.cleanup()

    def swap(self, name: str, run: str | None, force: bool) -> dict[str, str]:
        """Serve another run under a model's name, once it is open and has given its known answer.

        It is compared with the old one on the test images of both. The process of the old one ends after what it works
        on; its folder is kept in mind for the way back.

        Args:
            name: of the model.
            run: the folder; ``None`` for the run that was served before.
            force: swap although the comparison speaks against it, or none is possible.

        Returns:
            ``bundle``, the identity of the new bundle, and ``comparison``, what was found in words.

        Raises:
            ServingError: there is nothing to return to, the run cannot be served, or the comparison speaks against it;
                the old one goes on.
        """
        with self._swapping:
            before = self._runs.current(name)
            wanted = self._runs.previous(name) if run is None else Path(run)
            compared = importlib.import_module(COMPARING).compared
            found = "" if run is None else compared(before, wanted, force=force)
            self._number += 1
            new = self._model_process(name, wanted, self._number)
            new.launch()
            new.wait()
            with self._changing:
                old, self._children[name] = self._children[name], new
                self._runs.set(name, wanted)
                self._publish()
                self._runs.save(name, previous=before)
        old.stop()
        return {"bundle": str(new.info["bundle"]), "comparison": found}

    def _call_keeper(self, function: str) -> Any:
        return Caller(str(self._place / "keeper"), self._secret, "The process that keeps the records")(function)

    def _model_process(self, name: str, run: Path, number: int) -> ChildProcess:
        model = next(each for each in self.settings.models if each.name == name).model_copy(update={"run": run})
        pixels = min(int(self.settings.limits.megapixels * MEGAPIXEL), MAX_PIXELS)
        address = str(self._place / f"m{list(self._runs.names).index(name)}-{number}")
        seconds = self.settings.limits.seconds
        specification = ModelSpecification(model, self.settings.folder, address, self._secret, pixels, seconds)
        return ChildProcess(f"model {name}", MODEL, specification, opening_seconds=MODEL_SECONDS)

    def _publish(self) -> None:
        self.directory.publish(
            [
                Served(name, str(self._runs.current(name)), child.argument.address, child.info)
                for name, child in self._children.items()
            ]
        )

    def _ask_to_stop(self, *_: Any) -> None:
        self._stopping = True

    def _tell(self) -> None:
        settings = self.settings
        for model in settings.models:
            info = self._children[model.name].info
            self._say(f"Model {model.name}: {info['task']} on {info['engine']}")
            if not model.rules.modality and not info["modality"]:
                self._say(
                    f"Model {model.name} was trained on images without a modality: it takes no study until its rules "
                    "name one (models[].rules.modality)."
                )
        if settings.dicom is not None:
            self._say(f"DICOM: {settings.dicom.title} at {settings.dicom.host}:{self.keeper.info['dicom_port']}")
        scheme = "https" if settings.http.tls is not None else "http"
        self._say(f"Web: {scheme}://{settings.http.host}:{self.web.info['port']}")
        self._say(f"Ready. Records and files: {settings.folder}. Stop with Ctrl+C.")

    def _watch(self) -> None:
        watches: dict[ChildProcess, _Watch] = {}
        while not self._stopping:
            with self._changing:
                children = [*self._children.values(), self.keeper, self.web]
            watches = {child: watches.get(child) or _Watch(child, time.monotonic()) for child in children}
            multiprocessing.connection.wait([child.sentinel for child in children if child.alive], timeout=0.2)
            for watch in watches.values():
                if watch.child.is_opening:
                    self._hear(watch.child)
                elif not watch.child.alive and not self._stopping:
                    self._start_again(watch, time.monotonic())

    def _hear(self, child: ChildProcess) -> None:
        """Take the word of a process that is being started again; others are watched meanwhile."""
        try:
            child.look()
        except ServingError as error:
            logger.error("%s", error)  # noqa: TRY400 - a sentence for a person

    def _start_again(self, watch: _Watch, now: float) -> None:
        if watch.due is None:
            watch.wait = FIRST_WAIT if now - watch.started > FORGIVEN_AFTER else watch.wait
            logger.error("a process ended unasked; it is started again in %.1f s", watch.wait)
            watch.due = now + watch.wait
        if now < watch.due:
            return
        watch.wait, watch.due, watch.started = min(2 * watch.wait, LONGEST_WAIT), None, now
        watch.child.launch()
