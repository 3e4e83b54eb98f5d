"""Writes what a test said: ``metrics.json`` and the figures that go with it."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from hounsfield.atomic import write_json
from hounsfield.evaluation.assessment import Assessment
from hounsfield.evaluation.curves import confusion_matrix
from hounsfield.reports.figures import (
    confusion_figure,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    score_histogram,
)


def assessment_figures(assessment: Assessment) -> dict[str, Figure]:
    """Every figure of a test by its file name without suffix; curves are left out where no label can be ranked."""
    answers, estimates = assessment.answers, assessment.estimates
    figures = {
        "reliability": reliability_figure(answers, assessment.groups),
        "scores": score_histogram(answers, assessment.threshold),
    }
    if answers.task != "multi-label":
        figures["confusion"] = confusion_figure(confusion_matrix(answers), answers.labels)
    if answers.answerable.any():
        figures["roc"] = roc_figure(answers, estimates)
        figures["precision_recall"] = precision_recall_figure(answers, estimates)
    return figures


def write_assessment(assessment: Assessment, folder: Path | str) -> list[Path]:
    """Write ``metrics.json`` and the figures as PNG into a folder, and say which files were written.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "metrics.json"]
    write_json(written[0], assessment.to_dict())
    for name, figure in assessment_figures(assessment).items():
        path = folder / f"{name}.png"
        save_figure(figure, path)
        written.append(path)
    return written
