"""What every route of the web server uses: identity, limits, the keeper, the models, the audit."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import HTTPException, Path, Request

from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.serving.audit import Access
from hounsfield.serving.calls import Caller, RefusedCallError
from hounsfield.serving.database import Reader
from hounsfield.serving.directory import Directory
from hounsfield.serving.frames import FrameClient, frames_address
from hounsfield.serving.settings import ServeSettings
from hounsfield.serving.tokens import Identity, Role, Tokens
from hounsfield.serving.uploads import TooLargeError

logger = logging.getLogger(__name__)

# Kind of error → HTTP status; the first that fits counts.
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (TooLargeError, 413),
    (RefusedCallError, 422),
    (ServingError, 503),
    (HounsfieldError, 422),
    (OSError, 507),
)
# The number of a record in an address; SQLite has no larger ones.
Number = Annotated[int, Path(ge=0, lt=2**63)]
# Seconds after which a client that was turned away may ask again.
RETRY_AFTER = 1
# In the scope of a request: whether the audit has it.
NOTED = "hounsfield.noted"
# Seconds that the last accesses have to reach the audit when the service stops.
NOTE_SECONDS = 10


@dataclass(frozen=True)
class Gateway:
    """Everything that routes need.

    Attributes:
        settings: of the service.
        directory: of the models.
        reader: of the records.
        keeper: calls the process that writes records.
        control: calls the process that starts the others.
        tokens: who may do what.
        clock: seconds since 1970.
    """

    settings: ServeSettings
    directory: Directory
    reader: Reader
    keeper: Caller
    control: Caller
    tokens: Tokens
    clock: Callable[[], float] = time.time
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(32, "call"))
    _clients: dict[str, FrameClient] = field(default_factory=dict)
    _notes: queue.SimpleQueue[Access | None] = field(default_factory=queue.SimpleQueue)
    _written: threading.Event = field(default_factory=threading.Event)

    def identify(
        self, request: Request, role: Role, action: str, subject: str = "", *, is_noted: bool = True
    ) -> Identity:
        """Who asks; the access is noted in the audit.

        Args:
            request: that was sent.
            role: that is needed.
            action: for the audit.
            subject: for the audit.
            is_noted: ``False`` where only a refusal is noted, as of measures that a machine reads every few seconds.

        Raises:
            HTTPException: 401 without a valid token, 403 where the role is not enough.
        """
        identity = self.known(request.headers.get("authorization", ""))
        request.scope[NOTED] = True
        if identity is None:
            self.note("", "", action, subject, "no valid token")
            raise HTTPException(401, "A valid token is needed.", {"WWW-Authenticate": "Bearer"})
        if not identity.may(role):
            self.note(identity.name, identity.role, action, subject, "not allowed")
            raise HTTPException(403, f"The role {role} is needed.")
        if is_noted:
            self.note(identity.name, identity.role, action, subject, "allowed")
        return identity

    def known(self, authorization: str) -> Identity | None:
        """Whose a header ``Authorization`` is; ``None`` without a valid token."""
        scheme, _, text = authorization.partition(" ")
        return self.tokens.identify(text.strip() if scheme.lower() == "bearer" else None, self.clock())

    def note(self, actor: str, role: str, action: str, subject: str, outcome: str) -> None:
        """Write an access into the audit, with the others of this moment."""
        self._notes.put(Access(self.clock(), actor, role, action, subject, outcome))

    async def predict(self, model: str, paths: list[str]) -> dict[str, Any]:
        """The ``predictions`` of files and the ``bundle`` that made them, within the time that they may take.

        Raises:
            ServingError: see ``FrameClient.ask``; or it took too long.
        """
        address = self.directory.find(model).address
        try:
            return await self._predict(model, address, paths)
        except ServingError:
            # A model that was swapped meanwhile answers elsewhere.
            new = self.directory.find(model).address
            if new == address:
                raise
            return await self._predict(model, new, paths)

    async def _predict(self, model: str, address: str, paths: list[str]) -> dict[str, Any]:
        client = self._clients.get(address)
        if client is None:
            what = f"The process of the model '{model}'"
            client = self._clients[address] = FrameClient(frames_address(address), what)
        try:
            async with asyncio.timeout(self.settings.limits.seconds):
                answer: dict[str, Any] = await client.ask(paths)
        except TimeoutError as error:
            raise ServingError(f"It took longer than {self.settings.limits.seconds:g} s. Ask for a job.") from error
        return answer

    async def call(self, caller: Caller, function: str, *arguments: Any) -> Any:
        """A call from a thread, so that others are served meanwhile."""
        work = asyncio.get_running_loop().run_in_executor(self.pool, caller, function, *arguments)
        try:
            return await asyncio.wait_for(work, self.settings.limits.seconds)
        except TimeoutError as error:
            raise ServingError(f"It took longer than {self.settings.limits.seconds:g} s. Ask for a job.") from error

    def start(self) -> None:
        """Begin to write the audit."""
        threading.Thread(target=self._write_notes, name="audit", daemon=True).start()

    def stop(self) -> None:
        """Write what is left of the audit."""
        self._notes.put(None)
        self._written.wait(NOTE_SECONDS)
        self.pool.shutdown(wait=True)

    def _write_notes(self) -> None:
        """All of a moment in one call, tried until the keeper, which may be starting again, has taken them."""
        notes: list[Access | None] = []
        while None not in notes:
            notes = [self._notes.get()]
            while not self._notes.empty():
                notes.append(self._notes.get())
            accesses = [note for note in notes if note is not None]
            while accesses:
                try:
                    self.keeper("note", accesses)
                    break
                except ServingError as error:
                    logger.warning("%d accesses wait for the audit: %s", len(accesses), error)
                    time.sleep(RETRY_AFTER)
        self._written.set()


def status_of(error: Exception) -> int:
    """The HTTP status of an error that is raised on purpose."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)
