"""A table of compared masks, one row per image and label, as ``predictions.csv`` of a run is one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.predictions import PATIENT_COLUMN, read_rows
from hounsfield.evaluation.segmentation import METRICS, TOLERANCE
from hounsfield.evaluation.segmentation_assessment import CASE_COLUMNS

KEYS = ("image", "label")
# Figures are written with seven digits.
ROUNDING = 1e-6
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
        EvaluationError: the file cannot be read as a table, an image lacks a label or has one twice, a figure cannot be
            that of two masks, or the rows have several units or tolerances.
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
        cases[name] = _numbers(cases, name, path.name)
    _check_values(cases, path.name)
    first = cases.iloc[:: len(labels)].reset_index(drop=True)
    groups = first[PATIENT_COLUMN].to_numpy(dtype=object) if PATIENT_COLUMN in first else None
    if groups is None:
        notes.append("No column 'patient': every image is treated as a patient of its own.")
    drop = [name for name in first if name in {*CASE_COLUMNS, *OWN_COLUMNS, "label"}]
    unit = str(_one(cases, "unit", path.name)) if "unit" in cases else "ml"
    tolerance = float(_one(cases, "tolerance", path.name)) if "tolerance" in cases else TOLERANCE
    notes.append(f"{len(first):,} images, {len(labels)} labels.")
    return CompareTable(cases, labels, unit, tolerance, groups, first.drop(columns=drop), tuple(notes))


def _numbers(cases: pd.DataFrame, name: str, table: str) -> pd.Series:
    """A column as numbers; an empty cell is a figure without a value."""
    numbers = pd.to_numeric(cases[name], errors="coerce")
    wrong = numbers.isna() & cases[name].notna()
    if wrong.any():
        raise EvaluationError(
            f"{table} has {name} '{cases[name][wrong].iloc[0]}' for the image '{cases['image'][wrong].iloc[0]}': "
            "expected a number, with a point, or an empty cell where both masks are empty. Correct the table."
        )
    return numbers


def _check_values(cases: pd.DataFrame, table: str) -> None:
    """Refuse figures that no two masks have, and a figure left out although one of the masks is not empty."""
    some = (cases["size_true"] > 0) | (cases["size_predicted"] > 0)
    for name in CASE_COLUMNS:
        values, figure = cases[name], METRICS.get(name)
        share = figure is not None and figure.best == 1
        checks = {
            "is below 0": values < 0,
            "is above 1": (values > 1 + ROUNDING) & share,
            "is missing": values.isna() & (some if figure else True),
        }
        for fault, rows in checks.items():
            if rows.any():
                row = int(np.flatnonzero(rows)[0])
                raise EvaluationError(
                    f"{table}: {name} {fault} for the image '{cases['image'].iloc[row]}' and the label "
                    f"'{cases['label'].iloc[row]}'. Expected a value wherever one of both masks is not empty: 0 for "
                    "dice, iou and nsd and inf for hd95 and assd of a structure that was missed or drawn where there "
                    "is none. Correct the table."
                )


def _one(cases: pd.DataFrame, name: str, table: str) -> Any:
    """The value of a column that must be the same in all rows."""
    found = cases[name].unique()
    if len(found) > 1 or pd.isna(found[0]):
        raise EvaluationError(
            f"{table} has the column {name} with {', '.join(map(str, found[:3]))}: expected one for all rows, as "
            "figures of several cannot be averaged. Split the table, or measure all masks alike."
        )
    return found[0]
