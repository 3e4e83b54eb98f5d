"""Does anything get lost when a command is killed, and does it come to the same result when it is repeated?

    python bench/kill.py [--command predict --command report] [--random 20] [--folder /tmp/kills] [--seconds 230]

Each command (``tests/kill_scenarios.py``) dies by SIGKILL before the first change of the file system of each kind (a
file opened for writing, a renaming, a swap of two names, a link, a removal, a folder made or removed, a flush) and
before so many others drawn at random. Then it is repeated, or the training resumed, and every file compared to the last
bit with that of an undisturbed run; what differs between two undisturbed runs (times) is left out and named. Of a run
``hounsfield verify`` is asked too. Points that stand in ``kills.jsonl`` of ``--folder`` are not tried again, and what
the undisturbed runs gave is kept beside it, so that the whole can be done in parts; other code needs another folder.
One import of TensorFlow serves all: each command runs in a forked process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import hounsfield.reports.figures
import hounsfield.testing
import hounsfield.training  # noqa: F401 - imported once, before the forks
from kill_scenarios import SCENARIOS
from kills import Trial


def tried(name: str, folder: Path, known: set[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Try what was not tried before of one command, as long as there is time."""
    trial = Trial(SCENARIOS[name], folder, folder / f"{name}.json")
    points = trial.points(arguments.random, arguments.seed)
    if arguments.most is not None:
        points = [points[number] for number in np.linspace(0, len(points) - 1, arguments.most).round().astype(int)]
    left = [point for point in points if f"{name} {point}" not in known]
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(trial.changes).items())
    print(f"{name}: {len(trial.changes)} changes ({kinds}); {len(left)} of {len(points)} points left")
    print(f"  not compared: {', '.join(sorted(trial.volatile)) or 'nothing'}; compared: {len(trial.after)} files")
    results = []
    for point in left:
        if time.monotonic() > arguments.end:
            break
        faults = trial.faults(point)
        results.append({"command": name, "point": point, "of": len(points), "kind": trial.changes[point]})
        results[-1]["faults"] = faults
        with (folder / "kills.jsonl").open("a") as file:
            file.write(json.dumps(results[-1]) + "\n")
        for fault in faults:
            print(f"  {point} ({trial.changes[point]}): {fault}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", choices=SCENARIOS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "hounsfield-kills")
    parser.add_argument("--random", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, help="of the points of a command, so many")
    parser.add_argument("--seconds", type=float, default=1e9)
    arguments = parser.parse_args()
    arguments.end = time.monotonic() + arguments.seconds
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "kills.jsonl"
    found = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for name in arguments.command or list(SCENARIOS):
        done = {f"{each['command']} {each['point']}" for each in found}
        numbers = [each["of"] for each in found if each["command"] == name]
        if time.monotonic() > arguments.end or (numbers and len(numbers) >= numbers[0]):
            continue
        found += tried(name, folder, done, arguments)
    for name in SCENARIOS:
        own = [each for each in found if each["command"] == name]
        if own:
            bad = sum(bool(each["faults"]) for each in own)
            kinds = ", ".join(sorted({each["kind"] for each in own}))
            print(f"{name}: {len(own)} of {own[0]['of']} points, {bad} with faults; kinds: {kinds}")
    sys.exit(any(each["faults"] for each in found))


if __name__ == "__main__":
    main()
