"""Routes of DICOMweb: STOW-RS, QIDO-RS and WADO-RS for what the service keeps (PS3.18, 10)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from hounsfield.serving.acknowledgement import Answer
from hounsfield.serving.gateway import Gateway
from hounsfield.serving.multipart import read_parts

DICOM_JSON = "application/dicom+json"
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
# What instances are searched by: keyword → column.
INSTANCE_COLUMNS = {"SOPInstanceUID": "instance.uid", "SeriesInstanceUID": "series_uid", "SOPClassUID": "sop_class"}
STUDY_COLUMNS = {name: f"json_extract(attributes, '$.{name}')" for name in STUDY_TAGS} | {"StudyInstanceUID": "uid"}
# Parameters of QIDO-RS that match nothing: PS3.18, 10.6.1.
NO_MATCH = frozenset({"limit", "offset", "includefield", "fuzzymatching"})
_STUDIES = "SELECT * FROM study WHERE {} ORDER BY received DESC LIMIT ? OFFSET ?"
_INSTANCES = """
SELECT instance.*, study.uid AS study_uid FROM instance JOIN study ON study.id = instance.study
WHERE instance.replaced = 0 AND study.uid = ? AND {} ORDER BY series_uid, instance.uid
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
        received = [
            await gateway.call(gateway.keeper, "receive", part, identity.name)
            async for part in read_parts(request.headers.get("content-type", ""), request.stream())
        ]
        if not received:
            raise HTTPException(400, "The body holds no part.")
        return _stow_answer(received, f"{request.base_url}dicom-web/studies")

    @app.get("/dicom-web/studies")
    async def studies(
        request: Request, limit: int = Query(100, ge=1, le=1000), offset: int = Query(0, ge=0, lt=2**62)
    ) -> JSONResponse:
        """QIDO-RS: studies, the latest first; by attributes of their first image, with * and ? as wild cards."""
        gateway.identify(request, "annotator", "search studies")
        where, values = _matching(request, STUDY_COLUMNS)
        found = [_study(row) for row in gateway.reader.rows(_STUDIES.format(where), (*values, limit, offset))]
        return JSONResponse(found, media_type=DICOM_JSON)

    @app.get("/dicom-web/studies/{study}/instances")
    async def instances(request: Request, study: str) -> JSONResponse:
        """QIDO-RS: the instances of a study."""
        gateway.identify(request, "annotator", "search instances", study)
        where, values = _matching(request, INSTANCE_COLUMNS)
        found = [_instance(row) for row in gateway.reader.rows(_INSTANCES.format(where), (study, *values))]
        return JSONResponse(found, media_type=DICOM_JSON)

    @app.get("/dicom-web/studies/{study}/series/{series}/instances/{uid}")
    async def retrieve(request: Request, study: str, series: str, uid: str) -> Response:
        """WADO-RS: an instance as it was received."""
        gateway.identify(request, "annotator", "retrieve", study)
        row = gateway.reader.row(_INSTANCE, (study, series, uid))
        if row is None:
            raise HTTPException(404, "There is no such instance.")
        content = (gateway.settings.folder / row["path"]).read_bytes()
        head = b"--part\r\nContent-Type: application/dicom\r\n\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=part'
        return Response(head + content + b"\r\n--part--\r\n", media_type=kind)


def _matching(request: Request, columns: Mapping[str, str]) -> tuple[str, list[str]]:
    """The condition that a search asks for, with its values; one that is not understood is never left out silently."""
    conditions, values = ["1"], []
    for name, value in request.query_params.multi_items():
        if name in NO_MATCH:
            continue
        if name not in columns:
            raise HTTPException(400, f"Cannot search by '{name}': expected some of {', '.join(columns)}.")
        conditions.append(f"{columns[name]} GLOB ?")
        values.append(value.replace("[", "[[]"))
    return " AND ".join(conditions), values


def _stow_answer(received: list[dict[str, str]], studies: str) -> JSONResponse:
    """The Store Instances Response Module (PS3.18, I.2): each instance with its success, or the reason of its failure.

    Nothing of an instance is ever changed or left out, so that there are no warnings.

    Args:
        received: what became of each part, as of ``Keeper.receive``.
        studies: the address of all studies.
    """
    failed = [each for each in received if each["answer"] in FAILURES]
    stored = [each for each in received if each["answer"] not in FAILURES]
    named = [each for each in failed if each["sop_class"] and each["uid"]]
    answer: dict[str, Any] = {}
    if len(of_study := {each["study"] for each in stored}) == 1:
        answer["00081190"] = {"vr": "UR", "Value": [f"{studies}/{of_study.pop()}"]}
    sequences = {
        "00081198": [_reference(each) | _failure(each) for each in named],
        "00081199": [_reference(each) | _address(each, studies) for each in stored],
        # Of what these are instances could not be read.
        "0008119A": [_failure(each) for each in failed if each not in named],
    }
    answer |= {tag: {"vr": "SQ", "Value": items} for tag, items in sequences.items() if items}
    is_full = any(each["answer"] == Answer.FULL.value for each in failed)
    status = 200 if not failed else 202 if stored else 507 if is_full else 409
    return JSONResponse(answer, status, media_type=DICOM_JSON)


def _reference(instance: dict[str, str]) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [instance["sop_class"]]},
        "00081155": {"vr": "UI", "Value": [instance["uid"]]},
    }


def _address(instance: dict[str, str], studies: str) -> dict[str, Any]:
    address = f"{studies}/{instance['study']}/series/{instance['series']}/instances/{instance['uid']}"
    return {"00081190": {"vr": "UR", "Value": [address]}}


def _failure(instance: dict[str, str]) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [FAILURES[instance["answer"]]]}}


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
