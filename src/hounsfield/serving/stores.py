"""C-STORE on a short way: requests are read and answered by the thread that reads the connection.

pynetdicom decodes each fragment of a data set several times and hands it through queues to a second thread, which takes
more of the processor than all that is done with the instance. Everything but C-STORE is left to it, and so are commands
that are fragmented.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Types of PDU: PS3.8, 9.3.1. Events and state of the upper layer: PS3.8, 9.2.
_P_DATA, _KNOWN = 0x04, range(0x01, 0x08)
_CLOSED, _INVALID, _DATA_TRANSFER = "Evt17", "Evt19", "Sta6"
# Bits of the message control header (PS3.8, E.2).
_COMMAND, _LAST = 1, 2
# Of a command set (PS3.7, 9.3.1 and E.1).
_C_STORE, _RESPONSE, _NO_DATASET = 0x0001, 0x8001, 0x0101
_SOP_CLASS, _FIELD, _MESSAGE, _RESPONDED, _KIND, _STATUS, _INSTANCE = 0x2, 0x100, 0x110, 0x120, 0x800, 0x900, 0x1000
_HEAD, _VALUE, _ELEMENT, _SHORT = (
    struct.Struct(">BxI"),
    struct.Struct(">IBB"),
    struct.Struct("<HHI"),
    struct.Struct("<H"),
)
# Bytes of one PDU; we ask for far smaller ones.
_LONGEST = 2**24


@dataclass(frozen=True)
class Request:
    """A C-STORE request.

    Attributes:
        context: number of its presentation context.
        syntax: transfer syntax of the data set.
        message: its MessageID, as encoded.
        sop_class: AffectedSOPClassUID, as encoded.
        instance: AffectedSOPInstanceUID, as encoded.
        fragments: of the data set, in their order.
    """

    context: int
    syntax: str
    message: bytes
    sop_class: bytes
    instance: bytes
    fragments: list[memoryview] = field(default_factory=list)

    def response(self, status: int) -> bytes:
        """The PDU that answers it (PS3.7, 9.3.1.2)."""
        short = _SHORT.pack
        command = write_command(
            {
                _SOP_CLASS: self.sop_class,
                _FIELD: short(_RESPONSE),
                _RESPONDED: self.message,
                _KIND: short(_NO_DATASET),
                _STATUS: short(status),
                _INSTANCE: self.instance,
            }
        )
        value = _VALUE.pack(len(command) + 2, self.context, _COMMAND | _LAST) + command
        return _HEAD.pack(_P_DATA, len(value)) + value


# Keeps an instance, and says with which status this is answered.
Store = Callable[[Request], int]


class StoreReader:
    """Reads the PDUs of one association in place of its provider's own function.

    Args:
        provider: of the upper layer, of pynetdicom.
        store: given each request with its whole data set.
        contexts: gives those of the association for storage: number → transfer syntax.
        max_bytes: of a data set; of a larger one no more than this and a fragment is kept.
    """

    def __init__(
        self, provider: Any, store: Store, *, contexts: Callable[[], Mapping[int, str]], max_bytes: int
    ) -> None:
        self._provider = provider
        self._store = store
        self._contexts = contexts
        self._max_bytes = max_bytes
        self._request: Request | None = None
        self._size = 0

    def read(self) -> None:
        """Read the next PDU: a part of a C-STORE request is dealt with, any other is passed on."""
        pdu = self._next()
        if isinstance(pdu, str):
            self._provider.event_queue.put(pdu)
        elif pdu[0] != _P_DATA or not self._take(pdu):
            self._pass_on(pdu)

    def _next(self) -> bytearray | str:
        """The next PDU, or the event that there is none."""
        try:
            head = self._provider.socket.recv(_HEAD.size)
            if len(head) < _HEAD.size:
                return _CLOSED
            kind, length = _HEAD.unpack(head)
            if kind not in _KNOWN or length > _LONGEST:
                return _INVALID
            body = self._provider.socket.recv(length)
        except OSError:
            return _CLOSED
        return head + body if len(body) == length else _CLOSED

    def _pass_on(self, pdu: bytearray) -> None:
        try:
            decoded, event = self._provider._decode_pdu(pdu)
        except Exception:  # noqa: BLE001 - a peer's PDU may be damaged in any way
            self._provider.event_queue.put(_INVALID)
            return
        self._provider.event_queue.put(event)
        self._provider._recv_pdu.put(decoded)

    def _take(self, pdu: bytearray) -> bool:
        """Take the parts of C-STORE requests in a PDU; ``False`` where it is for others."""
        if self._provider.state_machine.current_state != _DATA_TRANSFER:
            return False
        try:
            values = list(split(pdu))
        except ValueError:
            return self._refuse()
        if self._request is None and (not values or not self._begin(*values.pop(0))):
            return False
        for context, control, fragment in values:
            if self._request is None:
                # Another message in the same PDU, which is done only by agreement (PS3.7, D.3.3.3).
                is_right = self._begin(context, control, fragment)
            else:
                is_right = self._continue(self._request, context, control, fragment)
            if not is_right:
                return self._refuse()
        return True

    def _refuse(self) -> bool:
        """End the association, whose peer does not keep to the protocol."""
        self._provider.event_queue.put(_INVALID)
        return True

    def _begin(self, context: int, control: int, fragment: memoryview) -> bool:
        """Begin a request; whether this is the whole command of one."""
        found = self._contexts().get(context, "")
        if not found or control != _COMMAND | _LAST:
            return False
        try:
            command = read_command(fragment)
            if _SHORT.unpack(command[_FIELD])[0] != _C_STORE or _SHORT.unpack(command[_KIND])[0] == _NO_DATASET:
                return False
            self._request = Request(context, found, command[_MESSAGE], command[_SOP_CLASS], command[_INSTANCE])
        except (KeyError, ValueError, struct.error):
            return False
        self._size = 0
        return True

    def _continue(self, request: Request, context: int, control: int, fragment: memoryview) -> bool:
        """Take a fragment of the data set; whether it is one of this request."""
        if context != request.context or control & _COMMAND:
            return False
        if self._size <= self._max_bytes:
            request.fragments.append(fragment)
        self._size += len(fragment)
        if control & _LAST:
            self._request = None
            self._provider.socket.send(request.response(self._store(request)))
        return True


def split(pdu: bytearray) -> Iterator[tuple[int, int, memoryview]]:
    """Number of the context, control header and fragment of each value of a P-DATA-TF PDU (PS3.8, 9.3.5).

    Raises:
        ValueError: the lengths do not fit.
    """
    view, place = memoryview(pdu), _HEAD.size
    while place < len(view):
        if place + _VALUE.size > len(view):
            raise ValueError("a value has no header")
        length, context, control = _VALUE.unpack_from(view, place)
        end = place + 4 + length
        if length < 2 or end > len(view):
            raise ValueError("the length of a value does not fit")
        yield context, control, view[place + _VALUE.size : end]
        place = end


def read_command(content: memoryview) -> dict[int, bytes]:
    """Element number → value of a command set: group 0000, implicit VR, little endian (PS3.7, 6.3.1).

    Raises:
        ValueError: it is damaged.
    """
    found, place = {}, 0
    while place < len(content):
        head = content[place : place + _ELEMENT.size]
        group, number, length = _ELEMENT.unpack(head) if len(head) == _ELEMENT.size else (1, 0, 0)
        place += _ELEMENT.size
        if group or place + length > len(content):
            raise ValueError("this is no command set")
        found[number] = bytes(content[place : place + length])
        place += length
    return found


def write_command(values: dict[int, bytes]) -> bytes:
    """A command set of values by element number, in ascending order, with its length before it."""
    elements = b"".join(_ELEMENT.pack(0, number, len(value)) + value for number, value in values.items())
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(elements)) + elements


def text(value: bytes) -> str:
    """A UID as it was encoded, as text without its padding."""
    return value.decode("ascii", "replace").rstrip("\0 ")
