"""What a person asks of a service from the terminal, whether or not it runs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from hounsfield.errors import ServingError
from hounsfield.serving.control import alone, find_control
from hounsfield.serving.database import DATABASE, Database, Reader
from hounsfield.serving.lifecycle import Timing
from hounsfield.serving.overview import overview
from hounsfield.serving.register import Register


def read_overview(folder: Path) -> dict[str, Any]:
    """Counts by state of studies, jobs and deliveries, and the latest of what was laid aside.

    Raises:
        ServingError: there is no service in the folder.
    """
    return overview(open_reader(folder))


def open_reader(folder: Path) -> Reader:
    """A connection that reads the records of a service.

    Raises:
        ServingError: there is no service in the folder.
    """
    return Reader(_database(folder))


def release_laid_aside(folder: Path) -> int:
    """Let everything that was laid aside be tried again, and return how much this was.

    A service that runs does so itself, since only one process writes.

    Raises:
        ServingError: there is no service in the folder.
    """
    _database(folder)
    control = find_control(folder)
    if control is not None:
        with contextlib.suppress(ServingError):
            return int(control("release_all"))
    with alone(folder):
        database = Database(_database(folder))
        try:
            register = Register(database, Timing(), models=lambda *_: {}, destinations=lambda *_: ())
            return register.release_all(time.time())
        finally:
            database.close()


def _database(folder: Path) -> Path:
    path = folder / DATABASE
    if not path.is_file():
        raise ServingError(f"{folder} holds no service: expected {DATABASE} there. Give its --folder.")
    return path
