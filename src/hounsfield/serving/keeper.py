"""The process that keeps the records: the DICOM node, the clock of studies, the work of models, the outbox."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hounsfield.atomic import make_private, remove_leftovers, remove_tree
from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.arrivals import Arrivals
from hounsfield.serving.audit import Access, append
from hounsfield.serving.calls import Caller, CallServer, RefusedCallError
from hounsfield.serving.cases import OVERLAYS, OverlayKind
from hounsfield.serving.database import DATABASE, Database, Row
from hounsfield.serving.directory import Directory
from hounsfield.serving.faults import reached
from hounsfield.serving.intake import Intake
from hounsfield.serving.lifecycle import Kind
from hounsfield.serving.matching import chosen_instances, reason_to_leave
from hounsfield.serving.node import DicomNode
from hounsfield.serving.processes import Ready, wait_for
from hounsfield.serving.readings import Step, add_reading
from hounsfield.serving.register import Register, read_results
from hounsfield.serving.renewing import Renewing
from hounsfield.serving.sender import Sender
from hounsfield.serving.settings import MEBIBYTE, Model, ServeSettings
from hounsfield.serving.specifications import KeeperSpecification
from hounsfield.serving.uploads import with_names

logger = logging.getLogger(__name__)

# Seconds between looks at what is due, at what can be removed, and at what arrived and has to go into the audit.
TICK_SECONDS = 0.5
RETENTION_SECONDS = 60.0
TOGETHER_SECONDS = 0.05
DAY = 86_400
GIGABYTE = 10**9
OVERLAY_SECONDS = 3600.0


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
        self._unwritten: list[Access] = []
        make_private(settings.folder)
        self.database = Database(settings.folder / DATABASE)
        self.register = Register(self.database, settings.timing, models=self._reasons, destinations=self._destinations)
        limits = settings.limits
        self.arrivals = Arrivals(settings.folder, self.register)
        clean(settings.folder, self.database, clock() - limits.seconds)
        self.intake = Intake(
            settings.folder,
            self.arrivals,
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
        loops = [
            ("clock", self._tick),
            ("arrivals", self._write_together),
            ("retention", self._remove_old),
            *((f"work {name}", partial(self._work_once, model)) for name, model in self._by_name.items()),
        ]
        self._threads = [threading.Thread(target=self._repeat, args=loop, name=loop[0], daemon=True) for loop in loops]
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
        self._write_together()
        self.arrivals.close()
        self.database.close()

    def note(self, accesses: Sequence[Access]) -> None:
        """Add accesses to the audit."""
        append(self.database, list(accesses))

    def _repeat(self, name: str, work: Callable[[], float]) -> None:
        """Do some work again and again until the service stops, however it fails; it says after how many seconds."""
        while not self._stop.is_set():
            try:
                wait = work()
            except Exception:
                logger.exception("'%s' failed, and goes on", name)
                wait = TICK_SECONDS
            self._stop.wait(wait)

    def _write_together(self) -> float:
        """Enter what arrived, and write what DICOM nodes did into the audit, all of a moment in one transaction."""
        while not self._notes.empty():
            self._unwritten.append(self._notes.get())
        also = partial(self.note, self._unwritten) if self._unwritten else None
        is_entered = self.arrivals.enter(also)
        self._unwritten = []
        if is_entered:
            reached("instance.entered")
        return TOGETHER_SECONDS

    def _enter(self) -> None:
        """Enter what arrived before it is needed."""
        if self.arrivals.enter():
            reached("instance.entered")

    def receive(self, content: bytes, source: str) -> dict[str, str]:
        """Take in a DICOM file that came over HTTP, so that it is listed when this returns.

        Returns:
            ``answer``, the value of its ``Answer``; ``reason`` of a refusal; the fields of its ``Instance``.
        """
        answer, instance, reason = self.intake.receive(content, source)
        self._enter()
        return {"answer": answer.value, "reason": reason, **asdict(instance)}

    def add_upload(self, model: str, place: str, names: dict[str, str], owner: str, kept: bool = False) -> int:
        """Make the job of files that came over HTTP, and return its number.

        Args:
            model: its name.
            place: of the files, relative to the folder of the service.
            names: file → its name as the client gave it, in their order.
            owner: who may see the answer.
            kept: whether the files stay when the job is done, for who reads them on the page.

        Raises:
            ServingError: too many jobs wait.
        """
        waiting = self.register.counts()["job"].get("waiting", 0)
        if waiting >= self.settings.limits.queue:
            raise ServingError(f"{waiting} jobs wait, and no more are taken. Try again later.")
        upload = json.dumps({"place": place, "names": names, "kept": kept}, ensure_ascii=False)
        return self.register.add_upload(model, upload, self._clock(), owner=owner)

    def add_reading(self, values: dict[str, Any]) -> int:
        """Keep a step of a reader, the fields of a ``readings.Step``, and return its number."""
        return add_reading(self.database, Step(**values), self._clock())

    def overlay(self, number: int, prediction: int, kind: OverlayKind, label: str) -> tuple[str, list[str]]:
        """Let a model write the overlay of one of its predictions: the file, relative to the folder, and its labels.

        Args:
            number: of the job.
            prediction: number of the prediction in its answer.
            kind: as of ``Overlays.write``.
            label: likewise.

        Raises:
            ServingError: the model, or the study, is another one since; or the model refused.
        """
        job = self.database.row(sql.SELECT["job"], (number,))
        if job is None or job["state"] != "done":
            raise ServingError("There is no answer of this number.")
        served = self.directory.find(job["model"])
        if served.info["bundle"] != job["bundle"]:
            raise ServingError("The model was swapped since: what the earlier one saw cannot be shown any more.")
        name = hashlib.sha256(f"{prediction} {kind} {label}".encode()).hexdigest()[:12]
        target = f"{OVERLAYS}/{number}-{name}.npy"
        caller = Caller(served.address, self._secret, f"The process of the model '{job['model']}'")
        with self._inputs_again(job, f"overlay-{number}-{name}-{threading.get_ident()}") as inputs:
            try:
                labels = caller("overlay", inputs, prediction, kind, label, str(self.settings.folder / target))
            except RefusedCallError as error:
                # It may name where the image lies.
                raise RefusedCallError(self._without_folder(error)) from error
        return target, labels

    @contextmanager
    def _inputs_again(self, job: Row, name: str) -> Iterator[str | list[str]]:
        """What a model was given for a job, for the length of a ``with`` block.

        Raises:
            ServingError: the study has changed since.
        """
        if job["upload"] is not None:
            upload = json.loads(job["upload"])
            yield [str(self.settings.folder / upload["place"] / each) for each in upload["names"]]
            return
        study = self.database.row(sql.SELECT["study"], (job["study"],))
        if study is None or study["revision"] != job["revision"]:
            raise ServingError("Further images of this study have come. Open it again.")
        instances = self.database.rows(sql.INSTANCES_OF_STUDY, (job["study"],))
        chosen = chosen_instances(self._by_name[job["model"]], self._modality(job["model"]), instances)
        with self._laid_out(chosen, name) as folder:
            yield str(folder)

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

    def _destinations(self, model: str, quirk: str | None) -> list[str]:
        return [each.name for each in self.settings.destinations_of(model) if each.quirk == quirk]

    def _modality(self, name: str) -> str | None:
        modality: str | None = self.directory.find(name).info["modality"]
        return modality

    def _tick(self) -> float:
        now = self._clock()
        # A study that an image has just come for is not quiet.
        self._enter()
        if self.register.complete_quiet_studies(now):
            reached("study.completed")
        self.register.expire(now)
        return TICK_SECONDS

    def _remove_old(self) -> float:
        """Remove the studies and uploads that retention does not keep."""
        retention, now = self.settings.retention, self._clock()
        for path in (self.settings.folder / OVERLAYS).glob("*.npy"):
            if path.stat().st_mtime < now - OVERLAY_SECONDS:
                path.unlink(missing_ok=True)
        if retention.days is not None:
            before = now - retention.days * DAY
            for study in self.register.removable(before):
                self._remove(study)
            for job in self.register.removable_uploads(before):
                self.register.remove_job(job["id"])
                self._remove_upload(job)
        if retention.gigabytes is not None:
            for study in self.register.removable(now):
                stored = self.database.row(sql.STORED_BYTES)
                if stored is None or stored["bytes"] <= retention.gigabytes * GIGABYTE:
                    break
                self._remove(study)
        return RETENTION_SECONDS

    def _remove(self, study: Row) -> None:
        for path in self.register.remove(study["id"]):
            (self.settings.folder / path).unlink(missing_ok=True)

    def _remove_upload(self, job: Row) -> None:
        shutil.rmtree(self.settings.folder / json.loads(job["upload"])["place"], ignore_errors=True)

    def _work_once(self, model: Model) -> float:
        """Work on the next job of a model, where there is one."""
        job = self.register.claim_job(model.name, self._clock())
        if job is None:
            return TICK_SECONDS
        reached("job.claimed")
        self._work(model, job)
        return 0

    def _work(self, model: Model, job: Row) -> None:
        """One job, from its claim to its record; what it wrote and nobody refers to is removed."""
        with Renewing(self.register, "job", lambda: [job], self._clock):
            answer = self._try(model, job)
        if answer is None or not self._finish(job, answer):
            shutil.rmtree(self.settings.folder / _results(job), ignore_errors=True)
            return
        if job["upload"] is not None and not json.loads(job["upload"]).get("kept"):
            self._remove_upload(job)
        for sender in self.senders.values():
            sender.wake()

    def _try(self, model: Model, job: Row) -> dict[str, Any] | None:
        """The answer to a job; ``None`` where there is none, which is recorded."""
        try:
            return self._answer(model, job)
        except RefusedCallError as error:
            self._end(job, "refuse", self._without_folder(error))
        except (HounsfieldError, OSError) as error:
            self._end(job, "fail", self._without_folder(error))
        return None

    def _without_folder(self, error: Exception) -> str:
        """What an error says, without the place of the service on its machine."""
        return str(error).replace(f"{self.settings.folder}/", "")

    def _finish(self, job: Row, answer: dict[str, Any]) -> bool:
        """Whether the answer to a job is kept, and not refused since its images are no longer all of the study."""
        reached("result.written")
        # An image that came meanwhile withdraws the job.
        self._enter()
        predictions = answer["predictions"]
        bad = [each["reason"] for each in predictions if "reason" in each]
        try:
            known = self.register.finish_job(
                job["id"],
                job["attempt"],
                self._clock(),
                answer=json.dumps(predictions, ensure_ascii=False),
                bundle=answer["bundle"],
                results=read_results(answer["results"]),
                reason=f"{len(bad)} of {len(predictions)} images have no prediction: {bad[0]}" if bad else "",
            )
        except ServingError as error:
            logger.warning("job %s: %s", job["id"], error)
            return False
        reached("job.finished")
        for path in known:
            (self.settings.folder / path).unlink(missing_ok=True)
        return True

    def _answer(self, model: Model, job: Row) -> dict[str, Any]:
        served = self.directory.find(model.name)
        what, seconds = f"The process of the model '{model.name}'", self.settings.limits.seconds
        caller = Caller(served.address, self._secret, what, seconds=seconds)
        if job["upload"] is not None:
            upload = json.loads(job["upload"])
            folder, names = self.settings.folder / upload["place"], upload["names"]
            said: dict[str, Any] = caller("predict", [str(folder / name) for name in names])
            return said | {"predictions": with_names(said["predictions"], folder, names), "results": []}
        return self._study_answer(model, job, caller)

    def _study_answer(self, model: Model, job: Row, caller: Caller) -> dict[str, Any]:
        instances = self.database.rows(sql.INSTANCES_OF_STUDY, (job["study"],))
        chosen = chosen_instances(model, self._modality(model.name), instances)
        results = _results(job)
        make_private(self.settings.folder / results)
        quirks = list(dict.fromkeys(each.quirk for each in self.settings.destinations_of(model.name))) or [None]
        with self._laid_out(chosen, f"job-{job['id']}-{job['attempt']}") as folder:
            answer: dict[str, Any] = caller("study", str(folder), results, quirks, self._version(job["study"], chosen))
        return answer

    @contextmanager
    def _laid_out(self, instances: Sequence[Row], name: str) -> Iterator[Path]:
        """A folder with the files of instances, for the length of a ``with`` block."""
        folder = self.settings.folder / "work" / name
        make_private(folder)
        try:
            for row in instances:
                (folder / f"{row['id']}.dcm").hardlink_to(self.settings.folder / row["path"])
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _version(self, study: int, chosen: Sequence[Row]) -> str | None:
        """What tells images that came again under the same UIDs from the first ones."""
        if not self.register.was_corrected(study):
            return None
        return hashlib.sha256(" ".join(sorted(row["sha256"] for row in chosen)).encode()).hexdigest()

    def _end(self, job: Row, event: str, reason: str) -> None:
        try:
            self.register.move("job", job["id"], job["attempt"], event, self._clock(), reason=reason)
        except ServingError as error:
            logger.warning("job %s: %s", job["id"], error)


def _results(job: Row) -> str:
    """The folder of the objects that one attempt at a job makes, within that of the service."""
    return f"results/job-{job['id']}-{job['attempt']}"


def clean(folder: Path, database: Database, before: float) -> None:
    """Remove what a service that died left half-written or unregistered; nothing of it was acknowledged.

    Args:
        folder: of the service.
        database: open.
        before: uploads that came since this time, in seconds since 1970, may be those of requests that go on.
    """
    remove_leftovers(folder)
    remove_tree(folder / "work")
    remove_tree(folder / OVERLAYS)
    known = {row["path"] for row in database.each(sql.ALL_PATHS)}
    for place in ("instances", "results"):
        for path in (folder / place).rglob("*"):
            if path.is_file() and path.relative_to(folder).as_posix() not in known:
                path.unlink()
    uploads = {json.loads(row["upload"])["place"] for row in database.each(sql.OPEN_UPLOADS)}
    for path in (folder / "uploads").glob("*"):
        if path.relative_to(folder).as_posix() not in uploads and path.stat().st_mtime < before:
            remove_tree(path)


def main(specification: KeeperSpecification, ready: Ready, stop: threading.Event) -> None:
    """What the process of the keeper does.

    Raises:
        ServingError: an address is taken, or the database cannot be opened.
    """
    if not wait_for(specification.directory, stop):
        return
    keeper = Keeper(specification.settings, Directory(specification.directory), specification.secret)
    keeper.start()
    # The web server listens once there is this socket.
    calls = CallServer(
        specification.address,
        specification.secret,
        {
            "note": keeper.note,
            "receive": keeper.receive,
            "add_upload": keeper.add_upload,
            "add_reading": keeper.add_reading,
            "overlay": keeper.overlay,
            "release": keeper.release,
            "release_all": keeper.release_all,
        },
    )
    calls.start()
    ready({"dicom_port": keeper.node.port if keeper.node is not None else None})
    stop.wait()
    calls.stop()
    keeper.stop()
