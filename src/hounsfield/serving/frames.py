"""Small requests at high rates: many at a time over one local socket, as frames of JSON with a number each.

The event loop of the web server waits for the answers without a thread for each; the model's process predicts together
what waits together. The socket lies in a folder that nobody else can enter.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hounsfield.errors import ServingError
from hounsfield.serving.calls import RefusedCallError

_HEAD = struct.Struct("!I")
# Gives the answer to one request: {"answer": …} or {"error": …, "refused": …}.
Answer = Callable[[dict[str, Any]], None]
Handle = Callable[[Any, Answer], None]


def frames_address(address: str) -> str:
    """The second socket of a model's process, for small requests at high rates."""
    return f"{address}f"


class FrameServer:
    """Hands each request to a function that answers when it can.

    Args:
        address: of the socket.
        handle: given what was asked and where to put the answer; must not block.
    """

    def __init__(self, address: str, handle: Handle) -> None:
        Path(address).unlink(missing_ok=True)
        self._handle = handle
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen(128)

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._accept, name="frames", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        lock = threading.Lock()

        def answer_to(number: int) -> Answer:
            def answer(reply: dict[str, Any]) -> None:
                content = json.dumps(reply | {"number": number}).encode()
                try:
                    with lock:
                        connection.sendall(_HEAD.pack(len(content)) + content)
                except OSError:
                    # Who asked is gone.
                    connection.close()

            return answer

        with connection, connection.makefile("rb") as stream:
            while head := stream.read(_HEAD.size):
                request = json.loads(stream.read(_HEAD.unpack(head)[0]))
                self._handle(request["asked"], answer_to(request["number"]))


class FrameClient:
    """Asks a ``FrameServer`` from one event loop; a connection that is lost is opened again by the next request.

    Args:
        address: of the socket.
        what: who answers there, for messages.
    """

    def __init__(self, address: str, what: str) -> None:
        self._address = address
        self._what = what
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._opening = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, asked: Any) -> Any:
        """The answer.

        Raises:
            RefusedCallError: the request was refused.
            ServingError: it failed, or nobody answers; it may succeed later.
        """
        number = next(self._numbers)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        content = json.dumps({"number": number, "asked": asked}).encode()
        try:
            writer = await self._open()
            self._waiting[number] = reply
            writer.write(_HEAD.pack(len(content)) + content)
            found = await reply
        except OSError as error:
            raise ServingError(f"{self._what} does not answer, and is being started again.") from error
        finally:
            self._waiting.pop(number, None)
        if "error" in found:
            raise (RefusedCallError if found.get("refused") else ServingError)(found["error"])
        return found["answer"]

    async def _open(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None or self._writer.is_closing():
                reader, self._writer = await asyncio.open_unix_connection(self._address)
                self._reading = asyncio.create_task(self._read(reader, self._writer))
            return self._writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(_HEAD.size)
                reply = json.loads(await reader.readexactly(_HEAD.unpack(head)[0]))
                future = self._waiting.get(reply["number"])
                if future is not None and not future.done():
                    future.set_result(reply)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionResetError())
