"""Who did what to which study: a chain of records, each with a hash over itself and the one before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from hounsfield.errors import ServingError
from hounsfield.serving import statements as sql
from hounsfield.serving.database import Database, Row, Values

START = "0" * 64


@dataclass(frozen=True)
class Access:
    """One access.

    Attributes:
        time: seconds since 1970.
        actor: the name of a token, or the title of an application entity.
        role: in which the actor was let in; "" where it was not.
        action: such as "predict", "store", "correct".
        subject: the UID of a study, the name of a model, or "".
        outcome: "done", or why not.
    """

    time: float
    actor: str
    role: str
    action: str
    subject: str
    outcome: str


class Rows(Protocol):
    """A connection that reads."""

    def each(self, statement: str, values: Values = ()) -> Iterator[Row]:
        """What a statement selects, one row after another."""

    def row(self, statement: str, values: Values = ()) -> Row | None:
        """The first row that a statement selects."""


def append(database: Database, accesses: list[Access]) -> None:
    """Add records to the chain, in one transaction."""
    with database.transaction():
        head = database.row(sql.AUDIT_HEAD) or {"id": 0, "hash": START}
        number, last = int(head["id"]), str(head["hash"])
        for access in accesses:
            number, last = number + 1, _hash(last, number + 1, asdict(access))
            database.change(sql.INSERT_AUDIT, asdict(access) | {"id": number, "hash": last})
        database.change(sql.SET_AUDIT_HEAD, {"id": number, "hash": last})


def verify(database: Rows) -> int:
    """Go through the whole chain, and return the number of its records.

    What is added meanwhile is not looked at: the head is read first.

    Raises:
        ServingError: a record was changed, added or removed; the message names the first that does not fit.
    """
    head = database.row(sql.AUDIT_HEAD) or {"id": 0, "hash": START}
    number, last = 0, START
    for row in database.each(sql.AUDIT, (head["id"],)):
        number += 1
        values = {key: value for key, value in row.items() if key not in {"id", "hash"}}
        last = _hash(last, number, values)
        if row["id"] != number or row["hash"] != last:
            raise ServingError(
                f"Record {number} of the audit does not fit the one before it: it, or one before it, was changed or "
                "removed after it was written. Compare with a backup from before."
            )
    if (head["id"], head["hash"]) != (number, last):
        raise ServingError(
            f"The audit has {number} records, and {head['id']} were written: the last ones were removed. Compare with "
            "a backup from before."
        )
    return number


def _hash(before: str, number: int, values: dict[str, Any]) -> str:
    content = json.dumps([before, number, values], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()
