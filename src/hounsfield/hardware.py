"""What this machine has, how much memory the process has needed, and whether it may open no more files."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import dataclass

if sys.platform != "win32":
    import resource


# How many cores a process may use, where it is one of several on its machine.
CORES_VARIABLE = "HOUNSFIELD_CORES"


def num_cores() -> int:
    """How many cores this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get(CORES_VARIABLE, "")
    return min(found, int(given)) if given.isdecimal() and int(given) > 0 else found


@dataclass(frozen=True)
class Hardware:
    """Cores this process may use, memory in bytes, accelerators by name."""

    cores: int
    memory: int
    accelerators: tuple[str, ...]

    @classmethod
    def here(cls, accelerators: tuple[str, ...] = ()) -> Hardware:
        """Look at this machine; only a backend knows its accelerators (``models.devices.accelerators``)."""
        # Imported on use: a prediction that asks for the cores need not wait for it.
        memory = importlib.import_module("psutil").virtual_memory().total
        return cls(num_cores(), memory, accelerators)

    def describe(self) -> str:
        """One line for reasons and reports."""
        accelerators = ", ".join(self.accelerators) or "no accelerator"
        return f"{self.cores} cores, {self.memory / 2**30:.0f} GiB memory, {accelerators}"


def peak_memory_mb() -> float:
    """The most resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        return round(importlib.import_module("psutil").Process().memory_info().peak_wset / 2**20, 1)
    # Kibibytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def out_of_files(error: BaseException) -> str | None:
    """What was missing and what to do, where an error came from the limit of open files; else ``None``.

    The cause may be far up: readers take an ``OSError`` for a damaged file, and imports a library that cannot be opened
    for one that is not installed.
    """
    cause: BaseException | None = error
    while cause is not None:
        known = isinstance(cause, OSError) and cause.errno in {errno.EMFILE, errno.ENFILE}
        if known or os.strerror(errno.EMFILE) in str(cause):
            limit = "" if sys.platform == "win32" else f" of {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}"
            return (
                f"No more files can be opened: the limit{limit} open files per process (ulimit -n), or that of the "
                "whole system, is reached. Raise it, for example with 'ulimit -n 4096', or close other programs"
            )
        cause = cause.__cause__ or cause.__context__
    return None
