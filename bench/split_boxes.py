"""A table of boxes with a fixed split by patient, made of the label maps of volumes: one box around each label.

    python bench/split_boxes.py HIPPOCAMPUS TABLE.csv --seed 0

HIPPOCAMPUS is a folder with ``images`` and ``labels``, and each volume a patient. The volumes, in the order of their
names, are drawn by ``numpy.random.default_rng(SEED).permutation``: the first are for training, the next for validation,
the rest for testing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from hounsfield.cohorts import load_cohort


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=70)
    parser.add_argument("--validation", type=int, default=10)
    arguments = parser.parse_args()
    cohort = load_cohort(arguments.data, kind="label maps")
    images = sorted(cohort.table["image"])
    order = np.random.default_rng(arguments.seed).permutation(len(images))
    sizes = {"train": arguments.train, "validation": arguments.validation}
    names = [name for name, size in sizes.items() for _ in range(size)]
    names += ["test"] * (len(images) - len(names))
    splits = {images[place]: name for place, name in zip(order, names, strict=True)}
    table = cohort.box_table.assign(
        split=cohort.box_table["image"].map(splits),
        patient=[Path(image).name.partition(".")[0] for image in cohort.box_table["image"]],
    )
    arguments.table.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.table, index=False)
    print(table.groupby("split").agg(volumes=("image", "nunique"), boxes=("image", "size")).to_string())


if __name__ == "__main__":
    main()
