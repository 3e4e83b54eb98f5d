"""What becomes of a study, a job and a delivery: states, events, and one table for each.

Nothing here touches files, sockets or clocks: a step takes a record, an event and the time, and returns the next record
with the effects that follow. Whoever keeps the records makes each step one transaction.

A **study** is complete when nothing arrived for a quiet time; what arrives later begins its next revision.
A **job** is one model's work on one revision of a study, or on files that came over HTTP.
A **delivery** is one result on its way to one destination.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Literal

from hounsfield.errors import ServingError

Kind = Literal["study", "job", "delivery"]
# What follows a step: jobs of a complete study are made, what waits for its old revision is withdrawn, results of a
# finished job are given to the outbox.
Effect = Literal["make_jobs", "supersede_jobs", "make_deliveries"]
# How the time is counted at which a record is due again.
Due = Literal["never", "now", "quiet", "lease", "commitment", "backoff"]


@dataclass(frozen=True)
class Timing:
    """How long is waited.

    Attributes:
        quiet: seconds without a new image after which a study is complete.
        lease: seconds that a worker has for a job, or the sender for a delivery, before another may take it.
        commitment: seconds within which a destination has to confirm that it stored a result.
        attempts: tries of a job or delivery before it is laid aside for a person.
        first_wait: seconds before the second try; each further wait is twice as long.
        longest_wait: seconds between tries at most.
    """

    quiet: float = 30
    lease: float = 120
    commitment: float = 300
    attempts: int = 8
    first_wait: float = 2
    longest_wait: float = 3600


@dataclass(frozen=True)
class Record:
    """Where a study, a job or a delivery stands.

    Attributes:
        kind: which of the tables holds for it.
        state: one of ``STATES[kind]``.
        attempt: how often it was claimed since it was made or released; a late worker knows an older number.
        due: the time, in seconds since 1970, from which a waiting record can be claimed, or at which a claim or a
            quiet time ends; ``None`` where nothing is awaited.
        reason: why it failed or was refused the last time.
    """

    kind: Kind
    state: str
    attempt: int = 0
    due: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Transition:
    """One entry of a table.

    Attributes:
        state: that follows.
        due: how long until something has to happen.
        effects: that follow in the same transaction.
        attempt: what becomes of the number of tries.
        exhausted: the state that follows instead once all tries are used up.
    """

    state: str
    due: Due = "never"
    effects: tuple[Effect, ...] = ()
    attempt: Literal["keep", "count", "reset"] = "keep"
    exhausted: str | None = None


STUDY: dict[tuple[str, str], Transition] = {
    ("receiving", "received"): Transition("receiving", "quiet"),
    ("receiving", "quiet"): Transition("complete", effects=("make_jobs",)),
    ("complete", "received"): Transition("receiving", "quiet", ("supersede_jobs",)),
}
JOB: dict[tuple[str, str], Transition] = {
    ("waiting", "claim"): Transition("running", "lease", attempt="count"),
    ("waiting", "supersede"): Transition("superseded"),
    ("running", "renew"): Transition("running", "lease"),
    ("running", "finish"): Transition("done", effects=("make_deliveries",)),
    ("running", "refuse"): Transition("refused"),
    ("running", "fail"): Transition("waiting", "backoff", exhausted="dead"),
    ("running", "expire"): Transition("waiting", "now", exhausted="dead"),
    ("running", "supersede"): Transition("superseded"),
    ("refused", "supersede"): Transition("superseded"),
    ("refused", "release"): Transition("waiting", "now", attempt="reset"),
    ("dead", "supersede"): Transition("superseded"),
    ("dead", "release"): Transition("waiting", "now", attempt="reset"),
}
DELIVERY: dict[tuple[str, str], Transition] = {
    ("waiting", "claim"): Transition("sending", "lease", attempt="count"),
    ("sending", "renew"): Transition("sending", "lease"),
    ("sending", "store"): Transition("stored", "commitment"),
    ("sending", "deliver"): Transition("delivered"),
    ("sending", "reject"): Transition("rejected"),
    ("sending", "fail"): Transition("waiting", "backoff", exhausted="dead"),
    ("sending", "expire"): Transition("waiting", "now", exhausted="dead"),
    ("stored", "deliver"): Transition("delivered"),
    ("stored", "fail"): Transition("waiting", "backoff", exhausted="dead"),
    ("stored", "expire"): Transition("waiting", "backoff", exhausted="dead"),
    ("rejected", "release"): Transition("waiting", "now", attempt="reset"),
    ("dead", "release"): Transition("waiting", "now", attempt="reset"),
}
TABLES: dict[Kind, dict[tuple[str, str], Transition]] = {"study": STUDY, "job": JOB, "delivery": DELIVERY}
FIRST: dict[Kind, str] = {"study": "receiving", "job": "waiting", "delivery": "waiting"}
# States that a person has to look at.
LAID_ASIDE: dict[Kind, tuple[str, ...]] = {"study": (), "job": ("dead",), "delivery": ("rejected", "dead")}
STATES: dict[Kind, tuple[str, ...]] = {
    kind: tuple(
        dict.fromkeys(
            state
            for (before, _), after in table.items()
            for state in (before, after.state, after.exhausted)
            if state is not None
        )
    )
    for kind, table in TABLES.items()
}


def step(
    record: Record, event: str, now: float, *, timing: Timing, seed: int = 0, reason: str = ""
) -> tuple[Record, tuple[Effect, ...]]:
    """What an event makes of a record.

    Args:
        record: as it stands.
        event: that happened.
        now: seconds since 1970.
        timing: how long is waited.
        seed: of the random part of a wait, such as the record's number: many that failed together are not tried
            together again.
        reason: why, where something failed.

    Returns:
        The record after the event, and what follows from it.

    Raises:
        ServingError: the event cannot happen in this state; the message names both.
    """
    transition = TABLES[record.kind].get((record.state, event))
    if transition is None:
        raise ServingError(
            f"A {record.kind} that is {record.state} cannot take the event '{event}'. Somebody else has moved it on; "
            "read its state again."
        )
    attempt = {"keep": record.attempt, "count": record.attempt + 1, "reset": 0}[transition.attempt]
    if transition.exhausted is not None and attempt >= timing.attempts:
        return replace(record, state=transition.exhausted, attempt=attempt, due=None, reason=reason), ()
    due = _due(transition.due, now, attempt, timing, seed)
    return replace(record, state=transition.state, attempt=attempt, due=due, reason=reason), transition.effects


def backoff(attempt: int, timing: Timing, seed: int) -> float:
    """Seconds before the next try: twice as long each time, and up to a quarter less by chance."""
    longest = min(timing.first_wait * 2.0 ** min(attempt - 1, 60), timing.longest_wait)
    return longest * (1 - random.Random(f"{seed}-{attempt}").random() / 4)  # noqa: S311 - no secret hangs on it


def _due(due: Due, now: float, attempt: int, timing: Timing, seed: int) -> float | None:
    if due == "never":
        return None
    waits = {"now": 0.0, "quiet": timing.quiet, "lease": timing.lease, "commitment": timing.commitment}
    return now + (backoff(attempt, timing, seed) if due == "backoff" else waits[due])
