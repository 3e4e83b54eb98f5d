"""One sentence of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """What an audit found.

    Attributes:
        severity: ``error`` stops a training, ``warning`` should be looked at, ``note`` is good to know.
        title: a few words.
        text: what was found and what follows from it.
        rows: the rows concerned.
    """

    severity: Severity
    title: str
    text: str
    rows: tuple[int, ...] = ()
