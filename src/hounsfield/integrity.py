"""Whether files are what was written: their hashes, and manifests that carry a hash of themselves.

All hashes are SHA-256 (FIPS 180-4), which processors have instructions for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hounsfield.atomic import is_temporary

SEAL = "seal"
_BLANK = "0" * 64
_SEALED = re.compile(rb'"seal": "([0-9a-f]{64})"\s*\}\s*\Z')
# Hashing leaves Python's lock; more threads than this gain nothing on a disk.
_THREADS = 4


def digest(path: Path) -> str:
    """The hash of a file, 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The hash of each of these files below a folder.

    Raises:
        OSError: one cannot be read.
    """
    names = list(names)
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        return dict(zip(names, threads.map(lambda name: digest(folder / name), names), strict=True))


def files_below(folder: Path, *, without: Collection[str] = ()) -> list[str]:
    """The names of all regular files below a folder, relative to it, with "/" between their parts, in order.

    Args:
        folder: where to look; links are not followed, and half-written files are left out.
        without: names of files and folders in ``folder`` that are left out.
    """
    found: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name in without or is_temporary(path) or path.is_symlink():
            continue
        if path.is_dir():
            found += [f"{path.name}/{name}" for name in files_below(path)]
        elif path.is_file():
            found.append(path.name)
    return found


def sealed(values: Mapping[str, Any]) -> str:
    """Plain values as JSON, with the hash of that text as the last value."""
    text = json.dumps({**values, SEAL: _BLANK}, indent=2, ensure_ascii=False) + "\n"
    start, _, end = text.rpartition(_BLANK)
    return start + hashlib.sha256(text.encode()).hexdigest() + end


def seal_holds(content: bytes) -> bool:
    """Whether a text is, to the last bit, what :func:`sealed` gave."""
    found = _SEALED.search(content)
    if found is None:
        return False
    start, end = found.span(1)
    blank = content[:start] + _BLANK.encode() + content[end:]
    return hashlib.sha256(blank).hexdigest().encode() == found[1]
