"""How a run's metrics fall as its test images get worse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import ImageError, PreprocessingError, RunError
from hounsfield.evaluation import Difference, Estimate, Outcomes, as_outcomes, compare, evaluate_outcomes
from hounsfield.images import Image
from hounsfield.inference import Engine, Predictor, open_engine
from hounsfield.inference.novelty import described
from hounsfield.inference.views import require_single_images, run
from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES, corrupted, corruption_names
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Family
from hounsfield.testing.cohort import count_use, tested_cohort

# Enough for half-widths of two points; more would only take longer.
MAX_IMAGES = 1000
REPLICATES = 500
SHOWN = ("auc", "accuracy")
# Whose bundles can be tested so.
FAMILIES: tuple[Family, ...] = (Predictor.FAMILY,)


@dataclass(frozen=True, eq=False)
class Condition:
    """The figures of one condition of the images.

    Attributes:
        strength: of the corruption, in its own unit; ``None`` for images as they are.
        estimates: AUC and accuracy with their intervals.
        changes: their paired differences from images as they are; empty for these.
        unlike: share of the images that lie beyond the bundle's limit; ``None`` where it has none.
    """

    strength: float | None
    estimates: dict[str, Estimate]
    changes: dict[str, Difference]
    unlike: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        changes = {
            f"{name}_change": {key: value if math.isfinite(value) else None for key, value in each._asdict().items()}
            for name, each in self.changes.items()
        }
        figures = {name: estimate.to_dict() for name, estimate in self.estimates.items()}
        return {"strength": self.strength, **figures, **changes, "ood_score": self.unlike}


@dataclass(frozen=True, eq=False)
class Robustness:
    """The figures of a run under every corruption.

    Attributes:
        clean: of the images as they are.
        curves: corruption → one condition a severity, from 1 to 5.
        example: one of the images.
        facts: what was tested, for the file.
        notes: what a reader must know.
    """

    clean: Condition
    curves: dict[str, tuple[Condition, ...]]
    example: Image
    facts: dict[str, Any]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The content of ``robustness.json``."""
        curves = {
            name: {
                "title": CORRUPTIONS[name].title,
                "unit": CORRUPTIONS[name].unit,
                "severities": [condition.to_dict() for condition in conditions],
            }
            for name, conditions in self.curves.items()
        }
        return {**self.facts, "clean": self.clean.to_dict(), "corruptions": curves, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """The main findings in words."""
        losses = {name: _mean_loss(self.clean, conditions) for name, conditions in self.curves.items()}
        ranked = sorted(losses, key=lambda name: -losses[name])
        told = ", ".join(f"{_spoken(name)} {losses[name]:.3f}" for name in ranked)
        firsts = {name: _first_harm(self.curves[name]) for name in ranked}
        harmed = "; ".join(f"{_spoken(name)} severity {first}" for name, first in firsts.items() if first)
        others = ", ".join(_spoken(name) for name, first in firsts.items() if not first)
        lower = f"Significantly lower (interval of the paired difference below 0) from: {harmed or 'no severity'}"
        return [
            f"Robustness: mean loss of AUC over the five severities, largest first: {told}.",
            f"{lower}; not for {others}." if others else f"{lower}.",
        ]


def _mean_loss(clean: Condition, conditions: tuple[Condition, ...]) -> float:
    return float(np.mean([clean.estimates["auc"].value - each.estimates["auc"].value for each in conditions]))


def _first_harm(conditions: tuple[Condition, ...]) -> int | None:
    """The severity from which on each is significantly lower: a single one may be chance, among so many."""
    spared = [severity for severity, each in enumerate(conditions, 1) if not each.changes["auc"].high < 0]
    first = max(spared, default=0) + 1
    return first if first <= len(conditions) else None


def _spoken(name: str) -> str:
    title = CORRUPTIONS[name].title
    return title if title.isupper() else title.lower()


def evaluate_robustness(
    run: Path | str,
    data: DataRequest | str | None = None,
    *,
    max_images: int = MAX_IMAGES,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Robustness:
    """Predict test images under each corruption and severity, and measure AUC and accuracy.

    Args:
        run: the run folder.
        data: other DATA; ``None`` for the test rows of the run's own.
        max_images: of more, so many are drawn at random.
        seed: of the corruptions, and of the part.
        confidence: nominal coverage of the intervals.
        progress: told of the images.

    Raises:
        RunError, BundleError, CohortError: as :func:`evaluate_run` does; no image could be predicted.
        UsageError: the bundle judges several images together.
    """
    bundle = Bundle.load(run)
    require_single_images(bundle, "A test of robustness")
    task = bundle.classifier_task
    cohort, note = tested_cohort(run, data, bundle)
    count_use(run, data, "robustness")
    if len(cohort) > max_images:
        cohort = cohort.subset(np.sort(np.random.default_rng(seed).permutation(len(cohort))[:max_images]))
        note += f" {max_images:,} of them were drawn at random."
    engine, example = open_engine(bundle), _example(bundle, cohort)
    possible = corruption_names(len(bundle.input_shape) - 1)
    names = [name for name in possible if _fits(bundle, corrupted(example, name, SEVERITIES[-1]))]
    conditions = [(None, 0), *product(names, SEVERITIES)]
    scores, unlike, rows = _predict(bundle, engine, cohort, conditions, seed, progress)
    left_out = len(cohort) - len(rows)
    cohort = cohort.subset(rows)
    figures = _conditions(bundle, cohort, scores, unlike, conditions, confidence)
    curves = {name: tuple(figures[name, severity] for severity in SEVERITIES) for name in names}
    notes = [note]
    if left_out:
        notes.append(f"{left_out} images could not be used and were left out.")
    notes += [
        f"{CORRUPTIONS[name].title} is left out: the pipeline does not bring such images to one size."
        for name in possible
        if name not in names
    ]
    facts = {
        "task": task,
        "labels": list(bundle.labels),
        "images": len(cohort),
        "patients": int(cohort.table["patient"].nunique()) if cohort.knows_patients else None,
        "seed": seed,
        "engine": engine.description,
    }
    return Robustness(figures[None, 0], curves, example, facts, tuple(notes))


def _example(bundle: Bundle, cohort: Cohort) -> Image:
    """The first image that can be prepared.

    Raises:
        RunError: there is none.
    """
    for image in cohort.stream():
        if isinstance(image, Image) and _fits(bundle, image):
            return image
    raise RunError(
        f"No test image of {len(cohort):,} can be prepared as the network's input. Look at them with `hounsfield "
        "inspect`."
    )


def _fits(bundle: Bundle, image: Image) -> bool:
    try:
        return bundle.pipeline.apply(image).pixels.shape == bundle.input_shape
    except (ImageError, PreprocessingError):
        return False


def _predict(
    bundle: Bundle,
    engine: Engine,
    cohort: Cohort,
    conditions: list[tuple[str | None, int]],
    seed: int,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Scores (images, conditions, outputs), which are unlike (images, conditions), and rows (images,)."""
    novelty = bundle.novelty
    scores, unlike, rows = [], [], []
    for row, batch in _prepared(bundle, cohort, conditions, seed):
        outputs = run(engine, batch)
        scores.append(bundle.calibrated(outputs.probabilities))
        if novelty is not None:
            unlike.append(novelty.unlike(described(novelty, batch, outputs.features)))
        rows.append(row)
        progress("predicting corrupted images", row + 1, len(cohort))
    return np.stack(scores), np.stack(unlike) if unlike else None, np.array(rows)


def _prepared(
    bundle: Bundle, cohort: Cohort, conditions: list[tuple[str | None, int]], seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Row and the network's input under every condition, (conditions, *input_shape), of each usable image."""

    def prepare(item: tuple[int, Image | ImageError]) -> tuple[int, np.ndarray | None]:
        row, image = item
        if isinstance(image, ImageError) or not _fits(bundle, image):
            return row, None
        versions = [
            image if name is None else corrupted(image, name, severity, seed=seed_of(seed, row))
            for name, severity in conditions
        ]
        return row, np.stack([bundle.pipeline.apply(version).pixels for version in versions])

    images = enumerate(cohort.stream())
    for row, batch in ordered_map(prepare, images):
        if batch is not None:
            yield row, batch


def seed_of(seed: int, row: int) -> int:
    """Another seed for each image; otherwise all would be rotated the same way."""
    return int(np.random.SeedSequence((seed, row)).generate_state(1)[0])


def _conditions(
    bundle: Bundle,
    cohort: Cohort,
    scores: np.ndarray,
    unlike: np.ndarray | None,
    conditions: list[tuple[str | None, int]],
    confidence: float,
) -> dict[tuple[str | None, int], Condition]:
    """The figures under each condition."""
    groups = cohort.table["patient"].to_numpy() if cohort.knows_patients else None
    options: dict[str, Any] = {"groups": groups, "num_replicates": REPLICATES, "confidence": confidence}
    truth = cohort.targets()
    clean: Outcomes | None = None
    found = {}
    for number, (name, severity) in enumerate(conditions):
        answers = as_outcomes(
            truth, scores[:, number], labels=bundle.labels, task=bundle.classifier_task, threshold=bundle.threshold
        )
        estimates = evaluate_outcomes(answers, **options)
        changes = {} if clean is None else compare(clean, answers, **options)
        clean = clean or answers
        found[name, severity] = Condition(
            None if name is None else CORRUPTIONS[name].strengths[severity - 1],
            {metric: estimates[metric] for metric in SHOWN},
            {metric: changes[metric] for metric in SHOWN if changes},
            None if unlike is None else float(unlike[:, number].mean()),
        )
    return found
