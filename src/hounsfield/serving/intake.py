"""DICOM instances come in: checked, written as received, registered, and only then acknowledged."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import read_preamble
from pydicom.uid import UID

from hounsfield.atomic import flush_folder, make_private
from hounsfield.serving.faults import reached
from hounsfield.serving.register import Received, Register

# What rules and lists need of an image.
ATTRIBUTES = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "Modality",
    "BodyPartExamined",
    "SeriesDescription",
    "SeriesNumber",
    "ViewPosition",
    "ImageLaterality",
)
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# The folder of instances within that of the service, and those in it, by the first two digits of a file's name.
PLACE = "instances"
FOLDERS = tuple(f"{number:02x}" for number in range(256))


class Answer(Enum):
    """What the sender of an instance is told."""

    STORED = "stored"
    KNOWN = "known"
    UNREADABLE = "unreadable"
    MISMATCH = "mismatch"
    TOO_LARGE = "too large"
    FULL = "full"


@dataclass(frozen=True)
class Intake:
    """Takes DICOM files into the folder of the service.

    Attributes:
        folder: of the service.
        register: of the instances.
        clock: seconds since 1970.
        max_bytes: of one file.
        free_bytes: that stay free on the disk.
    """

    folder: Path
    register: Register
    clock: Callable[[], float]
    max_bytes: int
    free_bytes: int

    def __post_init__(self) -> None:
        """Make the folders at once, so that no instance waits for one."""
        make_private(self.folder / PLACE)
        for name in FOLDERS:
            (self.folder / PLACE / name).mkdir(mode=0o700, exist_ok=True)
        flush_folder(self.folder / PLACE)

    def receive(self, content: bytes, source: str, *, expected_uid: str | None = None) -> tuple[Answer, str]:
        """Keep one DICOM file as it was received.

        Success is only said once the file and its name are on disk and the record is committed.

        Args:
            content: the bytes of the file, with its preamble and meta information.
            source: who sent it.
            expected_uid: the SOPInstanceUID that the sender named beside the file.

        Returns:
            The answer, and for a refusal the reason, which names no patient.
        """
        if len(content) > self.max_bytes:
            return Answer.TOO_LARGE, f"{len(content)} bytes are more than the {self.max_bytes} allowed"
        try:
            header, start = _header(content)
        except Exception as error:  # noqa: BLE001 - pydicom raises many kinds for damaged files
            return Answer.UNREADABLE, f"the data set cannot be read ({type(error).__name__})"
        missing = [name for name in _IDENTIFIERS if not UID(str(header.get(name, ""))).is_valid]
        if missing:
            return Answer.UNREADABLE, f"no valid {', '.join(missing)}"
        uid = str(header.SOPInstanceUID)
        named = {str(expected_uid or uid), str(header.file_meta.get("MediaStorageSOPInstanceUID", uid)), uid}
        if len(named) > 1:
            return Answer.MISMATCH, "the SOPInstanceUID differs between the message and the data set"
        try:
            return self._keep(content, header, start, source), ""
        except OSError as error:
            return Answer.FULL, f"the file cannot be kept ({error.strerror or type(error).__name__})"

    def _keep(self, content: bytes, header: pydicom.Dataset, start: int, source: str) -> Answer:
        if shutil.disk_usage(self.folder).free - len(content) < self.free_bytes:
            return Answer.FULL
        digest = hashlib.sha256(memoryview(content)[start:]).hexdigest()
        uid = str(header.SOPInstanceUID)
        if self.register.knows(uid, digest):
            return Answer.KNOWN
        name = hashlib.sha256(content).hexdigest()
        path = self.folder / PLACE / name[:2] / f"{name}.dcm"
        _write(path, content)
        reached("instance.written")
        received = Received(
            uid=uid,
            study_uid=str(header.StudyInstanceUID),
            series_uid=str(header.SeriesInstanceUID),
            sop_class=str(header.SOPClassUID),
            transfer_syntax=str(header.file_meta.TransferSyntaxUID),
            path=path.relative_to(self.folder).as_posix(),
            sha256=digest,
            size=len(content),
            source=source,
            attributes={name: str(header.get(name, "")) for name in ATTRIBUTES},
        )
        is_new = self.register.receive(received, self.clock())
        reached("instance.registered")
        return Answer.STORED if is_new else Answer.KNOWN


def _header(content: bytes) -> tuple[Any, int]:
    """The data set without its pixels, and where it begins behind the meta information."""
    file = BytesIO(content)
    read_preamble(file, force=False)
    header = pydicom.dcmread(
        BytesIO(content), stop_before_pixels=True, specific_tags=[*_IDENTIFIERS, *ATTRIBUTES, "SpecificCharacterSet"]
    )
    group = header.file_meta.get("FileMetaInformationGroupLength")
    # Preamble, "DICM", and the element of the group's length, which counts from behind itself.
    start = 128 + 4 + 12 + int(group) if group else 0
    return header, min(start, len(content))


def _write(path: Path, content: bytes) -> None:
    """Write a file whose name only its content can have; on disk, with its name, when this returns.

    It has its own name at once: nothing refers to it before its record is committed, and what a process that died left
    half-written is written again, or removed at the next start. File and folder are flushed side by side.
    """
    is_there = path.is_file() and path.read_bytes() == content
    descriptor = os.open(path, os.O_WRONLY if is_there else os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        if not is_there:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
        # A process that died may have written all of it, and flushed nothing.
        folder = _FLUSHERS.submit(flush_folder, path.parent)
        os.fsync(descriptor)
        folder.result()
    finally:
        os.close(descriptor)


_FLUSHERS = ThreadPoolExecutor(8, "flush")
