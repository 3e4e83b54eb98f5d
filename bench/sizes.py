"""Does a network learn a planted size? The longest side of particles in simulated electron micrographs.

    python bench/sizes.py [--specimens 60] [--seed 0] [--effort quick] [--folder FOLDER]

Windows of 128×128 pixels are cut around the particles of ``phantom:micrograph`` that lie in them; neighbours and debris
stay. The value is the longest side in pixels of what was drawn. The peer knows the particle's kind and guesses the mean
of the training values of that kind.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts.request import DataRequest
from hounsfield.images import Image, read_image, write_image
from hounsfield.phantoms import make_phantom
from hounsfield.training import train

SIDE = 128
# In shares of the window: larger particles reach beyond it.
LARGEST = 0.9


def write_windows(folder: Path, specimens: int, seed: int) -> Path:
    """The windows, and their table."""
    table = make_phantom("phantom:micrograph", folder / "fields", seed=seed, num_patients=specimens)
    (folder / "windows").mkdir()
    rows = []
    for name, boxes in pd.read_csv(table).dropna(subset="y0").groupby("image"):
        pixels = read_image(table.parent / str(name)).pixels
        for number, box in enumerate(boxes.itertuples()):
            start = [round((box.y0 + box.y1 - SIDE) / 2), round((box.x0 + box.x1 - SIDE) / 2)]
            longest = max(box.y1 - box.y0, box.x1 - box.x0)
            inside = all(0 <= first <= length - SIDE for first, length in zip(start, pixels.shape, strict=False))
            if not inside or longest > LARGEST * SIDE:
                continue
            window = pixels[start[0] : start[0] + SIDE, start[1] : start[1] + SIDE]
            image = f"windows/{Path(str(name)).stem}-{number}{Path(str(name)).suffix}"
            write_image(Image(np.ascontiguousarray(window)), folder / image)
            rows.append({"image": image, "patient": box.patient, "longest_side": float(longest), "kind": box.label})
    pd.DataFrame(rows).to_csv(folder / "sizes.csv", index=False)
    return folder / "sizes.csv"


def explained_by_kind(run: Path, table: Path) -> tuple[float, float]:
    """What the kind alone explains of the test values, and what the network explains of the rest."""
    truth = pd.read_csv(table).set_index("image")
    splits = pd.read_parquet(run / "cohort.parquet").set_index("image")["split"]
    known = truth.loc[splits.index[splits == "train"]]
    predicted = pd.read_csv(run / "predictions.csv").set_index("image")
    predicted = predicted[predicted["split"] == "test"]
    test = truth.loc[predicted.index]
    values = test["longest_side"]
    by_kind = (values - test["kind"].map(known.groupby("kind")["longest_side"].mean())).pow(2).sum()
    error = (values - predicted["value"]).pow(2).sum()
    return float(1 - by_kind / (values - values.mean()).pow(2).sum()), float(1 - error / by_kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimens", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--effort", choices=("quick", "standard", "thorough"), default="quick")
    parser.add_argument("--folder", type=Path, help="a new folder; by default one that is removed at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table = write_windows(folder, arguments.specimens, arguments.seed)
        request = DataRequest(str(table), label_columns=("longest_side",), task="regression")
        run = train(request, folder / "run", effort=arguments.effort, seed=arguments.seed)
        found = run.metrics["test"]
        for name in ("r2", "mae"):
            figure = found[name]
            print(f"{name}: {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), n = {figure['n']}")
        kind, rest = explained_by_kind(run.folder, table)
        print(f"r2 of the kind alone: {kind:.3f}; of the variance within kinds the network explains {rest:.3f}")


if __name__ == "__main__":
    main()
