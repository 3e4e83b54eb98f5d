"""The network of a bundle that labels images, run on prepared images of a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, Store
from hounsfield.inference import Engine
from hounsfield.inference.appearance import appearances
from hounsfield.inference.prediction import weight_columns
from hounsfield.inference.views import Views, run, together
from hounsfield.progress import Progress

BATCH = 64


@dataclass(frozen=True, eq=False)
class EngineRun:
    """The network's outputs for some rows, in their order.

    Attributes:
        rows: (n,) of the store.
        probabilities: (n, outputs), the network's own, before any scaling.
        features: (n, features).
        appearance: (n, figures) of the prepared images; of a sample of several the mean of theirs.
        weights: of each row, how much each image of its sample counts; ``None`` where images are judged one by one.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    appearance: np.ndarray
    weights: tuple[np.ndarray, ...] | None = None

    @property
    def descriptions(self) -> dict[str, np.ndarray]:
        """What novelty is judged by."""
        return {"features": self.features, "appearance": self.appearance}

    @classmethod
    def join(cls, parts: Sequence[EngineRun]) -> EngineRun:
        """Several runs as one, whose rows ascend from part to part."""
        arrays = ("rows", "probabilities", "features", "appearance")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
        weights = None if parts[0].weights is None else tuple(each for part in parts for each in part.weights or ())
        return cls(**joined, weights=weights)

    def take(self, chosen: np.ndarray) -> EngineRun:
        """Some of the rows: numbers within the run, or one boolean for each."""
        weights = self.weights
        if weights is not None:
            weights = tuple(weights[number] for number in np.arange(len(self.rows))[chosen])
        return EngineRun(
            self.rows[chosen], self.probabilities[chosen], self.features[chosen], self.appearance[chosen], weights
        )


def run_engine(
    engine: Engine, bundle: Bundle, store: Store, rows: np.ndarray, progress: Progress, name: str
) -> EngineRun:
    """Run the network on some rows of a store, at least one; of samples of several images these are their first."""
    views = Views.of(bundle)
    if views is not None:
        return _run_samples(engine, views, store, rows, progress, name)
    parts = []
    for start in range(0, len(rows), BATCH):
        images = store.batch(rows[start : start + BATCH])
        outputs = run(engine, images)
        parts.append((outputs.probabilities, outputs.features, appearances(images)))
        progress(name, min(start + BATCH, len(rows)), len(rows))
    probabilities, features, looks = (np.concatenate(each) for each in zip(*parts, strict=True))
    return EngineRun(rows, probabilities, features, looks)


def _run_samples(
    engine: Engine, views: Views, store: Store, rows: np.ndarray, progress: Progress, name: str
) -> EngineRun:
    joined, looks = [], []
    for number, row in enumerate(rows.tolist(), start=1):
        members = store.cohort.views(row)
        parts, seen = [], []
        for start in range(0, len(members), BATCH):
            images = store.batch(members[start : start + BATCH])
            parts.append(run(engine, images))
            seen.append(appearances(images))
        joined.append(views.join(together(parts)))
        looks.append(np.concatenate(seen).mean(axis=0))
        progress(name, number, len(rows))
    probabilities, features = (np.concatenate([each[part] for each in joined]) for part in (0, 1))
    return EngineRun(rows, probabilities, features, np.stack(looks), tuple(each.weights for each in joined))


def named_rows(cohort: Cohort, run: EngineRun, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of the rows of a run; a sample of several images has its key, and columns of their weights."""
    known = cohort.table.iloc[run.rows][list(columns)].reset_index(drop=True)
    if run.weights is None:
        return known
    names = cohort.table["image"].to_numpy()
    parts = zip(run.rows.tolist(), run.weights, strict=True)
    views = [weight_columns(names[cohort.views(row)].tolist(), weights.tolist()) for row, weights in parts]
    keys = cohort.table["sample"].iloc[run.rows].to_numpy()
    return known.assign(image=keys).join(pd.DataFrame(views))


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, taken at equal steps."""
    return rows[:: max(1, -(-len(rows) // count))]
