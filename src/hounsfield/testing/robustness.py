"""How a run's figures fall as its test images get worse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import ImageError, PreprocessingError, RunError, UsageError
from hounsfield.evaluation import Difference, Estimate
from hounsfield.images import Image
from hounsfield.inference import Engine, open_engine
from hounsfield.inference.novelty import described
from hounsfield.inference.views import require_single_images, run
from hounsfield.preprocessing.corruption import CORRUPTIONS, SEVERITIES, corrupted, corruption_names
from hounsfield.progress import Progress, silent
from hounsfield.tasks import MODEL_NAMES
from hounsfield.testing.base import Degraded, Shown
from hounsfield.testing.cohort import tested_cohort
from hounsfield.testing.table import TESTS

# Enough for half-widths of two points; more would only take longer.
MAX_IMAGES = 1000


@dataclass(frozen=True, eq=False)
class Condition:
    """The figures of one condition of the images.

    Attributes:
        strength: of the corruption, in its own unit; ``None`` for images as they are.
        estimates: figures with their intervals.
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
        shown: figures by name, the main one first.
        clean: of the images as they are.
        curves: corruption → one condition a severity, from 1 to 5.
        example: one of the images.
        facts: what was tested, for the file.
        notes: what a reader must know.
    """

    shown: Mapping[str, Shown]
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
        figures = {name: {"title": each.title, "share": each.share} for name, each in self.shown.items()}
        return {
            **self.facts,
            "figures": figures,
            "clean": self.clean.to_dict(),
            "corruptions": curves,
            "notes": list(self.notes),
        }

    @property
    def main(self) -> str:
        """The name of the main figure."""
        return next(iter(self.shown))

    def lines(self) -> list[str]:
        """The main findings in words."""
        figure = self.shown[self.main]
        sign, change = (-1, "loss") if figure.worse == "lower" else (1, "increase")
        losses = {name: sign * self._mean_change(name) for name in self.curves}
        ranked = sorted(losses, key=lambda name: -losses[name])
        told = ", ".join(
            f"{_spoken(CORRUPTIONS[name].title)} {losses[name]:{'.3f' if figure.share else '.3g'}}" for name in ranked
        )
        return [
            f"Robustness: mean {change} of {_spoken(figure.title)} over the five severities, largest first: {told}.",
            *(self._harm(name, ranked) for name, each in self.shown.items() if each.worse and self._is_known(name)),
        ]

    def _is_known(self, name: str) -> bool:
        return name in self.clean.estimates

    def _mean_change(self, corruption: str) -> float:
        before = self.clean.estimates[self.main].value
        return float(np.mean([each.estimates[self.main].value - before for each in self.curves[corruption]]))

    def _harm(self, name: str, ranked: list[str]) -> str:
        """From which severity on a figure is worse, for the corruptions in this order."""
        worse = self.shown[name].worse
        firsts = {each: self._first_harm(name, each) for each in ranked}
        harmed = "; ".join(
            f"{_spoken(CORRUPTIONS[each].title)} severity {first}" for each, first in firsts.items() if first
        )
        others = ", ".join(_spoken(CORRUPTIONS[each].title) for each, first in firsts.items() if not first)
        side = "below" if worse == "lower" else "above"
        told = (
            f"{self.shown[name].title} significantly {worse} (interval of the paired difference {side} 0) from: "
            f"{harmed or 'no severity'}"
        )
        return f"{told}; not for {others}." if others else f"{told}."

    def _first_harm(self, name: str, corruption: str) -> int | None:
        """The severity from which on each is significantly worse: a single one may be chance, among so many."""
        conditions = self.curves[corruption]
        spared = [severity for severity, each in enumerate(conditions, 1) if not self.is_harmed(name, each)]
        first = max(spared, default=0) + 1
        return first if first <= len(conditions) else None

    def is_harmed(self, name: str, condition: Condition) -> bool:
        """Whether a figure is significantly worse than that of the images as they are."""
        change = condition.changes[name]
        return change.high < 0 if self.shown[name].worse == "lower" else change.low > 0


def _spoken(title: str) -> str:
    """A title within a sentence."""
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
    """Predict test images under each corruption and severity, and measure what ``TESTS`` says of the family.

    Args:
        run: the run folder.
        data: other DATA; ``None`` for the test rows of the run's own.
        max_images: of more, so many are drawn at random.
        seed: of the corruptions, and of the part.
        confidence: nominal coverage of the intervals.
        progress: told of the images.

    Raises:
        RunError, BundleError, CohortError: as :func:`evaluate_run` does; no image could be predicted.
        UsageError: the bundle judges several images together, or is of a family that is not tested so.
    """
    bundle = Bundle.load(run)
    degraded = _degraded(bundle)
    require_single_images(bundle, "A test of robustness")
    tested = tested_cohort(run, data, bundle, "robustness")
    cohort, note = tested.cohort, tested.note
    if len(cohort) > max_images:
        cohort = cohort.subset(np.sort(np.random.default_rng(seed).permutation(len(cohort))[:max_images]))
        note += f" {max_images:,} of them were drawn at random."
    engine, example = open_engine(bundle), _example(bundle, cohort)
    possible = corruption_names(len(bundle.input_shape) - 1)
    names = [name for name in possible if _fits(bundle, corrupted(example, name, SEVERITIES[-1]))]
    conditions = [(None, 0), *product(names, SEVERITIES)]
    outputs, unlike, rows = _predict(bundle, engine, cohort, conditions, seed, progress)
    left_out = len(cohort) - len(rows)
    cohort = cohort.subset(rows)
    measured = degraded.measure(bundle, cohort, outputs, confidence)
    figures = {
        (name, severity): Condition(
            None if name is None else CORRUPTIONS[name].strengths[severity - 1],
            *measured[number],
            None if unlike is None else float(unlike[:, number].mean()),
        )
        for number, (name, severity) in enumerate(conditions)
    }
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
        "task": bundle.task,
        "labels": list(bundle.labels),
        "images": len(cohort),
        "patients": int(cohort.table["patient"].nunique()) if cohort.knows_patients else None,
        "seed": seed,
        "engine": engine.description,
    }
    return Robustness(degraded.shown, figures[None, 0], curves, example, facts, tuple(notes))


def _degraded(bundle: Bundle) -> Degraded:
    found = TESTS[bundle.family].DEGRADED
    if found is None:
        raise UsageError(
            f"{bundle.folder} is a {MODEL_NAMES[bundle.family]}, and how its figures change with worse images is not "
            "measured. Give another run."
        )
    return found


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
    """Outputs (images, conditions, outputs), which are unlike (images, conditions), and rows (images,)."""
    novelty = bundle.novelty
    found, unlike, rows = [], [], []
    for row, batch in _prepared(bundle, cohort, conditions, seed):
        outputs = run(engine, batch)
        found.append(outputs.probabilities)
        if novelty is not None:
            unlike.append(novelty.unlike(described(novelty, batch, outputs.features)))
        rows.append(row)
        progress("predicting corrupted images", row + 1, len(cohort))
    return np.stack(found), np.stack(unlike) if unlike else None, np.array(rows)


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
