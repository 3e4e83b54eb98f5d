"""What a test shows of calibration, of images out of distribution, and of an ensemble's disagreement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.evaluation import Assessment
from hounsfield.evaluation.delong import auc_estimate
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.promises import measured_promises, promises_caution
from hounsfield.evaluation.selective import decision_confidence
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.evaluation.verdict import calibration_caution
from hounsfield.testing.engine_runs import EngineRun


def error_lines(assessment: Assessment, split: str) -> list[str]:
    """The calibration error on a split before and after scaling; nothing where nothing was scaled."""
    estimates = assessment.estimates
    if "ece_uncalibrated" not in estimates:
        return []
    return [calibration_change(estimates["ece_uncalibrated"].to_dict(), estimates["ece"].to_dict(), split)]


def caution_lines(bundle: Bundle, assessment: Assessment, what: str) -> list[str]:
    """Miscalibration beyond chance, and promises of sets and answers that did not hold; often nothing."""
    kept = bundle.kept(Uncertainty)
    promises = (
        ()
        if kept is None
        else measured_promises(kept, assessment.answers, threshold=assessment.threshold, groups=assessment.groups)
    )
    return [text for text in (calibration_caution(assessment.calibration), promises_caution(promises, what)) if text]


def unlike_lines(bundle: Bundle, run: EngineRun, what: str) -> list[str]:
    """How many images are out of distribution, and how many are expected."""
    kept = bundle.kept(Uncertainty)
    # The limit is that of single networks; the mean over those of an ensemble spreads less.
    return count_unlike(bundle.novelty, run.descriptions, what, most="at most " if kept and kept.heads else "")


def count_unlike(
    novelty: Novelty | None, descriptions: Mapping[str, npt.NDArray[Any]], what: str, *, most: str = ""
) -> list[str]:
    """How many images are out of distribution, and how many are expected; nothing where no limit is known.

    Args:
        novelty: where images like those of training lie.
        descriptions: of the images.
        what: they are.
        most: said before the share that is expected.
    """
    if novelty is None:
        return []
    unlike = novelty.unlike(descriptions)
    found = f"Out of distribution: {int(unlike.sum()):,} of {len(unlike):,} {what} ({unlike.mean():.1%}"
    spread = f", and up to {novelty.at_most():.1%} with so few validation images" if novelty.few else ""
    most = "at most " if novelty.few else most
    return [f"{found}; {most}{novelty.false_alarms:.1%} are expected of images like those of training{spread})."]


def disagreement_lines(bundle: Bundle, run: EngineRun, assessment: Assessment, what: str) -> list[str]:
    """How far the networks of an ensemble differ where they are right and where they are wrong."""
    kept = bundle.kept(Uncertainty)
    heads = kept.heads if kept else None
    if heads is None:
        return []
    spread = heads.disagreement(run.features, bundle.classifier_task)
    right = decision_confidence(assessment.answers, bundle.threshold)[1]
    told = " and ".join(
        f"{np.median(spread[rows]):.3f} on {int(rows.sum()):,} {word} answers"
        for rows, word in ((right, "right"), (~right, "wrong"))
        if rows.any()
    )
    ranked = ""
    if right.any() and not right.all():
        wrong = ~right[:, np.newaxis]
        value, interval = auc_estimate(wrong, spread[:, np.newaxis], make_clusters(wrong, assessment.groups))
        ranked = (
            f"; it separates wrong answers from right ones with an AUC of {value:.2f} ({interval.low:.2f} to "
            f"{interval.high:.2f})"
        )
    first = (
        f"Disagreement of the {len(heads.kernels)} networks on {what} (standard deviation of their probabilities, "
        "median)"
    )
    return [f"{first}: {told}{ranked}."]


def calibration_change(before: dict[str, Any], after: dict[str, Any], split: str) -> str:
    """The calibration error before and after a scaling, in one line."""
    return f"Calibration error on {split}: {_told(before)} before, {_told(after)} after."


def _told(estimate: dict[str, Any]) -> str:
    interval = "" if estimate["low"] is None else f" ({estimate['low']:.3f} to {estimate['high']:.3f})"
    return f"{estimate['value']:.3f}{interval}"
