"""Routes of models: which there are, their cards, predictions, jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from hounsfield.errors import ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.desk import Desk
from hounsfield.serving.gateway import RETRY_AFTER, Gateway, Number
from hounsfield.serving.settings import MEBIBYTE
from hounsfield.serving.uploads import Upload, with_names

CARD = "MODEL_CARD.md"
# What a model card has at most.
_CARD_BYTES = 2**20
_PART = 2**20
Files = Annotated[list[UploadFile], File(description="Images, or ZIP archives of them.")]


class Run(BaseModel):
    """Which run is to be served: a folder on the server, or nothing for the one that was served before.

    With ``force`` it is served although it is worse on the same test images, or cannot be compared.
    """

    # No name of a file has a NUL.
    folder: str | None = Field(default=None, min_length=1, pattern="^[^\\x00]*$")
    force: bool = False


def add_model_routes(app: FastAPI, desk: Desk) -> None:
    """Add the routes to an application."""
    gateway = desk.gateway
    _add_jobs(app, desk, gateway)

    @app.get("/api/models")
    async def models(request: Request) -> list[dict[str, Any]]:
        """The models that are served."""
        gateway.identify(request, "reader", "list models")
        return [{"name": name, **served.info} for name, served in gateway.directory.all().items()]

    @app.get("/api/models/{name}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        """One model: task, labels, threshold, input, engine, the identity of its bundle."""
        gateway.identify(request, "reader", "show model", name)
        return {"name": name, **_found(gateway, name).info}

    @app.get("/api/models/{name}/card", response_class=PlainTextResponse)
    async def card(request: Request, name: str) -> PlainTextResponse:
        """The model card, as Markdown."""
        gateway.identify(request, "reader", "show model card", name)
        path = Path(_found(gateway, name).run) / CARD
        if not path.is_file() or path.stat().st_size > _CARD_BYTES:
            raise HTTPException(404, "This model has no card.")
        return PlainTextResponse(path.read_text(encoding="utf-8"), media_type="text/markdown")

    @app.post("/api/models/{name}/predict")
    async def predict(request: Request, name: str, uploads: Files) -> JSONResponse:
        """Predict files: images of any format that is read, or ZIP archives of them; one entry for each image."""
        gateway.identify(request, "reader", "predict", name)
        _found(gateway, name)
        upload = await _received(gateway, uploads)
        try:
            said = await gateway.predict(name, upload.files)
        except BaseException:
            upload.remove()
            raise
        predictions = with_names(said["predictions"], upload.path, upload.names)
        answer = {"model": name, "bundle": said["bundle"], "predictions": predictions}
        # The client need not wait until the files are gone.
        return JSONResponse(answer, background=BackgroundTask(_remove, upload))

    @app.put("/api/models/{name}/run")
    async def swap(request: Request, name: str, run: Run) -> JSONResponse:
        """Serve another run under this name: it is compared with the one before, which is kept, and opened."""
        gateway.identify(request, "admin", "swap model", name)
        _found(gateway, name)
        found = await gateway.call(gateway.control, "swap", name, run.folder, run.force)
        return JSONResponse({"model": name, **found})


def _add_jobs(app: FastAPI, desk: Desk, gateway: Gateway) -> None:
    @app.post("/api/models/{name}/jobs", status_code=202)
    async def begin(request: Request, name: str, uploads: Files, kept: bool = False) -> JSONResponse:
        """Predict files later: the answer names the job, at whose address the result will be.

        With ``kept`` the files stay, as a case that can be read on the page.
        """
        identity = gateway.identify(request, "reader", "begin job", name)
        _found(gateway, name)
        upload = await _received(gateway, uploads)
        await asyncio.to_thread(upload.keep)
        place = upload.path.relative_to(gateway.settings.folder).as_posix()
        try:
            number = await gateway.call(gateway.keeper, "add_upload", name, place, upload.names, identity.name, kept)
        except ServingError as error:
            upload.remove()
            raise HTTPException(429, str(error), {"Retry-After": str(10 * RETRY_AFTER)}) from error
        return JSONResponse({"job": number}, 202, {"Location": f"/api/jobs/{number}"})

    @app.get("/api/jobs/{number}")
    async def job(request: Request, number: Number) -> dict[str, Any]:
        """Where a job stands, and its predictions once it is done; only for who began it, and for admins.

        Of a case that is read blind, the predictions are left out until the reading is finished.
        """
        identity = gateway.identify(request, "reader", "show job", str(number))
        row = gateway.reader.row(sql.SELECT["job"], (number,))
        if row is None or not (row["owner"] == identity.name or identity.may("admin")):
            raise HTTPException(404, "There is no such job.")
        answer = {key: row[key] for key in ("id", "model", "state", "attempt", "reason", "bundle")}
        if desk.hides_job(row, identity):
            return answer | {"hidden": True}
        return answer | ({"predictions": json.loads(row["answer"])} if row["answer"] else {})


def _found(gateway: Gateway, name: str) -> Any:
    try:
        return gateway.directory.find(name)
    except ServingError as error:
        raise HTTPException(404, str(error)) from error


async def _received(gateway: Gateway, files: list[UploadFile]) -> Upload:
    upload = Upload(gateway.settings.folder, int(gateway.settings.limits.body_mb * MEBIBYTE))
    try:
        for file in files:
            await upload.add(file.filename or "", _parts(file))
    except BaseException:
        upload.remove()
        raise
    return upload


async def _remove(upload: Upload) -> None:
    upload.remove()


async def _parts(file: UploadFile) -> AsyncIterator[bytes]:
    while part := await file.read(_PART):
        yield part
