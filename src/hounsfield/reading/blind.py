"""Which cases are read without the model's answer, so that what is measured on them is not led by it."""

from __future__ import annotations

import hashlib

_DIGITS = 8
_RANGE = 0x1_0000_0000


def is_blind(case: str, share: float) -> bool:
    """Whether a case is one of those drawn for blind reading; the same case is drawn again each time.

    Args:
        case: what identifies it, such as a StudyInstanceUID.
        share: of all cases, 0 to 1.
    """
    drawn = int(hashlib.sha256(f"blind reading {case}".encode()).hexdigest()[:_DIGITS], 16)
    return drawn < share * _RANGE
