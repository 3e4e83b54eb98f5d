"""Whether a run may take the place of another: only after both were compared on the same test images."""

from __future__ import annotations

from pathlib import Path

from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.testing.comparing import compare_runs

FORCE = 'give --force (over HTTP: "force": true)'


def compared(before: Path, wanted: Path, *, force: bool) -> str:
    """What the comparison of two runs says, in words.

    Args:
        before: the run that is served.
        wanted: the one that is to be served.
        force: whether it is served whatever the comparison says.

    Raises:
        ServingError: the new one is worse beyond chance, or they cannot be compared, and it is not forced.
    """
    try:
        found = compare_runs(before, wanted, by="swap")
    except HounsfieldError as error:
        if not force:
            raise ServingError(
                f"The model was not swapped, since the two runs cannot be compared: {error} To swap all the same, "
                f"{FORCE}."
            ) from error
        return f"Not compared: {error}"
    told = f"{found.line()}."
    if found.verdict in {"worse", "no interval"} and not force:
        why = "the new run is worse" if found.verdict == "worse" else "the difference has no interval"
        raise ServingError(f"The model was not swapped, since {why}: {told} To swap all the same, {FORCE}.")
    return f"{told[:-1]}: {found.verdict}."
