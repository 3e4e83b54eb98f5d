"""The log of what readers said: each step is added, and none is ever changed or taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hounsfield.errors import HounsfieldError
from hounsfield.reading import Content, agreement, read_content
from hounsfield.serving import statements as sql
from hounsfield.serving.audit import Access, append
from hounsfield.serving.cases import Case
from hounsfield.serving.database import Database, Reader, Row

State = Literal["draft", "final"]
ANOTHER_WINDOW = "You have changed this case in another window. Open it again."


class OutdatedError(HounsfieldError):
    """What a step was based on is no longer the latest: nothing was kept."""


@dataclass(frozen=True)
class Step:
    """One step of a reader.

    Attributes:
        nonce: of the page; the same step sent twice is kept once.
        study: number of the study, or ``None``.
        job: that of the job of files that were sent to be read, or ``None``.
        revision: of the case that was looked at.
        reader: who says it.
        role: of the reader.
        state: "final" once the reader says so.
        after: number of the reader's step before this one; 0 for the first.
        blind: whether the models' answers were hidden.
        bundles: model → identity of the bundle whose answer was shown, or hidden.
        places: number of a stack, as text → the files of it (relative to the folder of the service) and the volume.
        content: what is said, as plain values.
        subject: for the audit.
    """

    nonce: str
    study: int | None
    job: int | None
    revision: int
    reader: str
    role: str
    state: State
    after: int
    blind: bool
    bundles: Mapping[str, str]
    places: Mapping[str, Any]
    content: Mapping[str, Any]
    subject: str


def add_reading(database: Database, step: Step, now: float) -> int:
    """Keep a step, with its record in the audit, and return its number.

    Raises:
        OutdatedError: the reader has made another step since, as in a second window; or the case has changed.
        HounsfieldError: a reading is to be finished before all images are there.
    """
    with database.transaction():
        known = database.row(sql.SENT_READING, (step.nonce,))
        if known is not None and _is_same(known, step):
            return int(known["id"])
        if known is not None:
            # Of two windows that began with the same unsaved draft, both would believe that theirs was kept.
            raise OutdatedError(ANOTHER_WINDOW)
        study = database.row(sql.SELECT["study"], (step.study,)) if step.study is not None else None
        if study is not None and study["revision"] != step.revision:
            raise OutdatedError("Further images of this study have come. Open it again; what you entered is kept here.")
        if study is not None and step.state == "final" and study["state"] != "complete":
            # It would count as read, and blind readers would be shown the answers before they saw the images.
            raise HounsfieldError("Images of this study are still arriving: it can be finished once they are there.")
        last = database.row(sql.LAST_READING, _of(step.study, step.job) | {"reader": step.reader})
        if (last["id"] if last is not None else 0) != step.after:
            raise OutdatedError(ANOTHER_WINDOW)
        values = {
            **_of(step.study, step.job),
            "nonce": step.nonce,
            "revision": step.revision,
            "reader": step.reader,
            "state": step.state,
            "blind": int(step.blind),
            "bundles": json.dumps(dict(step.bundles)),
            "places": json.dumps(dict(step.places)),
            "content": _text(step.content),
            "now": now,
        }
        number = int(database.change(sql.INSERT_READING, values).lastrowid or 0)
        append(database, [Access(now, step.reader, step.role, f"read ({step.state})", step.subject, f"step {number}")])
    return number


def _is_same(known: Row, step: Step) -> bool:
    """Whether a step that was kept is this one, sent again."""
    said = (known["study"], known["job"], known["reader"], known["state"], known["content"])
    return said == (step.study, step.job, step.reader, step.state, _text(step.content))


def _text(content: Mapping[str, Any]) -> str:
    """In ASCII: half of a surrogate pair, which JSON can hold, is no text for a database."""
    return json.dumps(dict(content))


def own_reading(reader: Reader, case: Case, name: str) -> Row | None:
    """The last step of a reader in a case; ``None`` where there is none."""
    return reader.row(sql.LAST_READING, _of_case(case) | {"reader": name})


def has_finished(reader: Reader, case: Case, name: str) -> bool:
    """Whether a reader has ever finished a case."""
    return reader.row(sql.FINISHED, _of_case(case) | {"reader": name}) is not None


def others_readings(reader: Reader, case: Case, name: str) -> list[Row]:
    """The last finished step of each other reader."""
    return reader.rows(sql.OTHERS_READINGS, _of_case(case) | {"reader": name})


def readers(reader: Reader, name: str) -> dict[str, tuple[State | None, int]]:
    """Key of a case → how far this reader is, and how many readers have finished."""
    found: dict[str, tuple[State | None, int]] = {}
    for row in reader.each(sql.READERS):
        key = f"s{row['study']}" if row["study"] is not None else f"u{row['job']}"
        mine, finished = found.get(key, (None, 0))
        found[key] = row["state"] if row["reader"] == name else mine, finished + (row["state"] == "final")
    return found


def finished_by(reader: Reader, name: str) -> set[str]:
    """Keys of the cases that a reader has ever finished."""
    rows = reader.rows(sql.FINISHED_BY, (name,))
    return {f"s{row['study']}" if row["study"] is not None else f"u{row['job']}" for row in rows}


def told(row: Row) -> dict[str, Any]:
    """A step as plain values for the page."""
    facts = {key: row[key] for key in ("id", "reader", "state", "revision", "time")}
    return facts | {"blind": bool(row["blind"]), "content": json.loads(row["content"])}


def compared(own: Row, other: Row) -> dict[str, Any]:
    """Another reader's step, with how far it agrees with one's own."""
    return told(other) | {"agreement": agreement(_content(own), _content(other))}


def _content(row: Row) -> Content:
    return read_content(json.loads(row["content"]))


def _of_case(case: Case) -> dict[str, int | None]:
    number = int(case.row["id"])
    return _of(number if case.is_study else None, None if case.is_study else number)


def _of(study: int | None, job: int | None) -> dict[str, int | None]:
    return {"study": study, "job": job}
