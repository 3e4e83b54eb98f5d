"""A disk that forgets what was not flushed: the changes below a folder are recorded, and states after a loss rebuilt.

The model is that of a journalling file system. What a file held when it was last flushed is kept; of a file that was
changed since, the content is lost. The names in a folder are kept as they were when the folder was last flushed; of
later changes any first part may be kept, each as a whole.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hounsfield.errors import HounsfieldError

Names = dict[str, int]
# What has to hold in a folder after so much was said to be done; it raises where it does not.
Check = Callable[[Path, set[str]], None]
NUM_STATES = 200
# Functions whose callers decide that something is flushed.
FLUSHES = ("flush", "flush_folder", "flush_tree")


@dataclass
class Disk:
    """What happened below a folder, in order.

    Attributes:
        root: the folder.
        kinds: of each inode, "file" or "folder".
        held: of each inode a descriptor to read it.
        events: ("names", folder, names), ("flushed file", file, content), ("flushed folder", folder, None) or
            ("done", what, None), where files and folders are numbers of inodes.
        places: of each event the lines of code that flushed, outermost last; "" of others.
    """

    root: Path
    events: list[tuple[str, Any, Any]] = field(default_factory=list)
    kinds: dict[int, str] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    _seen: dict[int, Names] = field(default_factory=dict)

    def look(self) -> None:
        """Note which names have changed since the last look."""
        for folder, _, _ in os.walk(self.root):
            entries = list(os.scandir(folder))
            # Kept open, so that no number is given to another file when this one is removed.
            new = [entry for entry in entries if entry.inode() not in self.kinds]
            self.held |= {entry.inode(): os.open(entry.path, os.O_RDONLY) for entry in new}
            names = {entry.name: entry.inode() for entry in entries}
            self.kinds |= {entry.inode(): "folder" if entry.is_dir() else "file" for entry in entries}
            number = Path(folder).stat().st_ino
            if self._seen.get(number) != names:
                self._seen[number] = names
                self._note(("names", number, names))

    def flushed(self, descriptor: int) -> None:
        """Note what the disk has of a file or a folder below this one now."""
        self.look()
        status = os.fstat(descriptor)
        if status.st_ino not in {self.root.stat().st_ino, *self.kinds}:
            return
        if self.kinds.get(status.st_ino) == "folder" or status.st_ino == self.root.stat().st_ino:
            self._note(("flushed folder", status.st_ino, None), _place())
        else:
            # The descriptor may be one that only writes.
            content = os.pread(self.held[status.st_ino], status.st_size, 0)
            self._note(("flushed file", status.st_ino, content), _place())

    def done(self, what: str) -> None:
        """Note that something was said to be done."""
        self.look()
        self._note(("done", what, None))

    def without(self, place: str) -> Disk:
        """The same, had these lines of code not flushed."""
        kept = [event for event, flushed_by in zip(self.events, self.places, strict=True) if flushed_by != place]
        return Disk(self.root, kept, self.kinds)

    def has(self, path: Path, content: bytes, place: str) -> None:
        """Note that the disk has this of a file now, and by which lines of code."""
        self.look()
        self._note(("flushed file", path.stat().st_ino, content), place)

    def has_names(self, folder: Path, place: str) -> None:
        """Note that the disk has the names in a folder now, and by which lines of code."""
        self.look()
        self._note(("flushed folder", folder.stat().st_ino, None), place)

    def _note(self, event: tuple[str, Any, Any], place: str = "") -> None:
        self.events.append(event)
        self.places.append(place)

    def after_loss(self, end: int, target: Path, generator: np.random.Generator) -> None:
        """Rebuild a state that a loss of power after so many events may leave."""
        contents: dict[int, bytes] = {}
        versions: dict[int, list[Names]] = {}
        for kind, number, value in self.events[:end]:
            if kind == "names":
                versions.setdefault(number, []).append(value)
            elif kind == "flushed file":
                contents[number] = value
            elif kind == "flushed folder" and number in versions:
                versions[number] = versions[number][-1:]
        # Before the first flush of a folder it may be empty.
        flushed = {number for kind, number, _ in self.events[:end] if kind == "flushed folder"}
        kept = {number: found if number in flushed else [{}, *found] for number, found in versions.items()}
        self._rebuild(self.root.stat().st_ino, target, (contents, kept, generator))

    def _rebuild(self, folder: int, target: Path, state: tuple[dict[int, bytes], dict[int, list[Names]], Any]) -> None:
        contents, kept, generator = state
        target.mkdir()
        versions = kept.get(folder, [{}])
        for name, number in versions[generator.integers(len(versions))].items():
            if self.kinds[number] == "folder":
                self._rebuild(number, target / name, state)
            else:
                (target / name).write_bytes(contents.get(number, b""))


def _place() -> str:
    """The lines that lead to a flush: those of atomic.py, and the one that called them."""
    frame, lines = sys._getframe(2), []
    while frame is not None:
        name = Path(frame.f_code.co_filename).name
        if name != Path(__file__).name:
            lines.append(f"{name}:{frame.f_lineno}")
            if frame.f_code.co_name not in FLUSHES:
                break
        frame = frame.f_back  # type: ignore[assignment]
    return " < ".join(lines)


@contextmanager
def recorded(root: Path) -> Iterator[Disk]:
    """Record what happens below an empty folder."""
    disk = Disk(root)
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        disk.flushed(descriptor)

    def looked(name: str) -> Any:
        original = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            disk.look()
            result = original(*args, **options)
            disk.look()
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", noted)
        for name in ("rename", "replace", "link"):
            patch.setattr(os, name, looked(name))
        disk.look()
        try:
            yield disk
        finally:
            for descriptor in disk.held.values():
                os.close(descriptor)


def faults(disk: Disk, place: Path, check: Check, num_states: int = NUM_STATES) -> Iterator[str]:
    """What is missing in states after a loss of power at any moment, the first fault of each state."""
    generator = np.random.default_rng(0)
    place.mkdir()
    for number in range(num_states):
        # Every moment is tried, from the last one: then most was said to be done.
        end = len(disk.events) - number % len(disk.events)
        state = place / str(number)
        disk.after_loss(end, state, generator)
        try:
            check(state, {what for kind, what, _ in disk.events[:end] if kind == "done"})
        except (AssertionError, OSError, ValueError, KeyError, HounsfieldError) as error:
            yield f"state {number} of {end} events: {type(error).__name__}: {error}"
        shutil.rmtree(state)


def lines(disk: Disk) -> set[str]:
    """The lines of code that flush."""
    return {line for line in disk.places if line}


def vain(disk: Disk, tried: set[str], place: Path, check: Check) -> set[str]:
    """Those of some lines of code that flush without which nothing is lost, in at least 200 states."""
    place.mkdir()
    num_states = max(NUM_STATES, 3 * len(disk.events))
    return {
        line
        for number, line in enumerate(sorted(tried))
        if not any(faults(disk.without(line), place / str(number), check, num_states))
    }
