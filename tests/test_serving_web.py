"""The web server of a service in this process: who may ask what, what is refused, what stands in the audit."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
import requests
import uvicorn
from pydicom.uid import CTImageStorage

from dicom_samples import make_dicom
from hounsfield.errors import ServingError
from hounsfield.images.settings import MAX_PIXELS_VARIABLE
from hounsfield.inference import open_predictor
from hounsfield.serving import predicting
from hounsfield.serving import statements as sql
from hounsfield.serving.calls import RefusedCallError
from hounsfield.serving.cases import worklist
from hounsfield.serving.database import DATABASE, Database, Reader
from hounsfield.serving.directory import Directory, Served
from hounsfield.serving.gateway import Gateway
from hounsfield.serving.keeper import Keeper
from hounsfield.serving.rates import Rates
from hounsfield.serving.settings import ServeSettings, load_settings
from hounsfield.serving.specifications import ModelSpecification
from hounsfield.serving.studies import Studies
from hounsfield.serving.tokens import ROLES, Tokens
from hounsfield.serving.watchdog import Watchdog
from hounsfield.serving.web import OPEN, build_app
from hounsfield.serving.web_page import ASSETS
from networks import tiny_bundle
from services import until

SECRET = b"secret"
DAY = 86_400
# Method and route → the least role; a route that is not here has been forgotten.
ROUTES = {
    ("GET", "/metrics"): "reader",
    ("GET", "/api/status"): "reader",
    ("GET", "/api/models"): "reader",
    ("GET", "/api/models/{name}"): "reader",
    ("GET", "/api/models/{name}/card"): "reader",
    ("POST", "/api/models/{name}/predict"): "reader",
    ("POST", "/api/models/{name}/jobs"): "reader",
    ("GET", "/api/jobs/{number}"): "reader",
    ("PUT", "/api/models/{name}/run"): "admin",
    ("POST", "/api/{kind}s/{number}/release"): "admin",
    ("GET", "/api/audit"): "admin",
    ("GET", "/api/audit/verify"): "admin",
    ("GET", "/api/session"): "reader",
    ("GET", "/api/cases"): "reader",
    ("GET", "/api/cases/{key}"): "reader",
    ("POST", "/api/cases/{key}/readings"): "annotator",
    ("GET", "/api/cases/{key}/{revision}/stacks/{number}"): "reader",
    ("GET", "/api/cases/{key}/{revision}/stacks/{number}/frames/{frame}"): "reader",
    ("GET", "/api/cases/{key}/answers/{job}/{prediction}/{kind}"): "reader",
    ("GET", "/api/cases/{key}/overlays/{name}/{layer}/{frame}"): "reader",
    ("GET", "/dicom-web/studies"): "annotator",
    ("POST", "/dicom-web/studies"): "annotator",
    ("GET", "/dicom-web/studies/{study}/instances"): "annotator",
    ("GET", "/dicom-web/studies/{study}/series/{series}/instances/{uid}"): "annotator",
}


@dataclass
class Web:
    """A web server that runs."""

    url: str
    folder: Path
    keeper: Keeper
    app: Any
    tokens: dict[str, str]

    def ask(self, method: str, route: str, role: str | None = None, **options: Any) -> requests.Response:
        headers = options.pop("headers", {})
        if role is not None:
            headers = headers | {"Authorization": f"Bearer {self.tokens.get(role, role)}"}
        return requests.request(method, self.url + route, headers=headers, timeout=30, **options)

    def audit(self) -> list[dict[str, Any]]:
        return Reader(self.folder / DATABASE).rows("SELECT * FROM audit ORDER BY id")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A model that answers, in a thread of this process."""
    folder = tmp_path_factory.mktemp("model")
    tiny_bundle(folder / "bundle")
    settings = served_settings(folder / "service", folder / "bundle").models[0]
    found: list[dict[str, Any]] = []
    stop = threading.Event()
    specification = ModelSpecification(settings, folder, str(folder / "socket"), SECRET, 10**6, 60)
    thread = threading.Thread(target=predicting.main, args=(specification, found.append, stop))
    # A process of its own sets its environment; here it is set back.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MAX_PIXELS_VARIABLE, str(specification.max_pixels))
        thread.start()
        until(lambda: found, "the model is open")
        yield Served("tiny", str(folder / "bundle"), str(folder / "socket"), found[0])
        stop.set()
        thread.join()


