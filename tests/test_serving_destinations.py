"""Destinations that are slow, reject, fail or keep silent, and senders that stop half-way: what becomes of a study."""

from __future__ import annotations

import contextlib
import copy
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from hounsfield.serving import keeper, node, sender
from hounsfield.serving.calls import CallServer
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.keeper import Keeper
from hounsfield.serving.node import COMMITMENT, VERIFICATION
from hounsfield.serving.outgoing import COMMITMENT_INSTANCE
from hounsfield.serving.settings import ServeSettings
from services import until
from serving_lives import fake_study, write_image

SECRET = b"secret"
CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass
class Pacs:
    """A destination: what it answers one after another, the last one for ever.

    Attributes:
        statuses: of C-STORE.
        words: types of its reports of commitment: 1 success, 2 failure, 0 none at all.
        seconds: before an answer.
        sent: UIDs, as often as they came.
    """

    statuses: list[int] = field(default_factory=lambda: [0])
    words: list[int] = field(default_factory=lambda: [1])
    seconds: float = 0
    service_port: int = 0
    sent: list[str] = field(default_factory=list)
    port: int = 0

    def store(self, event: Any) -> int:
        time.sleep(self.seconds)
        self.sent.append(str(event.request.AffectedSOPInstanceUID))
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def commit(self, event: Any) -> tuple[int, None]:
        word = self.words.pop(0) if len(self.words) > 1 else self.words[0]
        if word:
            threading.Thread(target=self._report, args=(event.action_information, word)).start()
        return 0, None

    def _report(self, request: Any, word: int) -> None:
        if word == 2:
            request.FailedSOPSequence = request.ReferencedSOPSequence
            del request.ReferencedSOPSequence
            for item in request.FailedSOPSequence:
                item.FailureReason = 0x0112
        entity = AE("PACS")
        entity.add_requested_context(COMMITMENT)
        association = entity.associate("127.0.0.1", self.service_port, ae_title="HOUNSFIELD")
        association.send_n_event_report(request, word, COMMITMENT, COMMITMENT_INSTANCE)
        association.release()


@contextlib.contextmanager
def serving(folder: Path, pacs: Pacs, **values: Any) -> Iterator[Keeper]:
    """The keeper with a model that answers at once, and a destination."""
    entity = AE("PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(COMMITMENT)
    handlers: Any = [(evt.EVT_C_STORE, pacs.store), (evt.EVT_N_ACTION, pacs.commit)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    pacs.port = server.socket.getsockname()[1]
    to_pacs = {"name": "pacs", "title": "PACS", "host": "127.0.0.1", "port": pacs.port} | values.pop("destination", {})
    settings = ServeSettings.model_validate(
        {
            "folder": folder / "service",
            "models": [{"name": "fake", "run": ".", "rules": {"modality": ["CT"]}}],
            "dicom": {"port": 0},
            "destinations": [to_pacs],
            "quiet_seconds": 0.3,
            "limits": {"free_mb": 0},
        }
        | values
    )
    model = str(folder / "model")
    studies = CallServer(model, SECRET, {"study": lambda _, place, *__: fake_study(settings.folder / place, place)})
    studies.start()
    directory = Directory(folder / "models.json")
    directory.publish([Served("fake", ".", model, {"bundle": "b", "modality": None})])
    service = Keeper(settings, directory, SECRET)
    service.register.timing = replace(settings.timing, first_wait=0.05)
    service.start()
    pacs.service_port = service.node.port if service.node is not None else 0
    try:
        yield service
    finally:
        service.stop()
        studies.stop()
        server.shutdown()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.05)


def receive(service: Keeper, folder: Path, *numbers: int) -> None:
    for number in numbers:
        answer, *_ = service.intake.receive(write_image(folder / "a.dcm", number, f"1.2.3.7.{number}"), "SENDER")
        assert answer.value == "stored"
    service.arrivals.enter()


def deliveries(service: Keeper) -> dict[str, int]:
    return service.register.counts()["delivery"]


def test_a_rejection_is_sent_once_and_again_after_a_release(tmp_path: Path) -> None:
    pacs = Pacs(statuses=[0xA900, 0])
    with serving(tmp_path, pacs) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"rejected": 1}, "it is rejected")
        time.sleep(0.5)
        assert len(pacs.sent) == 1
        (row,) = service.register.laid_aside("delivery", 10)
        assert "0xa900" in row["reason"]
        assert service.release_all() == 1
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
    assert len(pacs.sent) == 2
    assert len(set(pacs.sent)) == 1


def test_a_destination_without_resources_is_tried_until_it_has_some_again(tmp_path: Path) -> None:
    pacs = Pacs(statuses=[0xA700, 0x0110, 0])
    with serving(tmp_path, pacs) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
    assert len(pacs.sent) == 3
    assert len(set(pacs.sent)) == 1


