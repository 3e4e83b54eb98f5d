"""DICOM instances come in: checked, written as received, on record, and only then acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import UID

from hounsfield.atomic import flush_folder, make_private
from hounsfield.serving.acknowledgement import Answer, Instance
from hounsfield.serving.arrivals import Arrivals, name_of
from hounsfield.serving.header import ATTRIBUTES, IDENTIFIERS, Header, meta_information, read_header, read_values
from hounsfield.serving.register import Received
from hounsfield.serving.stores import Request, text

# The folder of instances within that of the service, and those in it, by the first two digits of a file's name.
PLACE = "instances"
FOLDERS = tuple(f"{number:02x}" for number in range(256))


@dataclass(frozen=True)
class Intake:
    """Takes DICOM files into the folder of the service.

    Attributes:
        folder: of the service.
        arrivals: keeps them.
        clock: seconds since 1970.
        max_bytes: of one file.
        free_bytes: that stay free on the disk.
    """

    folder: Path
    arrivals: Arrivals
    clock: Callable[[], float]
    max_bytes: int
    free_bytes: int

    def __post_init__(self) -> None:
        """Make the folders at once, so that no instance waits for one."""
        make_private(self.folder / PLACE)
        for name in FOLDERS:
            (self.folder / PLACE / name).mkdir(mode=0o700, exist_ok=True)
        flush_folder(self.folder / PLACE)

    def receive(self, content: bytes, source: str) -> tuple[Answer, Instance, str]:
        """Keep one DICOM file as it was received.

        Success is only said once the file and its name are on disk and a record of it is committed.

        Args:
            content: the bytes of the file, with its preamble and meta information.
            source: who sent it.

        Returns:
            The answer, which instance it is as far as this is known, and for a refusal the reason, which names no
            patient.
        """
        if len(content) > self.max_bytes:
            return Answer.TOO_LARGE, Instance(), self._too_large
        try:
            header = read_header(content)
        except Exception as error:  # noqa: BLE001 - pydicom raises many kinds for damaged files
            return Answer.UNREADABLE, Instance(), f"the file cannot be read ({type(error).__name__})"
        answer, reason = self._keep(content, header, source)
        uids = (header.values[name] for name in IDENTIFIERS)
        return answer, Instance(*(uid if UID(uid).is_valid else "" for uid in uids)), reason

    def receive_stored(self, request: Request, source: str) -> tuple[Answer, str]:
        """Keep the instance of a C-STORE request: its data set as it was received, behind meta information of ours.

        Args:
            request: with the whole data set.
            source: who sent it.

        Returns:
            As ``receive``.
        """
        uid, syntax = text(request.instance), request.syntax
        try:
            meta = meta_information(text(request.sop_class), uid, syntax)
            content = b"".join([meta, *request.fragments])
            if len(content) > self.max_bytes:
                return Answer.TOO_LARGE, self._too_large
            header = Header(uid, syntax, len(meta), read_values(content, len(meta), syntax))
        except Exception as error:  # noqa: BLE001 - pydicom raises many kinds for damaged data sets
            return Answer.UNREADABLE, f"the data set cannot be read ({type(error).__name__})"
        return self._keep(content, header, source)

    @property
    def _too_large(self) -> str:
        return f"more than the {self.max_bytes} bytes that are allowed"

    def _keep(self, content: bytes, header: Header, source: str) -> tuple[Answer, str]:
        values = header.values
        missing = [name for name in IDENTIFIERS if not UID(values[name]).is_valid]
        if missing:
            return Answer.UNREADABLE, f"no valid {', '.join(missing)}"
        if header.uid not in {"", values["SOPInstanceUID"]}:
            return Answer.MISMATCH, "the SOPInstanceUID of the data set is not the one that was named beside it"
        try:
            if shutil.disk_usage(self.folder).free - len(content) < self.free_bytes:
                return Answer.FULL, "the disk has too little free space"
            is_new = self.arrivals.keep(self._received(content, header, source), content, header.start, self.clock())
        except OSError as error:
            return Answer.FULL, f"the file cannot be kept ({error.strerror or type(error).__name__})"
        return (Answer.STORED if is_new else Answer.KNOWN), ""

    def _received(self, content: bytes, header: Header, source: str) -> Received:
        name, digest = name_of(content, header.start)
        values = header.values
        return Received(
            uid=values["SOPInstanceUID"],
            study_uid=values["StudyInstanceUID"],
            series_uid=values["SeriesInstanceUID"],
            sop_class=values["SOPClassUID"],
            transfer_syntax=header.transfer_syntax,
            path=f"{PLACE}/{name[:2]}/{name}.dcm",
            sha256=digest,
            size=len(content),
            source=source,
            attributes={name: values[name] for name in ATTRIBUTES},
        )
