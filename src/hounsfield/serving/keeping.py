"""The keeper's own process, seen from the outside."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable
from typing import Any

from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.serving.keeper import Keeper
from hounsfield.serving.orphans import end_with_parent
from hounsfield.serving.settings import ServeSettings

# Seconds within which the keeper listens.
OPENING_SECONDS = 30


class KeeperProcess:
    """The one process that writes records.

    Args:
        settings: of the service.
        models: gives, at each start, what the keeper has to know of the models.
        secret: of the models' sockets.
    """

    def __init__(self, settings: ServeSettings, models: Callable[[], dict[str, dict[str, Any]]], secret: bytes) -> None:
        self._settings = settings
        self._models = models
        self._secret = secret
        self._process: Any = None
        self.info: dict[str, Any] = {}

    def start(self) -> None:
        """Start the process, and wait until it listens; twice does no harm.

        Raises:
            ServingError: an address is taken, or the database cannot be opened.
        """
        if self.alive:
            return
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        arguments = (self._settings, self._models(), self._secret, there)
        self._process = spawn.Process(target=_main, args=arguments, name="keeper")
        self._process.start()
        there.close()
        try:
            word = here.recv() if here.poll(OPENING_SECONDS) else {"error": "It was not ready in time."}
        except EOFError:
            word = {"error": "Its process ended while it was started."}
        if "error" in word:
            self.stop()
            raise ServingError(f"The service cannot be started. {word['error']}")
        self.info = word

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.is_alive()

    @property
    def sentinel(self) -> int:
        """Becomes readable when it ends."""
        return int(self._process.sentinel)

    def stop(self, seconds: float = 30) -> None:
        """End it after what it works on; twice does no harm."""
        if self._process is None:
            return
        if self._process.is_alive():
            self._process.terminate()
            self._process.join(seconds)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _main(settings: ServeSettings, models: dict[str, dict[str, Any]], secret: bytes, parent: Any) -> None:
    """In the process of the keeper."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    end_with_parent(stop.set)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        keeper = Keeper(settings, models, secret)
        keeper.start()
    except (HounsfieldError, OSError) as error:
        parent.send({"error": str(error)})
        return
    parent.send({"dicom_port": keeper.node.port if keeper.node is not None else None})
    parent.close()
    stop.wait()
    keeper.stop()
