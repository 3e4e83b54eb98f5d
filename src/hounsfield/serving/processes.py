"""A process of the service: started, said to be ready by itself, watched, stopped; it ends with whoever started it."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import signal
import threading
from collections.abc import Callable
from typing import Any

from hounsfield.errors import HounsfieldError, ServingError

# Told once by a process: what others have to know of it.
Ready = Callable[[dict[str, Any]], None]
# What a process does: given its arguments, ``ready``, and an event that is set when it should end.
Main = Callable[[Any, Ready, threading.Event], None]


class ChildProcess:
    """One process of the service.

    Args:
        name: for messages.
        main: a function of a module, which the process runs.
        argument: that it is given; has to be picklable.
        opening_seconds: within which it has to be ready.
    """

    def __init__(self, name: str, main: Main, argument: Any, *, opening_seconds: float) -> None:
        self.name = name
        self.info: dict[str, Any] = {}
        self._main = main
        self.argument = argument
        self._opening_seconds = opening_seconds
        self._process: Any = None
        self._word: Any = None

    def launch(self) -> None:
        """Start the process without waiting for it; twice does no harm."""
        if self.alive:
            return
        spawn = multiprocessing.get_context("spawn")
        self._word, there = spawn.Pipe()
        self._process = spawn.Process(target=_run, args=(self._main, self.argument, there), name=self.name)
        self._process.start()
        there.close()

    def wait(self) -> None:
        """Wait until the process is ready.

        Raises:
            ServingError: it could not be started, or was not ready in time; it is stopped.
        """
        if self._word is None:
            return
        try:
            word = self._word.recv() if self._word.poll(self._opening_seconds) else {"error": "It took too long."}
        except EOFError:
            word = {"error": "Its process ended."}
        self._word = None
        if "error" in word:
            self.stop()
            raise ServingError(f"'{self.name}' could not be started. {word['error']}")
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


def _run(main: Main, argument: Any, parent: Any) -> None:
    """In the new process."""
    stop = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_end_with_parent, args=(stop,), name="parent", daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        main(argument, parent.send, stop)
    except (HounsfieldError, OSError) as error:
        parent.send({"error": str(error)})


def _end_with_parent(stop: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        stop.set()
