"""The test images of a run: how often they were looked at, and the seal that keeps them for one look."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import RunError
from hounsfield.runs.folder import RunFolder, run_of
from hounsfield.runs.log import log_line, read_events, whole_lines
from hounsfield.runs.manifest import amend
from hounsfield.textfiles import parse_json, read_text

logger = logging.getLogger(__name__)

# A run may lie where nobody may write.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
# Events of the log.
TEST_USED, SEAL_OPENED = "test images used", "seal opened"


def is_sealed(environment: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a training left its test images alone (``--seal``), and nobody has opened them since."""
    return bool(environment.get("sealed")) and not any(event.get("event") == SEAL_OPENED for event in events)


def record_test_use(run: Path, by: str) -> None:
    """Count one use of a run's test images, before its result is known; a bundle by itself has no such images.

    Args:
        run: its folder, or that of its bundle.
        by: the command, such as "evaluate".
    """
    folder = RunFolder(run_of(run))
    if not folder.log.is_file():
        return
    try:
        amend(folder.path, folder.log, lambda log: whole_lines(log) + log_line(TEST_USED, by=by))
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        logger.warning("This use of the test images could not be counted in the run: %s.", error)


def refuse_sealed(run: Path) -> None:
    """Keep the test images of a sealed run from every look but the one that opens them.

    Raises:
        RunError: they are sealed.
    """
    if sealed_run(run):
        raise RunError(
            f"The test images of the run {run} are sealed: they are kept for one look, when nothing will be changed "
            f"any more. Open them with: hounsfield evaluate {run} --open-seal"
        )


def sealed_run(run: Path) -> bool:
    """Whether the test images of a run folder, or of the run that a bundle lies in, are sealed."""
    folder = RunFolder(run_of(run))
    if not folder.environment.is_file():
        return False
    return is_sealed(folder.read_environment(), _events(folder))


def open_seal(run: Path) -> None:
    """Open the test images of a sealed run, dated, before anything is computed on them.

    Raises:
        RunError: they were not sealed, or were opened before and their figures are in the run.
    """
    folder = RunFolder.open(run)
    if not folder.read_environment().get("sealed"):
        raise RunError(
            f"The run {run} was trained without --seal: its test images have been used. Leave --open-seal out."
        )
    opened = next((event for event in _events(folder) if event.get("event") == SEAL_OPENED), None)
    if opened is None:
        amend(run, folder.log, lambda log: whole_lines(log) + log_line(SEAL_OPENED))
    elif "test" in parse_json(read_text(folder.metrics)):
        raise RunError(
            f"The test images of the run {run} were opened on {str(opened.get('time'))[:10]}, and can be opened once. "
            "Without --open-seal they are tested again, which is counted."
        )


def _events(folder: RunFolder) -> list[dict[str, Any]]:
    return read_events(folder.log) if folder.log.is_file() else []