def test_a_destination_that_never_has_resources_is_laid_aside(tmp_path: Path) -> None:
    pacs = Pacs(statuses=[0xA700])
    with serving(tmp_path, pacs, attempts=3) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"dead": 1}, "it is laid aside")
    assert len(pacs.sent) == 3


def test_a_slow_destination_gets_each_result_once(tmp_path: Path) -> None:
    pacs = Pacs(seconds=2.5)
    with serving(tmp_path, pacs, lease_seconds=1) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
        assert service.database.row("SELECT attempt FROM delivery") == {"attempt": 1}
    assert len(pacs.sent) == 1


def test_a_result_that_a_destination_does_not_keep_is_sent_again(tmp_path: Path) -> None:
    pacs = Pacs(words=[2, 1])
    with serving(tmp_path, pacs, destination={"commitment": True}) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
        reasons = [row["reason"] for row in service.database.rows("SELECT reason FROM event WHERE event = 'fail'")]
        assert reasons == ["the destination does not keep it (failure reason 0x0112)"]
    assert len(pacs.sent) == 2
    assert len(set(pacs.sent)) == 1


def test_a_destination_that_does_not_confirm_is_asked_again(tmp_path: Path) -> None:
    pacs = Pacs(words=[0, 1])
    with serving(tmp_path, pacs, destination={"commitment": True}, commitment_seconds=0.5) as service:
        receive(service, tmp_path, 1)
        until(lambda: deliveries(service) == {"stored": 1}, "it waits for the word")
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
    assert len(set(pacs.sent)) == 1
    assert len(pacs.sent) >= 2


def test_of_half_a_study_what_came_is_kept_and_the_rest_makes_a_revision(tmp_path: Path) -> None:
    pacs = Pacs()
    with serving(tmp_path, pacs) as service:
        entity = AE("SENDER")
        entity.add_requested_context(CT)
        association = entity.associate("127.0.0.1", service.node.port, ae_title="HOUNSFIELD")
        write_image(tmp_path / "a.dcm", 1, "1.2.3.7.1")
        assert association.send_c_store(tmp_path / "a.dcm").Status == 0
        association.abort()
        until(lambda: deliveries(service) == {"delivered": 1}, "what came is predicted")
        receive(service, tmp_path, 2)
        until(lambda: service.register.counts()["job"] == {"done": 2}, "all of it is predicted")
        revisions = [row["revision"] for row in service.database.rows("SELECT revision FROM job ORDER BY id")]
        assert revisions == [1, 2]


def test_objects_of_a_job_that_was_withdrawn_are_removed(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    pacs = Pacs()
    with serving(tmp_path, pacs) as service:
        finish = service.register.finish_job

        def late(*values: Any, **named: Any) -> Any:
            begun.set()
            go_on.wait(10)
            return finish(*values, **named)

        service.register.finish_job = late  # type: ignore[method-assign]
        receive(service, tmp_path, 1)
        assert begun.wait(10)
        receive(service, tmp_path, 2)
        go_on.set()
        until(lambda: service.register.counts()["job"] == {"superseded": 1, "done": 1}, "the second is done")
        until(lambda: deliveries(service) == {"delivered": 1}, "it is delivered")
        registered = {row["path"] for row in service.database.rows("SELECT path FROM result")}
        folder = service.settings.folder
        assert {path.relative_to(folder).as_posix() for path in (folder / "results").rglob("*.dcm")} == registered


def test_the_contexts_of_an_association_are_copied_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, Pacs()) as service:
        contexts = service.node._server.contexts
        started = time.process_time()
        copied = copy.deepcopy(contexts)
        assert time.process_time() - started < 0.02
        assert copied == contexts
        assert copied[0] is not contexts[0]
        (commitment,) = (each for each in copied if each.abstract_syntax == COMMITMENT)
        assert (commitment.scu_role, commitment.scp_role) == (True, True)


def test_associations_and_bare_probes_leave_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "IDLE_SECONDS", 2)
    with serving(tmp_path, Pacs()) as service:
        entity = AE("PROBE")
        entity.add_requested_context(VERIFICATION)
        own = psutil.Process()

        def echoed() -> bool:
            association = entity.associate("127.0.0.1", service.node.port, ae_title="HOUNSFIELD")
            # A probe holds a place of an association until its end is noticed.
            if not association.is_established:
                return False
            assert association.send_c_echo().Status == 0
            association.release()
            return True

        def echo() -> None:
            until(echoed, "an association is accepted")

        echo()
        before = own.num_fds(), threading.active_count()
        for _ in range(20):
            echo()
            socket.create_connection(("127.0.0.1", service.node.port)).close()
        until(lambda: (own.num_fds(), threading.active_count()) <= before, "all of them are closed")
        echo()
