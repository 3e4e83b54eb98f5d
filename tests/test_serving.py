"""A real service with real peers: storescu sends, Orthanc keeps what comes back, programs ask over HTTP."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest

from certificates import Authority
from dicom_samples import make_dicom
from hounsfield.inference import open_predictor
from hounsfield.serving.audit import verify
from hounsfield.serving.database import Reader
from networks import tiny_bundle
from peers import peer
from services import ENVIRONMENT, Orthanc, Service, free_port, get_json, orthanc, send, service, until


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "bundle"
    tiny_bundle(folder)
    return folder


def ct_model(bundle: Path, **settings: Any) -> dict[str, Any]:
    """Settings of a model that takes studies: the training images of this bundle had no modality."""
    return {"name": "tiny", "run": str(bundle), "rules": {"modality": ["CT"]}} | settings


@pytest.fixture(scope="module")
def pacs_and_service(tmp_path_factory, bundle) -> Iterator[tuple[Orthanc, Service]]:
    folder = tmp_path_factory.mktemp("peers")
    port = free_port()
    with orthanc(folder / "orthanc", port) as pacs:
        settings = {
            "dicom": {"port": port},
            "models": [ct_model(bundle)],
            "destinations": [
                {"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs.dicom_port, "commitment": True},
                {"name": "web", "url": f"{pacs.url}/dicom-web"},
            ],
        }
        with service(folder / "own", settings) as running:
            yield pacs, running


def image(path: Path, number: int, study: str = "1.2.3", **elements: Any) -> Path:
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24)).astype(np.uint8)
    uid = f"{study}.7.{number}"
    elements = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.7", "SOPInstanceUID": uid} | elements
    make_dicom(path, pixels, **elements)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPInstanceUID = uid
    dataset.save_as(path)
    return path


def test_a_study_comes_back_as_one_report_however_often_it_is_sent(pacs_and_service, tmp_path):
    pacs, running = pacs_and_service
    files = [image(tmp_path / f"{number}.dcm", number) for number in range(3)]
    for _ in range(2):
        assert send(running.dicom_port, *files).returncode == 0
    until(lambda: running.status()["delivery"].get("delivered") == 2, "both destinations have the report")
    assert send(running.dicom_port, *files).returncode == 0
    counts = running.status()
    assert counts["study"] == {"complete": 1}
    assert counts["job"] == {"done": 1}
    (report,) = pacs.instances()
    assert (report["Modality"], report["PatientID"], report["StudyInstanceUID"]) == ("SR", "P1", "1.2.3")
    kept = sorted((running.folder / "instances").rglob("*.dcm"))
    received = {pydicom.dcmread(path).SOPInstanceUID: path.read_bytes() for path in kept}
    for path in files:
        ours, theirs = (
            pydicom.dcmread(path),
            pydicom.dcmread(io.BytesIO(received[pydicom.dcmread(path).SOPInstanceUID])),
        )
        assert ours == theirs


def test_what_no_model_takes_is_left_with_a_reason(pacs_and_service, tmp_path):
    _, running = pacs_and_service
    file = image(tmp_path / "mr.dcm", 1, "1.2.4", Modality="MR")
    assert send(running.dicom_port, file).returncode == 0
    row = until(
        lambda: Reader(running.folder / "service.sqlite").row(
            "SELECT job.* FROM job JOIN study ON study.id = job.study WHERE study.uid = '1.2.4'"
        ),
        "the study is complete",
    )
    assert row["state"] == "refused"
    assert "Modality is 'MR', and the model takes CT" in row["reason"]


def test_an_image_without_a_study_is_refused(pacs_and_service, tmp_path):
    _, running = pacs_and_service
    before = running.status()["study"]
    nowhere = image(tmp_path / "a.dcm", 5, "1.2.5", StudyInstanceUID="")
    assert "CannotUnderstand" in send(running.dicom_port, nowhere).stderr
    assert running.status()["study"] == before


def test_another_title_is_not_answered(pacs_and_service, tmp_path):
    _, running = pacs_and_service
    assert send(running.dicom_port, image(tmp_path / "a.dcm", 5), title="SOMEBODY").returncode != 0


def post(address: str, files: dict[str, bytes], token: str | None = None) -> Any:
    boundary = b"----boundary"
    body = b"".join(
        b"--" + boundary + b'\r\nContent-Disposition: form-data; name="uploads"; filename="' + name.encode() + b'"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"
        for name, content in files.items()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(address, body + b"--" + boundary + b"--\r\n", headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read())


def test_http_answers_as_the_predictor_does_on_the_same_files(pacs_and_service, bundle, tmp_path):
    _, running = pacs_and_service
    paths = [image(tmp_path / f"{number}.dcm", number) for number in range(20, 24)]
    expected = [
        prediction.probabilities for prediction in open_predictor(bundle).predict([str(path) for path in paths])
    ]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for path in paths[2:]:
            file.write(path, f"../../{path.name}")
    files = {path.name: path.read_bytes() for path in paths[:2]} | {"more.zip": archive.getvalue()}
    answer = post(f"{running.url}/api/models/tiny/predict", files)
    assert [each["image"] for each in answer["predictions"]] == ["20.dcm", "21.dcm", "../../22.dcm", "../../23.dcm"]
    for found, wanted in zip(answer["predictions"], expected, strict=True):
        assert found["probabilities"] == pytest.approx(wanted, abs=1e-6)
    until(lambda: not list((running.folder / "uploads").iterdir()), "the files are removed")


def test_what_cannot_be_read_is_told_without_places_of_the_server(pacs_and_service):
    _, running = pacs_and_service
    answer = post(f"{running.url}/api/models/tiny/predict", {"notes.txt": b"no image"})
    (bad,) = answer["predictions"]
    assert bad["image"] == "notes.txt"
    assert "no known format" in bad["reason"]
    assert str(running.folder) not in json.dumps(answer)


def test_a_job_is_done_later(pacs_and_service, tmp_path):
    _, running = pacs_and_service
    path = image(tmp_path / "30.dcm", 30)
    number = post(f"{running.url}/api/models/tiny/jobs", {"30.dcm": path.read_bytes()})["job"]
    job = until(lambda: (found := get_json(f"{running.url}/api/jobs/{number}"))["state"] == "done" and found, "done")
    assert [each["image"] for each in job["predictions"]] == ["30.dcm"]
    assert job["bundle"] == get_json(f"{running.url}/api/models/tiny")["bundle"]
    until(lambda: not list((running.folder / "uploads").iterdir()), "the upload is removed")


def test_every_access_stands_in_the_audit_and_the_chain_is_whole(pacs_and_service):
    _, running = pacs_and_service
    reader = Reader(running.folder / "service.sqlite")
    get_json(f"{running.url}/api/models")
    until(lambda: reader.row("SELECT * FROM audit ORDER BY id DESC")["action"] == "list models", "it is written")
    assert verify(reader) > 0


@pytest.mark.parametrize("part", ["keeper", "web"])
def test_processes_that_are_killed_come_back_without_loss(bundle, tmp_path, part):
    settings = {"models": [ct_model(bundle)], "quiet_seconds": 3}
    with service(tmp_path, settings) as running:
        assert send(running.dicom_port, image(tmp_path / "a.dcm", 1)).returncode == 0
        os.kill(_process(running, part), signal.SIGKILL)
        until(lambda: running.status()["job"].get("done") == 1, "the study is predicted")
        assert running.stop() == 0


def _process(running: Service, part: str) -> int:
    """The process of the service that listens at a port of ours."""
    port = running.dicom_port if part == "keeper" else running.http_port
    children = psutil.Process(running.process.pid).children()
    return next(child.pid for child in children if any(each.laddr.port == port for each in child.net_connections()))


def test_tokens_decide_who_may_do_what(bundle, tmp_path):
    settings = {"models": [{"name": "tiny", "run": str(bundle)}]}

    def token(role: str) -> str:
        command = [sys.executable, "-m", "hounsfield", "serve", "--folder", str(tmp_path / "service")]
        command += ["--add-token", role, "--role", role]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.strip()

    tokens = {role: token(role) for role in ("reader", "annotator", "admin")}
    with service(tmp_path, settings) as running:
        for role, text in tokens.items():
            assert get_json(f"{running.url}/api/models", text)[0]["name"] == "tiny"
            assert _status(f"{running.url}/api/audit", text) == (200 if role == "admin" else 403)
        assert _status(f"{running.url}/api/models", None) == 401
        assert _status(f"{running.url}/api/models", tokens["reader"][:-1]) == 401
        assert _status(f"{running.url}/healthz", None) == 200
    stored = (tmp_path / "service" / "tokens.json").read_text()
    assert not any(text in stored for text in tokens.values())


def _status(address: str, token: str | None) -> int:
    try:
        get_json(address, token)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def test_a_model_is_swapped_and_returned_to_while_requests_go_on(bundle, tmp_path):
    tiny_bundle(tmp_path / "other", threshold=0.9)
    settings = {"models": [{"name": "tiny", "run": str(bundle)}]}
    path = image(tmp_path / "a.dcm", 1)
    with service(tmp_path, settings) as running:
        first = get_json(f"{running.url}/api/models/tiny")["bundle"]
        command = [sys.executable, "-m", "hounsfield", "serve", "--folder", str(running.folder), "--swap"]
        swap = subprocess.Popen([*command, f"tiny={tmp_path / 'other'}", "--force"], env=ENVIRONMENT)
        while swap.poll() is None:
            assert post(f"{running.url}/api/models/tiny/predict", {"a.dcm": path.read_bytes()})["predictions"]
        assert swap.returncode == 0
        second = get_json(f"{running.url}/api/models/tiny")
        assert second["bundle"] != first
        assert second["threshold"] == 0.9
        refused = subprocess.run(
            [*command, f"tiny={tmp_path}"], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        assert refused.returncode == 1
        assert get_json(f"{running.url}/api/models/tiny")["bundle"] == second["bundle"]
        subprocess.run([*command, "tiny"], env=ENVIRONMENT, check=True)
        assert get_json(f"{running.url}/api/models/tiny")["bundle"] == first


def test_two_services_do_not_share_a_folder(bundle, tmp_path):
    settings = {"models": [{"name": "tiny", "run": str(bundle)}]}
    with service(tmp_path, settings):
        command = [sys.executable, "-m", "hounsfield", "serve", str(bundle), "--folder", str(tmp_path / "service")]
        second = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert second.returncode == 1
    assert "Another process writes into" in second.stderr
    assert "Traceback" not in second.stderr


def test_an_open_address_is_refused_until_there_is_a_token(bundle, tmp_path):
    path = tmp_path / "serve.yaml"
    http = {"host": "0.0.0.0", "port": 0, "tls": {"certificate": "a.pem", "key": "a.key"}}  # noqa: S104
    path.write_text(json.dumps({"folder": str(tmp_path / "service"), "models": [ct_model(bundle)], "http": http}))
    command = [sys.executable, "-m", "hounsfield", "serve", "--config", str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=60)
    assert refused.returncode == 1
    assert "there is no token that tells who may ask" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_over_tls_only_those_with_a_certificate_are_let_in(bundle, tmp_path):
    ours, others = Authority(tmp_path), Authority(tmp_path, "others")
    server, client, stranger = ours.sign("server"), ours.sign("client"), others.sign("stranger")
    tls = {"certificate": str(server.certificate), "key": str(server.key), "authority": str(ours.certificate)}
    context = ssl.create_default_context(cafile=ours.certificate)
    context.load_cert_chain(client.certificate, client.key)
    settings = {"models": [ct_model(bundle)], "http": {"tls": tls}, "dicom": {"tls": dict(tls)}}
    file = image(tmp_path / "a.dcm", 1)
    with service(tmp_path / "own", settings, context=context) as running:
        curl = [peer("curl"), "--silent", "--cacert", str(ours.certificate), f"{running.url}/api/models"]
        certificate = ["--cert", str(client.certificate), "--key", str(client.key)]
        assert json.loads(subprocess.run([*curl, *certificate], capture_output=True, check=True).stdout)
        wrong = ["--cert", str(stranger.certificate), "--key", str(stranger.key)]
        for refused in ([], wrong):
            assert subprocess.run([*curl, *refused], capture_output=True, check=False).returncode != 0
        assert send(running.dicom_port, file).returncode != 0
        for signed, is_let_in in ((stranger, False), (client, True)):
            options = ["+tls", str(signed.key), str(signed.certificate), "+cf", str(ours.certificate)]
            assert (send(running.dicom_port, file, options=options).returncode == 0) == is_let_in
        (kept,) = (running.folder / "instances").rglob("*.dcm")
        assert pydicom.dcmread(kept) == pydicom.dcmread(file)


def test_a_destination_that_is_down_gets_the_result_once_it_is_up(bundle, tmp_path):
    port, pacs_port = free_port(), free_port()
    settings = {
        "dicom": {"port": port},
        "models": [ct_model(bundle)],
        "destinations": [{"name": "pacs", "title": "TESTPACS", "host": "127.0.0.1", "port": pacs_port}],
    }
    with service(tmp_path / "own", settings) as running:
        assert send(port, image(tmp_path / "a.dcm", 1)).returncode == 0
        until(lambda: running.status()["delivery"].get("waiting"), "the result waits")
        with orthanc(tmp_path / "orthanc", port, DicomPort=pacs_port) as pacs:
            until(lambda: running.status()["delivery"].get("delivered") == 1, "the result is delivered")
            assert len(pacs.instances()) == 1


def test_a_full_disk_is_said_and_nothing_is_acknowledged(bundle, tmp_path):
    settings = {"models": [{"name": "tiny", "run": str(bundle)}], "limits": {"free_mb": 10**9}}
    with service(tmp_path, settings) as running:
        said = send(running.dicom_port, image(tmp_path / "a.dcm", 1))
        assert "Refused: OutOfResources" in said.stderr
        assert running.status()["study"] == {}
        with sqlite3.connect(running.folder / "service.sqlite") as connection:
            assert connection.execute("SELECT COUNT(*) FROM instance").fetchone() == (0,)
