"""Figures as text that never look surer than they are."""

from __future__ import annotations

# Digits added at most to keep a share from looking like 0 or 1.
MORE_DIGITS = 4


def rounded(value: float, digits: int = 3) -> str:
    """A finite number with so many digits after the point; with more where it would be rounded to 0 or 1 and is not."""
    for precision in range(digits, digits + MORE_DIGITS):
        text = f"{value:.{precision}f}"
        if abs(float(text)) not in (0, 1) or abs(value) in (0, 1):
            return text
    return f"{value:.{digits}f}"
