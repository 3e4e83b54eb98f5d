"""A table of predictions as anyone may have it, read and made ready to evaluate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hounsfield.containers import read_parquet
from hounsfield.delimiter import decimal_comma_columns, delimiter_of
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import (
    MAX_SUM_ERROR,
    Booleans,
    Floats,
    Outcomes,
    as_outcomes,
)
from hounsfield.safe_text import plain_cells
from hounsfield.tasks import SEPARATOR, TASKS, LabelTask, Threshold, label_kind, num_outputs, threshold_text
from hounsfield.textfiles import require_regular

TRUTH_COLUMNS = ("truth", "label")
PATIENT_COLUMN = "patient"
UNKNOWN_COLUMN = "unknown_labels"
PREDICTION_COLUMN = "prediction"
SPLIT_COLUMN = "split"
PROBABILITY_PREFIX = "p_"

# What `predict` writes beside label and probabilities.
# "unlike_training" is what earlier versions called the out-of-distribution score.
UNCERTAINTY_COLUMNS = (
    *("ood_score", "out_of_distribution", "unlike_training", "flags", "disagreement", "set", "confidence", "answer"),
    *("mean_intensity", "sd_intensity"),
)
# A label or a site may well be called None or NA: only an empty cell and a number's NaN are missing.
MISSING_CELLS: dict[str, Any] = {"keep_default_na": False, "na_values": ["", "nan", "NaN"]}
CSV_OPTIONS: dict[str, Any] = {
    "dtype": {"truth": str, "label": str, "prediction": str, "patient": str, UNKNOWN_COLUMN: str},
    **MISSING_CELLS,
}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a table of predictions says, checked.

    Attributes:
        answers: truths, probabilities and decisions.
        groups: (n,) patients, ``None`` where the table names none.
        threshold: what a score must exceed to be a yes.
        notes: what was detected, decided or left out.
        table: the rows that the answers are of, with every column.
    """

    answers: Outcomes
    groups: np.ndarray | None
    threshold: Threshold
    notes: tuple[str, ...]
    table: pd.DataFrame


def read_predictions(
    path: Path | str, *, task: LabelTask | None = None, threshold: Threshold | None = None
) -> Predictions:
    """Read a CSV, Parquet or JSON table of predictions.

    Its columns: the truth as ``truth`` or ``label`` (several labels joined by ``;``), a probability ``p_LABEL`` a
    label, optionally ``prediction``, ``patient`` and ``unknown_labels`` (of a multi-label task, the labels of which it
    is not known whether they hold, joined likewise). Two probabilities are (negative, positive), in this order. Of a
    table whose column ``split`` has test rows, these alone are read: the others took part in the training.

    Args:
        path: the table.
        task: ``None`` to tell it from the probabilities: multi-label when they do not sum to 1.
        threshold: ``None`` for the one that the ``prediction`` column was made with, or .5.

    Raises:
        EvaluationError: the file cannot be read as a table, or lacks what is needed.
    """
    table, notes = read_rows(Path(path))
    read = predictions_from_table(table, name=Path(path).name, task=task, threshold=threshold)
    return replace(read, notes=(*notes, *read.notes))


def predictions_from_table(
    table: pd.DataFrame, *, name: str = "the table", task: LabelTask | None = None, threshold: Threshold | None = None
) -> Predictions:
    """The same from a table in memory; ``name`` stands in the messages."""
    truth_column = next((column for column in TRUTH_COLUMNS if column in table.columns), None)
    scored = [str(column) for column in table.columns if str(column).startswith(PROBABILITY_PREFIX)]
    if truth_column is None or not scored:
        raise EvaluationError(
            f"{name} has the columns {', '.join(map(str, table.columns))}; expected the truth as 'truth' or 'label' "
            "and a probability 'p_LABEL' for each label. Rename its columns; findings with boxes are evaluated with "
            "the true boxes beside them (--truth)."
        )
    scores = _score_table(table, scored, name)
    task = task or _detect_task(scores, table[truth_column])
    notes = []
    several = TASKS[task].multi_label
    missing = table[truth_column].isna() & (not several)
    if missing.any():
        notes.append(f"{int(missing.sum()):,} of {len(table):,} rows without truth were left out.")
        table, scores = table[~missing], scores[~missing.to_numpy()]
    columns = COLUMNS[label_kind(task)]
    labels, y_true = columns.truths(
        table[truth_column], tuple(column.removeprefix(PROBABILITY_PREFIX) for column in scored), name
    )
    y_score = scores[:, -num_outputs(len(labels), task) :]
    if UNKNOWN_COLUMN in table.columns and several:
        unknown = _label_sets(table[UNKNOWN_COLUMN])
        _check_known({label for each in unknown for label in each}, labels, name)
        y_true = np.where(_matrix(unknown, labels), np.nan, y_true)
        notes.append(f"{int(np.isnan(y_true).sum()):,} of {y_true.size:,} truths are unknown and count in no figure.")
    told = f"{task}; '{labels[1]}' is the positive label" if TASKS[task].paired else task
    notes.append(f"{len(table):,} cases, {told}.")
    predicted = table[PREDICTION_COLUMN] if PREDICTION_COLUMN in table.columns else None
    if threshold is None:
        threshold, about = (0.5, []) if predicted is None else columns.decided_at(predicted, y_score, labels)
        notes.extend(about)
    groups = table[PATIENT_COLUMN].to_numpy(dtype=object) if PATIENT_COLUMN in table.columns else None
    if groups is None:
        notes.append("No column 'patient': every case is treated as a patient of its own.")
    answers = as_outcomes(y_true, y_score, labels=labels, task=task, threshold=threshold)
    return Predictions(answers, groups, threshold, tuple(notes), table)


