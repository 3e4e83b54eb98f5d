"""How fast does the command line answer, beside bare Python and beside the libraries that draw it?

    python bench/startup.py [--repeats 9]

The commands take turns, so that a busy machine slows all of them alike; medians and ranges in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import typer, rich'": [sys.executable, "-c", "import typer, rich"],
    "hounsfield --help": [str(Path(sys.executable).with_name("hounsfield")), "--help"],
    "hounsfield train --help": [str(Path(sys.executable).with_name("hounsfield")), "train", "--help"],
}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    for command in COMMANDS.values():
        seconds(command)  # compiles what has not been compiled yet
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, command in COMMANDS.items():
            taken[name].append(seconds(command))
    libraries = statistics.median(taken["python -c 'import typer, rich'"])
    for name, times in taken.items():
        middle = statistics.median(times)
        ratio = middle / libraries
        print(f"{name:<34}{middle:6.3f} s ({min(times):.3f} to {max(times):.3f}), {ratio:.2f} × typer and rich")


if __name__ == "__main__":
    main()
