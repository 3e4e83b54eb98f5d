"""The records of studies, jobs and deliveries: each function here is one transaction.

An event that comes too late, from a worker whose claim has ended, is refused: the number of its attempt is no longer
that of the record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.errors import ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.database import Database, Row
from hounsfield.serving.lifecycle import LAID_ASIDE, Effect, Kind, Record, Timing, step

# Studies, jobs or deliveries that one transaction handles.
BATCH = 100


@dataclass(frozen=True)
class Received:
    """One DICOM instance that lies on disk.

    Attributes:
        uid: SOPInstanceUID.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        sop_class: SOPClassUID.
        transfer_syntax: of the file, as it was received.
        path: of the file, relative to the folder of the service.
        sha256: of the file's data set, by which the same instance sent twice is told from a changed one.
        size: bytes of the file.
        source: who sent it: an application entity or a user.
        attributes: of the image by DICOM keyword, for rules and lists; those of its first image stand for a study.
    """

    uid: str
    study_uid: str
    series_uid: str
    sop_class: str
    transfer_syntax: str
    path: str
    sha256: str
    size: int
    source: str
    attributes: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """One DICOM object that a job made and that lies on disk; see ``Received`` for the fields.

    Attributes:
        kind: "report", "segmentation", "map" or "capture".
        quirk: of the viewer that it was made for; it goes to destinations with this quirk, and to no others.
    """

    uid: str
    kind: str
    quirk: str | None
    sop_class: str
    path: str
    sha256: str


def read_results(values: Sequence[Mapping[str, Any]]) -> list[Result]:
    """The results in the answer of a model's process."""
    return [Result(**value) for value in values]


