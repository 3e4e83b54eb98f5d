"""What the figures of detection are called where people read them; docs/detection-evaluation.md says what they are."""

from __future__ import annotations

from collections.abc import Sequence

from hounsfield.evaluation.free_response import LUNA_RATES

_RATES = {f"sensitivity_fp_{rate:g}": f"sensitivity at {rate:g} false an image" for rate in LUNA_RATES}
# Name in ``metrics.json`` -> title, in the order in which a reader asks for them.
TITLES: dict[str, str] = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP, sides below 32",
    "ap_medium": "AP, sides 32 to 96",
    "ap_large": "AP, sides above 96",
    "recall": "sensitivity at the threshold",
    "precision": "precision at the threshold",
    "f1": "F1 at the threshold",
    **_RATES,
    "luna16": "LUNA16 score",
    "count_bias": "counting bias",
    "count_mae": "mean absolute counting error",
    "count_low": "limit of agreement, lower",
    "count_high": "limit of agreement, upper",
}


def detection_title(name: str, labels: Sequence[str]) -> str:
    """The title of a figure of ``evaluate_detections``, that of one class with its label; else the name itself."""
    if name in TITLES:
        return TITLES[name]
    for label in labels:
        stem = name.removesuffix(f"_{label}")
        if stem != name and stem in TITLES:
            return f"{TITLES[stem]}: {label}"
    return name
