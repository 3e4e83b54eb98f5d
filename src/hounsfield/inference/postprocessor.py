"""From what the network puts out to predictions: calibration, decision, uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.outcomes import Outcomes
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.inference.appearance import appearances
from hounsfield.inference.engines import Outputs
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.prediction import Prediction
from hounsfield.tasks import by_label, decide, label_text


class Waiting(NamedTuple):
    """A prepared image: its name, its pixels (*input_shape), and in what its file is unlike those of training."""

    name: str
    pixels: Floats
    flags: tuple[str, ...] = ()


class Postprocessor:
    """Says what a bundle's outputs mean.

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
        self.threshold = bundle.threshold if threshold is None else threshold
        self._novelty = bundle.uncertainty.novelty if bundle.uncertainty else None
        self._heads = bundle.uncertainty.heads if bundle.uncertainty else None
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
            (self._novelty, ("ood_score", "flags")),
            (self._heads, ("disagreement",)),
            (self._sets, ("set",)),
            (self._least, ("confidence", "answer")),
        )
        return tuple(name for wanted, names in parts if wanted is not None for name in names)

    def predictions(self, waiting: Sequence[Waiting], batch: Floats, outputs: Outputs) -> list[Prediction]:
        r"""One prediction for each image of a batch (n, \*input_shape), in their order."""
        bundle = self._bundle
        probabilities = bundle.calibrated(outputs.probabilities)
        decisions = decide(probabilities, bundle.classifier_task, self.threshold)
        unlike, flags = self._unlikeness(waiting, batch, outputs.features)
        spread = self._heads.disagreement(outputs.features, bundle.classifier_task) if self._heads else None
        possible = None if self._sets is None else self._sets.sets(probabilities, bundle.classifier_task)
        confidence = None if self._least is None else self._confidence(probabilities, decisions)
        results = []
        for row, image in enumerate(waiting):
            sure = None if confidence is None else float(confidence[row])
            far = None if unlike is None else float(unlike[row])
            results.append(
                Prediction(
                    image=image.name,
                    label=label_text(decisions[row], bundle.labels, bundle.classifier_task),
                    probabilities=by_label(probabilities[row], bundle.labels, bundle.classifier_task),
                    features=outputs.features[row],
                    ood_score=far,
                    flags=flags[row],
                    disagreement=None if spread is None else float(spread[row]),
                    possible=None if possible is None else _named(bundle.labels, possible[row]),
                    confidence=sure,
                    answered=None if sure is None else self._answers(sure, far),
                )
            )
        return results

    def _answers(self, confidence: float, unlike: float | None) -> bool:
        """Whether to answer: what was promised on validation images holds for images like those."""
        return self._least is not None and confidence >= self._least and (unlike is None or unlike <= 1)

    def _confidence(
        self, probabilities: npt.NDArray[np.float64], decisions: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float64]:
        answers = Outcomes(decisions, probabilities, decisions, self._bundle.labels, self._bundle.classifier_task)
        return decision_confidence(answers, self.threshold)[0]

    def _unlikeness(
        self, waiting: Sequence[Waiting], batch: Floats, features: Floats
    ) -> tuple[npt.NDArray[np.float64] | None, list[tuple[str, ...]]]:
        """How far each image lies from those of training as a multiple of the limit, and all flags of each."""
        if self._novelty is None:
            return None, [image.flags for image in waiting]
        ratios = self._novelty.ratios({"features": features, "appearance": appearances(batch)})
        unlike = np.maximum.reduce(list(ratios.values()))
        values = batch.reshape(len(batch), -1)
        blank = values.min(axis=1) == values.max(axis=1)
        flags = []
        for row, image in enumerate(waiting):
            seen = tuple(name for name, each in ratios.items() if each[row] > 1)
            reasons = ("blank",) if blank[row] else _reasons(batch[row], self._novelty, seen)
            flags.append((*reasons, *seen, *image.flags))
        return unlike, flags


def _reasons(pixels: Floats, novelty: Novelty, seen: tuple[str, ...]) -> tuple[str, ...]:
    """What is the matter with a picture that is beyond the limits ``seen``, where that can be said."""
    if "appearance" not in seen:
        return ()
    # Of an image normalised by itself the negative is its opposite; of others the range is turned round.
    negatives = np.stack([-pixels, pixels.min() + pixels.max() - pixels])
    back_in_range = novelty.ratios({"appearance": appearances(negatives)})["appearance"]
    return ("inverted",) if back_in_range.min() <= 1 else ()


def _named(labels: tuple[str, ...], chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(label for label, wanted in zip(labels, chosen, strict=True) if wanted)


def _kept(bundle: Bundle) -> Uncertainty:
    if bundle.uncertainty is None:
        raise BundleError(
            f"The bundle in {bundle.folder} keeps no validation images, from which sets of labels and abstention are "
            "derived. Train again with this version, or predict without them."
        )
    return bundle.uncertainty
