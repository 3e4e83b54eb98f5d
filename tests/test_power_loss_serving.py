"""The service on a disk that forgets what was not flushed: what it acknowledged is there, whatever is there is whole.

A commit of SQLite (write-ahead log, ``synchronous=FULL``) counts as on disk with all that the database held; that the
service asks for this is a test of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset

from dicom_samples import make_dicom
from hounsfield.atomic import make_private
from hounsfield.dicom_results.base import write
from hounsfield.serving import arrivals, intake, keeper
from hounsfield.serving.audit import Access, verify
from hounsfield.serving.database import DATABASE, Database
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.header import read_header
from hounsfield.serving.lifecycle import Timing
from hounsfield.serving.register import Register, Result
from hounsfield.serving.settings import ServeSettings
from hounsfield.serving.tokens import Tokens
from hounsfield.serving.uploads import Upload
from power_loss import NUM_STATES, Disk, faults, lines, recorded, vain

SECRET = b"secret"
COMMIT = "a commit of SQLite"
IMAGES = 3


class Late:
    """In place of threads, which would flush while others look: what is submitted is done when it is waited for.

    So the record of an arrival is on disk before its file, the order in which more can go wrong.
    """

    def __init__(self, *_: object) -> None:
        """It has no threads."""

    def submit(self, work: Callable[..., object], *values: Any) -> Late.Promised:
        return self.Promised(partial(work, *values))

    @dataclass
    class Promised:
        result: Callable[[], object]


@contextmanager
def commits(disk: Disk, folders: list[str]) -> Iterator[None]:
    """Note what the database holds after each commit, and the names that SQLite flushed with its first one."""
    begin, transaction = Database.__init__, Database.transaction

    def note(database: Database) -> None:
        with closing(sqlite3.connect(":memory:")) as copy:
            database._connection.backup(copy)
            disk.has(database.path, copy.serialize(), COMMIT)

    def opened(database: Database, path: Path) -> None:
        begin(database, path)
        note(database)
        disk.has_names(path.parent, COMMIT)

    @contextmanager
    def committed(database: Database) -> Iterator[Database]:
        is_outer = not database._connection.in_transaction
        with transaction(database) as found:
            yield found
        if is_outer:
            note(database)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "__init__", opened)
        patch.setattr(Database, "transaction", committed)
        patch.setattr(arrivals, "ThreadPoolExecutor", Late)
        # Those of the images alone: each folder makes each look at all of them longer.
        patch.setattr(intake, "FOLDERS", folders)
        yield


def settings_of(root: Path) -> ServeSettings:
    values = {"folder": root / "service", "dicom": None, "quiet_seconds": 1, "limits": {"free_mb": 0}}
    pacs = {"name": "pacs", "title": "PACS", "host": "127.0.0.1", "port": 1}
    model = {"name": "fake", "run": ".", "rules": {"modality": ["CT"]}}
    return ServeSettings.model_validate(values | {"models": [model], "destinations": [pacs]})


def dicom(path: Path, number: int) -> bytes:
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.0", "SOPInstanceUID": f"1.2.0.{number}"}
    make_dicom(path, np.full((4, 4), number, np.uint8), **uids)
    return path.read_bytes()


def serve(root: Path, disk: Disk, images: list[bytes], models: Path) -> None:
    """Receive a study and an upload, predict, send; each thing that was acknowledged is noted as done."""
    settings = settings_of(root)
    service = keeper.Keeper(settings, Directory(models), SECRET)
    Tokens(settings.folder, alone=True).add("alice", "reader", 0, days=1)
    disk.done("token")
    for content in images:
        answer, instance, _ = service.intake.receive(content, "SENDER")
        assert answer is intake.Answer.STORED
        disk.done(f"stored {instance.uid}")
    upload = Upload(settings.folder, 1000)
    asyncio.run(upload.add("a.png", content_of(b"pixels")))
    upload.keep()
    place = upload.path.relative_to(settings.folder).as_posix()
    service.add_upload("fake", place, upload.names, "alice")
    disk.done(f"job {place}")
    service.note([Access(1.0, "alice", "reader", "begin job", "", "allowed")])
    disk.done("access")
    service.arrivals.enter()
    register, now = service.register, time.time() + 10
    register.complete_quiet_studies(now)
    while (job := register.claim_job("fake", now)) is not None and job["study"] is None:
        register.move("job", job["id"], job["attempt"], "fail", now)
    assert job is not None
    results = f"results/job-{job['id']}"
    make_private(settings.folder / results)
    written = write(report(), "report", settings.folder / results)
    path = f"{results}/{written.path.name}"
    found = Result(written.uid, "report", None, written.sop_class, path, written.sha256)
    register.finish_job(job["id"], job["attempt"], now, answer="[]", bundle="b", results=[found])
    disk.done("result")
    (row,) = register.claim_deliveries("pacs", now)
    register.move("delivery", row["id"], row["attempt"], "deliver", now)
    disk.done("delivered")
    service.database.close()


async def content_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


def report() -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "2.25.1"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return dataset


def check(root: Path, done: set[str]) -> None:
    """What was acknowledged is there after a start, and all files that are registered are whole."""
    folder = root / "service"
    if not done and not (folder / DATABASE).exists():
        return
    database = Database(folder / DATABASE)
    try:
        register = Register(database, Timing(), models=lambda *_: {}, destinations=lambda *_: [])
        arrivals.Arrivals(folder, register)
        keeper.clean(folder, database, 0)
        instances = database.rows("SELECT * FROM instance")
        for row in instances:
            content = (folder / row["path"]).read_bytes()
            assert content[128:132] == b"DICM"
            assert arrivals.name_of(content, read_header(content).start) == (Path(row["path"]).stem, row["sha256"])
        for row in database.rows("SELECT * FROM result"):
            assert hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest() == row["sha256"]
        for row in database.rows("SELECT * FROM job WHERE upload IS NOT NULL"):
            upload = json.loads(row["upload"])
            for name in upload["names"]:
                assert (folder / upload["place"] / name).read_bytes() == b"pixels"
        acknowledged = {what.split()[-1] for what in done if what.startswith("stored")}
        assert acknowledged <= {row["uid"] for row in instances}
        assert verify(database) >= ("access" in done)
        jobs = len(database.rows("SELECT * FROM job WHERE upload IS NOT NULL"))
        assert jobs >= any(what.startswith("job") for what in done)
        states = [row["state"] for row in database.rows("SELECT state FROM delivery")]
        assert "result" not in done or states
        assert "delivered" not in done or states == ["delivered"]
        if "token" in done:
            assert [token.name for token in Tokens(folder, alone=True).all()] == ["alice"]
    finally:
        database.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Disk:
    root, other = tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("other")
    images = [dicom(other / "a.dcm", number) for number in range(IMAGES)]
    Directory(other / "models.json").publish([Served("fake", ".", "", {"bundle": "b", "modality": None})])
    folders = [arrivals.name_of(content, read_header(content).start)[0][:2] for content in images]
    with recorded(root) as disk, commits(disk, folders):
        serve(root, disk, images, other / "models.json")
    return disk


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """For states, whose checks need no flush of their own."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    return tmp_path / "states"


def test_nothing_that_was_acknowledged_is_lost(served: Disk, place: Path) -> None:
    assert len({what for kind, what, _ in served.events if kind == "done"}) == IMAGES + 5
    assert list(faults(served, place, check, max(NUM_STATES, len(served.events)))) == []


def test_without_any_one_flush_of_the_service_something_is_lost(served: Disk, place: Path) -> None:
    tried = lines(served)
    assert COMMIT in tried
    assert len(tried) > 5
    assert vain(served, tried, place, check) == set()


def test_each_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    database = Database(tmp_path / DATABASE)
    modes = [list(database.row(f"PRAGMA {name}").values()) for name in ("journal_mode", "synchronous")]
    database.close()
    assert modes == [["wal"], [2]]
