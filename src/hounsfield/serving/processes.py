"""A process of the service: started, said to be ready by itself, watched, stopped; it ends with whoever started it."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import multiprocessing.connection
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hounsfield.errors import HounsfieldError, ServingError

# Told once by a process: what others have to know of it.
Ready = Callable[[dict[str, Any]], None]
# What a process does: given its arguments, ``ready``, and an event that is set when it should end.
Main = Callable[[Any, Ready, threading.Event], None]

# Seconds between looks for what another process makes.
LOOK_SECONDS = 0.01


class ChildProcess:
    """One process of the service.

    Args:
        name: for messages.
        module: that the process runs: its ``main``, a ``Main``. Nobody else has to import it.
        argument: that it is given; has to be picklable.
        opening_seconds: within which it has to be ready.
    """

    def __init__(self, name: str, module: str, argument: Any, *, opening_seconds: float) -> None:
        self.name = name
        self.info: dict[str, Any] = {}
        self._module = module
        self.argument = argument
        self._opening_seconds = opening_seconds
        self._process: Any = None
        self._word: Any = None
        self._deadline = 0.0

    def launch(self) -> None:
        """Start the process without waiting for it; twice does no harm."""
        if self.alive:
            return
        spawn = multiprocessing.get_context("spawn")
        self._word, there = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(self._module, self.argument, there), name=self.name)
        self._process.start()
        self._deadline = time.monotonic() + self._opening_seconds
        there.close()

    def wait(self) -> None:
        """Wait until the process is ready.

        Raises:
            ServingError: it could not be started, or was not ready in time; it is stopped.
        """
        while self.is_opening:
            self.look(self._deadline - time.monotonic())

    def look(self, seconds: float = 0) -> None:
        """Hear whether the process is ready, and wait for its word no longer than so many seconds.

        Raises:
            ServingError: it could not be started, or was not ready in time; it is stopped.
        """
        if self._word is None:
            return
        try:
            if self._word.poll(max(seconds, 0)):
                word = self._word.recv()
            elif time.monotonic() < self._deadline:
                return
            else:
                word = {"error": "It took too long."}
        except EOFError:
            word = {"error": "Its process ended."}
        self._word = None
        if "error" in word:
            self.stop(seconds=1)
            raise ServingError(f"'{self.name}' could not be started. {word['error']}")
        self.info = word

    @property
    def is_opening(self) -> bool:
        """Whether it was launched, and has not said yet that it is ready."""
        return self._word is not None

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


def wait_for(path: Path | str, stop: threading.Event) -> bool:
    """Wait until another process has made a file or a socket; ``False`` where the service stops before that."""
    while not (stop.is_set() or Path(path).exists()):
        stop.wait(LOOK_SECONDS)
    return not stop.is_set()


def _run(module: str, argument: Any, parent: Any) -> None:
    """In the new process."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_end_with_parent, args=(stop,), name="parent", daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    main: Main = importlib.import_module(module).main
    try:
        main(argument, parent.send, stop)
    except (HounsfieldError, OSError) as error:
        parent.send({"error": str(error)})


def _end_with_parent(stop: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        stop.set()
