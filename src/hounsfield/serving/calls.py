"""What other processes ask of the keeper, which alone writes records: calls over a local socket."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from hounsfield.errors import HounsfieldError, ServingError

logger = logging.getLogger(__name__)

Functions = Mapping[str, Callable[..., Any]]


class RefusedCallError(ServingError):
    """What was asked for is wrong, and would be so again."""


class CallServer:
    """Answers calls until it is stopped, each connection in a thread of its own.

    Args:
        address: of the socket.
        secret: that callers have to know.
        functions: that can be called, by name; arguments and results are plain values.
    """

    def __init__(self, address: str, secret: bytes, functions: Functions) -> None:
        self._functions = functions
        Path(address).unlink(missing_ok=True)
        self._listener = Listener(address, family="AF_UNIX", backlog=128, authkey=secret)
        self._thread = threading.Thread(target=self._accept, name="calls", daemon=True)
        self._active = 0
        self._quiet = threading.Condition()

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, seconds: float = 30) -> None:
        """Stop listening, and wait until the calls that are under way have been answered."""
        self._listener.close()
        with self._quiet:
            self._quiet.wait_for(lambda: not self._active, seconds)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except AuthenticationError:
                continue
            except (OSError, EOFError):
                # A caller that went away; or the listener was closed.
                if self._listener._listener is None:  # type: ignore[attr-defined]  # there is no public word for it
                    return
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            while True:
                try:
                    name, arguments = connection.recv()
                    with self._busy():
                        connection.send(self._reply(name, arguments))
                except (OSError, EOFError):
                    return

    @contextmanager
    def _busy(self) -> Iterator[None]:
        with self._quiet:
            self._active += 1
        try:
            yield
        finally:
            with self._quiet:
                self._active -= 1
                self._quiet.notify_all()

    def _reply(self, name: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        try:
            return {"answer": self._functions[name](*arguments)}
        except HounsfieldError as error:
            return {"error": str(error), "refused": True}
        except Exception as error:
            logger.exception("the call %s failed", name)
            return {"error": f"An unexpected fault: {type(error).__name__}."}


class Caller:
    """Calls functions of a ``CallServer``; each thread has a connection of its own, opened again when it is lost.

    Args:
        address: of the socket.
        secret: that the server knows.
        what: who answers there, for messages.
        seconds: that an answer may take; ``None`` for no limit.
    """

    def __init__(self, address: str, secret: bytes, what: str, *, seconds: float | None = None) -> None:
        self._address = address
        self._secret = secret
        self._what = what
        self._seconds = seconds
        self._local = threading.local()

    def __call__(self, name: str, *arguments: Any) -> Any:
        """The result of a function.

        Raises:
            RefusedCallError: it refused.
            ServingError: it failed, or nobody answers; the same call may succeed later.
        """
        for last in (False, True):
            try:
                connection = self._connection()
                connection.send((name, arguments))
                self._wait(connection)
                reply = connection.recv()
                break
            except (OSError, EOFError, AuthenticationError) as error:
                was_open = getattr(self._local, "used", False)
                self._local.connection = None
                # A connection that was open may be that of a process that was replaced since.
                if last or not was_open:
                    raise ServingError(f"{self._what} does not answer, and is being started again.") from error
        self._local.used = True
        if "error" in reply:
            raise (RefusedCallError if reply.get("refused") else ServingError)(reply["error"])
        return reply["answer"]

    def _wait(self, connection: Connection) -> None:
        if not connection.poll(self._seconds):
            connection.close()
            self._local.connection = None
            raise ServingError(f"{self._what} took longer than {self._seconds:g} s.")

    def _connection(self) -> Connection:
        if getattr(self._local, "connection", None) is None:
            self._local.used = False
            self._local.connection = Client(self._address, family="AF_UNIX", authkey=self._secret)
        found: Connection = self._local.connection
        return found
