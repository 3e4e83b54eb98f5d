"""A detector in 8-bit integers: made from a bundle, and kept only if it finds the same in validation images.

The trunk computes in integers, from an image to features and anchors. The head and the head of masks, which are small,
stay in float32, since the places of findings hang on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.cohorts import SceneStore
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.detection import quick_precision
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.evaluation.novelty import Novelty
from hounsfield.inference.boxes import Detector, without_partner
from hounsfield.inference.engines import OpenVINOEngine
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.windows import Found
from hounsfield.onnx_export.quantised import integer_networks
from hounsfield.progress import Progress, silent
from hounsfield.testing.boxes import RawFindings, predict
from hounsfield.testing.engine_runs import evenly
from hounsfield.testing.quantisation import (
    CLEAR,
    IntegerEngine,
    check,
    cohort_of,
    layers_in_words,
    write_integers,
)

# Windows by which the ranges of values are found, and by which layers are compared.
CALIBRATING, COMPARED = 60, 8
# Training images on which novelty is fitted, as in a training.
NOVELTY_ROWS = 400
# What may change at most: AP50, and the share of the findings.
AP_LOSS, FLIPS = 0.002, 0.002
# Two findings of one label are the same from this overlap on, as findings and objects are in AP50.
SAME = 0.5


@dataclass(frozen=True)
class BoxAttempt:
    """One quantised detector beside the one in float32, on validation images.

    Attributes:
        kept: layers of the trunk that were left in float32.
        ap50_loss: by how much AP50 fell.
        flips: share of the findings of both that the other does not report though the decision was clear: their score,
            or that of the best candidate there, is farther from the threshold than ``CLEAR``.
        changed: share of the findings of both that the other does not report.
        counts: objects by which the count of a label in an image changes, on average.
    """

    kept: tuple[str, ...]
    ap50_loss: float
    flips: float
    changed: float
    counts: float

    @property
    def accepted(self) -> bool:
        """Whether all of it is within the limits."""
        return self.ap50_loss < AP_LOSS and self.flips <= FLIPS

    def line(self) -> str:
        """The outcome in words."""
        return (
            f"{layers_in_words(self.kept)}: AP50 {-self.ap50_loss:+.4f}, {self.changed:.2%} of findings change, "
            f"{self.flips:.2%} were clear, counts change by {self.counts:.3f} objects per image and label"
        )


def quantise_boxes(run: Path, folder: Path, *, progress: Progress = silent) -> tuple[Bundle, list[BoxAttempt]]:
    """Write the bundle of a detector whose trunk computes in 8-bit integers; see ``quantisation.quantise``.

    Raises:
        UsageError, RunError, EvaluationError, MissingDependency: as there.
    """
    bundle = Bundle.load(run)
    check(bundle, run, folder)
    store = SceneStore.build(cohort_of(run, bundle), bundle.pipeline, progress=progress)
    train, validation = (np.asarray(store.cohort.rows(split)) for split in ("train", "validation"))
    exact = OpenVINOEngine(bundle, "f32")
    before = predict(Detector(bundle, exact), store, validation, progress, "validation")
    threshold: Any = bundle.threshold
    windows = _windows(bundle, exact, store, evenly(train, CALIBRATING))
    attempts: list[BoxAttempt] = []
    with TemporaryDirectory() as name:
        for path, layers in integer_networks(bundle.onnx_files[0], Path(name), windows, COMPARED):
            engine = IntegerEngine(bundle, path, exact)
            detector = Detector(bundle, engine)
            after = predict(detector, store, validation, progress, "validation")
            attempts.append(_attempt(before, after, threshold, layers))
            if attempts[-1].accepted:
                fitted = predict(detector, store, evenly(train, NOVELTY_ROWS), progress, "training")
                known = _kept(fitted, after, threshold)
                return write_integers(folder, path, engine, bundle, kept=known, attempts=attempts), attempts
    raise EvaluationError(
        "The network stays in float32: in 8 bits it finds other objects in validation images. "
        f"{'; '.join(each.line() for each in attempts)}. Allowed are a loss of AP50 below {AP_LOSS} and {FLIPS:.1%} of "
        "clear findings. Predict with OpenVINO in float32 or bfloat16."
    )


class _Recorder:
    """An engine that keeps what its first network was given; see ``Engine``."""

    def __init__(self, engine: OpenVINOEngine) -> None:
        self._engine = engine
        self.name, self.description, self.tolerance = engine.name, engine.description, engine.tolerance
        self.seen: list[Floats] = []

    def run(self, batch: Floats, *, part: int = 0, alone: bool = True) -> list[Floats]:
        """See ``Engine``."""
        if part == 0:
            self.seen.extend(np.array(batch))
        return self._engine.run(batch, part=part, alone=alone)


def _windows(bundle: Bundle, engine: OpenVINOEngine, store: SceneStore, rows: npt.NDArray[Any]) -> Floats:
    """(windows, *input_shape) what the trunk is given of some images."""
    recorder = _Recorder(engine)
    detector = Detector(bundle, recorder)
    for row in rows.tolist():
        detector.look(store.pixels(row))
    return np.stack([recorder.seen[number] for number in evenly(np.arange(len(recorder.seen)), CALIBRATING)])


def _kept(fitted: RawFindings, after: RawFindings, threshold: float) -> DetectionUncertainty:
    """The counts and distances of what the network in 8 bits makes of images."""
    novelty = Novelty.fit({"features": fitted.features}, {"features": after.features})
    return DetectionUncertainty(after.detections.truth_counts(), after.detections.counts(threshold), novelty)


def _attempt(before: RawFindings, after: RawFindings, threshold: float, layers: tuple[str, ...]) -> BoxAttempt:
    def lone(first: float, second: float, *, back: bool = False) -> int:
        """Findings of one side from a score on that have no partner with another score or more on the other side."""
        pairs = zip(before.found, after.found, strict=True)
        return sum(
            without_partner(_from(other if back else one, first), _from(one if back else other, second), SAME)
            for one, other in pairs
        )

    total = sum(int((each.scores >= threshold).sum()) for each in (*before.found, *after.found))
    gone, new = lone(threshold, threshold), lone(threshold, threshold, back=True)
    clear = lone(threshold + CLEAR, threshold) + lone(threshold, threshold - CLEAR, back=True)
    first, second = (quick_precision(each.detections)[1] for each in (before, after))
    counts = [each.detections.counts(threshold) for each in (before, after)]
    # Where nothing can be compared, nothing is known to be the same.
    flips, changed = (number / total if total else math.nan for number in (clear, gone + new))
    return BoxAttempt(layers, first - second, flips, changed, float(np.abs(counts[0] - counts[1]).mean()))


def _from(found: Found, score: float) -> Found:
    return found.at(found.scores >= score)