def served_settings(folder: Path, run: Path | str, **values: Any) -> ServeSettings:
    model = {"name": "tiny", "run": str(run), "rules": {"modality": ["CT"]}}
    return ServeSettings.model_validate({"folder": folder, "models": [model], "dicom": None} | values)


@contextlib.contextmanager
def serving(folder: Path, model: Served, roles: tuple[str, ...] = (), **values: Any) -> Iterator[Web]:
    """The web server and the keeper; with a token for each of the roles."""
    settings = served_settings(folder / "service", model.run, **{"quiet_seconds": 0.1, **values})
    directory = Directory(folder / "models.json")
    directory.publish([model])
    keeper = Keeper(settings, directory, SECRET)
    keeper.start()
    tokens = Tokens(settings.folder, alone=True)
    made = {role: tokens.add(role, role, keeper._clock(), days=1) for role in roles}

    def refuse(*_: Any) -> None:
        raise RefusedCallError("there is no such run")

    called: Callable[..., Any] = lambda name, *values: getattr(keeper, name)(*values)  # noqa: E731
    app = build_app(
        Gateway(settings, directory, Reader(settings.folder / DATABASE), called, refuse, tokens)  # type: ignore[arg-type]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", loop="asyncio"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started, "the web server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Web(f"http://127.0.0.1:{port}", settings.folder, keeper, app, made)
    finally:
        server.should_exit = True
        thread.join()
        keeper.stop()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, model: Served) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("alone"), model, limits={"body_mb": 1}) as web:
        yield web


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, model: Served) -> Iterator[Web]:
    with serving(tmp_path_factory.mktemp("guarded"), model, ROLES) as web:
        yield web


def routes(app: Any) -> set[tuple[str, str]]:
    return {
        (method, route.path)
        for route in app.routes
        for method in route.methods - {"HEAD"}
        if route.path not in OPEN and not route.path.startswith(ASSETS)
    }


def address(route: str) -> str:
    values = {"name": "tiny", "study": "1.2", "series": "1.3", "uid": "1.4"}
    values["kind"] = "evidence" if route.startswith("/api/cases") else "job"
    return re.sub(r"{(\w+)}", lambda found: values.get(found[1], "1"), route)


def test_each_role_may_ask_each_route_or_may_not(guarded: Web) -> None:
    assert routes(guarded.app) == set(ROUTES)
    for (method, route), least in ROUTES.items():
        body: dict[str, Any] = {"json": {}} if method == "PUT" else {}
        if route.endswith("/readings"):
            body = {"json": {"nonce": "12345678", "revision": 1, "state": "draft", "after": 0, "content": {}}}
        if route.endswith(("/predict", "/jobs")):
            body = {"files": {"uploads": ("a.txt", b"no image")}}
        assert guarded.ask(method, address(route), **body).status_code == 401, route
        for role in ROLES:
            status = guarded.ask(method, address(route), role, **body).status_code
            if ROLES.index(role) < ROLES.index(least):
                assert status == 403, (role, route)
            else:
                assert status not in {401, 403}, (role, route)
                assert status < 500, (role, route)


def test_each_access_leaves_one_record_however_it_ends(guarded: Web) -> None:
    asked = [(method, address(route), role) for method, route in ROUTES for role in (None, "reader")]
    asked += [("GET", "/api/nothing", "reader"), ("GET", "/dicom-web/studies?limit=no", "reader")]
    asked = [each for each in asked if each != ("GET", "/metrics", "reader")]
    until(lambda: _is_quiet(guarded), "earlier accesses are written")
    before = len(guarded.audit())
    for method, route, role in asked:
        guarded.ask(method, route, role)
    for free in ("/healthz", "/readyz", "/openapi.json"):
        assert guarded.ask("GET", free).status_code == 200
    assert guarded.ask("GET", "/metrics", "reader").status_code == 200
    until(lambda: len(guarded.audit()) - before >= len(asked), "the accesses are written")
    assert _is_quiet(guarded)
    assert len(guarded.audit()) - before == len(asked)


def _is_quiet(web: Web) -> bool:
    """Whether no record of the audit was added for a moment."""
    before = len(web.audit())
    threading.Event().wait(0.3)
    return len(web.audit()) == before


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path, model: Served) -> None:
    with serving(tmp_path, model, ("reader", "admin"), limits={"per_minute": 3}) as web:
        statuses = [web.ask("GET", "/api/models", "reader").status_code for _ in range(4)]
        refused = web.ask("GET", "/api/models", "reader")
        assert statuses[:3] == [200] * 3
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert web.ask("GET", "/api/models", "admin").status_code == 200
        assert web.ask("GET", "/healthz").status_code == 200
        unknown = [web.ask("GET", "/api/models", "nobody").status_code for _ in range(4)]
        assert unknown == [401, 401, 401, 429]


