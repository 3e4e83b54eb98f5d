"""The labels of images, with their probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import UsageError
from hounsfield.inference.base import Prepared
from hounsfield.inference.engines import Engine
from hounsfield.inference.novelty import Distances
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import chunks
from hounsfield.inference.postprocessor import Postprocessor
from hounsfield.inference.prediction import Prediction
from hounsfield.inference.views import Outputs, run
from hounsfield.inference.whole_images import WholeImagePredictor
from hounsfield.tasks import Family, decide, questions, refuse_threshold

CHECK_BATCH = 32
SMALLEST = 1e-7


class Predictor(WholeImagePredictor[Prediction]):
    """Predicts labels of images; see :class:`WholeImagePredictor`.

    Args:
        bundle: a loaded bundle, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras", or an engine that is open.
        threshold: instead of the bundle's own; for binary and multi-label tasks.
        coverage: of sets of labels that hold the true one with this probability; ``None`` for no sets.
        by_class: whether the coverage shall hold within each true label.
        max_risk: share of wrong answers above which not to answer; ``None`` for always answering.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_engine` does.
        UsageError: a threshold is given for a multi-class task, which has none.
        BundleError, EvaluationError: as :class:`hounsfield.inference.postprocessor.Postprocessor` does.
    """

    FAMILY: ClassVar[Family] = "labels"
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"threshold", "coverage", "by_class", "max_risk"})

    def __init__(
        self,
        bundle: Bundle | str | Path,
        engine: str | Engine = "auto",
        *,
        threshold: float | None = None,
        coverage: float | None = None,
        by_class: bool = False,
        max_risk: float | None = None,
    ) -> None:
        super().__init__(bundle)
        refuse_threshold(self.bundle.task, threshold)
        self.postprocessor = Postprocessor(
            self.bundle, threshold=threshold, coverage=coverage, by_class=by_class, max_risk=max_risk
        )
        self.threshold = self.postprocessor.threshold
        self._open(engine)

    @property
    def columns(self) -> list[str]:
        """``image``, ``prediction``, ``p_LABEL`` …, what the postprocessor adds, and what is known of the image."""
        probabilities = (f"p_{label}" for label in self.bundle.labels)
        return ["image", "prediction", *probabilities, *self.postprocessor.columns, *self._image_columns]

    def explained(self, predicted: Prediction | None, label: str | None) -> tuple[str, Floats]:
        """The positive label of a binary task, else the most probable one, where none is asked for.

        The negative label of a binary task has −1 for the one logit; see :meth:`BasePredictor.explained`.
        """
        asked = questions(self.bundle.labels, self.bundle.task)
        if label is not None and label not in self.bundle.labels:
            raise UsageError(
                f"The network knows no label '{label}', so there is no evidence for it. Its labels are: "
                f"{', '.join(self.bundle.labels)}."
            )
        if label is None:
            label = asked[0] if predicted is None else max(asked, key=lambda each: predicted.probabilities[each])
        if label not in asked:
            return label, np.array([-1.0], np.float32)
        return label, np.asarray(np.eye(len(asked), dtype=np.float32)[asked.index(label)])

    def logits(self, outputs: Floats) -> npt.NDArray[np.floating]:
        """The log odds of the probabilities, which of sigmoid outputs are the logits."""
        return log_odds(outputs)

    def _read(self, prepared: Sequence[Prepared], outputs: Outputs, distances: Distances) -> list[Prediction]:
        return self.postprocessor.predictions(prepared, outputs.probabilities, outputs.features, distances)

    @classmethod
    def agree(cls, bundle: Bundle, engines: Sequence[Engine], images: Iterable[Floats]) -> bool:
        """Whether every image is decided the same; see :meth:`BasePredictor.agree`."""
        any_image = False
        for part in chunks(images, CHECK_BATCH):
            batch = np.ascontiguousarray(part, dtype=np.float32)
            exact, other = (_decisions(bundle, run(engine, batch)) for engine in engines)
            if not np.array_equal(exact, other):
                return False
            any_image = True
        return any_image


def _decisions(bundle: Bundle, outputs: Outputs) -> npt.NDArray[np.bool_]:
    return decide(bundle.calibrated(outputs.probabilities), bundle.classifier_task, bundle.threshold)


def log_odds(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The logarithm of p / (1 − p), which of a sigmoid output is its logit."""
    kept = np.clip(np.asarray(probabilities, np.float64), SMALLEST, 1 - SMALLEST)
    return np.log(kept) - np.log1p(-kept)
