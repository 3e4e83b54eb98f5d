"""Do a segmenter's own promises hold on new patients: predicted Dice, volumes, their change, unusual images?

    python bench/segment_certainty.py RUN [--patients 60]
    python bench/segment_certainty.py RUN --data DATA

RUN was trained on phantom:ct-organs. New patients are simulated with another seed, each at two visits between which the
lesion grows by a known factor; every volume is predicted from its files, and what was predicted is compared with the
planted truth: the Dice that masks were predicted to have, the 90 % intervals of volumes, and those of their change.
Then volumes of another region (phantom:ct-nodule) and volumes in each of the 47 other orientations (axes reversed and
exchanged) are predicted, and those flagged as out of distribution are counted. With DATA, as it was given to the
training of any RUN on volumes, its test volumes alone are predicted in these orientations.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts import load_request, read_mask
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.misorientation import turns
from hounsfield.evaluation.segmentation import compare_label_maps
from hounsfield.images import Image, reorient
from hounsfield.inference import BadImage
from hounsfield.inference.masks import Segmenter
from hounsfield.masks import label_sizes
from hounsfield.phantoms import make_phantom

UNUSUAL = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--data", help="the data of the run, of which the test volumes are predicted")
    parser.add_argument("--images", help="where its images are")
    options = parser.parse_args()
    segmenter = Segmenter(options.run)
    if options.data:
        cohort = load_request(
            DataRequest(options.data, images=options.images), labels=segmenter.bundle.labels, task="segmentation"
        )
        table = pd.read_parquet(options.run / "cohort.parquet")
        tested = set(table.loc[table["split"] == "test", "image"])
        rows = [row for row, image in enumerate(cohort.table["image"]) if image in tested]
        orientations(segmenter, [cohort.read(row) for row in rows])
        return
    with tempfile.TemporaryDirectory() as folder:
        table = make_phantom("ct-organs", Path(folder) / "new", seed=7, num_patients=options.patients)
        found, images = predicted(segmenter, table)
        told(found)
        changes(found, segmenter)
        other = make_phantom("ct-nodule", Path(folder) / "chest", seed=7, num_patients=UNUSUAL)
        chest = load_request(DataRequest(str(other)))
        flagged(segmenter, "volumes of the chest", [chest.read(row) for row in range(min(len(chest), UNUSUAL))])
    orientations(segmenter, images)


def predicted(segmenter: Segmenter, table: Path) -> tuple[pd.DataFrame, list[Image]]:
    """One row per volume and label: what was predicted, and the truth."""
    labels = segmenter.bundle.labels
    cohort = load_request(DataRequest(str(table)), labels=labels, task="segmentation")
    rows, images = [], []
    for row in range(len(cohort)):
        image = cohort.read(row)
        images.append(image)
        (prediction,) = segmenter.predict(image)
        true = np.asarray(read_mask(cohort, row, image).pixels)
        figures = compare_label_maps(true, np.asarray(prediction.mask.pixels), image.spacing, labels=labels)
        sizes = label_sizes(true, len(labels), image.spacing)
        for index, label in enumerate(labels):
            dice, size = prediction.dice[label], prediction.sizes[label]
            rows.append(
                {
                    "patient": cohort.table["patient"].iloc[row],
                    "label": label,
                    "dice": figures[index]["dice"],
                    "size_true": sizes[index],
                    **{f"size_{name}": value for name, value in zip(("found", "low", "high"), size, strict=True)},
                    **({} if dice is None else {f"dice_{name}": getattr(dice, name) for name in dice._fields}),
                }
            )
    return pd.DataFrame(rows), images


def told(found: pd.DataFrame) -> None:
    print(
        "| label | volumes | Dice | predicted Dice off by | Dice in its 90 % interval | volume in its 90 % interval |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    groups = [*found.groupby("label", sort=False), ("all", found)]
    for label, part in groups:
        both = part.dropna(subset=["dice", "dice_value"])
        error = (both["dice"] - both["dice_value"]).abs().mean()
        held = both["dice"].between(both["dice_low"], both["dice_high"]).mean()
        drawn = part[(part["size_true"] > 0) | (part["size_found"] > 0)]
        volume = drawn["size_true"].between(drawn["size_low"], drawn["size_high"]).mean()
        print(f"| {label} | {len(both)} | {both['dice'].mean():.3f} | {error:.3f} | {held:.1%} | {volume:.1%} |")


def changes(found: pd.DataFrame, segmenter: Segmenter) -> None:
    kept = segmenter.bundle.kept(MaskUncertainty)
    assert kept is not None
    for index, label in enumerate(segmenter.bundle.labels):
        held, errors, planted = [], [], []
        for _, pair in found[found["label"] == label].groupby("patient"):
            if len(pair) != 2 or not pair["size_true"].all():
                continue
            true, sizes = np.diff(pair["size_true"])[0], pair["size_found"].to_list()
            change = kept.change(index, *sizes, 0.9)
            held.append(change.low <= true <= change.high)
            errors.append(abs(change.value - true))
            planted.append(abs(true))
        if held:
            inside = f"{sum(held)} of {len(held)} changes lie in their 90 % intervals ({np.mean(held):.1%})"
            print(
                f"{label}: {inside}; planted {np.median(planted):.3g} ml, off by {np.median(errors):.3g} ml (medians)"
            )


def orientations(segmenter: Segmenter, images: list[Image]) -> None:
    """Flags of volumes as they are, and in every other orientation, as if their files were wrong."""
    images = [reorient(each) for each in images]
    flagged(segmenter, "volumes as they are", images)
    kept = segmenter.bundle.novelty
    if kept is not None and kept.misorientation is not None:
        print(kept.misorientation.describe())
    least, total, every = 1.0, 0, 0
    for turn in turns(3):
        # The geometry says what it said.
        changed = [
            Image(
                np.ascontiguousarray(turn(each.pixels[None, ..., 0])[0][..., None]),
                each.spacing,
                each.affine,
                each.modality,
            )
            for each in images[:UNUSUAL]
        ]
        name = f"axes {turn.axes}" * (turn.axes != (0, 1, 2)) + f" reversed along {turn.mirrored}" * bool(turn.mirrored)
        found = flagged(segmenter, name.strip(), changed)
        least, total, every = min(least, found / len(changed)), total + found, every + len(changed)
    print(f"all other orientations: {total} of {every} flagged, in each at least {least:.1%}")


def flagged(segmenter: Segmenter, name: str, images: list[Image]) -> int:
    results = list(segmenter.stream(images))
    good = [each for each in results if not isinstance(each, BadImage)]
    unlike = sum(bool(each.out_of_distribution) for each in good)
    lying = sum("orientation" in each.flags for each in good)
    print(f"{name}: {unlike} of {len(good)} flagged, {lying} by their orientation, {len(results) - len(good)} refused")
    return unlike


if __name__ == "__main__":
    main()
