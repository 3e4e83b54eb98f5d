"""The titles of the metrics of detection; docs/detection-evaluation.md defines them."""

from __future__ import annotations

from collections.abc import Sequence

from hounsfield.evaluation.free_response import LUNA_RATES

_RATES = {f"sensitivity_fp_{rate:g}": f"Sensitivity at {rate:g} FP per image" for rate in LUNA_RATES}
# Name in ``metrics.json`` -> title, in the order of tables.
TITLES: dict[str, str] = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "mask_ap": "AP by masks",
    "mask_ap50": "AP50 by masks",
    "mask_ap75": "AP75 by masks",
    "ap_small": "AP, sides below 32",
    "ap_medium": "AP, sides 32 to 96",
    "ap_large": "AP, sides above 96",
    "recall": "Sensitivity at the threshold",
    "precision": "Precision at the threshold",
    "f1": "F1 at the threshold",
    **_RATES,
    "luna16": "LUNA16 score",
    "count_bias": "Counting bias",
    "count_mae": "Mean absolute counting error",
    "count_low": "Lower limit of agreement",
    "count_high": "Upper limit of agreement",
}


def detection_title(name: str, labels: Sequence[str]) -> str:
    """The title of a metric of ``evaluate_detections``, that of one class with its label; else the name itself."""
    of_class = {class_figure(stem, label): f"{title}: {label}" for label in labels for stem, title in TITLES.items()}
    return TITLES.get(name) or of_class.get(name, name)


def class_figure(name: str, label: str) -> str:
    """The name of a metric of one class: ``ap_LABEL``; ``ap_label_small`` where a class has the name of a size."""
    joined = f"{name}_{label}"
    return joined if joined not in TITLES else f"{name}_label_{label}"
