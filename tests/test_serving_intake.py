"""What comes in by C-STORE: read in any fragments, kept byte for byte, on disk before it is acknowledged."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom import AE

from dicom_samples import make_dicom
from hounsfield.serving import arrivals as arrivals_module
from hounsfield.serving import statements as sql
from hounsfield.serving.acknowledgement import Answer
from hounsfield.serving.arrivals import Arrivals, name_of
from hounsfield.serving.database import DATABASE, Database
from hounsfield.serving.header import ATTRIBUTES, IDENTIFIERS, meta_information, read_header
from hounsfield.serving.intake import Intake
from hounsfield.serving.lifecycle import Timing
from hounsfield.serving.node import DicomNode
from hounsfield.serving.register import Register
from hounsfield.serving.settings import Node
from hounsfield.serving.stores import read_command, write_command

MAX_BYTES = 2**20
COMMAND_LAST, COMMAND, DATA, DATA_LAST = 3, 1, 0, 2


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    folder = tmp_path / "service"
    folder.mkdir()
    database = Database(folder / DATABASE)
    register = Register(database, Timing(), models=lambda *_: {}, destinations=lambda *_: [])
    yield Intake(folder, Arrivals(folder, register), time.time, MAX_BYTES, 0)
    database.close()


@pytest.fixture
def node(intake: Intake) -> Iterator[DicomNode]:
    node = DicomNode(Node(port=0), intake, committed=lambda *_: None, noted=lambda *_: None)
    node.start()
    yield node
    node.stop()


@contextlib.contextmanager
def association(node: DicomNode) -> Iterator[Any]:
    entity = AE("SENDER")
    entity.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    entity.add_requested_context("1.2.840.10008.1.1")
    found = entity.associate("127.0.0.1", node.port, ae_title="HOUNSFIELD")
    assert found.is_established
    try:
        yield found
    finally:
        found.release()


def sample(folder: Path, number: int = 0) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 4000, (50, 60)).astype(np.uint16)
    return make_dicom(folder / "a.dcm", pixels, SOPInstanceUID=f"1.2.3.{number + 1}").read_bytes()


def dataset_of(content: bytes) -> bytes:
    return content[144 + int.from_bytes(content[140:144], "little") :]


def command_of(uid: bytes, kind: int = 1) -> bytes:
    even = uid + b"\0" * (len(uid) % 2)
    values = {0x2: CTImageStorage.encode() + b"\0", 0x100: b"\1\0", 0x110: b"\7\0", 0x700: b"\0\0"}
    return write_command(values | {0x800: struct.pack("<H", kind), 0x1000: even})


def pdu(*values: tuple[int, bytes], context: int = 1) -> bytes:
    content = b"".join(struct.pack(">IBB", len(data) + 2, context, control) + data for control, data in values)
    return struct.pack(">BxI", 4, len(content)) + content


def answer_of(sender: Any) -> dict[int, bytes]:
    """The response to what was sent past pynetdicom, by the socket of its association."""
    content = sender.recv(6)
    length = struct.unpack(">BxI", content)[1]
    body = bytearray()
    while len(body) < length:
        body += sender.recv(length - len(body))
    assert body[5] == COMMAND_LAST
    return read_command(memoryview(body)[6:])


@contextlib.contextmanager
def quiet(found: Any) -> Iterator[Any]:
    """The bare socket of an association, whose own threads do not read it meanwhile."""
    read, found.dul._is_transport_event = found.dul._is_transport_event, lambda: False
    time.sleep(0.05)
    try:
        yield found.dul.socket.socket
    finally:
        found.dul._is_transport_event = read


def kept(intake: Intake) -> list[bytes]:
    """The data sets of all instances."""
    intake.arrivals.enter()
    rows = intake.arrivals._register.database.rows("SELECT path FROM instance ORDER BY uid")
    return [dataset_of((intake.folder / row["path"]).read_bytes()) for row in rows]


def split(command: bytes, dataset: bytes, how: str) -> list[bytes]:
    """The PDUs of a request, fragmented in one of several ways."""
    pieces = [dataset[place : place + 97] for place in range(0, len(dataset), 97)]
    fragments = [(DATA, piece) for piece in pieces[:-1]] + [(DATA_LAST, pieces[-1])]
    if how == "each in a PDU":
        return [pdu((COMMAND_LAST, command)), *map(pdu, fragments)]
    if how == "several in a PDU":
        return [pdu((COMMAND_LAST, command)), pdu(*fragments[:5]), pdu(*fragments[5:])]
    if how == "all in one PDU":
        return [pdu((COMMAND_LAST, command), *fragments)]
    if how == "an empty one at the end":
        return [pdu((COMMAND_LAST, command)), pdu((DATA, dataset)), pdu((DATA_LAST, b""))]
    return [pdu((COMMAND, command[:40])), pdu((COMMAND_LAST, command[40:])), *map(pdu, fragments)]


@pytest.mark.parametrize(
    "how",
    ["each in a PDU", "several in a PDU", "all in one PDU", "an empty one at the end", "the command in two"],
)
def test_requests_are_read_in_any_fragments(node, intake, tmp_path, how):
    contents = [sample(tmp_path, number) for number in range(2)]
    with association(node) as found:
        with quiet(found) as sender:
            for number, content in enumerate(contents):
                for part in split(command_of(f"1.2.3.{number + 1}".encode()), dataset_of(content), how):
                    sender.sendall(part)
                response = answer_of(sender)
                assert response[0x900] == b"\0\0"
                assert (response[0x100], response[0x120], response[0x800]) == (b"\1\x80", b"\7\0", b"\1\1")
                assert response[0x1000].rstrip(b"\0") == f"1.2.3.{number + 1}".encode()
        assert found.send_c_echo().Status == 0
    assert kept(intake) == [dataset_of(content) for content in contents]


def test_a_data_set_that_is_too_large_is_refused_and_not_held(node, intake, tmp_path):
    small = dataset_of(sample(tmp_path))
    with association(node) as found:
        with quiet(found) as sender:
            tracemalloc.start()
            sender.sendall(pdu((COMMAND_LAST, command_of(b"1.2.3.1"))))
            for _ in range(30 * MAX_BYTES // 100_000):
                sender.sendall(pdu((DATA, bytes(100_000))))
            sender.sendall(pdu((DATA_LAST, b"\0\0")))
            assert answer_of(sender)[0x900] == struct.pack("<H", 0xC001)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert found.send_c_store(tmp_path / "a.dcm").Status == 0
    assert peak < 8 * MAX_BYTES
    assert kept(intake) == [small]


@pytest.mark.parametrize(
    "parts",
    [
        [pdu((COMMAND_LAST, command_of(b"1.2.3.1"))), pdu((DATA, b"\0\0"), context=3)],
        [pdu((COMMAND_LAST, command_of(b"1.2.3.1"))), pdu((COMMAND_LAST, command_of(b"1.2.3.2")))],
        [struct.pack(">BxI", 4, 2**32 - 1), bytes(1000)],
        [pdu((COMMAND_LAST, command_of(b"1.2.3.1"))), struct.pack(">BxI", 4, 8) + b"\0\0\1\0abcd"],
        [struct.pack(">BxI", 9, 4), bytes(4)],
        [pdu((COMMAND_LAST, command_of(b"1.2.3.1"))), pdu((DATA, b"\0\0")), struct.pack(">BxI", 7, 4), bytes(4)],
    ],
    ids=["another context", "a second command", "4 GiB", "lengths that do not fit", "no PDU", "aborted"],
)
def test_what_is_not_by_the_protocol_ends_the_association_and_nothing_else(node, intake, tmp_path, parts):
    with association(node) as found, quiet(found) as sender:
        sender.settimeout(10)
        for part in parts:
            sender.sendall(part)
        # An A-ABORT, or the end of the connection.
        assert sender.recv(1000)[:1] in {b"\7", b""}
        sender.close()
        found.dul.socket.socket = None
    sample(tmp_path)
    with association(node) as found:
        assert found.send_c_store(tmp_path / "a.dcm").Status == 0
    assert len(kept(intake)) == 1


def test_commands_are_written_as_they_are_read():
    values = {0x2: b"1.2.3\0", 0x100: b"\1\0", 0x1000: b""}
    encoded = write_command(values)
    assert read_command(memoryview(encoded)) == {0: struct.pack("<I", len(encoded) - 12)} | values
    with pytest.raises(ValueError, match="command set"):
        read_command(memoryview(encoded[:-3]))


def test_meta_information_is_that_of_pydicom():
    own = meta_information(CTImageStorage, "1.2.3", ExplicitVRLittleEndian)
    meta = pydicom.dcmread(DicomBytesIO(own)).file_meta
    stream = DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, False
    write_file_meta_info(stream, meta)
    assert own == bytes(128) + b"DICM" + stream.getvalue()
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CTImageStorage, "1.2.3")
    assert meta.ImplementationClassUID.is_valid


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("told", [True, False], ids=["with its length", "without"])
def test_a_header_is_read_as_by_pydicom(tmp_path, syntax, told):
    names = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Grün^Jörg", "ImageLaterality": "L"}
    path = make_dicom(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8), syntax=syntax, SeriesNumber="7", **names)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    if not told:
        content, start = content[:132] + content[144:], start - 12
    check(content, start)


def test_the_headers_of_real_files_are_read_as_by_pydicom(data_folder):
    files = [path for path in sorted((data_folder / "dicom-zoo").rglob("*")) if path.is_file()]
    read = 0
    for path in files:
        content = path.read_bytes()
        with contextlib.suppress(Exception):
            # What pydicom does not read is no matter here.
            pydicom.dcmread(DicomBytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID  # noqa: B018
            check(content, None)
            read += 1
    assert read > 50


def check(content: bytes, start: int | None) -> None:
    found, truth = read_header(content), pydicom.dcmread(DicomBytesIO(content), stop_before_pixels=True)
    assert start is None or found.start == start
    assert found.transfer_syntax == truth.file_meta.TransferSyntaxUID
    assert found.values == {name: str(truth.get(name, "")) for name in (*IDENTIFIERS, *ATTRIBUTES)}


def test_a_deflated_header_is_inflated_no_further_than_is_needed(tmp_path):
    content = sample(tmp_path)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "b.dcm")
    packer = zlib.compressobj(1, wbits=-15)
    body = packer.compress(dataset_of((tmp_path / "b.dcm").read_bytes()))
    body += b"".join(packer.compress(bytes(2**20)) for _ in range(150)) + packer.flush()
    bomb = meta_information(CTImageStorage, "1.2.3.1", DeflatedExplicitVRLittleEndian) + body
    tracemalloc.start()
    values = read_header(bomb).values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert values == read_header(content).values
    assert peak < 80 * 2**20


def test_one_instance_sent_by_many_at_one_time_is_kept_once(intake, tmp_path):
    content = sample(tmp_path)
    answers: list[Answer] = []
    together = threading.Barrier(8)

    def send() -> None:
        together.wait()
        answers.append(intake.receive(content, "SENDER")[0])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.value for answer in answers) == ["known"] * 7 + ["stored"]
    assert kept(intake) == [dataset_of(content)]
    assert intake.receive(content, "SENDER")[0] is Answer.KNOWN


def test_a_file_that_cannot_be_flushed_is_refused_and_taken_later(intake, tmp_path, monkeypatch):
    content = sample(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(arrivals_module, "flush_folder", fail)
        assert intake.receive(content, "SENDER")[0] is Answer.FULL
    assert kept(intake) == []
    assert intake.receive(content, "SENDER")[0] is Answer.STORED
    assert kept(intake) == [dataset_of(content)]
    assert intake.arrivals._register.database.rows(sql.ARRIVALS) == []


def fail(*_: Any) -> None:
    raise OSError(5, "Input/output error")


def test_a_commit_that_fails_refuses_none_of_those_that_wait_with_it(intake, tmp_path, monkeypatch):
    contents = [sample(tmp_path, number) for number in range(4)]
    database, tries = intake.arrivals._register.database, []
    transaction = database.transaction

    @contextlib.contextmanager
    def failing() -> Iterator[Database]:
        with transaction() as found:
            yield found
            tries.append(True)
            if len(tries) == 1:
                # The others come meanwhile.
                time.sleep(0.3)
                fail()

    monkeypatch.setattr(database, "transaction", failing)
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda c=c: answers.append(intake.receive(c, "S")[0])) for c in contents]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert sorted(answer.value for answer in answers) == ["full", "stored", "stored", "stored"]
    assert len(kept(intake)) == 3


@pytest.mark.parametrize("state", ["whole", "half", "missing"])
def test_an_arrival_of_an_earlier_process_is_entered_where_its_file_is_whole(intake, tmp_path, state):
    content = sample(tmp_path)
    assert intake.receive(content, "SENDER")[0] is Answer.STORED
    register = intake.arrivals._register
    (row,) = register.database.rows(sql.ARRIVALS)
    received = json.loads(row["received"])
    path = intake.folder / received["path"]
    assert name_of(content, row["start"]) == (path.stem, received["sha256"])
    if state == "half":
        path.write_bytes(content[:1000])
    elif state == "missing":
        path.unlink()
    Arrivals(intake.folder, register)
    entered = register.database.rows("SELECT uid FROM instance")
    assert entered == ([{"uid": "1.2.3.1"}] if state == "whole" else [])
    assert register.database.rows(sql.ARRIVALS) == []


def test_what_is_asked_of_an_instance_is_what_was_sent(intake, tmp_path):
    answer, instance, reason = intake.receive(sample(tmp_path), "SENDER")
    assert (answer, reason) == (Answer.STORED, "")
    assert asdict(instance) == {
        "sop_class": CTImageStorage,
        "uid": "1.2.3.1",
        "study": "1.2.3",
        "series": "1.2.3.4",
    }
