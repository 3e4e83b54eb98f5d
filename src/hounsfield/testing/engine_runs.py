"""The network of a bundle that labels images, run on prepared images of a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hounsfield.cohorts import Store
from hounsfield.inference import Engine
from hounsfield.inference.appearance import appearances
from hounsfield.inference.labels import run
from hounsfield.progress import Progress

BATCH = 64


@dataclass(frozen=True, eq=False)
class EngineRun:
    """The network's outputs for some rows, in their order.

    Attributes:
        rows: (n,) of the store.
        probabilities: (n, outputs), the network's own, before any scaling.
        features: (n, features).
        appearance: (n, figures) of the prepared images.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    appearance: np.ndarray

    @property
    def descriptions(self) -> dict[str, np.ndarray]:
        """What novelty is judged by."""
        return {"features": self.features, "appearance": self.appearance}

    def take(self, chosen: np.ndarray) -> EngineRun:
        """Some of the rows: numbers within the run, or one boolean for each."""
        return EngineRun(self.rows[chosen], self.probabilities[chosen], self.features[chosen], self.appearance[chosen])


def run_engine(engine: Engine, store: Store, rows: np.ndarray, progress: Progress, name: str) -> EngineRun:
    """Run the network on some rows of a store, at least one."""
    parts = []
    for start in range(0, len(rows), BATCH):
        images = store.batch(rows[start : start + BATCH])
        outputs = run(engine, images)
        parts.append((outputs.probabilities, outputs.features, appearances(images)))
        progress(name, min(start + BATCH, len(rows)), len(rows))
    return EngineRun(rows, *(np.concatenate(each) for each in zip(*parts, strict=True)))


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most ``count`` of the rows, taken at equal steps."""
    return rows[:: max(1, -(-len(rows) // count))]
