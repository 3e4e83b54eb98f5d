"""Files and folders that are whole or not there: the one place where a file gets its name."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import importlib
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# A temporary name: the id of the process that writes it, its machine, and the name that it will have.
_TEMPORARY = re.compile(r"\.(\d+)(?:-([0-9a-f]{8}))?\.part\..+", re.DOTALL)
_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
# Linux's renameat2 and macOS's renamex_np: swap two names in one step, or give a name that no file has.
_AT_FDCWD = -100
_SWAP = 2
_EXCLUSIVE = 4 if sys.platform == "darwin" else 1
# Folders from which this process has removed what dead ones left: looking once is enough.
_TIDY: set[str] = set()


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; at the end the file has its own name, on disk.

    The temporary name holds the ids of process and machine, so that two processes never write to one file and what a
    dead one left can be told, and is removed; it keeps the suffixes of ``path``, from which writers tell the format.
    The file and its folder are flushed to disk before the block is left. Where the block fails, the temporary file is
    removed and ``path`` is as it was.

    Raises:
        OSError: the folder is not there or cannot be written to.
    """
    path = Path(path)
    temporary = _temporary(path)
    _tidy(path.parent)
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
    temporary = _temporary(path)
    _tidy(path.parent)
    try:
        yield temporary
        flush(temporary)
        _name_new(temporary, path)
        flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to fill; at the end it has the name ``path``, on disk with all in it.

    A folder that was there is switched for the new one in a single step where the system offers that (Linux, macOS),
    else in two; then it is removed. Where the block fails, ``path`` is as it was.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = Path(path)
    with scratch_folder(path) as temporary:
        yield temporary
        flush_tree(temporary)
        if path.is_dir():
            _switch(temporary, path)
        else:
            temporary.rename(path)
        flush_folder(path.parent)


@contextmanager
def scratch_folder(path: Path | str) -> Iterator[Path]:
    """Give an empty folder beside ``path``, under a temporary name, that is removed at the end.

    Raises:
        OSError: it cannot be made.
    """
    temporary = _temporary(Path(path))
    _tidy(temporary.parent)
    discard(temporary)
    # Removing takes a handle, which is kept for it: a block may fail for want of them.
    spare = os.open(os.devnull, os.O_RDONLY)
    try:
        temporary.mkdir()
        yield temporary
    finally:
        os.close(spare)
        discard(temporary)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what dead processes of this machine left half-written in a folder, and return what was removed."""
    removed = []
    for path in folder.iterdir() if folder.is_dir() else ():
        found = _TEMPORARY.fullmatch(path.name)
        if found and found[2] == _HOST and not _is_running(int(found[1])):
            remove_tree(path)
            removed.append(path)
    return removed


def _is_running(process: int) -> bool:
    # Imported on use, since the import takes longer than a prediction.
    return bool(importlib.import_module("psutil").pid_exists(process))


def _tidy(folder: Path) -> None:
    """Remove what dead processes left in a folder when this process first writes into it."""
    name = str(folder.absolute())
    if name not in _TIDY:
        _TIDY.add(name)
        # Those of another user, or in a folder that may not be listed, stay.
        with suppress(OSError):
            remove_leftovers(folder)


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder: the folder's own name goes first, so that it is never half there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    if not _TEMPORARY.fullmatch(path.name):
        path = path.rename(_temporary(path))
        flush_folder(path.parent)
    discard(path)


def discard(folder: Path) -> None:
    """Remove a folder and all in it, as far as it may be; with one file handle too, of which shutil needs several."""
    shutil.rmtree(folder, ignore_errors=True)
    for place, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with suppress(OSError):
                Path(place, name).unlink()
        for name in folders:
            with suppress(OSError):
                Path(place, name).rmdir()
    with suppress(OSError):
        folder.rmdir()


def is_temporary(path: Path) -> bool:
    """Whether a name is that of something half-written."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{os.getpid()}-{_HOST}.part.{path.name}")


def _switch(new: Path, old: Path) -> None:
    """Give the name of one folder to another, which gets the first one's."""
    if _renamed(new, old, _SWAP):
        return
    aside = new.with_name(f"{new.name}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    discard(aside)


def _renamed(first: Path, second: Path, how: int) -> bool:
    """Rename in one step, by ``_SWAP`` or ``_EXCLUSIVE``; ``False`` where this system or file system did not."""
    names = (os.fsencode(first), os.fsencode(second))
    try:
        system = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return bool(system.renamex_np(*names, how) == 0)
        return bool(system.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], how) == 0)
    except (AttributeError, OSError, TypeError):
        # No such call, or (on Windows) no library of this form.
        return False


def _name_new(temporary: Path, path: Path) -> None:
    """Give a file a name that no other file has: by a link, which is refused where the name is taken, if need be."""
    if _renamed(temporary, path, _EXCLUSIVE):
        return
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


def make_private(folder: Path) -> None:
    """Make a folder that nobody but its user can look into, and those above it, where they are not there yet.

    Their names are on disk when this returns.
    """
    if folder.is_dir():
        return
    make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    flush_folder(folder.parent)


def flush(path: Path) -> None:
    """Let the disk have what was written to a file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_tree(folder: Path) -> None:
    """Let the disk have all files below a folder, and their names."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            flush(path)
        elif path.is_dir():
            flush_folder(path)
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Let the disk have the names in a folder; Windows keeps them itself and opens no folder."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
