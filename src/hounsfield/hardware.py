"""What this machine has, and how much memory the process has needed."""

from __future__ import annotations

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
