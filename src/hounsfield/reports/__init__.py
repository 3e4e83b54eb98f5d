"""Figures, pages and model cards. ``table.PAGES`` holds what differs between families of truth."""

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
    "confusion_figure",
    "learning_curves",
    "montage",
    "precision_recall_figure",
    "reliability_figure",
    "roc_figure",
    "save_figure",
    "score_histogram",
]
