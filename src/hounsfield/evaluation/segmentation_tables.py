"""A table of compared masks, one row per image and label, as ``predictions.csv`` of a run is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.predictions import PATIENT_COLUMN, read_rows
from hounsfield.evaluation.segmentation import TOLERANCE
from hounsfield.evaluation.segmentation_assessment import CASE_COLUMNS

KEYS = ("image", "label")
# What tests write of the prediction, which is no attribute of a patient.
OWN_COLUMNS = (
    *("tolerance", "unit", "expected", "uncertainty", "dice_predicted", "dice_low", "dice_high", "lesions_same"),
    *("size_low", "size_high", "ood_score", "out_of_distribution", "flags", "pixels", "size"),
)


@dataclass(frozen=True, eq=False)
class CompareTable:
    """What a table of compared masks says, checked.

    Attributes:
        cases: image by image one row per label, in class order.
        labels: in class order.
        unit: of sizes.
        tolerance: of surface Dice.
        groups: (images,) patients; ``None`` where the table names none.
        table: one row per image, without what prediction and comparison put out.
        notes: what was left out.
    """

    cases: pd.DataFrame
    labels: tuple[str, ...]
    unit: str
    tolerance: float
    groups: np.ndarray | None
    table: pd.DataFrame
    notes: tuple[str, ...]


def holds_cases(path: Path) -> bool:
    """Whether a file is a table of compared masks."""
    try:
        columns = set(map(str, read_rows(path)[0].columns))
    except EvaluationError:
        return False
    return columns >= {*KEYS, *CASE_COLUMNS}


def read_cases(path: Path) -> CompareTable:
    """Read a CSV, Parquet or JSON table with the columns image, label and ``CASE_COLUMNS``.

    Raises:
        EvaluationError: the file cannot be read as a table, or an image lacks a label or has one twice.
    """
    found, notes = read_rows(path)
    labels = tuple(dict.fromkeys(map(str, found["label"])))
    counts = found.groupby("image", sort=False)["label"].agg(["size", "nunique"])
    wrong = counts.index[(counts != len(labels)).any(axis=1)]
    if len(wrong):
        raise EvaluationError(
            f"{path.name} has {int(counts['size'][wrong[0]])} rows for the image '{wrong[0]}': expected one for each "
            f"of the labels {', '.join(labels)}. Add or remove rows."
        )
    place = found["label"].map({label: index for index, label in enumerate(labels)})
    order = np.lexsort((place.to_numpy(), pd.factorize(found["image"])[0]))
    cases = found.iloc[order].reset_index(drop=True)
    for name in CASE_COLUMNS:
        cases[name] = pd.to_numeric(cases[name], errors="coerce")
    first = cases.iloc[:: len(labels)].reset_index(drop=True)
    groups = first[PATIENT_COLUMN].to_numpy(dtype=object) if PATIENT_COLUMN in first else None
    if groups is None:
        notes.append("No column 'patient': every image is treated as a patient of its own.")
    drop = [name for name in first if name in {*CASE_COLUMNS, *OWN_COLUMNS, "label"}]
    unit = str(first["unit"].iloc[0]) if "unit" in first else "ml"
    tolerance = float(first["tolerance"].iloc[0]) if "tolerance" in first else TOLERANCE
    notes.append(f"{len(first):,} images, {len(labels)} labels.")
    return CompareTable(cases, labels, unit, tolerance, groups, first.drop(columns=drop), tuple(notes))
