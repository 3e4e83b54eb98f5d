"""Count particles by kind in electron micrographs: train on boxes, look at new micrographs, print a table for a lab.

    python examples/count_particles.py [FOLDER] [--effort quick|standard|thorough] [--set FIELD=VALUE ...]

It simulates specimens (`phantom:micrograph`), trains a detector on most of them, and counts in micrographs of three new
specimens and in two pictures that are no such micrographs. FOLDER (particles, by default) then holds the run, the
counts as counts.csv, and each new micrograph with its boxes in overlays/. docs/recipes/micrographs.md explains it.
"""

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

import hounsfield
from hounsfield.cohorts import load_cohort
from hounsfield.inference import Detector
from hounsfield.phantoms import make_phantom
from hounsfield.reports.figures import save_figure


def main() -> None:
    """Simulate, train, count, compare."""
    wanted = _arguments()
    known = make_phantom("micrograph", wanted.folder / "known", num_patients=wanted.specimens)
    new = make_phantom("micrograph", wanted.folder / "new", num_patients=3, seed=1)
    _add_strangers(new.parent / "images")
    hounsfield.train(known, wanted.folder / "run", effort=wanted.effort, changes=wanted.set)
    counts = count(wanted.folder / "run", new.parent / "images", wanted.folder)
    counts.to_csv(wanted.folder / "counts.csv", index=False)
    labels = hounsfield.Bundle.load(wanted.folder / "run").labels
    print(for_people(counts, labels).to_string(index=False))
    print(how_often_right(counts, new, labels))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count particles by kind in simulated electron micrographs.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("particles"), help="a new folder")
    parser.add_argument("--effort", default="quick", choices=("quick", "standard", "thorough"))
    parser.add_argument("--specimens", type=int, default=60, help="how many to simulate for the training")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the plan")
    return parser.parse_args()


def _add_strangers(folder: Path) -> None:
    """Two pictures that a screening must not count in silence: one out of focus, and one of noise alone."""
    first = cv2.imread(str(min(folder.glob("*.png"))), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(folder / "stranger-blurred.png"), cv2.GaussianBlur(first, (0, 0), 12))
    noise = np.random.default_rng(0).integers(0, 256, first.shape, dtype=np.uint8)
    cv2.imwrite(str(folder / "stranger-noise.png"), noise)


def count(run: Path, images: Path, folder: Path) -> pd.DataFrame:
    """Counts by kind with intervals and flags, one row an image; pictures with boxes go into FOLDER/overlays."""
    detector = Detector(run)
    rows = []
    (folder / "overlays").mkdir()
    for path in sorted(images.iterdir()):
        (found,) = detector.predict(path)
        rows.append(found.count_row() | {"image": path.name})
        figure = found.draw(hounsfield.read_image(path))
        save_figure(figure, folder / "overlays" / f"{path.stem}.png")
    return pd.DataFrame(rows, columns=detector.table("counts").columns)


def for_people(counts: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """The table as a lab would pin it up: count and interval of each kind in one cell."""
    shown = pd.DataFrame({"image": counts["image"]})
    for label in labels:
        ends = zip(counts[f"count_{label}"], counts[f"low_{label}"], counts[f"high_{label}"], strict=True)
        shown[label] = [f"{found} ({low}–{_end(high)})" for found, low, high in ends]
    return shown.assign(flags=counts["flags"].where(counts["flags"] != "", "–"))


def _end(high: float) -> str:
    return "?" if pd.isna(high) else f"{high:.0f}"


def how_often_right(counts: pd.DataFrame, new: Path, labels: tuple[str, ...]) -> str:
    """How many of the intervals hold the true number, which a simulation knows."""
    cohort = load_cohort(new, kind="box table")
    names = cohort.table["image"].map(lambda image: Path(image).name)
    true = pd.DataFrame(cohort.box_counts(), index=names, columns=list(cohort.labels))
    judged = counts.set_index("image").loc[true.index]
    held = 0
    for label in labels:
        objects = true[label] if label in true else pd.Series(0, true.index)
        held += int(objects.between(judged[f"low_{label}"], _open(judged[f"high_{label}"])).sum())
    return f"{held} of {len(judged) * len(labels)} intervals hold the true number; 9 of 10 are promised."


def _open(ends: pd.Series) -> pd.Series:
    """Upper ends, infinite where too few validation images were there to promise one."""
    return ends.astype(float).fillna(math.inf)


if __name__ == "__main__":
    main()
