"""The lock on the folder of a run or a service: one process writes into it, and another learns which one."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from hounsfield.errors import RunError

if sys.platform != "win32":
    import fcntl

NAME = ".lock"
# Seconds: the lock is held so long only by a training.
PATIENCE = 10.0


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder for the length of a ``with`` block.

    The system takes back the lock of a process that dies, and what such a process left is replaced. Where the file
    system has no locks, or is shared with another machine, the process that the file names counts.

    Args:
        folder: of a run or a service.
        wait: for some seconds until another process lets go.

    Raises:
        RunError: another process holds it; the message names the process and its machine.
        OSError: the folder cannot be written to.
    """
    path = folder / NAME
    descriptor = _take_in_time(path) if wait else _take(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take_in_time(path: Path) -> int:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return _take(path)
        except RunError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            free = _lock(descriptor)
            # The former holder may have removed the file between opening and locking: its name is another's then.
            if free and not _is_at(descriptor, path):
                os.close(descriptor)
                continue
            holder = _read(descriptor)
            _require_free(path, holder, free)
            me = psutil.Process()
            facts = {"process": me.pid, "host": socket.gethostname(), "started": me.create_time(), "since": _now()}
            os.ftruncate(descriptor, 0)
            # Not flushed: no holder outlives a loss of power.
            _write(descriptor, path, json.dumps(facts).encode())
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _write(descriptor: int, path: Path, content: bytes) -> None:
    """Write into a lock that is held; on a full disk it is not left behind, empty."""
    try:
        os.pwrite(descriptor, content, 0)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _lock(descriptor: int) -> bool:
    """Whether the lock was free; also where the file system has none."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, Any]:
    try:
        facts = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether the process that a file names may still be writing: one of another machine may."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        # Numbers of processes are used again: the moment of the start tells them apart.
        return bool(abs(psutil.Process(int(holder["process"])).create_time() - float(holder["started"])) < 1)
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _require_free(path: Path, holder: dict[str, Any], free: bool) -> None:
    if free and not _is_alive(holder):
        return
    process, host = holder.get("process", "unknown"), holder.get("host", "unknown")
    raise RunError(
        f"The run folder {path.parent} is being written by process {process} on {host}, since "
        f"{holder.get('since', 'an unknown time')}; nothing in it was changed. Wait until that process has ended, "
        f"or choose another folder with --out. If the machine {host} is gone, remove {path} and try again."
    )


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
