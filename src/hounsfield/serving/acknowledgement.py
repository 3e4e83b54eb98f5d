"""What the sender of a DICOM instance is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Answer(Enum):
    """What the sender of an instance is told."""

    STORED = "stored"
    KNOWN = "known"
    UNREADABLE = "unreadable"
    MISMATCH = "mismatch"
    TOO_LARGE = "too large"
    FULL = "full"


@dataclass(frozen=True)
class Instance:
    """Which instance a file holds: UIDs, "" where they are not valid, or cannot be read."""

    sop_class: str = ""
    uid: str = ""
    study: str = ""
    series: str = ""
