"""The two ways to a destination: C-STORE with storage commitment, and STOW-RS."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pydicom
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from hounsfield.serving.certificates import client_context
from hounsfield.serving.database import Row
from hounsfield.serving.node import COMMITMENT, MAX_PDU, Committed, read_report
from hounsfield.serving.settings import Destination

logger = logging.getLogger(__name__)

# Seconds that a destination has for one answer.
ANSWER_SECONDS = 60
# The well-known instance to which commitment is addressed: PS3.4, J.3.5.
COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
# Statuses that say that an object is stored, or was before: PS3.4, B.2.3, and PS3.7, annex C.
_DONE = {0x0000, 0x0001, 0x0107, 0x0116}
_PASSING = {0x0110, 0x0213, 0xFE00}
# HTTP statuses of the 400s that pass.
_PASSING_WEB = {408, 409, 423, 425, 429}


class Word(NamedTuple):
    """What became of one delivery: the event of its lifecycle, and the reason where it failed."""

    event: Literal["deliver", "store", "reject", "fail"]
    reason: str = ""


class RefusedError(Exception):
    """The destination does not want to hear from us, and will not later either."""


class Way(Protocol):
    """A connection to a destination."""

    def send(self, row: Row) -> Word:
        """Send the result of one delivery."""

    def ask_commitment(self, rows: Sequence[Row]) -> None:
        """Ask the destination to confirm that it keeps what it was sent; a missing answer shows at the deadline."""


def outcome_of(status: int | None) -> Word:
    """What a status of C-STORE means; passing faults are tried again, a refusal of what was sent is not."""
    if status is None:
        return Word("fail", "no answer")
    if status in _DONE or 0xB000 <= status <= 0xBFFF:
        return Word("deliver")
    if 0xA700 <= status <= 0xA7FF or status in _PASSING:
        return Word("fail", f"the destination is out of resources or failed (status {status:#06x})")
    return Word("reject", f"the destination refuses it (status {status:#06x})")


class _OverDicom:
    """One association."""

    def __init__(self, association: Any, folder: Path, commitment: bool) -> None:
        self._association = association
        self._folder = folder
        self._commitment = commitment

    def send(self, row: Row) -> Word:
        """See ``Way``."""
        if not self._association.is_established:
            return Word("fail", "the destination ended the association")
        try:
            status = self._association.send_c_store(self._folder / row["path"])
        except ValueError as error:
            # No context was accepted for this class of objects.
            return Word("reject", f"the destination does not take objects of this kind ({error})")
        word = outcome_of(status.Status if "Status" in status else None)
        return Word("store") if word.event == "deliver" and self._commitment else word

    def ask_commitment(self, rows: Sequence[Row]) -> None:
        """See ``Way``."""
        request = Dataset()
        request.TransactionUID = generate_uid()
        request.ReferencedSOPSequence = [_reference(row) for row in rows]
        try:
            status, _ = self._association.send_n_action(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
        except (ValueError, RuntimeError) as error:
            logger.warning("the destination does not commit itself: %s", error)
            return
        if "Status" not in status or status.Status != 0:
            logger.warning("the destination refused the request for commitment")


def _reference(row: Row) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = row["sop_class"], row["uid"]
    return item


@contextmanager
def over_dicom(
    destination: Destination, folder: Path, rows: Sequence[Row], *, title: str, committed: Committed
) -> Iterator[Way]:
    """An association with a DICOM node, for the results of some deliveries.

    Raises:
        RefusedError: the node rejects the association.
        OSError: it cannot be reached.
    """
    entity = AE(ae_title=title)
    entity.maximum_pdu_size = MAX_PDU
    entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = ANSWER_SECONDS
    entity.connection_timeout = ANSWER_SECONDS
    syntaxes: dict[str, set[str]] = {}
    for row in rows:
        meta = pydicom.filereader.read_file_meta_info(str(folder / row["path"]))
        syntaxes.setdefault(row["sop_class"], set()).add(str(meta.TransferSyntaxUID))
    for sop_class, names in syntaxes.items():
        entity.add_requested_context(sop_class, sorted(names))
    if destination.commitment:
        entity.add_requested_context(COMMITMENT)
    host, port = str(destination.host), int(destination.port or 0)
    association = entity.associate(
        host,
        port,
        ae_title=str(destination.title),
        tls_args=(client_context(destination.tls), host) if destination.tls is not None else None,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, _reporter(str(destination.title), committed))],
    )
    if association.is_rejected:
        raise RefusedError("the destination rejects the association: see its list of known callers")
    if not association.is_established:
        raise OSError("the destination cannot be reached")
    try:
        yield _OverDicom(association, folder, destination.commitment)
    finally:
        association.release()


def _reporter(title: str, committed: Committed) -> Callable[[Any], tuple[int, None]]:
    """Of a destination that commits itself on the association that asked."""

    def handle(event: Any) -> tuple[int, None]:
        read_report(title, event, committed)
        return 0x0000, None

    return handle


class _OverWeb:
    """One session with a DICOMweb server."""

    def __init__(self, client: Any, folder: Path) -> None:
        self._client = client
        self._folder = folder

    def send(self, row: Row) -> Word:
        """See ``Way``."""
        dataset = pydicom.dcmread(self._folder / row["path"])
        series, study = str(dataset.SeriesInstanceUID), str(dataset.StudyInstanceUID)
        try:
            answer = self._client.store_instances([dataset])
            failed = answer.get("FailedSOPSequence", [])
            if failed:
                word = outcome_of(int(failed[0].get("FailureReason", 0x0110)))
                return word if word.event != "deliver" else Word("fail", "it was not stored")
            # Servers are known that say 200 and store nothing.
            found = self._client.search_for_instances(study, series, search_filters={"SOPInstanceUID": row["uid"]})
        except Exception as error:  # noqa: BLE001 - requests, retries and parsing have errors of their own
            return _web_word(error)
        return Word("deliver") if found else Word("fail", "the server says it stored the object, and has none")

    def ask_commitment(self, rows: Sequence[Row]) -> None:
        """What was stored here was searched for already."""


def _web_word(error: Exception) -> Word:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and 400 <= status < 500 and status not in _PASSING_WEB:
        return Word("reject", f"the server refuses it (HTTP {status})")
    return Word("fail", f"the server cannot be reached or failed ({type(error).__name__})")


@contextmanager
def over_web(destination: Destination, folder: Path) -> Iterator[Way]:
    """A session with a DICOMweb server; a token comes from the environment variable that the destination names."""
    headers = {"Authorization": f"Bearer {os.environ[destination.token]}"} if destination.token else {}
    client = DICOMwebClient(str(destination.url), headers=headers)
    client.set_http_retry_params(retry=False)
    yield _OverWeb(client, folder)
