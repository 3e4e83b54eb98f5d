"""Messages between a process and its worker: pickled values with their length in front, over pipes of their own."""

from __future__ import annotations

import pickle
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct(">Q")


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message.

    Raises:
        OSError: the other end is gone.
    """
    content = pickle.dumps(message)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message.

    Raises:
        EOFError: the other end is gone.
    """
    length = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    # Both ends are ours, and the pipe has no name that another program could open.
    return pickle.loads(_exactly(stream, length))  # noqa: S301


def _exactly(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if content is None or len(content) < count:
        raise EOFError("the other end is gone")
    return content
