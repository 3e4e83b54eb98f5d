"""Are figures of masks those of other tools, and do their intervals hold what they promise?

    python bench/segment_metrics.py tools [--pairs 1000]
    python bench/segment_metrics.py intervals [--draws 400] [--misses 0.0333]

tools: random pairs of masks of both ranks (smooth, noise, single voxels, empty), spacings from .3 to 5 mm; each figure
of ours beside PyPI's surface-distance and MedPy (and SimpleITK for Dice and the Hausdorff distance), and these beside
each other. intervals: test sets are drawn from a population whose figures are known (300,000 images), several images
of a patient, and the share of draws whose 95 % interval holds the true figure is printed; with --misses this share of
structures is missed entirely, and six times as large a share of images without one gets one drawn.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd
import SimpleITK as sitk  # noqa: N813
import surface_distance
from medpy.metric import binary as medpy
from scipy import ndimage

from hounsfield.evaluation.segmentation import compare_masks
from hounsfield.evaluation.segmentation_assessment import assess_masks
from hounsfield.evaluation.segmentation_figures import FIGURES, label_columns
from hounsfield.evaluation.surfaces import surface_distances

SPACINGS = ((1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.3, 2.1, 1.7), (0.43, 0.43, 0.43), (1.5, 1.5, 3.0))
warnings.simplefilter("ignore", DeprecationWarning)


def pairs(count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        rank = 2 + number % 2
        shape = tuple(rng.integers(5, 28, rank))
        field = rng.normal(size=(2, *shape))
        field[1] = field[0] + rng.uniform(0.1, 1.5) * field[1]
        if smooth := rng.choice([0.0, 1.0, 2.5]):
            field = np.stack([ndimage.gaussian_filter(each, smooth) for each in field])
        masks = [each > np.quantile(each, rng.uniform(0.5, 0.97)) for each in field]
        if number % 10 == 0:
            masks[rng.integers(2)] = np.zeros(shape, bool)
        if number % 50 == 0:
            masks = [np.zeros(shape, bool)] * 2
        if number % 10 == 1:
            which = rng.integers(2)
            masks[which] = np.zeros(shape, bool)
            masks[which][tuple(rng.integers(0, shape))] = True
        yield masks[0], masks[1], SPACINGS[rng.integers(len(SPACINGS))][:rank]


def by_itk(true: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (true, predicted)]
    for image in images:
        image.SetSpacing([float(step) for step in spacing[::-1]])
    overlap, hausdorff = sitk.LabelOverlapMeasuresImageFilter(), sitk.HausdorffDistanceImageFilter()
    overlap.Execute(*images)
    hausdorff.Execute(*images)
    return {"dice": overlap.GetDiceCoefficient(), "hd": hausdorff.GetHausdorffDistance()}


def by_deepmind(true: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    found = surface_distance.compute_surface_distances(true, predicted, spacing)
    areas = [found["surfel_areas_gt"], found["surfel_areas_pred"]]
    distances = [found["distances_gt_to_pred"], found["distances_pred_to_gt"]]
    mean = sum(a @ d for a, d in zip(areas, distances, strict=True)) / sum(a.sum() for a in areas)
    return {
        "dice": surface_distance.compute_dice_coefficient(true, predicted),
        "hd": surface_distance.compute_robust_hausdorff(found, 100),
        "hd95": surface_distance.compute_robust_hausdorff(found, 95),
        "assd": mean,
        "nsd": surface_distance.compute_surface_dice_at_tolerance(found, 1.0),
    }


def by_medpy(true: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    return {
        "dice": medpy.dc(predicted, true),
        "hd": medpy.hd(predicted, true, spacing),
        "hd95": medpy.hd95(predicted, true, spacing),
        "assd": medpy.assd(predicted, true, spacing),
    }


def ours(true: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    found = compare_masks(true, predicted, spacing)
    found["hd"] = max(each.distances[-1] for each in surface_distances(true, predicted, spacing))
    return found


def tools(count: int) -> None:
    apart: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    empty = defaultdict(int)
    measures = {"ours": ours, "surface-distance": by_deepmind, "MedPy": by_medpy, "SimpleITK": by_itk}
    for true, predicted, spacing in pairs(count):
        if not (true.any() and predicted.any()):
            kind = "both empty" if true.any() == predicted.any() else "one empty"
            empty[kind, str(compare_masks(true, predicted, spacing))] += 1
            if kind == "one empty":
                dice = [medpy.dc(predicted, true), by_itk_dice(true, predicted)]
                assert dice == [0, 0] == [compare_masks(true, predicted, spacing)["dice"]] * 2
            continue
        found = {}
        for name, measure in measures.items():
            start = time.perf_counter()
            found[name] = measure(true, predicted, spacing)
            seconds[name] += time.perf_counter() - start
        names = list(found)
        for first in range(len(names)):
            for second in range(first + 1, len(names)):
                a, b = found[names[first]], found[names[second]]
                for figure in a.keys() & b.keys():
                    step = 1.0 if figure in {"dice", "nsd"} else float(np.linalg.norm(spacing))
                    apart[figure, names[first], names[second]].append(abs(a[figure] - b[figure]) / step)
    print(f"{count} pairs; distances as a share of a voxel's diagonal; {dict(seconds)} s")
    for (kind, figures), number in sorted(empty.items()):
        print(f"{number} pairs with {kind}: {figures}")
    print("| figure | between | median | 95 % | largest |\n| --- | --- | --- | --- | --- |")
    for (figure, first, second), values in sorted(apart.items()):
        low, high = np.quantile(values, [0.5, 0.95])
        print(f"| {figure} | {first} and {second} | {low:.2g} | {high:.2g} | {max(values):.2g} |")


def by_itk_dice(true: np.ndarray, predicted: np.ndarray) -> float:
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (true, predicted)))
    return float(overlap.GetDiceCoefficient())


def population(
    patients: int, per_patient: int, misses: float, rng: np.random.Generator
) -> tuple[pd.DataFrame, np.ndarray]:
    """Compared masks: Dice skewed, alike within a patient; one image in ten without the structure."""
    count = patients * per_patient
    of_case = np.repeat(np.arange(patients), per_patient)
    good = 1.8 + 0.5 * rng.normal(size=patients)[of_case] + 0.5 * rng.normal(size=count)
    dice = 1 / (1 + np.exp(-good))
    hd95 = 2 * np.exp(-0.8 * (good - 1.8) + 0.4 * rng.normal(size=count))
    true = np.exp(1 + 0.6 * rng.normal(size=count))
    predicted = true * np.exp(0.05 + 0.15 * rng.normal(size=patients)[of_case] + 0.1 * rng.normal(size=count))
    missed, absent = rng.random(count) < misses, rng.random(count) < 0.1
    drawn = absent & (rng.random(count) < 6 * misses)
    dice[missed | drawn], hd95[missed | drawn] = 0, np.inf
    predicted[missed], true[absent], predicted[absent & ~drawn] = 0, 0, 0
    dice[absent & ~drawn], hd95[absent & ~drawn] = np.nan, np.nan
    lesions = np.where(absent, 0, 1 + rng.poisson(1.5, count))
    found = rng.binomial(lesions, np.nan_to_num(dice))
    false = rng.poisson(0.3, count)
    columns = {
        "image": np.arange(count).astype(str),
        "label": "lesion",
        "dice": dice,
        "iou": dice / (2 - dice),
        "nsd": dice**0.7,
        "hd95": hd95,
        "assd": hd95 / 4,
        "size_true": true,
        "size_predicted": predicted,
        "lesions_true": lesions,
        "lesions_predicted": found + false,
        "lesions_found": found,
        "lesions_iou": 0.7 * found,
    }
    return pd.DataFrame(columns), of_case


def intervals(draws: int, misses: float) -> None:
    designs = [(30, 1), (30, 2), (100, 1), (100, 3)]
    shown: dict[str, list[str]] = {}
    for patients, per_patient in designs:
        cases, _ = population(300_000 // per_patient, per_patient, misses, np.random.default_rng(99))
        truth = true_figures(cases)
        held: dict[str, list[bool]] = defaultdict(list)
        for draw in range(draws):
            cases, of_case = population(patients, per_patient, misses, np.random.default_rng(draw))
            found = assess_masks(
                cases, labels=["lesion"], unit="ml", groups=of_case, num_replicates=600, seed=draw
            ).estimates
            for name, value in truth.items():
                each = found[name]
                if np.isfinite(each.low):
                    held[name].append(each.low <= value <= each.high)
        for name, each in held.items():
            shown.setdefault(name, []).append(f"{100 * np.mean(each):.1f} ({len(each)})")
    print("| figure | " + " | ".join(f"{p} patients, {n} each" for p, n in designs) + " |")
    print("| --- |" + " --- |" * len(designs))
    for name, cells in shown.items():
        print(f"| {name} | {' | '.join(cells)} |")


def true_figures(cases: pd.DataFrame) -> dict[str, float]:
    columns = label_columns({name: cases[name].to_numpy(float) for name in cases if name not in {"image", "label"}})
    ones = np.ones((len(cases), 1))
    return {f"{name}_lesion": float(figure.weighted(columns, ones)[0]) for name, figure in FIGURES.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["tools", "intervals"])
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--misses", type=float, default=0.0)
    options = parser.parse_args()
    if options.what == "tools":
        tools(options.pairs)
    else:
        intervals(options.draws, options.misses)
