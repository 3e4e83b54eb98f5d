"""The process that keeps the records: the DICOM node, the clock of studies, the work of models, the outbox."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hounsfield.atomic import make_private, remove_leftovers, remove_tree
from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.audit import Access, append
from hounsfield.serving.calls import Caller, CallServer, RefusedCallError
from hounsfield.serving.database import DATABASE, Database, Row
from hounsfield.serving.directory import Directory
from hounsfield.serving.faults import reached
from hounsfield.serving.intake import Intake
from hounsfield.serving.lifecycle import Kind
from hounsfield.serving.matching import chosen_instances, reason_to_leave
from hounsfield.serving.node import DicomNode
from hounsfield.serving.processes import Ready
from hounsfield.serving.register import Register, read_results
from hounsfield.serving.sender import Sender
from hounsfield.serving.settings import MEBIBYTE, Model, ServeSettings

logger = logging.getLogger(__name__)

# Seconds between looks at what is due, and between looks at what can be removed.
TICK_SECONDS = 0.5
RETENTION_SECONDS = 60.0
DAY = 86_400
GIGABYTE = 10**9


class Keeper:
    """Everything that writes records; started and stopped as one.

    Args:
        settings: of the service.
        directory: of the models that are served.
        secret: of their sockets.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        settings: ServeSettings,
        directory: Directory,
        secret: bytes,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self._secret = secret
        self._clock = clock
        self._by_name = {model.name: model for model in settings.models}
        self._stop = threading.Event()
        self._notes: queue.SimpleQueue[Access] = queue.SimpleQueue()
        make_private(settings.folder)
        remove_unregistered = not (settings.folder / DATABASE).exists()
        self.database = Database(settings.folder / DATABASE)
        self.register = Register(
            self.database, settings.timing, models=self._reasons, destinations=settings.destinations_of
        )
        if not remove_unregistered:
            clean(settings.folder, self.database)
        limits = settings.limits
        self.intake = Intake(
            settings.folder,
            self.register,
            clock,
            int(limits.body_mb * MEBIBYTE),
            int(limits.free_mb * MEBIBYTE),
        )
        self.node = (
            DicomNode(settings.dicom, self.intake, committed=self._committed, noted=self._noted_dicom)
            if settings.dicom is not None
            else None
        )
        title = settings.dicom.title if settings.dicom is not None else "HOUNSFIELD"
        self.senders = {
            each.name: Sender(each, settings.folder, self.register, title=title, clock=clock, committed=self._committed)
            for each in settings.destinations
        }
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to listen, to work and to send; twice does no harm."""
        if self._threads:
            return
        self.register.end_claims(self._clock())
        if self.node is not None:
            self.node.start()
        for sender in self.senders.values():
            sender.start()
        targets = [
            ("clock", self._tick),
            ("audit", self._note_together),
            *((f"work {name}", self._worker(model)) for name, model in self._by_name.items()),
        ]
        self._threads = [threading.Thread(target=target, name=name, daemon=True) for name, target in targets]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End what is under way, then everything; twice does no harm."""
        self._stop.set()
        if self.node is not None:
            self.node.stop()
        for sender in self.senders.values():
            sender.stop()
        for thread in self._threads:
            thread.join(self.settings.lease_seconds)
        self.database.close()

    def note(self, accesses: Sequence[Access]) -> None:
        """Add accesses to the audit."""
        append(self.database, list(accesses))

    def _note_together(self) -> None:
        """Write what DICOM nodes did into the audit, all of a moment in one transaction."""
        while not self._stop.is_set() or not self._notes.empty():
            with contextlib.suppress(queue.Empty):
                notes = [self._notes.get(timeout=TICK_SECONDS)]
                while not self._notes.empty():
                    notes.append(self._notes.get())
                self.note(notes)

    def receive(self, content: bytes, source: str) -> tuple[str, str]:
        """Take in a DICOM file that came over HTTP: the value of its ``Answer``, and the reason of a refusal."""
        answer, reason = self.intake.receive(content, source)
        return answer.value, reason

    def add_upload(self, model: str, upload: str, owner: str) -> int:
        """Make the job of files that came over HTTP, and return its number.

        Raises:
            ServingError: too many jobs wait.
        """
        waiting = self.register.counts()["job"].get("waiting", 0)
        if waiting >= self.settings.limits.queue:
            raise ServingError(f"{waiting} jobs wait, and no more are taken. Try again later.")
        return self.register.add_upload(model, upload, self._clock(), owner=owner)

    def release(self, kind: Kind, number: int) -> None:
        """Let what was laid aside be tried again."""
        self.register.release(kind, number, self._clock())

    def release_all(self) -> int:
        """Let everything that was laid aside be tried again, and return how much this was."""
        return self.register.release_all(self._clock())

    def _noted_dicom(self, title: str, action: str, subject: str, outcome: str) -> None:
        self._notes.put(Access(self._clock(), title, "node", action, subject, outcome))

    def _committed(self, title: str, uid: str, reason: str) -> None:
        for destination in self.settings.destinations:
            if destination.title == title:
                self.register.commit_delivery(uid, destination.name, self._clock(), failure=reason or None)
                reached("commitment.recorded")

    def _reasons(self, study: Row, instances: list[Row]) -> dict[str, str]:  # noqa: ARG002 - rules look at images
        return {name: reason_to_leave(model, self._modality(name), instances) for name, model in self._by_name.items()}

    def _modality(self, name: str) -> str | None:
        modality: str | None = self.directory.find(name).info["modality"]
        return modality

    def _tick(self) -> None:
        last = 0.0
        while not self._stop.wait(TICK_SECONDS):
            try:
                now = self._clock()
                if self.register.complete_quiet_studies(now):
                    reached("study.completed")
                self.register.expire(now)
                if now - last > RETENTION_SECONDS:
                    last = now
                    self.remove_old(now)
            except Exception:
                logger.exception("the clock of studies failed")

    def remove_old(self, now: float) -> int:
        """Remove the studies that retention does not keep, and return how many these were."""
        retention, removed = self.settings.retention, 0
        before = now - retention.days * DAY if retention.days is not None else 0
        removed += sum(self._remove(study) for study in self.register.removable(before))
        limit = retention.gigabytes
        if limit is None:
            return removed
        for study in self.register.removable(now):
            stored = self.database.row(sql.STORED_BYTES)
            if stored is None or stored["bytes"] <= limit * GIGABYTE:
                break
            removed += self._remove(study)
        return removed

    def _remove(self, study: Row) -> bool:
        for path in self.register.remove(study["id"]):
            (self.settings.folder / path).unlink(missing_ok=True)
        return True

    def _worker(self, model: Model) -> Callable[[], None]:
        def work() -> None:
            while not self._stop.is_set():
                job = self.register.claim_job(model.name, self._clock())
                if job is None:
                    self._stop.wait(TICK_SECONDS)
                    continue
                reached("job.claimed")
                self._work(model, job)

        return work

    def _work(self, model: Model, job: Row) -> None:
        """One job, from its claim to its record."""
        with _Renewing(self, job):
            try:
                answer = self._answer(model, job)
            except RefusedCallError as error:
                self._end(job, "refuse", str(error))
                return
            except (HounsfieldError, OSError) as error:
                self._end(job, "fail", str(error))
                return
        reached("result.written")
        try:
            self.register.finish_job(
                job["id"],
                job["attempt"],
                self._clock(),
                answer=json.dumps(answer["predictions"], ensure_ascii=False),
                bundle=answer["bundle"],
                results=read_results(answer["results"]),
            )
        except ServingError as error:
            logger.warning("job %s: %s", job["id"], error)
            return
        reached("job.finished")
        for sender in self.senders.values():
            sender.wake()

    def _answer(self, model: Model, job: Row) -> dict[str, Any]:
        served = self.directory.find(model.name)
        caller = Caller(served.address, self._secret, f"The process of the model '{model.name}'")
        if job["upload"] is not None:
            paths = [str(path) for path in sorted((self.settings.folder / job["upload"]).iterdir())]
            answer = {"predictions": caller("predict", paths), "results": []}
        else:
            answer = self._study_answer(model, job, caller)
        return answer | {"bundle": served.info["bundle"]}

    def _study_answer(self, model: Model, job: Row, caller: Caller) -> dict[str, Any]:
        instances = self.database.rows(sql.INSTANCES_OF_STUDY, (job["study"],))
        folder = self.settings.folder / "work" / f"job-{job['id']}-{job['attempt']}"
        results = f"results/job-{job['id']}"
        make_private(folder)
        make_private(self.settings.folder / results)
        quirks = [each.quirk for each in self.settings.destinations if each.quirk]
        try:
            for row in chosen_instances(model, self._modality(model.name), instances):
                (folder / f"{row['id']}.dcm").hardlink_to(self.settings.folder / row["path"])
            answer: dict[str, Any] = caller("study", str(folder), results, quirks[0] if quirks else None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return answer

    def _end(self, job: Row, event: str, reason: str) -> None:
        try:
            self.register.move("job", job["id"], job["attempt"], event, self._clock(), reason=reason)
        except ServingError as error:
            logger.warning("job %s: %s", job["id"], error)


class _Renewing:
    """Renews the claim on a job while its model works."""

    def __init__(self, keeper: Keeper, job: Row) -> None:
        self._keeper = keeper
        self._job = job
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(self._keeper.settings.lease_seconds / 3):
            self._keeper._end(self._job, "renew", "")


def clean(folder: Path, database: Database) -> None:
    """Remove what a service that died left half-written or unregistered; nothing of it was acknowledged."""
    remove_leftovers(folder)
    remove_tree(folder / "work")
    known = {row["path"] for row in database.rows(sql.ALL_PATHS)}
    for place in ("instances", "results"):
        for path in (folder / place).rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in known:
                path.unlink()


@dataclass(frozen=True)
class Specification:
    """What the process of the keeper needs.

    Attributes:
        settings: of the service.
        directory: the file of the models that are served.
        address: of the socket at which it answers calls.
        secret: of all sockets.
    """

    settings: ServeSettings
    directory: Path
    address: str
    secret: bytes


def main(specification: Specification, ready: Ready, stop: threading.Event) -> None:
    """What the process of the keeper does.

    Raises:
        ServingError: an address is taken, or the database cannot be opened.
    """
    keeper = Keeper(specification.settings, Directory(specification.directory), specification.secret)
    calls = CallServer(
        specification.address,
        specification.secret,
        {
            "note": keeper.note,
            "receive": keeper.receive,
            "add_upload": keeper.add_upload,
            "release": keeper.release,
            "release_all": keeper.release_all,
        },
    )
    keeper.start()
    calls.start()
    ready({"dicom_port": keeper.node.port if keeper.node is not None else None})
    stop.wait()
    calls.stop()
    keeper.stop()
