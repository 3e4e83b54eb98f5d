"""Settings that hold wherever images are read and nothing else is asked: the environment's, or those of some data.

The command line sets the environment, for its process and those that it starts. Data that was read with some settings
is read with the same ones later, whatever the environment says by then (``held``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from hounsfield.errors import UsageError

# The most values of an image; which volume and which level of what holds several; what is done with uneven slices.
MAX_PIXELS_VARIABLE = "HOUNSFIELD_MAX_PIXELS"
VOLUME_VARIABLE = "HOUNSFIELD_VOLUME"
LEVEL_VARIABLE = "HOUNSFIELD_LEVEL"
UNEVEN_VARIABLE = "HOUNSFIELD_UNEVEN"
VARIABLES = (MAX_PIXELS_VARIABLE, VOLUME_VARIABLE, LEVEL_VARIABLE, UNEVEN_VARIABLE)

_held: ContextVar[Mapping[str, str] | None] = ContextVar("held", default=None)


def setting(variable: str) -> str:
    """One of ``VARIABLES`` as text; empty where it is not set."""
    here = _held.get() or {}
    return here[variable] if variable in here else os.environ.get(variable, "")


def current_settings() -> dict[str, str]:
    """All of them, also those that are not set."""
    return {variable: setting(variable) for variable in VARIABLES}


@contextmanager
def held(settings: Mapping[str, str]) -> Iterator[None]:
    """Let settings hold in this thread instead of the environment's; those that are not among them stay."""
    token = _held.set({**(_held.get() or {}), **settings})
    try:
        yield
    finally:
        _held.reset(token)


def number_setting(variable: str) -> int | None:
    """A setting that counts from 0.

    Raises:
        UsageError: it is no such number.
    """
    text = setting(variable)
    if text and not text.isdecimal():
        raise UsageError(f"The environment variable {variable} is '{text}': expected a number from 0.")
    return int(text) if text else None
