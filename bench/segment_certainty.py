"""Do a segmenter's own promises hold on new patients: predicted Dice, volumes, their change, unusual images?

    python bench/segment_certainty.py RUN [--patients 60] [--intervals]
    python bench/segment_certainty.py RUN --data DATA

RUN was trained on phantom:ct-organs. New patients are simulated with another seed, each at two visits between which the
lesion grows by a known factor; every volume is predicted from its files, and what was predicted is compared with the
planted truth: the Dice that masks were predicted to have, the 90 % intervals of volumes, and those of their change;
the first two also with 4 to 20 of the new patients as validation patients, drawn 100 times, on the others.
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

from hounsfield.cohorts import MaskStore, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.mask_uncertainty import MaskUncertainty
from hounsfield.evaluation.misorientation import turns
from hounsfield.images import Image, reorient
from hounsfield.inference import BadImage
from hounsfield.inference.masks import Segmenter
from hounsfield.phantoms import make_phantom
from hounsfield.progress import silent
from hounsfield.testing.masks import predict, table

UNUSUAL = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--intervals", action="store_true", help="leave out unusual volumes")
    parser.add_argument("--data", help="the data of the run, of which the test volumes are predicted")
    parser.add_argument("--images", help="where its images are")
    options = parser.parse_args()
    segmenter = Segmenter(options.run)
    if options.data:
        cohort = load_request(
            DataRequest(options.data, images=options.images), labels=segmenter.bundle.labels, task="segmentation"
        )
        trained = pd.read_parquet(options.run / "cohort.parquet")
        tested = set(trained.loc[trained["split"] == "test", "image"])
        rows = [row for row, image in enumerate(cohort.table["image"]) if image in tested]
        orientations(segmenter, [cohort.read(row) for row in rows])
        return
    with tempfile.TemporaryDirectory() as folder:
        new = make_phantom("ct-organs", Path(folder) / "new", seed=7, num_patients=options.patients)
        found, images = predicted(segmenter, new)
        told(found)
        changes(found, segmenter)
        drawn_anew(found, segmenter.bundle.labels)
        if options.intervals:
            return
        other = make_phantom("ct-nodule", Path(folder) / "chest", seed=7, num_patients=UNUSUAL)
        chest = load_request(DataRequest(str(other)))
        flagged(segmenter, "volumes of the chest", [chest.read(row) for row in range(min(len(chest), UNUSUAL))])
    orientations(segmenter, images)


def predicted(segmenter: Segmenter, path: Path) -> tuple[pd.DataFrame, list[Image]]:
    """One row per volume and label: what was predicted, and the truth."""
    bundle = segmenter.bundle
    kept = bundle.kept(MaskUncertainty)
    assert kept is not None
    cohort = load_request(DataRequest(str(path)), labels=bundle.labels, task="segmentation")
    store = MaskStore.build(cohort, bundle.pipeline)
    raw = predict(segmenter, store, np.arange(len(store)), silent, "new")
    found = table(store.cohort, raw, bundle)
    ends = [kept.volume(row % len(bundle.labels), size, 0.9)[1:] for row, size in enumerate(found["size_predicted"])]
    found[["size_low", "size_high"]] = ends
    return found.assign(expected=raw.cases["expected"]), [store.cohort.read(row) for row in range(len(store))]


def told(found: pd.DataFrame) -> None:
    print(
        "| label | volumes | Dice | predicted Dice off by | Dice in its 90 % interval | its width | "
        "volume in its 90 % interval |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for label, part in [*found.groupby("label", sort=False), ("all", found)]:
        both = part.dropna(subset=["dice", "dice_predicted"])
        error, width = (both["dice"] - both["dice_predicted"]).abs().mean(), both["dice_high"] - both["dice_low"]
        held = both["dice"].between(both["dice_low"], both["dice_high"]).mean()
        drawn = part[(part["size_true"] > 0) | (part["size_predicted"] > 0)]
        volume = drawn["size_true"].between(drawn["size_low"], drawn["size_high"]).mean()
        print(
            f"| {label} | {len(both)} | {both['dice'].mean():.3f} | {error:.3f} | {held:.1%} | {width.mean():.3f} | "
            f"{volume:.1%} |"
        )


def drawn_anew(found: pd.DataFrame, labels: tuple[str, ...], draws: int = 100) -> None:
    """The same from other validation patients: some of the new ones at random, judged on the others."""
    generator = np.random.default_rng(0)
    patients = found["patient"].unique()
    for count in (4, 8, 12, 20):
        rows = []
        for _ in range(draws):
            known = found["patient"].isin(generator.choice(patients, count, replace=False))
            of_images = found.loc[known, "patient"].to_numpy()[:: len(labels)]
            kept = MaskUncertainty.of(found[known], of_images, "ml")
            for number, case in enumerate(found[~known].itertuples()):
                dice = kept.predicted_dice(number % len(labels), case.expected, 0.9)
                size = kept.volume(number % len(labels), case.size_predicted, 0.9)
                rows.append(
                    (
                        np.nan if dice is None or np.isnan(case.dice) else dice.low <= case.dice <= dice.high,
                        np.nan if dice is None or np.isnan(case.dice) else abs(dice.value - case.dice),
                        np.nan if dice is None else dice.high - dice.low,
                        size.low <= case.size_true <= size.high
                        if np.isfinite(size.high) and max(case.size_true, case.size_predicted) > 0
                        else np.nan,
                    )
                )
        values = np.array(rows, float).reshape(draws, -1, len(labels), 4)
        held, error, width, volume = np.nanmean(values, axis=(0, 1, 2))
        of_labels = np.nanmean(values[..., 0], axis=(0, 1))
        of_sizes = np.nanmean(values[..., 3], axis=(0, 1))
        print(
            f"{count} patients: Dice in its interval {held:.1%} ({of_labels.min():.1%} to {of_labels.max():.1%} by "
            f"label), off by {error:.3f}, width {width:.3f}; volume {volume:.1%} ({of_sizes.min():.1%} to "
            f"{of_sizes.max():.1%})"
        )


def changes(found: pd.DataFrame, segmenter: Segmenter) -> None:
    kept = segmenter.bundle.kept(MaskUncertainty)
    assert kept is not None
    for index, label in enumerate(segmenter.bundle.labels):
        held, errors, planted = [], [], []
        for _, pair in found[found["label"] == label].groupby("patient"):
            if len(pair) != 2 or not pair["size_true"].all():
                continue
            true, sizes = np.diff(pair["size_true"])[0], pair["size_predicted"].to_list()
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
