"""Does the assay of a preparation tell what was planted in it?

    python bench/vaccine.py RUN [--lots 8] [--seed 1] [--keep FOLDER]

RUN is a detector trained on ``phantom:vaccine`` (another seed). New preparations are made, of 24 fields each (two
microscopes of different magnification and dose, three dilutions, two grids, two fields a grid), one of eight a blank;
to these come four pictures that must be refused: two out of focus, one of noise, one of another kind of specimen. Two
assays are computed: of what the detector finds, and, as the peer, of the planted boxes, which shows what the fields
themselves allow. Printed are, of both: how many intervals of the concentration and of the share of full capsids hold
the planted values, the mean errors, the slope of the dilutions, the ratio of the microscopes (planted: .85), the
detection limit, repeatability, and which fields were refused.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from hounsfield.evaluation.assay import Assay, analyse_fields
from hounsfield.phantoms import make_phantom
from hounsfield.phantoms.vaccine import RECOVERY
from hounsfield.testing.assay import SQUARE_NM, assay_fields, whole

SIDE = 384


def add_strangers(folder: Path, seed: int) -> list[str]:
    """Pictures that must not be counted, written beside the fields."""
    images = folder / "images"
    first = cv2.imread(str(min(images.glob("*-1-1-1.png"))), cv2.IMREAD_GRAYSCALE)
    noise = np.random.default_rng(seed).integers(0, 256, first.shape, dtype=np.uint8)
    other = make_phantom("micrograph", folder / "other", num_patients=1, seed=seed).parent
    rods = cv2.imread(str(min((other / "images").iterdir())), cv2.IMREAD_UNCHANGED)
    strangers = {
        "blurred": cv2.GaussianBlur(first, (0, 0), 12),
        "defocused": cv2.GaussianBlur(first, (0, 0), 6),
        "noise": noise,
        "inverted": 255 - cv2.normalize(rods, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8),
    }
    for name, pixels in strangers.items():
        cv2.imwrite(str(images / f"{name}.png"), pixels)
    return [f"images/{name}.png" for name in strangers]


def planted_fields(table: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """The fields with their true counts, as the assay takes them."""
    design = ["image", "patient", "instrument", "grid", "dilution", "pixel_nm"]
    fields = table[design].drop_duplicates().rename(columns={"patient": "specimen"}).set_index("image")
    for label in labels:
        rows = table[table["label"] == label]
        weights = pd.Series(whole(rows[["y0", "x0", "y1", "x1"]].to_numpy(float), (SIDE, SIDE)), rows["image"])
        by_image = weights.groupby(level=0)
        fields[f"weight_{label}"] = by_image.sum().reindex(fields.index).fillna(0.0)
        fields[f"count_{label}"] = by_image.agg(lambda one: (one > 0).sum()).reindex(fields.index).fillna(0)
    fields["area"] = (SIDE * fields["pixel_nm"]) ** 2 / SQUARE_NM
    return fields.reset_index()


def describe(name: str, assay: Assay, truth: pd.DataFrame) -> None:
    settled = float(np.mean(list(RECOVERY.values())))
    densities, shares, errors, gaps = [], [], [], []
    for one in assay.specimens:
        planted = truth.loc[one.specimen]
        density = planted["per_um2"]
        if density == 0:
            print(f"{name}: {one.specimen}, a blank: {one.counts}, below {one.concentration.high:.3g}")
            continue
        # The microscopes see different areas, so that what settled on average lies between their recoveries.
        bounds = one.concentration_by_grid
        densities.append(bounds.low <= density * settled <= bounds.high)
        errors.append(one.concentration.value / (density * settled) - 1)
        share = one.share_corrected or one.share_by_grid
        shares.append(share.low <= planted["share_full"] <= share.high)
        gaps.append(share.value - planted["share_full"])
    print(f"{name}: {sum(densities)} of {len(densities)} intervals of the concentration hold the planted one", end="; ")
    print(f"errors {np.mean(errors):+.1%} on average, {np.mean(np.abs(errors)):.1%} in size")
    print(f"{name}: {sum(shares)} of {len(shares)} intervals of the share of full hold the planted one", end="; ")
    print(f"errors {np.mean(gaps):+.3f} on average, {np.mean(np.abs(gaps)):.3f} in size")
    for key in ("slope", "agreement", "detection", "repeatability"):
        print(f"{name}: {key}: {getattr(assay, key)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--lots", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a new folder for the fields")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = wanted.keep or Path(temporary) / "lots"
        path = make_phantom("vaccine", folder, num_patients=wanted.lots, seed=wanted.seed)
        table = pd.read_csv(
            path, keep_default_na=False, na_values={column: [""] for column in ("y0", "x0", "y1", "x1")}
        )
        truth = pd.read_csv(folder / "preparations.csv").set_index("specimen")
        blanks = truth.index[truth["per_um2"] == 0].tolist()
        labels = ("aggregate", "damaged", "empty", "full")
        strangers = add_strangers(folder, wanted.seed)
        design = table.drop(columns=["label", "y0", "x0", "y1", "x1"]).drop_duplicates()
        more = pd.DataFrame({"image": strangers}).assign(**design.iloc[0].drop("image").to_dict())
        pd.concat([design, more]).to_csv(folder / "fields.csv", index=False)
        found = assay_fields(wanted.run, folder / "fields.csv", kind="full", blanks=blanks)
        describe(
            "planted boxes", analyse_fields(planted_fields(table, labels), labels, kind="full", blanks=blanks), truth
        )
        describe("detector", found.assay, truth)
        refused = found.fields[found.fields["refused"] != ""]
        right = refused["image"].isin(strangers)
        print(f"refused: {right.sum()} of {len(strangers)} strangers and {(~right).sum()} of {len(design)} fields")
        print(refused[["image", "refused"]].to_string(index=False))


if __name__ == "__main__":
    main()
