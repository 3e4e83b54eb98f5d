"""The DICOM node: answers C-ECHO, takes what C-STORE brings, hears what destinations committed to."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

from pydicom.uid import UID
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    DEFAULT_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    evt,
)
from pynetdicom.presentation import PresentationContext

from hounsfield.errors import ServingError
from hounsfield.serving.acknowledgement import Answer
from hounsfield.serving.certificates import server_context
from hounsfield.serving.intake import Intake
from hounsfield.serving.settings import Node
from hounsfield.serving.stores import Request, StoreReader, text
from hounsfield.serving.transport import sleep_until_something_happens

logger = logging.getLogger(__name__)

# PS3.4, B.2.3: what the sender is told.
STATUS: dict[Answer, int] = {
    Answer.STORED: 0x0000,
    Answer.KNOWN: 0x0000,
    Answer.UNREADABLE: 0xC000,
    Answer.MISMATCH: 0xA900,
    Answer.TOO_LARGE: 0xC001,
    Answer.FULL: 0xA700,
}
# SOP classes: PS3.4, annexes A and J.
VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
# Bytes of one fragment: larger ones make fewer.
MAX_PDU = 128 * 1024
# Seconds without a word after which an association is given up; a bare TCP connection as well.
IDLE_SECONDS = 60

# What was committed, of which destination: its title, SOPInstanceUID, and why not or "".
Committed = Callable[[str, str, str], None]
# An access for the audit: title, action, subject, outcome.
Noted = Callable[[str, str, str, str], None]


class DicomNode:
    """Listens for associations until it is stopped.

    Args:
        settings: title, address, callers.
        intake: takes the instances.
        committed: told of each result that a destination says it keeps, or does not.
        noted: told of each access.
    """

    def __init__(self, settings: Node, intake: Intake, *, committed: Committed, noted: Noted) -> None:
        self._settings = settings
        self._intake = intake
        self._committed = committed
        self._noted = noted
        self._server: Any = None

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ServingError: the address cannot be listened at, or the certificate cannot be read.
        """
        if self._server is not None:
            return self.port
        settings = self._settings
        entity = AE(ae_title=settings.title)
        entity.maximum_pdu_size = MAX_PDU
        entity.maximum_associations = settings.associations
        entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = IDLE_SECONDS
        entity.require_called_aet = True
        if settings.callers:
            entity.require_calling_aet = list(settings.callers)
        handlers: Any = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_N_EVENT_REPORT, self._report),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_CONN_OPEN, self._opened),
        ]
        context = server_context(settings.tls) if settings.tls is not None else None
        try:
            self._server = entity.start_server(
                (settings.host, settings.port),
                block=False,
                evt_handlers=handlers,
                ssl_context=context,
                contexts=_contexts(),
            )
        except OSError as error:
            raise ServingError(
                f"The DICOM node cannot listen at {settings.host}:{settings.port} ({error.strerror}). Stop what "
                "listens there, or choose another port (dicom.port)."
            ) from error
        return self.port

    @property
    def port(self) -> int:
        """That it listens at."""
        return int(self._server.socket.getsockname()[1])

    def stop(self) -> None:
        """End the associations and stop listening; twice does no harm."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _opened(self, event: Any) -> None:
        """Let an association sleep while nothing comes, and its C-STORE requests be read on the short way."""
        sleep_until_something_happens(event)
        association = event.assoc
        reader = StoreReader(
            association.dul,
            lambda request: self._keep(_title(event), request),
            contexts=lambda: _storage(association),
            max_bytes=self._intake.max_bytes,
        )
        association.dul._read_pdu_data = reader.read

    def _store(self, event: Any) -> int:
        """A C-STORE request that was fragmented in an unusual way."""
        request, context = event.request, event.context
        sop_class, uid = str(request.AffectedSOPClassUID).encode(), str(request.AffectedSOPInstanceUID).encode()
        dataset = memoryview(event.encoded_dataset(include_meta=False))
        syntax = str(context.transfer_syntax)
        return self._keep(_title(event), Request(context.context_id, syntax, b"", sop_class, uid, [dataset]))

    def _keep(self, source: str, request: Request) -> int:
        """Keep an instance, and return the status of the answer."""
        try:
            answer, reason = self._intake.receive_stored(request, source)
        except Exception:
            # The sender keeps what was not acknowledged.
            logger.exception("an instance could not be received")
            return STATUS[Answer.FULL]
        if reason:
            logger.warning("an instance was refused: %s", reason)
        self._noted(source, "C-STORE", text(request.instance), reason or "done")
        return STATUS[answer]

    def _echo(self, event: Any) -> int:
        self._noted(_title(event), "C-ECHO", "", "done")
        return 0x0000

    def _rejected(self, event: Any) -> None:
        self._noted(_title(event), "associate", "", "rejected")

    def _report(self, event: Any) -> tuple[int, None]:
        read_report(_title(event), event, self._committed)
        return 0x0000, None


def _storage(association: Any) -> dict[int, str]:
    """Number → transfer syntax of the contexts that were accepted for storage."""
    return {
        number: str(context.transfer_syntax[0])
        for number, context in association._accepted_cx.items()
        if context.abstract_syntax not in {VERIFICATION, COMMITMENT}
    }


class _Context(PresentationContext):
    """Copied for each association, which takes pynetdicom fifty milliseconds for all: its syntaxes never change."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Context:
        new = copy.copy(self)
        new._transfer_syntax = list(self._transfer_syntax)
        return new


def _contexts() -> list[PresentationContext]:
    """All storage classes in every transfer syntax, verification, and reports of commitment."""
    kinds = [str(storage.abstract_syntax) for storage in AllStoragePresentationContexts]
    contexts: list[PresentationContext] = [_context(kind, ALL_TRANSFER_SYNTAXES) for kind in kinds]
    # Destinations report as the provider of the service, some of them without saying so.
    commitment = _context(COMMITMENT, DEFAULT_TRANSFER_SYNTAXES)
    commitment.scu_role = commitment.scp_role = True
    return [*contexts, _context(VERIFICATION, DEFAULT_TRANSFER_SYNTAXES), commitment]


def _context(kind: str, syntaxes: Sequence[str]) -> PresentationContext:
    context = _Context()
    context.abstract_syntax, context.transfer_syntax = UID(kind), [UID(syntax) for syntax in syntaxes]
    return context


def read_report(title: str, event: Any, committed: Committed) -> None:
    """Tell what a destination commits to (PS3.4, J.3.3).

    Args:
        title: of the destination.
        event: an N-EVENT-REPORT.
        committed: told of each result.
    """
    report = event.event_information
    for item in report.get("ReferencedSOPSequence", []):
        committed(title, str(item.ReferencedSOPInstanceUID), "")
    for item in report.get("FailedSOPSequence", []):
        reason = f"the destination does not keep it (failure reason {int(item.get('FailureReason', 0)):#06x})"
        committed(title, str(item.ReferencedSOPInstanceUID), reason)


def _title(event: Any) -> str:
    return str(event.assoc.requestor.ae_title).strip()
