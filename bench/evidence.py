"""Do the explanations point at the finding, and do they need what the network has learned?

    python bench/evidence.py [--seed 1] [--patients 400] [--folder FOLDER]

Trains on a chest phantom at effort standard, whose opacities have known boxes, and plays the pointing game on its test
images with an opacity: does the largest evidence lie in the box? Beside each method stands the same method on networks
with all their weights shuffled. Chance, for either, is how often its maps point into the boxes of other patients.
Deletion and insertion are mean probabilities while pixels are hidden or shown in the map's order, beside a random
order. Intervals are Wilson's, by patient.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield import train
from hounsfield.bundle import Bundle, save_bundle
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.proportions import clustered_proportion
from hounsfield.explanation import (
    Explainer,
    deletion_curve,
    insertion_curve,
    place,
    points_into,
    randomised,
    similarity,
)
from hounsfield.images import Image, read_image
from hounsfield.phantoms import make_phantom

BOX = ["y0", "x0", "y1", "x1"]
METHODS = (
    ("grad_cam", "fine"),
    ("grad_cam", "last"),
    ("activation", "fine"),
    ("integrated_gradients", "fine"),
    ("occlusion", "fine"),
)
SHUFFLES = 3
CURVES = 24  # images whose deletion and insertion are followed


@dataclass(frozen=True)
class Cases:
    """Test images with an opacity."""

    images: list[Image]
    boxes: np.ndarray
    patients: np.ndarray
    called: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="of the cohort; settings were chosen on seed 0")
    parser.add_argument("--patients", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="keeps cohort and run; a run that is there is not trained again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        run = trained(folder, arguments.seed, arguments.patients)
        cases = test_cases(folder / "chest", run)
        shuffled = [shuffle(run, folder / f"shuffled{seed}", seed) for seed in range(SHUFFLES)]
        share = ((cases.boxes[:, 2:] - cases.boxes[:, :2]).prod(axis=1) / np.prod(cases.images[0].shape)).mean()
        print(
            f"{len(cases.images)} test images with an opacity, {cases.called.sum()} of them called so; a box is on "
            f"average {share:.3f} of its image."
        )
        print("| method | all | called so | chance | shuffled networks | their chance | likeness | s/image |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for method, layer in METHODS:
            report(cases, run, shuffled, method, layer)
        print("| method | deletion | insertion |\n| --- | --- | --- |")
        for method, layer in METHODS:
            follow(cases, run, method, layer)


def trained(folder: Path, seed: int, patients: int) -> Path:
    run = folder / "run"
    if not run.is_dir():
        make_phantom("chest", folder / "chest", seed=seed, num_patients=patients)
        finished = train(str(folder / "chest"), run, effort="standard", seed=0)
        auc = finished.metrics["test"]["auc"]
        print(f"Test AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}).")
    return run


def test_cases(cohort: Path, run: Path) -> Cases:
    said = pd.read_csv(run / "predictions.csv")
    truth = pd.read_csv(cohort / "cohort.csv")[["image", *BOX]].dropna()
    rows = said[said["split"] == "test"].merge(truth, on="image")
    images = [read_image(cohort / image) for image in rows["image"]]
    called = (rows["prediction"] == "opacity").to_numpy()
    return Cases(images, rows[BOX].to_numpy(int), rows["patient"].to_numpy(), called)


def shuffle(run: Path, folder: Path, seed: int) -> Path:
    """The bundle of a run with a network that has learned nothing."""
    bundle = Bundle.load(run)
    network = randomised(bundle.network(), seed)
    save_bundle(folder, network, pipeline=bundle.pipeline, labels=bundle.labels, task=bundle.task)
    return folder


def heats(cases: Cases, bundle: Path, method: str, layer: str, engine: str = "auto") -> list[np.ndarray]:
    explainer = Explainer(bundle, method, layer=layer, engine=engine)
    return [explainer.explain_image(image).heat for image in cases.images]


def report(cases: Cases, run: Path, shuffled: list[Path], method: str, layer: str) -> None:
    started = time.perf_counter()
    maps = heats(cases, run, method, layer)
    seconds = (time.perf_counter() - started) / len(maps)
    hits, chance = play(cases, maps)
    cells = [interval(hits, cases, np.ones(len(hits), bool)), interval(hits, cases, cases.called), f"{chance:.3f}"]
    without = [heats(cases, folder, method, layer, "keras") for folder in shuffled]
    games = [play(cases, found) for found in without]
    lost, expected = np.mean([found.mean() for found, _ in games]), np.mean([by for _, by in games])
    alike = np.mean([similarity(*pair) for found in without for pair in zip(maps, found, strict=True)])
    cells += [f"{lost:.3f}", f"{expected:.3f}", f"{alike:.2f}", f"{seconds:.2f}"]
    print(f"| {method}, {layer} | {' | '.join(cells)} |", flush=True)


def play(cases: Cases, maps: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Which maps point into their own box, and how often they point into a box of another patient's image."""
    points = np.array([[points_into(heat, box) for box in cases.boxes] for heat in maps])
    others = cases.patients[:, np.newaxis] != cases.patients
    return np.diag(points), float(points[others].mean())


def interval(hits: np.ndarray, cases: Cases, chosen: np.ndarray) -> str:
    clusters = make_clusters(np.ones((len(hits), 1), bool), cases.patients)
    found = clustered_proportion(hits > 0.5, chosen, clusters)
    return f"{hits[chosen].mean():.3f} ({found.low:.3f}–{found.high:.3f})"


def follow(cases: Cases, run: Path, method: str, layer: str) -> None:
    """Mean areas of the curves for images that are called so, beside those of a random order."""
    explainer = Explainer(run, method, layer=layer)
    bundle, generator = explainer.bundle, np.random.default_rng(0)

    def probability(batch: np.ndarray) -> np.ndarray:
        return explainer.predictor.run(batch).probabilities[:, 0]

    areas = []
    for row in np.flatnonzero(cases.called)[:CURVES]:
        pixels = bundle.pipeline.apply(cases.images[row]).pixels
        grid = explainer.method.evidence(pixels, explainer.target("opacity"))
        orders = (place(grid, pixels.shape[:-1], pixels.shape[:-1]), generator.random(pixels.shape[:-1]))
        areas.append(
            [curve(probability, pixels, order).area for curve in (deletion_curve, insertion_curve) for order in orders]
        )
    deletion, random_deletion, insertion, random_insertion = np.mean(areas, axis=0)
    print(
        f"| {method}, {layer} | {deletion:.3f} (random {random_deletion:.3f}) | {insertion:.3f} (random "
        f"{random_insertion:.3f}) |",
        flush=True,
    )


if __name__ == "__main__":
    main()
