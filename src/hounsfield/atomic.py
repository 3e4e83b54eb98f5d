"""Files that are whole or not there: the one place where a file gets its name."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; at the end the file has its own name, on disk.

    The temporary name holds the id of the process, so that two processes never write to one file, and keeps the
    suffixes of ``path``, from which writers tell the format. The file and its folder are flushed to disk before the
    block is left. Where the block fails, the temporary file is removed and ``path`` is as it was.

    Raises:
        OSError: the folder is not there or cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating(path: Path | str) -> Iterator[Path]:
    """As :func:`replacing`, for a file that must not be there yet: one that is there is never replaced.

    Raises:
        FileExistsError: the file is there, or came while the block ran.
        OSError: the folder is not there or cannot be written to.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield temporary
        flush(temporary)
        _name_new(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _name_new(temporary: Path, path: Path) -> None:
    """Give a file a name that no other file has; a link is refused where the name is taken, a renaming is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # FAT and some network file systems have no links.
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file as UTF-8; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write plain values as JSON; see :func:`replacing`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def flush(path: Path) -> None:
    """Let the disk have what was written to a file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Let the disk have the names in a folder; Windows keeps them itself and opens no folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
