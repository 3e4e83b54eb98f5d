"""Routes of the reader's page: the list of cases, one case with the models' answers, what readers say of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hounsfield.errors import HounsfieldError
from hounsfield.reading import Content, is_blind, read_content
from hounsfield.serving import statements as sql
from hounsfield.serving.cases import Case, described, without_answers, worklist
from hounsfield.serving.database import Row
from hounsfield.serving.desk import Desk, owner_of_uploads
from hounsfield.serving.gateway import Gateway
from hounsfield.serving.pictures import Stack, stack_facts
from hounsfield.serving.readings import (
    State,
    Step,
    compared,
    finished_by,
    others_readings,
    own_reading,
    readers,
    told,
)
from hounsfield.serving.tokens import Identity
from hounsfield.version import __version__


def add_reading_routes(app: FastAPI, desk: Desk) -> None:
    """Add the routes to an application."""
    gateway = desk.gateway

    @app.get("/api/session")
    async def session(request: Request) -> dict[str, Any]:
        """Who asks, and which models there are."""
        identity = gateway.identify(request, "reader", "open page")
        models = [{"name": name, **served.info} for name, served in gateway.directory.all().items()]
        local = gateway.tokens.is_local
        return {"name": identity.name, "role": identity.role, "local": local, "models": models, "version": __version__}

    @app.get("/api/cases")
    async def cases(request: Request, after: float = Query(0, ge=0, allow_inf_nan=False)) -> JSONResponse:
        """Cases that changed after a time, with what the models found in short; patients for annotators and admins."""
        identity = gateway.identify(request, "reader", "list cases", is_noted=not after)
        seen = {"owner": owner_of_uploads(identity)}
        counted, now = gateway.reader.row(sql.CASES, seen) or {"count": 0}, gateway.clock()
        # A response of our own: thousands of plain rows need no encoder that looks at each value.
        return await asyncio.to_thread(
            lambda: JSONResponse({"time": now, "count": counted["count"], "cases": _listed(desk, identity, after)})
        )

    @app.get("/api/cases/{key}")
    async def case(request: Request, key: str) -> dict[str, Any]:
        """One case: its stacks, and the models' answers with the stack and frame that each belongs to."""
        found = desk.case(key)
        identity = desk.look(request, found)
        stacks = await desk.stacks(found)
        jobs = desk.jobs(found)
        facts = described(found, jobs, _models(gateway), desk.key, with_patients=identity.may("annotator"))
        place, hidden = _placing(stacks, desk.files(found)), desk.hides(found, identity)
        answers = [_full_answer(job, place, hidden=hidden) for job in jobs]
        del facts["identity"]
        facts |= {"stacks": [stack_facts(stack) for stack in stacks], "answers": answers, "hidden": hidden}
        return facts | _readings(gateway, found, identity)

    @app.post("/api/cases/{key}/readings")
    async def read(request: Request, key: str, entered: Entered) -> dict[str, int]:
        """Keep a step of a reader: a draft, or the end of a reading. The same step sent twice is kept once."""
        identity = gateway.identify(request, "annotator", "read", key, is_noted=False)
        found = desk.case(key)
        content = read_content(entered.content)
        stacks = await desk.stacks(found)
        step = Step(
            nonce=entered.nonce,
            study=found.row["id"] if found.is_study else None,
            job=None if found.is_study else found.row["id"],
            revision=entered.revision,
            reader=identity.name,
            role=identity.role,
            state=entered.state,
            after=entered.after,
            blind=desk.hides(found, identity),
            bundles={job["model"]: job["bundle"] for job in desk.jobs(found) if job["bundle"]},
            places=_places(gateway.settings.folder, stacks, content),
            content=content.json(),
            subject=found.subject,
        )
        return {"id": await gateway.call(gateway.keeper, "add_reading", vars(step))}


class Entered(BaseModel):
    """A step of a reader; see ``readings.Step``, and ``reading.Content`` for its content."""

    model_config = ConfigDict(extra="forbid")

    nonce: str = Field(pattern=r"^[A-Za-z0-9-]{8,64}$")
    revision: int = Field(ge=1, lt=2**31)
    state: State
    after: int = Field(ge=0, lt=2**62)
    content: dict[str, Any]


