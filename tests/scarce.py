"""Commands on a machine that is short of disk, of file handles or of memory.

    python tests/scarce.py FOLDER [RUN]

Each runs in a forked process that gets more and more of it. It must do the whole work, or say in one paragraph what was
missing and leave everything as it was. Prints each fault, and for each kind of shortage the number of refusals.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import hounsfield.training  # noqa: F401 - imported once, before the forks
from hounsfield.cli import main as cli
from kill_scenarios import SCENARIOS
from kills import Outcome, Scenario, Trial, contents, in_child, leftovers, make_repeatable

Limit = Callable[[], None]
PIPE_BYTES = 2**20


def small_files(size: int) -> None:
    """No file may grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full_disk(after: int) -> None:
    """The disk is full when a file is flushed that comes after so many others."""
    flushes = iter(range(after))
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        if next(flushes, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    os.fsync = flush


def few_handles(more: int) -> None:
    """So many more files may be open than are."""
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    # The limit is of the numbers of handles: those that are free below the highest one are taken first.
    while (number := os.open(os.devnull, os.O_RDONLY)) <= highest:
        pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 1 + more, number + 1 + more))


def little_memory(more: int) -> None:
    """So many more bytes of addresses may be taken than are."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    number = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (number, number))


SHORTAGES: dict[str, list[Limit]] = {
    "disk": [
        *(partial(small_files, size) for size in (0, 100, 1000, 20_000)),
        *(partial(full_disk, after) for after in (0, 1, 3)),
    ],
    "handles": [partial(few_handles, more) for more in (0, 1, 2, 4, 8)],
    "memory": [partial(little_memory, more * 2**20) for more in (1, 8, 32, 96)],
}


def run_short(arguments: Sequence[str], place: Path, limit: Limit) -> Outcome:
    """Run a command under a limit; what it prints goes into a pipe, which no limit holds for."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def work() -> int:
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.environ["HOUNSFIELD_CACHE"] = str(place / "cache")
        make_repeatable()
        sys.argv = ["hounsfield", *arguments]
        limit()
        cli.main()
        return 0

    status = in_child(work, Path(os.devnull))
    os.close(theirs)
    os.set_blocking(ours, False)
    with os.fdopen(ours, "rb") as file:
        text = (file.read() or b"").decode(errors="replace")
    return Outcome(status, (), text)


def faults(trial: Trial, limit: Limit) -> tuple[int, list[str]]:
    """How a command ended under a limit, and what is not as it should be."""
    trial.reset()
    done = run_short(trial.scenario.arguments(trial.place), trial.place, limit)
    found = contents(trial.place)
    wrong = [f"{name} is left" for name in leftovers(trial.place)] + trial.lost(found)
    # What is new is as in an undisturbed run, or not there.
    new = found.keys() - trial.before.keys() - trial.volatile
    wrong += [f"{name} is half-written" for name in sorted(new) if found[name] != trial.after.get(name)]
    paragraphs = [line for line in done.text.splitlines() if line.startswith("hounsfield: ")]
    said = done.text.rstrip().splitlines()[-1:] == paragraphs and len(paragraphs) == 1
    if done.status not in {0, 1} or "Traceback" in done.text or (done.status == 1 and not said):
        wrong.append(f"ended with {done.status}: {done.text[-1500:]}")
    if "unexpected fault" in done.text:
        wrong.append(done.text[-600:])
    return done.status, wrong


def pictures(place: Path) -> None:
    SCENARIOS["preprocess"].prepare(place)
    large = np.add.outer(np.arange(7000), np.arange(7000)) // 55
    cv2.imwrite(str(place / "scans" / "large.png"), large.astype(np.uint8))


def preprocessed(place: Path) -> list[str]:
    return ["preprocess", f"{place}/scans", "-o", f"{place}/results", "--resize=8x8", "--overwrite"]


def main() -> None:
    folder, runs = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]

    def copied(place: Path) -> None:
        pictures(place)
        shutil.copytree(runs[0], place / "run")

    def predicted(place: Path) -> list[str]:
        return ["predict", f"{place}/run", f"{place}/scans", "-o", f"{place}/table.csv", "--overlay", f"{place}/maps"]

    def evaluated(place: Path) -> list[str]:
        return ["evaluate", f"{place}/run", "--out", f"{place}/test", "--replicates", "100"]

    scenarios = {
        "preprocess": Scenario(pictures, preprocessed),
        **{name: SCENARIOS[name] for name in ("convert to a series", "deidentify")},
    }
    if runs:
        scenarios |= {
            "predict": Scenario(copied, predicted, run="run"),
            "evaluate": Scenario(copied, evaluated, run="run"),
        }
    refusals: Counter[str] = Counter()
    for name, scenario in scenarios.items():
        place = folder / name.replace(" ", "-")
        place.mkdir()
        trial = Trial(scenario, place)
        for kind, limits in SHORTAGES.items():
            for limit in limits:
                status, wrong = faults(trial, limit)
                refusals[kind] += status == 1
                for each in wrong:
                    sys.stdout.write(f"FAULT {name}, {kind} {limit}: {each}\n")
                    sys.stdout.flush()
    sys.stdout.write(", ".join(f"{kind}: {count} refusals" for kind, count in refusals.items()) + "\n")


if __name__ == "__main__":
    main()
