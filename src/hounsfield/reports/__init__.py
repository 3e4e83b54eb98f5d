"""What a run shows of itself: figures."""

from hounsfield.reports.evaluation import assessment_figures, write_assessment
from hounsfield.reports.figures import (
    confusion_figure,
    learning_curves,
    montage,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    save_figure,
    score_histogram,
)

__all__ = [
    "assessment_figures",
    "confusion_figure",
    "learning_curves",
    "montage",
    "precision_recall_figure",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "score_histogram",
    "write_assessment",
]