# What a prediction says of its image → the numbers of stack and frame; ``None`` where it is of none, or of all frames.
Placing = Callable[[Mapping[str, Any]], tuple[int | None, int | None]]


def _placing(stacks: Sequence[Stack], files: Mapping[Path, str]) -> Placing:
    by_name = {
        files[path]: (number, index if len(stack.paths) > 1 else None)
        for number, stack in reversed(list(enumerate(stacks)))
        for index, path in enumerate(stack.paths)
        if path in files
    }
    volumes = [(stack.series, stack.volume, number) for number, stack in enumerate(stacks)]

    def place(reference: Mapping[str, Any]) -> tuple[int | None, int | None]:
        if reference.get("path") in by_name:
            number, index = by_name[reference["path"]]
            volume = reference.get("volume")
            if volume is not None:
                number = next(
                    (
                        each
                        for _, which, each in volumes
                        if which == volume and stacks[each].paths == stacks[number].paths
                    ),
                    number,
                )
            return number, reference.get("frame") if index is None else index
        same = [number for series, _, number in volumes if series is not None and series == reference.get("series")]
        volume = reference.get("volume")
        if len(same) > 1 and volume is not None and volume < len(same):
            return same[volume], reference.get("frame")
        return (same[0] if len(same) == 1 else None), reference.get("frame")

    return place


def _full_answer(job: Row, place: Placing, *, hidden: bool) -> dict[str, Any]:
    predictions = json.loads(job["answer"]) if job["answer"] else []
    for prediction in predictions:
        reference = prediction.pop("reference", {"path": prediction.get("image")})
        prediction["stack"], prediction["frame"] = place(reference)
        for view in prediction.get("views", ()):
            view["stack"], view["frame"] = place({"path": view["image"]})
    if hidden:
        predictions = [{key: each[key] for key in ("image", "stack", "frame")} for each in predictions]
    return {
        "job": job["id"],
        "model": job["model"],
        "state": job["state"],
        "reason": job["reason"],
        "bundle": job["bundle"],
        "predictions": predictions,
    }


def _models(gateway: Gateway) -> dict[str, dict[str, Any]]:
    return {name: served.info for name, served in gateway.directory.all().items()}


def _listed(desk: Desk, identity: Identity, after: float) -> list[dict[str, Any]]:
    """The rows of the list as one user may see them, with how far they are read."""
    gateway = desk.gateway
    read, finished = readers(gateway.reader, identity.name), finished_by(gateway.reader, identity.name)
    share, rows = gateway.settings.blind_share, []
    owner, with_patients = owner_of_uploads(identity), identity.may("annotator")
    models = _models(gateway)
    for row in worklist(gateway.reader, after, models, desk.key, with_patients=with_patients, owner=owner):
        hidden = is_blind(row.pop("identity"), share) and row["key"] not in finished
        mine, count = read.get(row["key"], (None, 0))
        rows.append((without_answers(row) if hidden else row) | {"hidden": hidden, "mine": mine, "readers": count})
    return rows


def _readings(gateway: Gateway, case: Case, identity: Identity) -> dict[str, Any]:
    """A user's own last step; and once that is the end of a reading, those of others, compared with it."""
    own = own_reading(gateway.reader, case, identity.name)
    if own is None or own["state"] != "final":
        return {"mine": None if own is None else told(own), "others": []}
    others = others_readings(gateway.reader, case, identity.name)
    return {"mine": told(own), "others": [compared(own, other) for other in others]}


def _places(folder: Path, stacks: Sequence[Stack], content: Content) -> dict[str, Any]:
    """The files of the stacks that a reading speaks of.

    Raises:
        HounsfieldError: it speaks of a stack that there is not.
    """
    numbers = {mark.stack for mark in content.marks} | {region.stack for region in content.regions}
    numbers |= {int(part[1]) for key in content.opinions if len(part := key.split("|")) == 3 and part[1].isdecimal()}
    if any(number >= len(stacks) for number in numbers):
        raise HounsfieldError("The reading speaks of a series that this case does not have. Open the case again.")
    return {
        str(number): {
            "files": [path.relative_to(folder).as_posix() for path in stacks[number].paths],
            "volume": stacks[number].volume,
        }
        for number in sorted(numbers)
    }
