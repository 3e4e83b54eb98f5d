"""Who may do what: tokens with a role each, of which only hashes are kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from hounsfield.atomic import make_private, write_json
from hounsfield.errors import ServingError
from hounsfield.textfiles import parse_json, read_text

Role = Literal["reader", "annotator", "admin"]
# Each role may do what those before it may.
ROLES: tuple[Role, ...] = get_args(Role)
FILE = "tokens.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
DAY = 86_400


@dataclass(frozen=True)
class Identity:
    """Who asks: the name of the token, and its role."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether this is at least a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


# Without any token, whoever is at this machine may do everything, where nobody else can reach the service.
LOCAL = Identity("local", "admin")


@dataclass(frozen=True)
class Token:
    """One token: whose it is, its SHA-256, and until when it counts, in seconds since 1970."""

    name: str
    role: Role
    sha256: str
    expires: float


class Tokens:
    """The tokens of a service; a change of the file counts at once.

    Args:
        folder: of the service.
        alone: whether only this machine can reach the service.
    """

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._alone = alone
        self._path = folder / FILE
        self._stamp: tuple[int, int] | None = None
        self._tokens: list[Token] = []

    @property
    def is_local(self) -> bool:
        """Whether whoever is at this machine may do everything, without a token."""
        return self._alone and not self.all()

    def all(self) -> list[Token]:
        """As they stand now.

        Raises:
            ServingError: the file is damaged.
        """
        if not self._path.exists():
            return []
        status = self._path.stat()
        if (status.st_mtime_ns, status.st_ino) != self._stamp:
            try:
                self._tokens = [Token(**value) for value in parse_json(read_text(self._path))]
            except (ValueError, TypeError) as error:
                raise ServingError(
                    f"{self._path} is damaged ({error}). Remove it, and add the tokens again with --add-token."
                ) from error
            self._stamp = (status.st_mtime_ns, status.st_ino)
        return self._tokens

    def identify(self, text: str | None, now: float) -> Identity | None:
        """Whose a token is; ``None`` for one that is not known or has expired.

        Args:
            text: the token, or ``None`` where none was given.
            now: seconds since 1970.
        """
        if self.is_local:
            return LOCAL
        tokens = self.all()
        digest = hashlib.sha256((text or "").encode("utf-8", "surrogateescape")).hexdigest()
        found = [token for token in tokens if hmac.compare_digest(token.sha256, digest) and now < token.expires]
        return Identity(found[0].name, found[0].role) if found else None

    def add(self, name: str, role: str, now: float, *, days: float) -> str:
        """Make a token, and return it; it is shown this once.

        Raises:
            ServingError: the name has other characters, is taken, or the role is unknown.
        """
        if not _NAME.fullmatch(name) or role not in ROLES:
            raise ServingError(
                f"A token '{name}' with the role '{role}' cannot be made: expected a name of letters, digits and _.@-, "
                f"and a role of {', '.join(ROLES)}."
            )
        tokens = self.all()
        if any(token.name == name for token in tokens):
            raise ServingError(f"There is a token called '{name}'. Remove it first with --remove-token {name}.")
        text = secrets.token_urlsafe(32)
        token = Token(name, role, hashlib.sha256(text.encode()).hexdigest(), now + days * DAY)
        self._write([*tokens, token])
        return text

    def remove(self, name: str) -> None:
        """Let a token count no longer.

        Raises:
            ServingError: there is none of this name.
        """
        tokens = self.all()
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            raise ServingError(f"There is no token called '{name}'.")
        self._write(kept)

    def _write(self, tokens: list[Token]) -> None:
        make_private(self._path.parent)
        write_json(self._path, [asdict(token) for token in tokens])
        self._path.chmod(0o600)