def test_requests_are_counted_for_each_user_as_time_passes() -> None:
    now = [0.0]
    rates = Rates(6, lambda: now[0])
    assert [rates.ask("a") for _ in range(6)] == [0.0] * 6
    assert rates.ask("a") == pytest.approx(10)
    assert rates.ask("b") == 0
    now[0] = 9.9
    assert rates.ask("a") == pytest.approx(0.1)
    now[0] = 10.1
    assert rates.ask("a") == 0
    assert rates.ask("a") > 9
    now[0] = 1000
    assert [rates.ask("a") > 0 for _ in range(7)] == [False] * 6 + [True]


HANG = """
import sys, threading
from pathlib import Path
from hounsfield.serving.watchdog import Watchdog
watchdog = Watchdog(1)
for _ in range(3):
    with watchdog:
        threading.Event().wait(0.5)
Path(sys.argv[1]).write_text("alive after work that was in time")
with watchdog:
    {}
"""


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("threading.Event().wait()", "took longer than 1 s"),
        # Nothing of Python runs beside this.
        ("sum(range(10**12))", "Timeout"),
    ],
)
def test_work_without_end_ends_its_process_even_in_native_code(tmp_path: Path, work: str, said: str) -> None:
    command = [sys.executable, "-c", HANG.format(work), str(tmp_path / "said")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert (tmp_path / "said").exists()
    assert said in ended.stderr


@pytest.mark.parametrize("attack", ["", "x", "Bearer", "0" * 43, "é"])
def test_a_forged_token_lets_nobody_in(guarded: Web, attack: str) -> None:
    for token in (attack, guarded.tokens["admin"][:-1], guarded.tokens["admin"] + "A"):
        answer = guarded.ask("GET", "/api/models", headers={"Authorization": f"Bearer {token}".encode()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    stored = (guarded.folder / "tokens.json").read_text()
    assert not any(token in stored for token in guarded.tokens.values())


def test_a_token_counts_until_it_expires_or_is_removed(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path, alone=False)
    assert tokens.identify(None, 0) is None
    text = tokens.add("alice", "reader", 0, days=1)
    assert tokens.identify(text, DAY - 1) is not None
    assert tokens.identify(text, DAY + 1) is None
    tokens.remove("alice")
    assert tokens.identify(text, 1) is None


def test_without_a_token_only_a_service_that_nobody_else_can_reach_lets_in(tmp_path: Path) -> None:
    assert Tokens(tmp_path, alone=True).identify(None, 0) is not None
    assert Tokens(tmp_path, alone=False).identify(None, 0) is None


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example:80"}],
)
def test_pages_of_other_sites_may_not_ask(alone: Web, headers: dict[str, str]) -> None:
    assert alone.ask("GET", "/api/models", headers=headers).status_code == 403


def test_a_page_of_the_service_itself_may_ask(alone: Web) -> None:
    assert alone.ask("GET", "/api/models", headers={"Origin": alone.url}).status_code == 200


def test_headers_keep_browsers_within_the_service(alone: Web) -> None:
    for route in ("/healthz", "/api/nothing", "/api/models"):
        headers = alone.ask("GET", route).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def chunks(count: int) -> Iterator[bytes]:
    yield from [b"\0" * 2**16] * count


def test_a_body_is_bounded_however_its_length_is_told(alone: Web) -> None:
    route = "/api/models/tiny/predict"
    assert alone.ask("POST", route, data=b"\0" * (2**20 + 1)).status_code == 413
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert alone.ask("POST", route, data=chunks(40), headers=headers).status_code in {400, 413}
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    part = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    large = (each for each in (part, *chunks(40)))
    assert alone.ask("POST", "/dicom-web/studies", data=large, headers=headers).status_code == 413


def zipped(name: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def test_a_bomb_is_not_unpacked(alone: Web) -> None:
    bomb = zipped("a.npy", b"\0" * 50_000_000)
    answer = alone.ask("POST", "/api/models/tiny/predict", files={"uploads": ("a.zip", bomb)})
    assert answer.status_code == 413
    assert not list((alone.folder / "uploads").iterdir())


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name)


@pytest.mark.parametrize("name", ["../../tokens.json", "/etc/passwd", "..\\..\\a.png", "C:\\a.png", "a/../../b"])
def test_names_lead_nowhere(alone: Web, name: str) -> None:
    before = files_of(alone.folder)
    answer = alone.ask("POST", "/api/models/tiny/predict", files={"uploads": (name, b"no image")})
    inside = alone.ask("POST", "/api/models/tiny/predict", files={"uploads": ("a.zip", zipped(name, b"no image"))})
    for each in (answer, inside):
        (bad,) = each.json()["predictions"]
        assert "format" in bad["reason"]
        assert str(alone.folder) not in each.text
    until(lambda: files_of(alone.folder) == before, "nothing is left")


@pytest.mark.parametrize(
    "route", ["/dicom-web/studies/..%2F..%2Ftokens.json/instances", "/api/models/..%2F..", "/..%2F"]
)
def test_addresses_lead_nowhere(guarded: Web, route: str) -> None:
    answer = guarded.ask("GET", route, "admin")
    assert answer.status_code in {200, 404}
    assert "sha256" not in answer.text


def dicom(path: Path, number: int, **elements: Any) -> bytes:
    uid = f"1.2.{number}"
    elements = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.0", "SOPInstanceUID": uid} | elements
    make_dicom(path, np.full((16, 16), number % 256, np.uint8), **elements)
    return path.read_bytes()


def multipart(*parts: bytes, kind: bytes = b"application/dicom") -> bytes:
    return b"".join(b"--b\r\nContent-Type: " + kind + b"\r\n\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}


def stow(web: Web, body: bytes) -> requests.Response:
    return web.ask("POST", "/dicom-web/studies", data=body, headers=MULTIPART)


def test_what_is_stored_over_the_web_is_found_and_comes_back_as_it_was(alone: Web, tmp_path: Path) -> None:
    uid, content = "1.2.826.1.1", b""
    make_dicom(tmp_path / "a.dcm", np.eye(16, dtype=np.uint8), StudyInstanceUID="1.2.826.1", SOPInstanceUID=uid)
    content = (tmp_path / "a.dcm").read_bytes()
    assert stow(alone, multipart(content, content)).status_code == 200
    (study,) = alone.ask("GET", "/dicom-web/studies?StudyInstanceUID=1.2.826.*").json()
    assert study["00100020"]["Value"] == ["P1"]
    (instance,) = alone.ask("GET", "/dicom-web/studies/1.2.826.1/instances").json()
    series = instance["0020000E"]["Value"][0]
    back = alone.ask("GET", f"/dicom-web/studies/1.2.826.1/series/{series}/instances/{uid}").content
    assert content in back


def test_each_instance_stored_over_the_web_has_its_success_or_failure(alone: Web, tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": "1.2.827.1", "SeriesInstanceUID": "1.2.827.1.1", "SOPInstanceUID": "1.2.827.1.1.1"}
    stored = make_dicom(tmp_path / "a.dcm", np.eye(16, dtype=np.uint8), **uids).read_bytes()
    without = make_dicom(tmp_path / "b.dcm", np.eye(16, dtype=np.uint8), **uids | {"StudyInstanceUID": None})
    answer = stow(alone, multipart(stored, without.read_bytes(), b"no DICOM file"))
    assert answer.status_code == 202
    # Table I.2-1 of PS3.18, read back by pydicom.
    found = pydicom.Dataset.from_json(answer.json())
    studies = f"{alone.url}/dicom-web/studies"
    assert found.RetrieveURL == f"{studies}/1.2.827.1"
    (success,) = found.ReferencedSOPSequence
    assert (success.ReferencedSOPClassUID, success.ReferencedSOPInstanceUID) == (CTImageStorage, "1.2.827.1.1.1")
    assert content_at(alone, success.RetrieveURL) == stored
    (failure,) = found.FailedSOPSequence
    assert (failure.ReferencedSOPInstanceUID, failure.FailureReason) == ("1.2.827.1.1.1", 0xC000)
    (other,) = found.OtherFailuresSequence
    assert list(other.keys()) == [0x00081197]
    assert other.FailureReason == 0xC000


def content_at(web: Web, address: str) -> bytes:
    back = requests.get(address, timeout=30).content
    assert address.startswith(web.url)
    return back[back.index(b"\r\n\r\n") + 4 : back.rindex(b"\r\n--")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (multipart(b"no DICOM file"), 409),
        (multipart(b"", kind=b"text/html"), 415),
        (b"--b\r\nContent-Type: application/dicom\r\n\r\ncut", 400),
        (b"nothing like it", 400),
        (b"--b--\r\n", 400),
    ],
)
def test_a_body_that_holds_no_instance_stores_nothing(alone: Web, body: bytes, status: int) -> None:
    rows = Reader(alone.folder / DATABASE).rows
    before = rows("SELECT COUNT(*) FROM instance")
    assert stow(alone, body).status_code == status
    assert rows("SELECT COUNT(*) FROM instance") == before


def test_a_search_that_is_not_understood_is_refused(alone: Web) -> None:
    assert alone.ask("GET", "/dicom-web/studies?Modality=CT").status_code == 400
    assert alone.ask("GET", "/dicom-web/studies?limit=nothing").status_code == 422
    assert alone.ask("GET", "/dicom-web/studies?PatientID=[A-Z]*").json() == []


def png(value: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((16, 16), value, np.uint8))[1])


def opened(web: Web, role: str, *files: tuple[str, bytes]) -> int:
    """The number of the job of files that were opened on the page, once it has ended."""
    uploads = [("uploads", file) for file in files]
    job = web.ask("POST", "/api/models/tiny/jobs?kept=true", role, files=uploads).json()["job"]
    until(lambda: web.ask("GET", f"/api/jobs/{job}", role).json()["state"] == "done", "the job is done")
    return int(job)


def test_files_that_others_opened_are_no_case_of_a_reader(guarded: Web) -> None:
    """Their names may be those of patients."""
    job = opened(guarded, "annotator", ("Mustermann_Erika.png", png(7)))
    own = opened(guarded, "reader", ("mine.png", png(8)))
    listed = guarded.ask("GET", "/api/cases", "reader").json()
    assert "Mustermann" not in json.dumps(listed)
    assert [row["key"] for row in listed["cases"]] == [f"u{own}"]
    assert listed["count"] == 1
    assert guarded.ask("GET", f"/api/cases/u{own}", "reader").status_code == 200
    for route in ("", "/1/stacks/0", "/1/stacks/0/frames/0", f"/answers/{job}/0/evidence", f"/overlays/{job}-x/0/0"):
        answer = guarded.ask("GET", f"/api/cases/u{job}{route}", "reader")
        assert answer.status_code == 404, route
        assert "Mustermann" not in answer.text
    assert guarded.ask("GET", f"/api/cases/u{job}", "admin").status_code == 200


def test_files_of_one_name_keep_their_own_answers(alone: Web) -> None:
    job = opened(alone, "", ("scan.png", png(7)), ("scan.png", png(200)), ("other.png", png(8)))
    case = alone.ask("GET", f"/api/cases/u{job}").json()
    (answer,) = case["answers"]
    assert [each["stack"] for each in answer["predictions"]] == [0, 1, 2]
    assert [each["words"] for each in case["stacks"]] == ["scan.png", "scan.png (2)", "other.png"]


def test_no_job_tells_the_answer_of_a_case_that_is_read_blind(tmp_path: Path, model: Served) -> None:
    with serving(tmp_path, model, ("annotator", "admin"), blind_share=1) as web:
        job = opened(web, "annotator", ("a.png", png(7)))
        for role in ("annotator", "admin"):
            told = web.ask("GET", f"/api/jobs/{job}", role).json()
            assert told["hidden"]
            assert "predictions" not in told
        reading = {"nonce": "12345678", "revision": 1, "state": "final", "after": 0, "content": {}}
        assert web.ask("POST", f"/api/cases/u{job}/readings", "annotator", json=reading).status_code == 200
        assert web.ask("GET", f"/api/jobs/{job}", "annotator").json()["predictions"]
        assert web.ask("GET", f"/api/jobs/{job}", "admin").json()["hidden"]


def test_nothing_can_be_drawn_before_all_images_of_a_study_are_there(tmp_path: Path, model: Served) -> None:
    """Each further slice gives those behind it other numbers."""
    with serving(tmp_path, model, quiet_seconds=3600) as web:
        make_dicom(tmp_path / "a.dcm", np.eye(16, dtype=np.uint8), StudyInstanceUID="1.2.7")
        assert stow(web, multipart((tmp_path / "a.dcm").read_bytes())).status_code == 200
        case = web.ask("GET", "/api/cases/s1").json()
        assert (case["complete"], case["stacks"]) == (False, [])
        assert web.ask("GET", "/api/cases/s1/1/stacks/0/frames/0").status_code == 409
        mark = {"id": "a", "kind": "length", "stack": 0, "frame": 0, "from": [1, 1], "to": [2, 2]}
        reading = {"nonce": "12345678", "revision": 1, "state": "draft", "after": 0, "content": {"marks": [mark]}}
        assert web.ask("POST", "/api/cases/s1/readings", json=reading).status_code == 422
        web.keeper.register.complete_quiet_studies(web.keeper._clock() + 7200)
        assert web.ask("GET", "/api/cases/s1/1/stacks/0/frames/0").status_code == 200
        assert web.ask("POST", "/api/cases/s1/readings", json=reading).status_code == 200


def test_a_pseudonym_tells_nothing_without_the_key_of_the_service(tmp_path: Path) -> None:
    database = Database(tmp_path / DATABASE)
    patients = [{"PatientID": "P1"}, {"PatientID": "P1"}, {"PatientID": "P2"}, {}, {}]
    with database.transaction() as writing:
        for number, attributes in enumerate(patients):
            values = {"uid": f"1.{number}", "due": 0, "source": "", "attributes": json.dumps(attributes), "now": number}
            writing.change(sql.INSERT_STUDY, values)
    told = [
        [row["pseudonym"] for row in worklist(Reader(database.path), -1, {}, key, with_patients=False, owner=None)]
        for key in (b"a" * 16, b"b" * 16)
    ]
    nobody, other, same = told[0][:2], told[0][2], told[0][3:]
    # Studies that name nobody are not all of one patient.
    assert nobody == ["", ""]
    assert same[0] == same[1] != other
    assert not set(told[0][2:]) & set(told[1][2:])


@pytest.mark.parametrize("number", [-1, -(2**70), 2**63, 2**70, "x"])
def test_a_number_that_no_record_can_have_is_refused(alone: Web, number: int | str) -> None:
    assert alone.ask("GET", f"/api/jobs/{number}").status_code == 422
    assert alone.ask("POST", f"/api/jobs/{number}/release").status_code == 422
    assert alone.ask("GET", f"/api/audit?after={number}").status_code == 422


def test_a_study_that_names_two_patients_is_left(alone: Web, tmp_path: Path) -> None:
    for number, patient in ((1, "P1"), (2, "P2")):
        elements = {"StudyInstanceUID": "1.2.5", "SOPInstanceUID": f"1.2.5.{number}", "PatientID": patient}
        make_dicom(tmp_path / "a.dcm", np.eye(16, dtype=np.uint8), **elements)
        assert stow(alone, multipart((tmp_path / "a.dcm").read_bytes())).status_code == 200
    reader = Reader(alone.folder / DATABASE)
    row = until(
        lambda: reader.row("SELECT job.* FROM job JOIN study ON study.id = job.study WHERE study.uid = '1.2.5'"),
        "the study is complete",
    )
    assert (row["state"], row["reason"]) == ("refused", "the images of the study name several patients")


def test_a_job_of_a_service_in_a_folder_named_from_here(
    tmp_path: Path, model: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(None, {"models": [{"name": "tiny", "run": model.run}]})
    assert settings.folder == tmp_path / "service"


def test_names_that_no_file_can_have_are_refused(guarded: Web) -> None:
    with pytest.raises(ServingError, match="folder: no name of a file or folder has a NUL"):
        load_settings(None, {"folder": "a\0b", "models": [{"name": "tiny", "run": "run"}]})
    assert guarded.ask("PUT", "/api/models/tiny/run", "admin", json={"folder": "a\0b"}).status_code == 422


def test_a_viewer_that_needs_it_gets_an_object_of_its_own(tmp_path: Path, model: Served) -> None:

    (tmp_path / "study").mkdir()
    (tmp_path / "results").mkdir()
    make_dicom(tmp_path / "study" / "a.dcm", np.eye(16, dtype=np.uint8))
    settings = served_settings(tmp_path, model.run).models[0]
    specification = ModelSpecification(settings, tmp_path, "", SECRET, 10**6, 60)
    watchdog = Watchdog(60)
    studies = Studies(open_predictor(model.run), specification, watchdog)
    said = studies.predict(str(tmp_path / "study"), "results", [None, "ohif"], None)
    plain, marked = said["results"]
    assert (plain["quirk"], marked["quirk"]) == (None, "ohif")
    assert plain["uid"] != marked["uid"]
    again = studies.predict(str(tmp_path / "study"), "results", [None], None)["results"][0]
    corrected = studies.predict(str(tmp_path / "study"), "results", [None], "other")["results"][0]
    watchdog.stop()
    assert again["uid"] == plain["uid"]
    assert corrected["uid"] != plain["uid"]
