"""A classifier, a detector and a segmenter, each trained once a session on tiny images; ``conftest.py`` shares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from families import write_masks
from hounsfield.cohorts.request import DataRequest
from hounsfield.training import Run, train
from plans import small_plan, write_pair
from scenes import TINY, squares

# Of the detector: validation at the end of the second epoch and of the last one.
DETECTOR_CHANGES = (*TINY, "epochs=3", "validate_every=2")


class Trained(NamedTuple):
    """A finished run, as ``train`` returned it, and the DATA of its training."""

    data: str
    run: Run


def train_classifier(folder: Path) -> Trained:
    """Two labels, 60 images of 16×16, three epochs of a residual network."""
    data = write_pair(folder)
    return Trained(data, train(data, folder / "run", plan=small_plan()))


def train_detector(folder: Path) -> Trained:
    """Two labels, 12 images of 48×64, three epochs."""
    data = str(squares(folder / "data"))
    return Trained(data, train(data, folder / "run", effort="quick", changes=DETECTOR_CHANGES))


def train_segmenter(folder: Path) -> Trained:
    """One label, 30 images of 32×32, one epoch."""
    (folder / "data").mkdir()
    data = str(write_masks(folder / "data"))
    return Trained(data, train(data, folder / "run", effort="quick", changes=("epochs=1", "width=4")))


def run_of(data: DataRequest | Path, out: Path, *changes: str) -> dict[str, Any]:
    """The metrics of a tiny detector of other data or settings, after two epochs."""
    request = data if isinstance(data, DataRequest) else str(data)
    return train(request, out, effort="quick", changes=(*TINY, "epochs=2", "validate_every=2", *changes)).metrics
