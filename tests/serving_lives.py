"""Lives of the process that keeps the records, each in a process of its own that a fault may end at any durable step.

Started by ``test_serving_faults``: the imports are paid once, every life is a fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from dicom_samples import make_dicom
from hounsfield.atomic import replacing
from hounsfield.serving import keeper, sender
from hounsfield.serving.calls import CallServer
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.faults import VARIABLE
from hounsfield.serving.node import COMMITMENT
from hounsfield.serving.outgoing import COMMITMENT_INSTANCE
from hounsfield.serving.settings import ServeSettings

SECRET = b"secret"
STUDY = "1.2.3"
INSTANCES = 3


def destination(port: int, service_port: int, folder: Path) -> None:
    """A PACS that notes what it stores, and commits itself on an association of its own."""

    def store(event: Any) -> int:
        with (folder / "stored").open("a") as file:
            file.write(f"{event.request.AffectedSOPInstanceUID}\n")
        return 0

    def commit(event: Any) -> tuple[int, None]:
        request = event.action_information
        entity = AE("PACS")
        entity.add_requested_context(COMMITMENT)
        association = entity.associate("127.0.0.1", service_port, ae_title="HOUNSFIELD")
        if association.is_established:
            association.send_n_event_report(request, 1, COMMITMENT, COMMITMENT_INSTANCE)
            association.release()
        return 0, None

    entity = AE("PACS")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(COMMITMENT)
    handlers: Any = [(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, commit)]
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=handlers)


def life(folder: Path, images: list[bytes], ports: tuple[int, int]) -> bool:
    """Receive a study, sending again what was not acknowledged; whether its result was delivered."""
    service_port, destination_port = ports
    settings = ServeSettings.model_validate(
        {
            "folder": folder / "service",
            "models": [{"name": "fake", "run": ".", "rules": {"modality": ["CT"]}}],
            "dicom": {"port": service_port},
            "destinations": [
                {"name": "pacs", "title": "PACS", "host": "127.0.0.1", "port": destination_port, "commitment": True}
            ],
            "quiet_seconds": 0.1,
            "lease_seconds": 1,
            "commitment_seconds": 1,
            "limits": {"free_mb": 0},
        }
    )
    address = str(folder / "model")
    CallServer(
        address, SECRET, {"study": lambda _, results, *__: fake_study(settings.folder / results, results)}
    ).start()
    directory = Directory(folder / "models.json")
    directory.publish([Served("fake", ".", address, {"bundle": "b", "modality": None})])
    service = keeper.Keeper(settings, directory, SECRET)
    service.start()
    waiting = list(images)
    while waiting:
        try:
            answer, *_ = service.intake.receive(waiting[0], "SENDER")
        except OSError:
            continue
        if answer.value in {"stored", "known"}:
            with (folder / "acknowledged").open("a") as file:
                file.write(f"{hashlib.sha256(waiting.pop(0)).hexdigest()}\n")
    end = time.monotonic() + 90
    while service.register.counts()["delivery"] != {"delivered": 1} and time.monotonic() < end:
        time.sleep(0.02)
    delivered = service.register.counts()["delivery"] == {"delivered": 1}
    service.stop()
    return delivered


def fake_study(target: Path, results: str) -> dict[str, Any]:
    """One object whose UID depends on what it is about and on nothing else."""
    uid = f"2.25.{int(hashlib.sha256(STUDY.encode()).hexdigest()[:24], 16)}"
    with replacing(target / f"{uid}.dcm") as path:
        content = write_image(path, 0, uid)
    result = {
        "uid": uid,
        "kind": "report",
        "quirk": None,
        "sop_class": "1.2.840.10008.5.1.4.1.1.2",
        "path": f"{results}/{uid}.dcm",
    }
    return {"bundle": "b", "predictions": [], "results": [result | {"sha256": hashlib.sha256(content).hexdigest()}]}


def write_image(path: Path, value: int, uid: str) -> bytes:
    make_dicom(path, np.full((4, 4), value, np.uint8), SOPInstanceUID=uid, StudyInstanceUID=STUDY)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.save_as(path)
    return path.read_bytes()


def main(folder: Path, ports: tuple[int, int], points: list[str]) -> None:
    """For each point and kind of fault: a life with the fault, and one without it; how they ended is printed."""
    keeper.TICK_SECONDS = sender.LOOK_SECONDS = 0.05  # type: ignore[misc]
    images = []
    for number in range(INSTANCES):
        uid = f"{STUDY}.7.{number}"
        images.append(write_image(folder / "image.dcm", number, uid))
    for point in points:
        for action in ("error", "kill"):
            place = folder / f"{point}-{action}"
            place.mkdir()
            ends = [_fork(place, images, ports, fault) for fault in (f"{point}:{action}", None)]
            print(json.dumps({"point": point, "action": action, "ends": ends}), flush=True)  # noqa: T201


def _fork(place: Path, images: list[bytes], ports: tuple[int, int], fault: str | None) -> int:
    """The exit status of a life: 0 all delivered, 1 its fault was never reached, 3 not delivered, -9 killed."""
    peer = os.fork()
    if peer == 0:
        destination(ports[1], ports[0], place)
    child = os.fork()
    if child == 0:
        if fault is not None:
            os.environ[VARIABLE] = fault
        try:
            delivered = life(place, images, ports)
            # A fault that was passed is gone from the environment.
            os._exit(1 if VARIABLE in os.environ else 0 if delivered else 3)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    os.kill(peer, signal.SIGKILL)
    os.waitpid(peer, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])), sys.argv[4:])
