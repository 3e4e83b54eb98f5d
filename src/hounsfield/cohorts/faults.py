"""Several checks of which each may refuse, made one refusal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hounsfield.errors import CohortError


def together(*steps: Callable[[], Any]) -> list[Any]:
    """Take steps that do not need each other, and refuse for all of their reasons at once.

    Returns:
        What each step returned, in their order.

    Raises:
        CohortError: one or more steps did; the message holds all of theirs.
    """
    results, errors = [], []
    for step in steps:
        try:
            results.append(step())
        except CohortError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CohortError(" ".join(str(error) for error in errors)) from errors[0]
    return results
