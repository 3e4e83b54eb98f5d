"""Routes of DICOMweb: STOW-RS, QIDO-RS and WADO-RS for what the service keeps (PS3.18, 10)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from email.parser import BytesParser
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from hounsfield.serving.gateway import Gateway
from hounsfield.serving.intake import Answer
from hounsfield.serving.settings import MEBIBYTE

DICOM_JSON = "application/dicom+json"
BOUNDARY = re.compile(r'boundary="?([^";,]{1,200})"?')
# Failure reasons of STOW-RS (PS3.18, I.2.2).
FAILURES = {
    Answer.UNREADABLE.value: 0xC000,
    Answer.MISMATCH.value: 0xA900,
    Answer.TOO_LARGE.value: 0xC001,
    Answer.FULL.value: 0xA700,
}
# Keyword → tag of what the lists show of a study.
STUDY_TAGS = {
    "StudyDate": ("00080020", "DA"),
    "StudyTime": ("00080030", "TM"),
    "AccessionNumber": ("00080050", "SH"),
    "PatientName": ("00100010", "PN"),
    "PatientID": ("00100020", "LO"),
    "StudyDescription": ("00081030", "LO"),
}
_STUDIES = "SELECT * FROM study ORDER BY received DESC LIMIT ? OFFSET ?"
_INSTANCES = """
SELECT instance.*, study.uid AS study_uid FROM instance JOIN study ON study.id = instance.study
WHERE study.uid = ? AND instance.replaced = 0 ORDER BY series_uid, instance.uid
"""
_INSTANCE = """
SELECT instance.* FROM instance JOIN study ON study.id = instance.study
WHERE study.uid = ? AND series_uid = ? AND instance.uid = ? AND replaced = 0
"""


def add_dicom_routes(app: FastAPI, gateway: Gateway) -> None:
    """Add the routes to an application."""

    @app.post("/dicom-web/studies")
    async def store(request: Request) -> JSONResponse:
        """STOW-RS: success is said of an instance once it is on disk and registered."""
        identity = gateway.identify(request, "annotator", "store")
        stored: list[str] = []
        failed: list[str] = []
        for part in _parts(await _body(request, gateway), request.headers.get("content-type", "")):
            answer, _ = await gateway.call(gateway.keeper, "receive", part, identity.name)
            (failed if answer in FAILURES else stored).append(answer)
        return _stow_answer(stored, failed)

    @app.get("/dicom-web/studies")
    async def studies(
        request: Request, limit: int = Query(100, ge=1, le=1000), offset: int = Query(0, ge=0, lt=2**62)
    ) -> JSONResponse:
        """QIDO-RS: studies, the latest first."""
        gateway.identify(request, "reader", "search studies")
        found = [_study(row) for row in gateway.reader.rows(_STUDIES, (limit, offset))]
        return JSONResponse(found, media_type=DICOM_JSON)

    @app.get("/dicom-web/studies/{study}/instances")
    async def instances(request: Request, study: str) -> JSONResponse:
        """QIDO-RS: the instances of a study."""
        gateway.identify(request, "reader", "search instances", study)
        found = [_instance(row) for row in gateway.reader.rows(_INSTANCES, (study,))]
        return JSONResponse(found, media_type=DICOM_JSON)

    @app.get("/dicom-web/studies/{study}/series/{series}/instances/{uid}")
    async def retrieve(request: Request, study: str, series: str, uid: str) -> Response:
        """WADO-RS: an instance as it was received."""
        gateway.identify(request, "reader", "retrieve", study)
        row = gateway.reader.row(_INSTANCE, (study, series, uid))
        if row is None:
            raise HTTPException(404, "There is no such instance.")
        content = (gateway.settings.folder / row["path"]).read_bytes()
        head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=part'
        return Response(head + content + b"\r\n--part--\r\n", media_type=kind)


async def _body(request: Request, gateway: Gateway) -> bytes:
    limit, body = gateway.settings.limits.body_mb * MEBIBYTE, bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise HTTPException(413, "The body is too large.")
    return bytes(body)


def _parts(body: bytes, kind: str) -> Iterator[bytes]:
    """The DICOM files of a multipart body."""
    found = BOUNDARY.search(kind)
    if not kind.startswith("multipart/related") or found is None:
        raise HTTPException(415, 'Expected multipart/related; type="application/dicom" with a boundary.')
    boundary = b"--" + found[1].encode()
    for part in body.split(boundary)[1:-1]:
        head, gap, content = part.partition(b"\r\n\r\n")
        headers = BytesParser().parsebytes(head.lstrip(b"\r\n") + gap)
        if headers.get_content_type() != "application/dicom":
            raise HTTPException(415, "Expected parts of the type application/dicom.")
        yield content.removesuffix(b"\r\n")


def _stow_answer(stored: list[str], failed: list[str]) -> JSONResponse:
    answer: dict[str, Any] = {}
    if failed:
        reasons = [{"00081197": {"vr": "US", "Value": [FAILURES[each]]}} for each in failed]
        answer["00081198"] = {"vr": "SQ", "Value": reasons}
    status = 200 if not failed else 202 if stored else 507 if Answer.FULL.value in failed else 409
    return JSONResponse(answer, status, media_type=DICOM_JSON)


def _study(row: dict[str, Any]) -> dict[str, Any]:
    attributes = json.loads(row["attributes"])
    answer: dict[str, Any] = {"0020000D": {"vr": "UI", "Value": [row["uid"]]}}
    for keyword, (tag, vr) in STUDY_TAGS.items():
        value = attributes.get(keyword, "")
        answer[tag] = {"vr": vr, **({"Value": [{"Alphabetic": value} if vr == "PN" else value]} if value else {})}
    return answer


def _instance(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "00080016": {"vr": "UI", "Value": [row["sop_class"]]},
        "00080018": {"vr": "UI", "Value": [row["uid"]]},
        "0020000D": {"vr": "UI", "Value": [row["study_uid"]]},
        "0020000E": {"vr": "UI", "Value": [row["series_uid"]]},
    }
