"""Is a rare label among several found as when it is alone, and what do missing labels cost?

    python bench/several_labels.py [--seeds 5] [--epochs 12]

Simulated pictures of 64 pixels with three findings that may come together: an effusion in half of them, a nodule in
30 %, and a hernia in 5 %, whose sign is also in 10 % of the pictures without one, so that no network can do better than
a specificity of about .9 for it. The splits are given: 500 pictures for training, 300 for validation, 800 for testing,
each of another patient. Three trainings a seed, at effort quick with the same number of epochs: all labels, the hernia
as a binary label, and all labels where 30 % of those for training and validation are missing at random (those of the
test split are all there, so that the same pictures are judged). Printed are the hernia's sensitivity and specificity in
the first two, at the thresholds that the trainings chose, and the mean AUC of the labels in the first and the third.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

import hounsfield

SIDE = 64
SIZES = {"train": 500, "validation": 300, "test": 800}
SHARES = {"effusion": 0.5, "nodule": 0.3, "hernia": 0.05}
MISSING = 0.3


def picture(generator: np.random.Generator, findings: pd.Series) -> np.ndarray:
    pixels = generator.normal(100, 18, (SIDE, SIDE))
    if findings["effusion"]:
        pixels[6:18, 6:18] += 30
    if findings["nodule"]:
        pixels += 90 * cv2.circle(np.zeros((SIDE, SIDE)), (46, 18), 5, 1.0, -1)
    if findings["hernia"] or generator.random() < 0.1:
        pixels[40:54, 40:54] -= 70
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_tables(folder: Path, seed: int) -> None:
    """The pictures, and the tables ``all.csv``, ``alone.csv`` and ``missing.csv``."""
    generator = np.random.default_rng(seed)
    splits = np.repeat(list(SIZES), list(SIZES.values()))
    table = pd.DataFrame({"image": [f"{number:04}.png" for number in range(len(splits))], "split": splits})
    table["patient"] = "P" + table.index.astype(str)
    for label, share in SHARES.items():
        # The same number of pictures in each split, so that chance does not decide how rare a label is there.
        positive = table.groupby("split").sample(frac=share, random_state=generator.integers(2**32)).index
        table[label] = table.index.isin(positive).astype(int)
    for _, row in table.iterrows():
        cv2.imwrite(str(folder / row["image"]), picture(generator, row))
    labels = list(SHARES)
    table.to_csv(folder / "all.csv", index=False)
    alone = table["hernia"].map({1: "hernia", 0: "normal"})
    table.drop(columns=labels).assign(label=alone).to_csv(folder / "alone.csv", index=False)
    hidden = generator.random((len(table), len(labels))) < MISSING
    hidden[table["split"] == "test"] = False
    table[labels] = table[labels].astype(object).mask(hidden)
    table.to_csv(folder / "missing.csv", index=False)


def run_seed(folder: Path, seed: int, epochs: int) -> dict[str, float]:
    write_tables(folder, seed)
    metrics = {
        name: hounsfield.train(
            str(folder / f"{name}.csv"),
            str(folder / name),
            effort="quick",
            seed=seed,
            changes=[f"epochs={epochs}"],
        ).metrics["test"]
        for name in ("all", "alone", "missing")
    }
    found = {}
    for what in ("sensitivity", "specificity"):
        found[f"{what} among several"] = metrics["all"][f"{what}_hernia"]["value"]
        found[f"{what} alone"] = metrics["alone"][what]["value"]
    for name in ("all", "missing"):
        found[f"AUC, {name}"] = float(np.mean([metrics[name][f"auc_{label}"]["value"] for label in SHARES]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run_seed(Path(folder), seed, arguments.epochs))
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    print(pd.DataFrame(rows).agg(["mean", "min", "max"]).T.round(3).to_string())


if __name__ == "__main__":
    main()
