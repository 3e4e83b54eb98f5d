"""One decision of a plan, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Value_co = TypeVar("Value_co", covariant=True)


@dataclass(frozen=True)
class Decision(Generic[Value_co]):
    """A value of a plan's field, and why it was chosen; a value that explains itself has no reason."""

    value: Value_co
    why: str = ""