class Register:
    """All records of the service, in its one database.

    Args:
        database: with the only connection that writes.
        timing: how long is waited.
        models: which models work on a complete study: given its row and those of its instances, the name of each model
            with "" where it does, and else with the reason why it leaves the study.
        destinations: given a model and a quirk, the names of those that get such results of it.
    """

    def __init__(
        self,
        database: Database,
        timing: Timing,
        *,
        models: Callable[[Row, list[Row]], Mapping[str, str]],
        destinations: Callable[[str, str | None], Sequence[str]],
    ) -> None:
        self.database = database
        self.timing = timing
        self._models = models
        self._destinations = destinations

    def knows(self, uid: str, sha256: str) -> bool:
        """Whether the same instance was received before, and is kept."""
        known = self.database.row(sql.CURRENT_INSTANCE, (uid,))
        return known is not None and known["sha256"] == sha256

    def receive(self, received: Received, now: float) -> bool:
        """Take note of an instance.

        Returns:
            Whether it is new: ``False`` where the same instance was received before, whose file is kept instead.
        """
        with self.database.transaction() as database:
            known = database.row(sql.CURRENT_INSTANCE, (received.uid,))
            if known is not None and known["sha256"] == received.sha256:
                return False
            study = self._study_of(received, now)
            if known is not None:
                database.change(sql.REPLACE_INSTANCE, (known["id"],))
            values = {key: value for key, value in asdict(received).items() if key in _INSTANCE_FIELDS}
            values |= {"attributes": _json(received.attributes), "study": study["id"], "revision": study["revision"]}
            database.change(sql.INSERT_INSTANCE, values | {"now": now})
        return True

    def _study_of(self, received: Received, now: float) -> Row:
        """The study of an instance that is new, made or moved on."""
        database = self.database
        study = database.row(sql.STUDY_BY_UID, (received.study_uid,))
        if study is None:
            values = {
                "uid": received.study_uid,
                "due": now + self.timing.quiet,
                "source": received.source,
                "attributes": _json(received.attributes),
                "now": now,
            }
            database.change(sql.INSERT_STUDY, values)
        else:
            self._move("study", study, "received", now)
        found = database.row(sql.STUDY_BY_UID, (received.study_uid,))
        if found is None:
            raise ServingError("A study was not kept that has just been written.")
        return found

    def complete_quiet_studies(self, now: float) -> list[str]:
        """Complete the studies that nothing arrived for, make their jobs, and return their UIDs."""
        with self.database.transaction() as database:
            studies = database.rows(sql.QUIET_STUDIES, (now, BATCH))
            for study in studies:
                self._move("study", study, "quiet", now)
        return [study["uid"] for study in studies]

    def add_upload(self, model: str, upload: str, now: float, *, owner: str) -> int:
        """Make the job of files that came over HTTP, and return its number.

        Args:
            model: its name.
            upload: where the files lie, and their names, as JSON.
            now: seconds since 1970.
            owner: who may see the answer.
        """
        values = {"study": None, "revision": 1, "upload": upload, "model": model, "owner": owner}
        with self.database.transaction() as database:
            made = database.change(sql.INSERT_JOB, values | {"state": "waiting", "reason": "", "now": now})
            return int(made.lastrowid or 0)

    def claim_job(self, model: str, now: float) -> Row | None:
        """The next job of a model, which is its caller's until the lease ends."""
        with self.database.transaction() as database:
            job = database.row(sql.NEXT_JOB, {"now": now, "model": model})
            return None if job is None else self._move("job", job, "claim", now)

    def claim_deliveries(self, destination: str, now: float, *, limit: int = BATCH) -> list[Row]:
        """The next deliveries to a destination, each with ``uid``, ``kind``, ``sop_class``, ``path`` of its result."""
        with self.database.transaction() as database:
            waiting = database.rows(sql.NEXT_DELIVERIES, {"now": now, "destination": destination, "limit": limit})
            return [row | self._move("delivery", row, "claim", now) for row in waiting]

    def finish_job(
        self,
        job: int,
        attempt: int,
        now: float,
        *,
        answer: str,
        bundle: str,
        results: Sequence[Result],
        reason: str = "",
    ) -> list[str]:
        """Keep a job's answer and results, and give the results to the outbox.

        Args:
            job: its number.
            attempt: that the caller claimed.
            now: seconds since 1970.
            answer: the predictions as JSON.
            bundle: the identity of the bundle that gave them.
            results: DICOM objects, which lie on disk.
            reason: why a part of the images has no answer.

        Returns:
            The files of results that were made before, by an earlier job, and are kept from then.

        Raises:
            ServingError: the claim has ended, and nothing is kept.
        """
        with self.database.transaction() as database:
            row = self._claimed("job", job, attempt)
            database.change(sql.ANSWER_JOB, {"id": job, "answer": answer, "bundle": bundle})
            known = [
                result.path
                for result in results
                if not database.change(sql.INSERT_RESULT, asdict(result) | {"job": job}).rowcount
            ]
            self._move("job", row, "finish", now, reason=reason, results=[result.uid for result in results])
        return known

    def move(self, kind: Kind, number: int, attempt: int, event: str, now: float, *, reason: str = "") -> Row:
        """Let an event happen to a job or delivery that its caller has claimed.

        Raises:
            ServingError: the claim has ended, or the event cannot happen in this state.
        """
        with self.database.transaction():
            return self._move(kind, self._claimed(kind, number, attempt), event, now, reason=reason)

    def expire(self, now: float) -> int:
        """End the claims whose time is over, and return how many these were."""
        with self.database.transaction() as database:
            jobs = database.rows(sql.EXPIRED["job"], (now,))
            deliveries = database.rows(sql.EXPIRED["delivery"], (now,))
            self._expire("job", jobs, now)
            self._expire("delivery", deliveries, now)
        return len(jobs) + len(deliveries)

    def end_claims(self, now: float) -> int:
        """End all claims, since those who had them died with the last process, and return how many these were.

        What a destination was sent and has not confirmed yet goes on waiting for its word.
        """
        with self.database.transaction() as database:
            jobs = database.rows(sql.IN_STATE["job"], ("running", -1))
            deliveries = database.rows(sql.IN_STATE["delivery"], ("sending", -1))
            self._expire("job", jobs, now)
            self._expire("delivery", deliveries, now)
        return len(jobs) + len(deliveries)

    def _expire(self, kind: Kind, rows: Sequence[Row], now: float) -> None:
        for row in rows:
            silent = "the destination did not confirm" if row["state"] == "stored" else "the worker did not answer"
            self._move(kind, row, "expire", now, reason=f"{silent} in time")

    def commit_delivery(self, uid: str, destination: str, now: float, *, failure: str | None = None) -> bool:
        """Take note of a destination's word on a result that it was sent.

        Returns:
            Whether the delivery was waiting for it.
        """
        with self.database.transaction() as database:
            row = database.row(sql.DELIVERY_BY_UID, {"uid": uid, "destination": destination})
            if row is None or row["state"] != "stored":
                return False
            self._move("delivery", row, "deliver" if failure is None else "fail", now, reason=failure or "")
        return True

    def release(self, kind: Kind, number: int, now: float) -> Row:
        """Let a job or delivery that was laid aside be tried again.

        Raises:
            ServingError: there is no such record, or it was not laid aside.
        """
        with self.database.transaction() as database:
            row = database.row(sql.SELECT[kind], (number,))
            if row is None:
                raise ServingError(f"There is no {kind} with the number {number}. See: hounsfield serve --status")
            return self._move(kind, row, "release", now)

    def release_all(self, now: float) -> int:
        """Let everything that was laid aside be tried again, and return how much this was."""
        with self.database.transaction():
            jobs, deliveries = self.laid_aside("job", -1), self.laid_aside("delivery", -1)
            for job in jobs:
                self._move("job", job, "release", now)
            for delivery in deliveries:
                self._move("delivery", delivery, "release", now)
        return len(jobs) + len(deliveries)

    def laid_aside(self, kind: Kind, limit: int) -> list[Row]:
        """What a person has to look at, the latest first; all of it where ``limit`` is -1."""
        return [row for state in LAID_ASIDE[kind] for row in self.database.rows(sql.IN_STATE[kind], (state, limit))]

    def counts(self) -> dict[str, dict[str, int]]:
        """Kind → state → how many."""
        return {
            kind: {row["state"]: row["count"] for row in self.database.rows(statement)}
            for kind, statement in sql.COUNTS.items()
        }

    def removable(self, before: float, limit: int = BATCH) -> list[Row]:
        """Studies that have not changed since a time, the oldest first, of which nothing waits to be done or sent."""
        return self.database.rows(sql.STUDIES_BEFORE, {"before": before, "limit": limit})

    def removable_uploads(self, before: float, limit: int = BATCH) -> list[Row]:
        """Jobs of uploads that ended before a time."""
        return self.database.rows(sql.UPLOADS_BEFORE, (before, limit))

    def remove_job(self, job: int) -> None:
        """Forget the job of an upload."""
        with self.database.transaction() as database:
            database.change(sql.REMOVE_JOB, (job,))

    def was_corrected(self, study: int) -> bool:
        """Whether an image of a study was replaced by another of the same UID."""
        return self.database.row(sql.WAS_REPLACED, (study,)) is not None

    def remove(self, study: int) -> list[str]:
        """Forget a study, and return the files that are no longer needed."""
        with self.database.transaction() as database:
            files = [row["path"] for row in database.rows(sql.FILES_OF_STUDY, {"study": study})]
            for statement in sql.REMOVE_STUDY:
                database.change(statement, (study,))
        return files

    def _claimed(self, kind: Kind, number: int, attempt: int) -> Row:
        row = self.database.row(sql.SELECT[kind], (number,))
        if row is None or row["attempt"] != attempt:
            raise ServingError(
                f"The claim on {kind} {number} has ended: somebody else took it, or it was withdrawn. Nothing was kept."
            )
        return row

    def _move(
        self, kind: Kind, row: Row, event: str, now: float, *, reason: str = "", results: Sequence[str] = ()
    ) -> Row:
        before = Record(kind, row["state"], row["attempt"], row["due"], row["reason"])
        after, effects = step(before, event, now, timing=self.timing, seed=row["id"], reason=reason)
        changed = self.database.change(
            sql.MOVE[kind],
            {
                "id": row["id"],
                "state": after.state,
                "attempt": after.attempt,
                "due": after.due,
                "reason": after.reason,
                "now": now,
                "old_state": before.state,
                "old_attempt": before.attempt,
            },
        )
        if changed.rowcount != 1:
            raise ServingError(f"{kind} {row['id']} was moved on by somebody else. Nothing was kept.")
        self.database.change(
            sql.INSERT_EVENT,
            {
                "kind": kind,
                "record": row["id"],
                "event": event,
                "before": before.state,
                "after": after.state,
                "attempt": after.attempt,
                "reason": reason,
                "now": now,
            },
        )
        for effect in effects:
            self._follow(effect, row, now, results)
        found = self.database.row(sql.SELECT[kind], (row["id"],))
        if found is None:
            raise ServingError(f"{kind} {row['id']} is gone.")
        return found

    def _follow(self, effect: Effect, row: Row, now: float, results: Sequence[str]) -> None:
        database = self.database
        if effect == "make_jobs":
            for model, reason in self._models(row, database.rows(sql.INSTANCES_OF_STUDY, (row["id"],))).items():
                job = {"study": row["id"], "revision": row["revision"], "upload": None, "model": model, "owner": ""}
                state = "refused" if reason else "waiting"
                database.change(sql.INSERT_JOB, job | {"state": state, "reason": reason, "now": now})
        elif effect == "supersede_jobs":
            database.change(sql.REVISE_STUDY, (row["id"],))
            for job in database.rows(sql.OPEN_JOBS_OF_STUDY, (row["id"],)):
                self._move("job", job, "supersede", now, reason="a further image of the study arrived")
        elif effect == "make_deliveries":
            for uid in results:
                for result in database.rows(sql.RESULT_BY_UID, (uid,)):
                    for destination in self._destinations(row["model"], result["quirk"]):
                        values = {"result": result["id"], "destination": destination, "now": now}
                        database.change(sql.INSERT_DELIVERY, values)


def _json(attributes: Mapping[str, str]) -> str:
    return json.dumps(dict(attributes), ensure_ascii=False)


_INSTANCE_FIELDS = frozenset({"uid", "series_uid", "sop_class", "transfer_syntax", "path", "sha256", "size"})
