"""From what the network puts out to predictions: calibration, decision, uncertainty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference.base import Prepared
from hounsfield.inference.novelty import Distances
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.prediction import DISTANCE_COLUMNS, Prediction
from hounsfield.tasks import Threshold, by_label, decide, label_text


class Postprocessor:
    """Makes predictions of the outputs of a bundle that labels images.

    Args:
        bundle: with its scaling, its threshold and its validation images.
        threshold: instead of the bundle's own.
        coverage: of sets of labels that hold the true one with this probability; ``None`` for no sets.
        by_class: whether the coverage shall hold within each true label.
        max_risk: share of wrong answers above which not to answer; ``None`` for always answering.

    Raises:
        BundleError: sets or abstention are asked for, and the bundle keeps no validation images.
        EvaluationError: they cannot be had at this coverage or risk, or for this task.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threshold: float | None = None,
        coverage: float | None = None,
        by_class: bool = False,
        max_risk: float | None = None,
    ) -> None:
        self._bundle = bundle
        self.threshold: Threshold = bundle.threshold if threshold is None else threshold
        self._has_distances = bundle.novelty is not None
        kept = bundle.kept(Uncertainty)
        self._heads = kept.heads if kept else None
        self._sets = (
            _kept(bundle).conformal(bundle.labels, bundle.classifier_task, coverage=coverage, by_class=by_class)
            if coverage is not None
            else None
        )
        self._least = (
            _kept(bundle).least_confidence(
                bundle.labels, bundle.classifier_task, threshold=self.threshold, max_risk=max_risk
            )
            if max_risk is not None
            else None
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table of predictions has beside the probabilities."""
        parts = (
            (self._has_distances or None, (*DISTANCE_COLUMNS, "flags")),
            (self._heads, ("disagreement",)),
            (self._sets, ("set",)),
            (self._least, ("confidence", "answer")),
        )
        return tuple(name for wanted, names in parts if wanted is not None for name in names)

    def predictions(
        self, images: Sequence[Prepared], probabilities: Floats, features: Floats, distances: Distances
    ) -> list[Prediction]:
        """One prediction for each image of a batch, in their order.

        Args:
            images: where they came from, and in what their files differ from those of training.
            probabilities: the network's own, (n, outputs).
            features: (n, features).
            distances: how far the images are from those of training.
        """
        bundle = self._bundle
        calibrated = bundle.calibrated(probabilities)
        decisions = decide(calibrated, bundle.classifier_task, self.threshold)
        scores, flags = distances
        spread = self._heads.disagreement(features, bundle.classifier_task) if self._heads else None
        possible = None if self._sets is None else self._sets.sets(calibrated, bundle.classifier_task)
        confidence = None if self._least is None else self._confidence(calibrated, decisions)
        results = []
        for row, image in enumerate(images):
            sure = None if confidence is None else float(confidence[row])
            far = None if scores is None else float(scores[row])
            results.append(
                Prediction(
                    reference=image.reference,
                    label=label_text(decisions[row], bundle.labels, bundle.classifier_task),
                    probabilities=by_label(calibrated[row], bundle.labels, bundle.classifier_task),
                    features=features[row],
                    ood_score=far,
                    flags=(*flags[row], *image.flags),
                    intensity=image.intensity,
                    disagreement=None if spread is None else float(spread[row]),
                    possible=None if possible is None else _named(bundle.labels, possible[row]),
                    confidence=sure,
                    answered=None if sure is None else self._answers(sure, far),
                )
            )
        return results

    def _answers(self, confidence: float, score: float | None) -> bool:
        """Whether to answer: what was promised on validation images holds for images like those."""
        return self._least is not None and confidence >= self._least and (score is None or score <= 1)

    def _confidence(
        self, probabilities: npt.NDArray[np.float64], decisions: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        answers = Outcomes(decisions, probabilities, decisions, self._bundle.labels, self._bundle.classifier_task)
        return decision_confidence(answers, self.threshold)[0]


def _named(labels: tuple[str, ...], chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(label for label, wanted in zip(labels, chosen, strict=True) if wanted)


def _kept(bundle: Bundle) -> Uncertainty:
    kept = bundle.kept(Uncertainty)
    if kept is None:
        raise BundleError(
            f"The bundle in {bundle.folder} keeps no validation images, from which sets of labels and abstention are "
            "derived. Train again with this version, or predict without them."
        )
    return kept
