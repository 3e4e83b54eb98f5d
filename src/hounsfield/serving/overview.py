"""What a person has to know of a service: counts by state, and what was laid aside."""

from __future__ import annotations

from typing import Any

from hounsfield.serving import statements as sql
from hounsfield.serving.database import Reader
from hounsfield.serving.lifecycle import LAID_ASIDE

# Of what was laid aside, so many are listed.
LISTED = 100


def overview(reader: Reader) -> dict[str, Any]:
    """Counts by state of studies, jobs and deliveries, and the latest of what was laid aside."""
    counts = {
        kind: {row["state"]: row["count"] for row in reader.rows(statement)} for kind, statement in sql.COUNTS.items()
    }
    laid_aside = [
        {"kind": kind, **{key: row[key] for key in ("id", "state", "attempt", "reason")}}
        for kind, states in LAID_ASIDE.items()
        for state in states
        for row in reader.rows(sql.IN_STATE[kind], (state, LISTED))
    ]
    return {"counts": counts, "laid_aside": laid_aside}
