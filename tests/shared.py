"""What the workers of one test session make once and share."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any


def once(folder: Path, make: Callable[[Path], Any]) -> Any:
    """What ``make`` returns for the folder, made by the first of pytest-xdist's workers that asks."""
    folder.mkdir(exist_ok=True)
    kept = folder / "made.pickle"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(pickle.dumps(make(folder)))
    return pickle.loads(kept.read_bytes())  # noqa: S301 - our own


# A run counts the uses of its test images in its log.
COUNTED = {"log.jsonl", "manifest.json"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under the folder, but those that a test of a run changes by itself."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in COUNTED]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
