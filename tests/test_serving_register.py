"""The records of the service: lifecycles, claims, revisions, deliveries, retention, audit."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hounsfield.errors import ServingError
from hounsfield.serving.audit import Access, append, verify
from hounsfield.serving.database import Database, Reader
from hounsfield.serving.lifecycle import STATES, TABLES, Record, Timing, backoff, step
from hounsfield.serving.register import Received, Register, Result

TIMING = Timing(quiet=10, lease=60, commitment=30, attempts=3, first_wait=2, longest_wait=100)


def received(uid: str = "1.2.1", study: str = "1.2", content: str = "a") -> Received:
    return Received(
        uid=uid,
        study_uid=study,
        series_uid=f"{study}.0",
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax="1.2.840.10008.1.2.1",
        path=f"{uid}-{content}.dcm",
        sha256=content,
        size=100,
        source="SENDER",
        attributes={"Modality": "CT"},
    )


def result(uid: str, quirk: str | None = None) -> Result:
    return Result(uid, "report", quirk, "1.2.840.10008.5.1.4.1.1.88.34", f"{uid}.dcm", "ab")


@pytest.fixture
def register(tmp_path: Path) -> Register:
    database = Database(tmp_path / "service.sqlite")
    return Register(
        database,
        TIMING,
        models=lambda *_: {"chest": "", "brain": "takes MR"},
        destinations=lambda _, quirk: ["viewer"] if quirk else ["pacs", "archive"],
    )


@pytest.mark.parametrize("kind", TABLES)
def test_every_pair_of_state_and_event_moves_on_or_names_both(kind):
    events = {event for _, event in TABLES[kind]}
    for state, event in itertools.product(STATES[kind], events):
        record = Record(kind, state, attempt=1)
        if (state, event) in TABLES[kind]:
            after, _ = step(record, event, 100.0, timing=TIMING)
            assert after.state == TABLES[kind][state, event].state
            assert after.due is None or after.due >= 100
        else:
            with pytest.raises(ServingError, match=f"is {state} cannot take the event '{event}'"):
                step(record, event, 100.0, timing=TIMING)


def test_the_last_try_lays_a_record_aside():
    record = Record("delivery", "sending", attempt=TIMING.attempts)
    after, effects = step(record, "fail", 0, timing=TIMING, reason="refused the association")
    assert (after.state, after.due, after.reason, effects) == ("dead", None, "refused the association", ())


def test_waits_double_up_to_a_limit_and_differ_between_records():
    waits = [backoff(attempt, TIMING, 1) for attempt in range(1, 12)]
    assert all(0.75 * 2**n <= wait <= 2**n for n, wait in enumerate(waits[:5], start=1))
    assert max(waits) <= TIMING.longest_wait
    assert len({backoff(3, TIMING, seed) for seed in range(20)}) == 20


def test_a_study_is_complete_once_nothing_has_arrived_for_the_quiet_time(register):
    assert register.receive(received(), 0)
    assert register.receive(received("1.2.2"), 8)
    assert register.complete_quiet_studies(17.9) == []
    assert register.complete_quiet_studies(18) == ["1.2"]
    job = register.claim_job("chest", 18)
    assert (job["state"], job["attempt"], job["due"]) == ("running", 1, 78)
    assert register.claim_job("chest", 18) is None
    assert register.claim_job("brain", 18) is None
    assert register.database.row("SELECT reason FROM job WHERE model = 'brain'") == {"reason": "takes MR"}


def test_an_instance_sent_twice_counts_once_and_a_changed_one_makes_a_revision(register):
    register.receive(received(), 0)
    register.complete_quiet_studies(20)
    assert not register.receive(received(), 30)
    assert register.counts()["study"] == {"complete": 1}
    assert register.receive(received(content="b"), 40)
    assert register.counts()["study"] == {"receiving": 1}
    assert register.counts()["job"] == {"superseded": 2}
    register.complete_quiet_studies(60)
    assert register.claim_job("chest", 60)["revision"] == 2


def test_a_late_worker_is_refused_and_keeps_nothing(register):
    register.receive(received(), 0)
    register.complete_quiet_studies(10)
    first = register.claim_job("chest", 10)
    assert register.expire(70) == 1
    second = register.claim_job("chest", 70)
    with pytest.raises(ServingError, match="has ended"):
        register.finish_job(first["id"], first["attempt"], 71, answer="{}", bundle="x", results=[result("1.9")])
    assert register.database.rows("SELECT * FROM result") == []
    register.finish_job(second["id"], second["attempt"], 72, answer="{}", bundle="x", results=[result("1.9")])
    assert register.counts()["delivery"] == {"waiting": 2}


def test_after_a_restart_what_was_claimed_is_done_again_at_once(register):
    delivered(register)
    first, second = register.claim_deliveries("pacs", 10)[0], register.claim_deliveries("archive", 10)[0]
    register.move("delivery", second["id"], second["attempt"], "store", 11)
    assert register.end_claims(12) == 1
    assert [row["id"] for row in register.claim_deliveries("pacs", 12)] == [first["id"]]
    assert register.counts()["delivery"] == {"sending": 1, "stored": 1}


def test_work_on_an_old_revision_is_refused(register):
    register.receive(received(), 0)
    register.complete_quiet_studies(10)
    job = register.claim_job("chest", 10)
    register.receive(received("1.2.2"), 11)
    with pytest.raises(ServingError, match="superseded"):
        register.finish_job(job["id"], job["attempt"], 12, answer="{}", bundle="x", results=[])


def delivered(register: Register, now: float = 10) -> None:
    register.receive(received(), 0)
    register.complete_quiet_studies(now)
    job = register.claim_job("chest", now)
    register.finish_job(job["id"], job["attempt"], now, answer="{}", bundle="x", results=[result("1.9")])


def test_a_destination_that_does_not_confirm_gets_the_same_object_again(register):
    delivered(register)
    (row,) = register.claim_deliveries("pacs", 10)
    register.move("delivery", row["id"], row["attempt"], "store", 11)
    assert register.expire(41) == 1
    (again,) = register.claim_deliveries("pacs", 50)
    assert (again["uid"], again["attempt"]) == (row["uid"], 2)
    register.move("delivery", again["id"], again["attempt"], "store", 51)
    assert register.commit_delivery(row["uid"], "pacs", 52)
    assert not register.commit_delivery(row["uid"], "pacs", 53)
    assert register.counts()["delivery"] == {"delivered": 1, "waiting": 1}


def test_a_rejection_is_not_tried_again_until_a_person_releases_it(register):
    delivered(register)
    (row,) = register.claim_deliveries("pacs", 10)
    register.move("delivery", row["id"], row["attempt"], "reject", 11, reason="SOP class not supported")
    assert register.claim_deliveries("pacs", 10_000) == []
    assert [each["reason"] for each in register.laid_aside("delivery", 10)] == ["SOP class not supported"]
    register.release("delivery", row["id"], 12)
    assert register.claim_deliveries("pacs", 12)[0]["attempt"] == 1
    with pytest.raises(ServingError, match="cannot take the event 'release'"):
        register.release("delivery", row["id"], 13)


def test_retention_never_removes_what_is_not_sent(register):
    delivered(register)
    assert register.removable(1e9) == []
    for destination in ("pacs", "archive"):
        (row,) = register.claim_deliveries(destination, 10)
        register.move("delivery", row["id"], row["attempt"], "deliver", 11)
    (study,) = register.removable(1e9)
    assert set(register.remove(study["id"])) == {"1.2.1-a.dcm", "1.9.dcm"}
    assert register.counts() == {"study": {}, "job": {}, "delivery": {}}


def test_an_error_within_a_transaction_leaves_nothing(register):
    register.receive(received(), 0)

    def broken(*_):
        raise OSError("no rule can be read")

    register._models = broken
    with pytest.raises(OSError, match="no rule"):
        register.complete_quiet_studies(10)
    assert register.counts()["study"] == {"receiving": 1}


def test_a_result_goes_only_where_its_quirk_is_wanted(register):
    register.receive(received(), 0)
    register.complete_quiet_studies(10)
    job = register.claim_job("chest", 10)
    results = [result("1.8"), replace(result("1.9", "ohif"), path="other.dcm")]
    register.finish_job(job["id"], job["attempt"], 10, answer="{}", bundle="x", results=results)
    sent = {name: [row["uid"] for row in register.claim_deliveries(name, 10)] for name in ("pacs", "archive", "viewer")}
    assert sent == {"pacs": ["1.8"], "archive": ["1.8"], "viewer": ["1.9"]}


def test_an_image_that_came_again_with_other_pixels_is_told(register):
    register.receive(received(), 0)
    assert not register.was_corrected(1)
    register.receive(received(content="b"), 1)
    assert register.was_corrected(1)


def test_a_reader_beside_the_writer_sees_what_was_committed_and_cannot_write(register):
    register.receive(received(), 0)
    reader = Reader(register.database.path)
    assert reader.row("SELECT uid FROM study") == {"uid": "1.2"}
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.rows("DELETE FROM study")


def test_a_file_that_is_no_database_and_a_newer_one_are_refused(tmp_path):
    (tmp_path / "a.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ServingError, match="cannot be opened"):
        Database(tmp_path / "a.sqlite")
    with sqlite3.connect(tmp_path / "b.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(ServingError, match="version 99"):
        Database(tmp_path / "b.sqlite")


ACCESS = Access(1.0, "alice", "reader", "predict", "1.2.3", "done")


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE audit SET actor = 'bob' WHERE id = 2",
        "UPDATE audit SET time = time + 1 WHERE id = 3",
        "DELETE FROM audit WHERE id = 1",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit WHERE id = 3",
        "UPDATE audit SET hash = (SELECT hash FROM audit WHERE id = 1) WHERE id = 2",
    ],
)
def test_a_changed_or_removed_record_of_the_audit_is_found(register, attack):
    database = register.database
    append(database, [ACCESS, replace(ACCESS, action="store")])
    append(database, [replace(ACCESS, time=2.0)])
    assert verify(database) == 3
    with database.transaction():
        database.change(attack)
    with pytest.raises(ServingError, match="audit"):
        verify(database)


def test_records_that_are_added_while_the_audit_is_read_are_no_fault(register):
    append(register.database, [ACCESS])

    class Busy:
        """Adds a record between two looks."""

        def row(self, statement, values=()):
            found = register.database.row(statement, values)
            append(register.database, [ACCESS])
            return found

        each = staticmethod(register.database.each)

    assert verify(Busy()) == 1


class Service(RuleBasedStateMachine):
    """The register beside a dictionary, on a simulated clock."""

    @initialize()
    def start(self):
        self.register = Register(
            Database(Path(":memory:")), TIMING, models=lambda *_: {"m": ""}, destinations=lambda *_: ["d"]
        )
        self.now, self.sent, self.known = 0.0, {}, {}
        self.jobs, self.deliveries, self.made = [], [], 0

    @rule(seconds=st.sampled_from([1, 5, 11, 40, 70]))
    def wait(self, seconds):
        self.now += seconds

    @rule(study=st.integers(1, 3), image=st.integers(1, 2), content=st.sampled_from("ab"))
    def receive(self, study, image, content):
        uid = f"{study}.{image}"
        new = self.register.receive(received(uid, str(study), content), self.now)
        assert new == (self.known.get(uid) != content)
        self.known[uid] = content

    @rule()
    def complete(self):
        self.register.complete_quiet_studies(self.now)

    @rule()
    def claim(self):
        if job := self.register.claim_job("m", self.now):
            self.jobs.append(job)

    @rule(late=st.booleans())
    def finish(self, late):
        if self.jobs:
            job = self.jobs.pop(0 if late else -1)
            self.made += 1
            uid = f"9.{job['study']}.{job['revision']}"
            answer = {"answer": "{}", "bundle": "x", "results": [replace(result(uid), path=f"{self.made}.dcm")]}
            with contextlib.suppress(ServingError):
                self.register.finish_job(job["id"], job["attempt"], self.now, **answer)

    @rule(event=st.sampled_from(["deliver", "store", "reject", "fail"]))
    def send(self, event):
        for row in self.register.claim_deliveries("d", self.now):
            self.register.move("delivery", row["id"], row["attempt"], event, self.now)
            self.sent[row["uid"]] = event

    @rule()
    def expire(self):
        self.register.expire(self.now)

    @rule()
    def release(self):
        self.register.release_all(self.now)

    @invariant()
    def holds(self):
        if not hasattr(self, "register"):
            return
        rows = self.register.database.rows
        current = {row["uid"]: row["sha256"] for row in rows("SELECT * FROM instance WHERE replaced = 0")}
        assert current == self.known
        for job in rows("SELECT job.*, study.revision AS latest FROM job JOIN study ON study.id = job.study"):
            assert job["revision"] == job["latest"] or job["state"] in {"superseded", "done"}
        running = rows("SELECT study, COUNT(*) AS n FROM job WHERE state = 'running' GROUP BY study")
        assert all(row["n"] == 1 for row in running)
        assert set(self.sent) <= {row["uid"] for row in rows("SELECT uid FROM result")}


Service.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestService = Service.TestCase