def read_rows(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows of a table that are evaluated, and notes; raises ``EvaluationError`` where it cannot be read."""
    return _test_rows(read_table(path))


def _test_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the test split where there are such, and what is to be said of the others."""
    test = table[SPLIT_COLUMN] == "test" if SPLIT_COLUMN in table.columns else pd.Series(data=True, index=table.index)
    if test.all() or not test.any():
        return table, []
    others = ", ".join(sorted(map(str, table.loc[~test, SPLIT_COLUMN].dropna().unique()))) or "no split given"
    return table[test], [f"{int((~test).sum()):,} rows of other splits than test ({others}) were left out."]


def read_table(path: Path) -> pd.DataFrame:
    """Every row of a table; raises ``EvaluationError`` where it cannot be read."""
    readers = {".csv": _read_csv, ".parquet": read_parquet, ".json": _read_json}
    suffix = path.suffix.lower()
    if not path.exists():
        raise EvaluationError(f"There is no file or folder {path}. Check the path.")
    if suffix not in readers:
        raise EvaluationError(
            f"{path} is not a table of predictions that can be read; expected one of {', '.join(readers)}, or a "
            "run folder."
        )
    try:
        require_regular(path)
        return readers[suffix](path)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise EvaluationError(f"{path} cannot be read as a table ({reason}). Write it again as {suffix}.") from error


def _read_json(path: Path) -> pd.DataFrame:
    """A table whose texts stay texts: a patient '01' is not the patient '1'."""
    return pd.read_json(path, dtype=False)


def _read_csv(path: Path) -> pd.DataFrame:
    """A table of text, its columns separated by commas, semicolons or tabs."""
    delimiter = delimiter_of(path)
    table: pd.DataFrame = plain_cells(pd.read_csv(path, sep=delimiter, **CSV_OPTIONS))
    # Of longer rows pandas takes the first cells for an index, which shifts every column.
    shifted = not isinstance(table.index, pd.RangeIndex)
    if shifted:
        raise ValueError("its rows have more cells than its header; a cell that holds the delimiter needs quotes")
    with_points = decimal_comma_columns(table.drop(columns=CSV_OPTIONS["dtype"], errors="ignore"), delimiter)
    return table.assign(**{name: pd.to_numeric(cells) for name, cells in with_points.items()})


def _score_table(table: pd.DataFrame, columns: Sequence[str], name: str) -> Floats:
    try:
        return table[list(columns)].to_numpy(dtype=np.float64)
    except ValueError as error:
        raise EvaluationError(
            f"A probability column of {name} holds text ({error}); expected numbers between 0 and 1. Correct the cells."
        ) from error


def _detect_task(scores: Floats, truth: pd.Series) -> LabelTask:
    if scores.shape[1] == 1:
        return "binary"
    joined = truth.dropna().astype(str).str.contains(SEPARATOR, regex=False).any()
    if joined or (np.abs(scores.sum(axis=1) - 1) > MAX_SUM_ERROR).any():
        return "multi-label"
    return "binary" if scores.shape[1] == 2 else "multi-class"


# The labels of the columns of scores, and the name of the table -> all label names, and the encoded truths.
Encoded = tuple[tuple[str, ...], np.ndarray]


def _pair_truths(truth: pd.Series, labels: tuple[str, ...], name: str) -> Encoded:
    if len(labels) == 1:
        labels = (_other_label(set(truth.map(_text)), labels[0], name), labels[0])
    return _class_truths(truth, labels, name)


def _class_truths(truth: pd.Series, labels: tuple[str, ...], name: str) -> Encoded:
    found = truth.map(_text)
    _check_known(set(found), labels, name)
    return labels, found.map({label: index for index, label in enumerate(labels)}).to_numpy(dtype=np.int64)


def _set_truths(truth: pd.Series, labels: tuple[str, ...], name: str) -> Encoded:
    wanted = _label_sets(truth)
    _check_known({label for each in wanted for label in each}, labels, name)
    return labels, _matrix(wanted, labels)


def _label_sets(cells: pd.Series) -> list[set[str]]:
    """The labels that each cell names; an empty cell names none."""
    return [set(filter(None, str(cell).split(SEPARATOR))) if not pd.isna(cell) else set() for cell in cells]


def _matrix(named: Sequence[set[str]], labels: Sequence[str]) -> Booleans:
    """(n, labels): whether each of ``labels`` is named."""
    return np.array([[label in each for label in labels] for each in named], dtype=bool).reshape(-1, len(labels))


def _text(cell: object) -> str:
    """A label as its column name would have it: 1.0 and 1 are one label."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _other_label(found: set[str], positive: str, name: str) -> str:
    others = sorted(found - {positive})
    if len(others) > 1:
        raise EvaluationError(
            f"{name} has one probability, p_{positive}, and the truths {', '.join(sorted(found))}; expected "
            f"'{positive}' and one other label. Add a probability for each label, or merge the others."
        )
    return others[0] if others else f"not {positive}"


def _check_known(found: set[str], labels: Sequence[str], name: str) -> None:
    unknown = sorted(found - set(labels))
    if unknown:
        raise EvaluationError(
            f"{name} has the truths {', '.join(repr(label) for label in unknown[:5])}, which no probability "
            f"column names; expected {', '.join(labels)}. Correct the spelling, or add the columns."
        )


def _pair_threshold(predicted: pd.Series, scores: Floats, labels: Sequence[str]) -> tuple[Threshold, list[str]]:
    return _threshold_of((predicted.map(_text) == labels[1]).to_numpy(), scores[:, 0])


def _no_threshold(predicted: pd.Series, scores: Floats, labels: Sequence[str]) -> tuple[Threshold, list[str]]:
    largest = np.array(labels, dtype=object)[scores.argmax(axis=1)]
    differ = int((predicted.map(_text).to_numpy(dtype=object) != largest).sum())
    told = f"In {differ:,} rows 'prediction' is not the most probable label; the most probable label is evaluated."
    return 0.5, [told] if differ else []


def _set_thresholds(predicted: pd.Series, scores: Floats, labels: Sequence[str]) -> tuple[Threshold, list[str]]:
    return _thresholds_of(_matrix(_label_sets(predicted), labels), scores, labels)


def _thresholds_of(yes: Booleans, scores: Floats, labels: Sequence[str]) -> tuple[Threshold, list[str]]:
    """One threshold for all labels where one gives the decisions (n, labels), otherwise one for each."""
    least, most = scores[yes].min(initial=1.0), scores[~yes].max(initial=0.0)
    if least > most or ((scores > 0.5) == yes).all():
        return _threshold_of(yes.ravel(), scores.ravel())
    pairs = [_threshold_of(yes[:, column], scores[:, column]) for column in range(len(labels))]
    failed = [label for label, (_, told) in zip(labels, pairs, strict=True) if told and told[0].startswith("No ")]
    if failed:
        return 0.5, ["No threshold gives the column 'prediction'; a threshold of .5 is used instead."]
    found = tuple(threshold for threshold, _ in pairs)
    return found, [
        f"'prediction' was made with a threshold for each label; these are used: {threshold_text(found, labels, 4)}."
    ]


def _threshold_of(yes: Booleans, score: Floats) -> tuple[float, list[str]]:
    """The threshold above which scores (n,) are a yes, and what is to be said of it."""
    if ((score > 0.5) == yes).all():
        return 0.5, []
    least, most = score[yes].min(initial=1.0), score[~yes].max(initial=0.0)
    if least > most:
        middle = float((least + most) / 2)
        return middle, [
            f"'prediction' was made with a threshold between {most:.4g} and {least:.4g}; {middle:.4g} is used."
        ]
    return 0.5, ["No threshold gives the column 'prediction'; a threshold of .5 is used instead."]


class Columns(NamedTuple):
    """How the columns of a table are read: the truths, and the threshold that the predictions were made with."""

    truths: Callable[[pd.Series, tuple[str, ...], str], Encoded]
    decided_at: Callable[[pd.Series, Floats, Sequence[str]], tuple[Threshold, list[str]]]


COLUMNS: dict[LabelTask, Columns] = {
    "binary": Columns(_pair_truths, _pair_threshold),
    "multi-class": Columns(_class_truths, _no_threshold),
    "multi-label": Columns(_set_truths, _set_thresholds),
}
