"""Does judging four images together find what lies in one of them, and does the attention point at that one?

    python bench/bags.py [--seeds 3] [--samples 320] [--epochs 20]

A simulated study has four pictures of 32 pixels: uneven ground, noise, and bright lines. Half of the studies have a
finding, a soft disc, in one picture. Three trainings at effort quick with the same number of epochs on the same split:
the four together joined by attention, the same by the mean, and as the peer single pictures, each with the label of its
study. Printed are the AUC of studies (of the peer by the mean and by the greatest probability of their pictures) and of
its single pictures, and in how many studies of the test split with a finding the greatest weight is that of its
picture.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from hounsfield.cohorts.request import DataRequest
from hounsfield.training import train

SIDE, VIEWS = 32, 4


def picture(generator: np.random.Generator, *, finding: bool) -> np.ndarray:
    ground = cv2.GaussianBlur(generator.normal(0, 1, (SIDE, SIDE)), (0, 0), 8)
    pixels = 110 + 25 * ground / ground.std() + generator.normal(0, 12, (SIDE, SIDE))
    for _ in range(generator.integers(1, 4)):
        ends = generator.integers(0, SIDE, 4).tolist()
        line = cv2.line(np.zeros((SIDE, SIDE)), tuple(ends[:2]), tuple(ends[2:]), 1.0, 1)
        pixels += 40 * cv2.GaussianBlur(line, (0, 0), 1)
    if finding:
        disc = cv2.circle(np.zeros((SIDE, SIDE)), tuple(generator.integers(7, SIDE - 7, 2).tolist()), 4, 1.0, -1)
        pixels += 100 * cv2.GaussianBlur(disc, (0, 0), 1)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def write_studies(folder: Path, samples: int, seed: int) -> None:
    """The pictures, and a table with the columns image, label, patient, study and planted."""
    generator, rows = np.random.default_rng(seed), []
    for number in range(samples):
        label, planted = ("finding", "clear")[number % 2], int(generator.integers(VIEWS))
        for view in range(VIEWS):
            name = f"s{number:04}_{view}.png"
            here = label == "finding" and view == planted
            cv2.imwrite(str(folder / name), picture(generator, finding=here))
            rows.append((name, label, f"P{number:04}", f"study{number:04}"))
        rows[-VIEWS:] = [(*row, f"s{number:04}_{planted}.png") for row in rows[-VIEWS:]]
    table = pd.DataFrame(rows, columns=["image", "label", "patient", "study", "planted"])
    # Kept apart from the data, whose columns the training may look at.
    table[["study", "planted"]].drop_duplicates().to_csv(folder / "planted.txt", index=False)
    table.drop(columns="planted").to_csv(folder / "labels.csv", index=False)


def tested(run: Path) -> pd.DataFrame:
    table = pd.read_csv(run / "predictions.csv")
    return table[table["split"] == "test"]


def auc(table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["label"] == "finding", table["p_finding"]))


def run_seed(folder: Path, arguments: argparse.Namespace, seed: int) -> dict[str, float]:
    data = folder / "data"
    data.mkdir(parents=True)
    write_studies(data, arguments.samples, seed)
    planted = pd.read_csv(data / "planted.txt").set_index("study")["planted"]
    epochs = f"epochs={arguments.epochs}"
    together = DataRequest(str(data / "labels.csv"), sample_column="study")
    found: dict[str, float] = {}
    for pooling in ("attention", "mean"):
        run = folder / pooling
        train(together, run, effort="quick", seed=seed, changes=(epochs, f"view_pooling={pooling}"))
        table = tested(run)
        found[f"{pooling}: AUC of studies"] = auc(table)
        if pooling == "attention":
            sick = table[table["label"] == "finding"]
            found["attention at the picture"] = float((sick["top_view"] == sick["image"].map(planted)).mean())
            found["weight of the picture"] = float(
                np.mean(
                    [
                        weight_of(text, planted[study])
                        for text, study in zip(sick["view_weights"], sick["image"], strict=True)
                    ]
                )
            )
    run = folder / "single"
    train(DataRequest(str(data / "labels.csv")), run, effort="quick", seed=seed, changes=(epochs,))
    single = tested(run)
    found["single pictures: AUC of pictures"] = auc(single)
    by_study = single.groupby("patient").agg({"p_finding": ["mean", "max"], "label": "first"})
    for how in ("mean", "max"):
        study = pd.DataFrame({"p_finding": by_study["p_finding"][how], "label": by_study["label"]["first"]})
        found[f"single pictures: AUC of studies, {how}"] = auc(study)
    return found


def weight_of(text: str, image: str) -> float:
    return float(dict(part.rsplit("=", 1) for part in text.split("; "))[image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run_seed(Path(folder) / "run", arguments, seed))
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in rows[-1].items()), flush=True)
    table = pd.DataFrame(rows)
    print(table.agg(["mean", "min", "max"]).T.round(3).to_string())


if __name__ == "__main__":
    main()
