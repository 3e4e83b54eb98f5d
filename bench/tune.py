"""What does a search of 20 short trials bring on images that took no part in it?

    .venv/bin/python bench/tune.py PNEUMONIAMNIST.npz --seed 0 [--trials 20] [--folds 2] [--images 1500] [--epochs 4]

The planner's quick plan, shortened to some epochs, is tuned on so many of the training and validation images; then the
planner's plan and the tuned one are trained on them, and compared on the whole test split, paired by image. Beside the
difference stands what the search promised: its best figure over the folds, and the optimism that it takes off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np


def command(*words: object) -> str:
    """What a call of the command line prints."""
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return done.stdout


def part_of(source: Path, target: Path, count: int, seed: int) -> None:
    """So many images of the training split and a ninth of it of validation, drawn by the seed; the whole test split."""
    generator = np.random.default_rng(seed)
    with np.load(source) as arrays:
        kept = dict(arrays)
    for split, number in (("train", count), ("val", count // 9)):
        rows = np.sort(generator.permutation(len(kept[f"{split}_labels"]))[:number])
        for kind in ("images", "labels"):
            kept[f"{split}_{kind}"] = kept[f"{split}_{kind}"][rows]
    np.savez(target, **kept)


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """One search, and the two trainings that follow."""
    data, plan, tuned = folder / "data.npz", folder / "plan.yaml", folder / "tuned.yaml"
    part_of(asked.data, data, asked.images, asked.seed)
    shorter = ("--set", f"epochs={asked.epochs}", "--set", f"patience={asked.epochs}")
    command("plan", data, "--effort", "quick", "--seed", asked.seed, *shorter, "-o", plan)
    started = time.monotonic()
    trials = ("--trials", asked.trials, "--folds", asked.folds, "--seed", asked.seed)
    search = json.loads(command("tune", data, "--plan", plan, *trials, "-o", tuned, *asked.options.split(), "--json"))
    seconds = time.monotonic() - started
    for each in (plan, tuned):
        command("train", data, "--plan", each, "--out", folder / each.stem)
    # The difference is that of the second less the first.
    compared = json.loads(command("compare", folder / "plan", folder / "tuned", "--json"))
    planned, best = search["planned"], search["best"]
    shares = [trial["share"] for trial in search["trials"]]
    return {
        "seed": asked.seed,
        "trials": len(shares),
        "complete": sum(trial["complete"] for trial in search["trials"]),
        "trainings begun": round(sum(shares) * asked.folds, 1),
        "seconds of the search": round(seconds),
        "figure": search["figure"],
        "planner's plan over folds": planned,
        "best over folds": best,
        "optimism": search["optimism"],
        "the planner's plan is kept": search["taken"] == search["trials"][0]["values"],
        "taken": search["taken"],
        "importance": search["importance"],
        "tuned less planned, test": compared,
    }


def main() -> None:
    """Measure, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--options", default="", help="further options of tune, such as '--ray local --workers 2'")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOUNSFIELD_CACHE"] = f"{folder}/cache"
        print(json.dumps(measure(Path(folder), asked), indent=2))


if __name__ == "__main__":
    main()
