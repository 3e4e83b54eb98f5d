"""Routes of what the reader's page shows of a case: stacks, slices, and what models lay over them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import Response

from hounsfield.errors import ImageError
from hounsfield.serving.cases import OVERLAYS, OverlayKind
from hounsfield.serving.desk import Desk
from hounsfield.serving.gateway import Gateway
from hounsfield.serving.pictures import Stack, stack_facts

Result = TypeVar("Result")
_OVERLAY = re.compile(r"\d+-[0-9a-f]{12}")


def add_picture_routes(app: FastAPI, desk: Desk) -> None:
    """Add the routes to an application."""
    _add_overlays(app, desk, desk.gateway)

    @app.get("/api/cases/{key}/{revision}/stacks/{number}")
    async def stack(request: Request, key: str, revision: int, number: int) -> dict[str, Any]:
        """How many slices or frames a stack has."""
        chosen = await desk.stack(request, key, revision, number)
        return stack_facts(chosen) | {"count": await _read(chosen, desk.pictures.count, chosen)}

    @app.get("/api/cases/{key}/{revision}/stacks/{number}/frames/{frame}", response_class=Response)
    async def frame(request: Request, key: str, revision: int, number: int, frame: int) -> Response:
        """One slice or frame: the length of its facts (uint32), its facts as JSON, its values (little endian)."""
        chosen = await desk.stack(request, key, revision, number)
        if not 0 <= frame < 2**31:
            raise HTTPException(404, "There is no such frame.")
        read = await _read(chosen, desk.pictures.frame, chosen, frame)
        return Response(read.content(), media_type="application/octet-stream")


def _add_overlays(app: FastAPI, desk: Desk, gateway: Gateway) -> None:
    @app.get("/api/cases/{key}/answers/{job}/{prediction}/{kind}")
    async def overlay(
        request: Request, key: str, job: int, prediction: int, kind: OverlayKind, label: str = Query("", max_length=200)
    ) -> dict[str, Any]:
        """Have an overlay of a prediction made, "evidence" or "masks", and say of what it is."""
        found = desk.case(key)
        identity = desk.look(request, found)
        if job not in {row["id"] for row in desk.jobs(found)} or not 0 <= prediction < 2**31:
            raise HTTPException(404, "There is no such answer.")
        if desk.hides(found, identity):
            raise HTTPException(403, "This case is read without the model's answer: finish it first.")
        path, labels = await gateway.call(gateway.keeper, "overlay", job, prediction, kind, label)
        values = np.load(gateway.settings.folder / path, mmap_mode="r")
        most = await asyncio.to_thread(lambda: float(np.abs(values).max()))
        return {"name": Path(path).stem, "labels": labels, "shape": list(values.shape[1:]), "most": most}

    @app.get("/api/cases/{key}/overlays/{name}/{layer}/{frame}", response_class=Response)
    async def layer(request: Request, key: str, name: str, layer: int, frame: int) -> Response:
        """One slice of an overlay that was made: its values (little endian), float32 of evidence, uint8 of masks."""
        found = desk.case(key)
        identity = desk.look(request, found)
        jobs = {str(row["id"]) for row in desk.jobs(found)}
        path = gateway.settings.folder / OVERLAYS / f"{name}.npy"
        is_known = _OVERLAY.fullmatch(name) and name.partition("-")[0] in jobs and path.is_file()
        if not is_known or desk.hides(found, identity):
            raise HTTPException(404, "There is no such overlay: have it made again.")
        values = np.load(path, mmap_mode="r")
        if not 0 <= layer < len(values) or (values.ndim == 4 and not 0 <= frame < values.shape[1]):
            raise HTTPException(404, "There is no such slice.")
        chosen = values[layer, frame] if values.ndim == 4 else values[layer]
        return Response(np.ascontiguousarray(chosen).tobytes(), media_type="application/octet-stream")


async def _read(stack: Stack, read: Callable[..., Result], *arguments: Any) -> Result:
    """What is read of a stack, in a thread; a refusal names no place of this machine."""
    try:
        return await asyncio.to_thread(read, *arguments)
    except ImageError as error:
        message = str(error)
        for path in stack.paths:
            message = message.replace(str(path), path.name)
        raise HTTPException(422, message) from error
