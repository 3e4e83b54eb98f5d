"""Commands that die by SIGKILL at the n-th change of the file system that they make, and what is left of their work.

A change is a file opened for writing, a name given, swapped, linked or removed, a folder made or removed, and a flush.
A command dies just before the change; what it wrote so far stays in the page cache, as after any death of a process.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import traceback
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from hounsfield import atomic
from hounsfield.atomic import is_temporary
from hounsfield.cli import main as cli

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
# Event of Python's audit hooks -> kind of change.
AUDITED = {
    "open": "open",
    "os.rename": "rename",
    "os.link": "link",
    "os.remove": "remove",
    "os.mkdir": "mkdir",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
}
# Seconds, dates and what hashes them: they differ between any two runs.
TIMED = ("log.jsonl", "manifest.json", "environment.json", ".lock")
_SAVE = Figure.savefig
TIMED_FIELDS = ("hashes", "sizes", "seal")


class Outcome(NamedTuple):
    """How a command ended: its exit status, −9 where it was killed; the kinds of its changes; what it printed."""

    status: int
    changes: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Scenario:
    """A command that is killed.

    Attributes:
        prepare: fills an empty folder with what the command needs; runs once.
        arguments: the command, given the folder.
        again: the command that follows a death, given the folder and what the killed one had been.
        run: the folder of a run in it that has to be whole in the end, if there is one.
    """

    prepare: Callable[[Path], None]
    arguments: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]] | None = None
    run: str | None = None


def in_child(work: Callable[[], int], output: Path) -> int:
    """Do something in a process of its own, with what it prints in a file; the exit status, −9 where it was killed."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = work()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - nothing of the parent may go on in the child
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def command(arguments: Sequence[str], place: Path, *, at: int | None = None) -> Outcome:
    """Run a command in a process of its own, which dies before its change number ``at`` below ``place``, from 0."""
    output, changes = place.with_name("output.txt"), place.with_name("changes.txt")
    changes.unlink(missing_ok=True)

    def work() -> int:
        os.environ["HOUNSFIELD_CACHE"] = str(place / "cache")
        make_repeatable()
        _die(place, at, os.open(changes, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        sys.argv = ["hounsfield", *arguments]
        cli.main()
        return 0

    status = in_child(work, output)
    kinds = changes.read_text().split() if changes.exists() else []
    return Outcome(status, tuple(kinds), output.read_text(errors="replace"))


def make_repeatable() -> None:
    """Random UIDs and keys are the same in every run; figures, which take longest, are drawn by none."""
    Figure.savefig = _saved_soon  # type: ignore[method-assign]
    generator = random.Random(0)  # noqa: S311 - nothing is kept secret here
    os.urandom = generator.randbytes  # type: ignore[assignment]
    random._urandom = generator.randbytes  # type: ignore[attr-defined]


def _saved_soon(figure: Figure, target: Any, **options: Any) -> None:
    if isinstance(target, str | os.PathLike):
        Path(target).write_bytes(b"a figure")
    else:
        _SAVE(figure, target, **options)


def _die(place: Path, at: int | None, log: int) -> None:
    """Count the changes below a folder from now on, and die before one of them."""
    process, count = os.getpid(), 0

    def change(kind: str) -> None:
        nonlocal count
        if os.getpid() == process:
            if count == at:
                os.kill(process, signal.SIGKILL)
            count += 1
            os.write(log, f"{kind.replace(' ', '-')}\n".encode())

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        kind = AUDITED.get(event)
        if kind is None or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        if event == "open" and not (arguments[2] or 0) & WRITES:
            return
        # What shutil.rmtree removes is named from its folder's descriptor.
        in_folder = event != "open" and isinstance(arguments[-1], int) and arguments[-1] >= 0
        if in_folder or Path(os.fsdecode(arguments[0])).absolute().is_relative_to(place):
            change(kind)

    fsync, renamed = os.fsync, atomic._renamed

    def flushed(descriptor: int) -> None:
        change("fsync")
        fsync(descriptor)

    def renamed_in_one(first: Path, second: Path, how: int) -> bool:
        change("swap" if how == atomic._SWAP else "new name")
        return renamed(first, second, how)

    os.fsync, atomic._renamed = flushed, renamed_in_one
    sys.addaudithook(heard)


def contents(place: Path) -> dict[str, str]:
    """What every file below a folder says, as a hash, without times and what is half-written."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place)
        # The names of TensorBoard's files hold times and processes.
        if (
            not path.is_file()
            or {"cache", "tensorboard"} & {*name.parts}
            or any(is_temporary(Path(part)) for part in name.parts)
        ):
            continue
        found[str(name)] = hashlib.sha256(_said(path)).hexdigest()
    return found


def _said(path: Path) -> bytes:
    if path.name in TIMED:
        return b""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return b"".join(name.encode() + archive.read(name) for name in sorted(archive.namelist()))
    if path.name == "bundle.json":
        values = json.loads(path.read_text())
        return json.dumps({name: value for name, value in values.items() if name not in TIMED_FIELDS}).encode()
    if path.name == "history.csv":
        return pd.read_csv(path).drop(columns="seconds").to_csv().encode()
    lines = path.read_bytes().splitlines(keepends=True)
    # How long a training takes is measured anew by each plan.
    return b"".join(line for line in lines if not (path.name == "plan.yaml" and line.startswith(b"expected_seconds")))


def leftovers(place: Path) -> list[str]:
    """What is half-written below a folder."""
    return [str(path) for path in place.rglob("*") if is_temporary(path) or ".partial-" in path.name]


@dataclass
class Trial:
    """A scenario in a folder of its own: the state before, what a whole run of the command makes of it, its changes.

    Attributes:
        scenario: the command.
        folder: of the trial.
        known: keeps what the whole runs gave, for a trial that is continued with the same code; else it is found anew.
    """

    scenario: Scenario
    folder: Path
    known: Path | None = None

    def __post_init__(self) -> None:
        self.place, self.base = self.folder / "place", self.folder / self.scenario.prepare.__name__
        if not self.base.exists():
            self._prepare()
        self.before = contents(self.base)
        if self.known is not None and self.known.is_file():
            changes, self.after, volatile = json.loads(self.known.read_text())
            self.changes, self.volatile = tuple(changes), set(volatile)
            return
        self.changes, self.after = self._whole()
        _, second = self._whole()
        # What differs between two runs that nothing disturbed cannot tell anything.
        self.volatile = {name for name, said in self.after.items() if second.get(name) != said}
        if self.known is not None:
            self.known.write_text(json.dumps([self.changes, self.after, sorted(self.volatile)]))

    def _prepare(self) -> None:
        """Fill the folder, and keep it for every scenario that begins so."""

        def prepare() -> int:
            os.environ["HOUNSFIELD_CACHE"] = str(self.folder / "cache")
            self.scenario.prepare(self.place)
            return 0

        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        if in_child(prepare, self.folder / "output.txt"):
            raise AssertionError((self.folder / "output.txt").read_text())
        self.place.rename(self.base)

    def _whole(self) -> tuple[tuple[str, ...], dict[str, str]]:
        self.reset()
        outcome = command(self.scenario.arguments(self.place), self.place)
        if outcome.status:
            raise AssertionError(outcome.text)
        return outcome.changes, contents(self.place)

    def reset(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.base, self.place)

    def points(self, num_random: int, seed: int = 0) -> list[int]:
        """The first change of each kind and then, at random, so many others."""
        first = sorted({self.changes.index(kind) for kind in self.changes})
        others = [number for number in range(len(self.changes)) if number not in first]
        return first + np.random.default_rng(seed).permutation(others)[:num_random].tolist()

    def faults(self, at: int) -> list[str]:
        """Kill the command before a change and repeat it: what is not as if nothing had happened."""
        self.reset()
        killed = command(self.scenario.arguments(self.place), self.place, at=at)
        if killed.status != -signal.SIGKILL:
            return [f"was not killed, but ended with {killed.status}: {killed.text[-500:]}"]
        faults = self.lost(contents(self.place))
        again = (self.scenario.again or self.scenario.arguments)(self.place)
        repeated = command(again, self.place)
        if "begin anew" in repeated.text or "is no run folder" in repeated.text:
            shutil.rmtree(self.place / (self.scenario.run or ""), ignore_errors=True)
            repeated = command(self.scenario.arguments(self.place), self.place)
        elif "There is no run" in repeated.text or "does not exist" in repeated.text:
            repeated = command(self.scenario.arguments(self.place), self.place)
        # Killed once it was finished, it has to be whole; what is compared says so.
        if repeated.status and "is finished: there is nothing to continue" not in repeated.text:
            return [*faults, f"cannot be repeated: {repeated.text[-500:]}"]
        return faults + self._differing(contents(self.place)) + self._broken()

    def lost(self, found: dict[str, str]) -> list[str]:
        """What was there before, and is neither as it was nor as it is to be."""
        lost = []
        for name, said in self.before.items():
            allowed = {said, self.after.get(name)}
            if found.get(name) not in allowed and not (name in found and name in self.volatile):
                lost.append(f"{name} is lost")
        return lost

    def _differing(self, found: dict[str, str]) -> list[str]:
        names = (found.keys() | self.after.keys()) - self.volatile
        return [f"{name} differs" for name in sorted(names) if found.get(name) != self.after.get(name)]

    def _broken(self) -> list[str]:
        broken = [f"{name} is left" for name in leftovers(self.place)]
        if self.scenario.run is not None:
            checked = command(["verify", str(self.place / self.scenario.run)], self.place)
            broken += [checked.text] if checked.status else []
        return broken
