"""What the routes of the reader's page share: who looks at which case, its files, whether answers are hidden."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import HTTPException, Request

from hounsfield.images.deidentify import make_key, read_key
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.reading import is_blind
from hounsfield.serving import statements as sql
from hounsfield.serving.cases import Case, files_of, find_case
from hounsfield.serving.database import Row
from hounsfield.serving.gateway import Gateway
from hounsfield.serving.pictures import Pictures, Stack, renamed
from hounsfield.serving.readings import has_finished
from hounsfield.serving.tokens import Identity

# The file of the secret that pseudonyms are made with, in the folder of the service: without it, who knows a patient
# could find that patient's pseudonym.
KEY = "pseudonyms.key"
_MEGAPIXEL = 10**6
# Looks at one case within this time are one access in the audit.
_SAME_ACCESS_SECONDS = 600.0
NO_CASE = "There is no such case: it was removed, or never came."


@dataclass
class Desk:
    """Where cases are looked at.

    Attributes:
        gateway: knows users, records and models, and writes the audit.
    """

    gateway: Gateway
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        megapixels = self.gateway.settings.limits.megapixels
        self.key = _key(self.gateway.settings.folder / KEY)
        self.pictures = Pictures(min(int(megapixels * _MEGAPIXEL), MAX_PIXELS))

    def case(self, key: str) -> Case:
        """The case of a key.

        Raises:
            HTTPException: 404 where there is none.
        """
        found = find_case(self.gateway.reader, key)
        if found is None:
            raise HTTPException(404, NO_CASE)
        return found

    def look(self, request: Request, case: Case) -> Identity:
        """Who looks at a case: noted once in a while, not for each of its slices."""
        identity = self.gateway.identify(request, "reader", "look at case", case.subject, is_noted=False)
        if (owner := owner_of_uploads(identity)) is not None and not case.is_study and case.row["owner"] != owner:
            self.gateway.note(identity.name, identity.role, "look at case", case.subject, "not allowed")
            raise HTTPException(404, NO_CASE)
        now = self.gateway.clock()
        key = identity.name, case.key
        if now - self._last.get(key, -_SAME_ACCESS_SECONDS) >= _SAME_ACCESS_SECONDS:
            self._last = {each: last for each, last in self._last.items() if now - last < _SAME_ACCESS_SECONDS}
            self._last[key] = now
            self.gateway.note(identity.name, identity.role, "look at case", case.subject, "allowed")
        return identity

    def jobs(self, case: Case) -> list[Row]:
        """The models' work on a case as it is now."""
        return self.gateway.reader.rows(sql.JOBS_OF_STUDY, (case.row["id"],)) if case.is_study else [case.row]

    def files(self, case: Case) -> dict[Path, str]:
        """The files of a case's images, each with the name that predictions have for it."""
        return files_of(self.gateway.reader, case, self.gateway.settings.folder)

    async def stacks(self, case: Case) -> list[Stack]:
        """The stacks of a case; none while images of it arrive, since each may give the others other numbers."""
        if not case.is_complete:
            return []
        files = self.files(case)
        found = await asyncio.to_thread(self.pictures.stacks, list(files))
        return found if case.is_study else [renamed(stack, files) for stack in found]

    async def stack(self, request: Request, key: str, revision: int, number: int) -> Stack:
        """One stack of a state of a case, for who may look at it.

        Raises:
            HTTPException: 404 where there is none, 409 where the case has changed since.
        """
        found = self.case(key)
        self.look(request, found)
        if not found.is_complete:
            raise HTTPException(409, "Images of this study are still arriving.")
        if revision != found.revision:
            raise HTTPException(409, "Further images of this study have come. Open it again.")
        stacks = await self.stacks(found)
        if not 0 <= number < len(stacks):
            raise HTTPException(404, "There is no such stack.")
        return stacks[number]

    def hides_job(self, job: Row, identity: Identity) -> bool:
        """Whether the answer of a job is hidden from a user, since its case is."""
        case = find_case(self.gateway.reader, f"u{job['id']}" if job["study"] is None else f"s{job['study']}")
        return case is not None and self.hides(case, identity)

    def hides(self, case: Case, identity: Identity) -> bool:
        """Whether a user reads a case without the models' answers: it was drawn for this, and is not finished yet."""
        drawn = is_blind(case.identity, self.gateway.settings.blind_share)
        return drawn and not has_finished(self.gateway.reader, case, identity.name)


def _key(path: Path) -> bytes:
    """The secret of the pseudonyms, made at the first start."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            make_key(path)
    return read_key(path)


def owner_of_uploads(identity: Identity) -> str | None:
    """Whose files that were opened on the page a user may see; ``None`` for everybody's: they may name patients."""
    return None if identity.may("annotator") else identity.name
