"""Tables of predictions over time against those of validation: figures, flags, agreement, and what the charts say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.charts import Charts, Reference
from hounsfield.evaluation.novelty import FALSE_ALARMS
from hounsfield.evaluation.outcomes import Floats
from hounsfield.evaluation.predictions import (
    PATIENT_COLUMN,
    PREDICTION_COLUMN,
    PROBABILITY_PREFIX,
    TRUTH_COLUMNS,
    read_table,
)
from hounsfield.evaluation.value_tables import VALUE_COLUMN

CLIP = 1e-6
TIME_COLUMNS = ("time", "date")
# Columns of predictions that are neither inputs nor scores.
OTHERS = frozenset(
    {
        *("image", "sample", "split", "set", "answer", "confidence", "flags", "low", "high", "disagreement", "views"),
        *("top_view", "view_weights", "out_of_distribution", PREDICTION_COLUMN, PATIENT_COLUMN),
        *(*TRUTH_COLUMNS, *TIME_COLUMNS, "unknown_labels"),
    }
)
# More figures would each get a smaller share of the false alarms.
MOST_FIGURES = 12
# Images of one row of the table of what was seen.
WINDOW = 200
ABSTAINED = "abstain"
OOD, ABSTENTIONS, DISAGREEMENT = "out of distribution", "abstentions", "disagreement with readers"
QUALITY = "image quality"
# The words of `predict`'s flags for faults of acquisition and export, and the share of good images that get one.
FAULTS = frozenset({"rotated", "cut", "collimated", "blurred", "clipped"})
FAULTY = 0.02
RESIDUAL = "truth minus prediction"


@dataclass(frozen=True)
class Alarm:
    """An alarm.

    Attributes:
        number: of the image in the stream, from 1 on.
        time: of the image; empty where the table has none.
        chart: that alarmed.
    """

    number: int
    time: str
    chart: str


@dataclass(frozen=True, eq=False)
class Monitoring:
    """What the charts say of a stream.

    Attributes:
        names: of the charts.
        paths: (n, charts) statistics as a share of their limits.
        alarms: in the order of time.
        windows: of each so many images, what was seen.
        run_length: images between two false alarms.
        reference: how many validation images the limits rest on.
        notes: what was decided or left out.
    """

    names: tuple[str, ...]
    paths: Floats
    alarms: tuple[Alarm, ...]
    windows: tuple[dict[str, Any], ...]
    run_length: float
    reference: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        charts = {
            name: {"last": float(path[-1]), "largest": float(path.max())}
            for name, path in zip(self.names, self.paths.T, strict=True)
        }
        return {
            "images": len(self.paths),
            "validation_images": self.reference,
            "images_between_false_alarms": self.run_length,
            "alarms": [vars(alarm) for alarm in self.alarms],
            "charts": charts,
            "windows": list(self.windows),
            "notes": list(self.notes),
        }


def monitor(reference: pd.DataFrame, stream: pd.DataFrame, *, run_length: float = 2000, seed: int = 0) -> Monitoring:
    """Follow a stream of predictions with charts whose limits come from validation.

    Watched are the log odds of each label or the value, the out-of-distribution score and any other column of numbers
    that both tables have; the shares of images out of distribution, of faulty images and of abstentions; and, where the
    stream has truths, disagreement and the difference of truth and prediction.

    Args:
        reference: predictions of validation images.
        stream: predictions in the order of time, or with a column ``time`` or ``date``.
        run_length: images between two false alarms of any chart.
        seed: of the simulation of the limits.

    Raises:
        EvaluationError: the tables have nothing in common, or validation is too small.
    """
    stream, times = _in_time(stream)
    if stream.empty:
        raise EvaluationError("The tables hold no prediction. Give tables with at least one row.")
    known, seen, notes = _figures(reference, stream)
    flags, told = _flags(reference, stream)
    patients = _patients(reference)
    charts = Charts.fit(Reference(known, flags, patients), run_length=run_length, seed=seed)
    paths, alarms = charts.follow(seen, told)
    names = charts.reference.names
    found = tuple(Alarm(number + 1, times[number], names[chart]) for number, chart in alarms)
    windows = _windows(times, seen, told, {each.number for each in found})
    return Monitoring(tuple(names), paths, found, windows, run_length, len(reference), tuple(notes))


def read_stream(paths: Sequence[Path]) -> pd.DataFrame:
    """Tables of predictions, one after the other."""
    return pd.concat([read_table(path) for path in paths], ignore_index=True)


def with_readings(stream: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """The stream with the truths that came later, joined by ``image``.

    Raises:
        EvaluationError: one of the tables has no images, or an image has two readings.
    """
    column = next((name for name in TRUTH_COLUMNS if name in readings), None)
    if column is None or "image" not in readings or "image" not in stream:
        raise EvaluationError(
            f"The readings have the columns {', '.join(map(str, readings.columns))}; expected 'image' and the truth as "
            "'truth' or 'label', and 'image' in the predictions too."
        )
    if readings["image"].duplicated().any():
        twice = readings.loc[readings["image"].duplicated(), "image"].iloc[0]
        raise EvaluationError(f"The readings have '{twice}' twice. Leave one of them.")
    kept = stream.drop(columns=[name for name in TRUTH_COLUMNS if name in stream])
    return kept.assign(truth=kept["image"].map(readings.set_index("image")[column]))


def _in_time(stream: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    column = next((name for name in TIME_COLUMNS if name in stream), None)
    if column is None:
        return stream.reset_index(drop=True), [""] * len(stream)
    values = stream[column]
    try:
        # A format that is guessed would take 03/04 for a day of March or of April, and change the order in silence.
        times = pd.to_datetime(values, format=None if pd.api.types.is_numeric_dtype(values) else "ISO8601")
    except (ValueError, TypeError) as error:
        raise EvaluationError(
            f"The column '{column}' cannot be read as times ({' '.join(str(error).split()):.200}). Write them as "
            "2026-03-01 or 2026-03-01T08:30."
        ) from error
    if unknown := int(times.isna().sum()):
        raise EvaluationError(
            f"The column '{column}' is empty in {unknown:,} of {len(times):,} rows, so their place in the order is not "
            "known. Fill it, or remove the column from tables that are in the order of time."
        )
    order = np.argsort(times.to_numpy(), kind="stable")
    return stream.iloc[order].reset_index(drop=True), [str(each) for each in times.iloc[order]]


def _scores(table: pd.DataFrame) -> dict[str, Floats]:
    """Log odds of each label; of two labels the second is enough."""
    columns = [str(name) for name in table.columns if str(name).startswith(PROBABILITY_PREFIX)]
    columns = columns[1:] if len(columns) == 2 else columns
    return {
        f"log odds of {name.removeprefix(PROBABILITY_PREFIX)}": special.logit(
            np.clip(_numbers(table[name]), CLIP, 1 - CLIP)
        )
        for name in columns
    }


def _figures(reference: pd.DataFrame, stream: pd.DataFrame) -> tuple[dict[str, Floats], dict[str, Floats], list[str]]:
    known, seen, notes = _scores(reference), _scores(stream), []
    for name in map(str, reference.columns):
        if name in OTHERS or name.startswith(PROBABILITY_PREFIX) or name not in stream:
            continue
        if pd.api.types.is_numeric_dtype(reference[name]) and pd.api.types.is_numeric_dtype(stream[name]):
            known[name], seen[name] = _numbers(reference[name]), _numbers(stream[name])
    before, now = _residual(reference), _residual(stream)
    if before is not None and now is not None:
        known[RESIDUAL], seen[RESIDUAL] = before, now
    common = [name for name in known if name in seen and not np.isnan(known[name]).any() and np.ptp(known[name]) > 0]
    if left := [name for name in known if name not in common]:
        notes.append(f"Not watched, as validation or the stream lacks them: {', '.join(left)}.")
    if len(common) > MOST_FIGURES:
        notes.append(f"Only the first {MOST_FIGURES} figures are watched, not {', '.join(common[MOST_FIGURES:])}.")
        common = common[:MOST_FIGURES]
    if not common:
        raise EvaluationError(
            f"Validation has the columns {', '.join(map(str, reference.columns))}, and the stream "
            f"{', '.join(map(str, stream.columns))}: no figure is in both. Give predictions of the same model."
        )
    _require_outputs(reference, stream)
    notes += [
        f"{name}: missing in {missing:,} of {len(stream):,} rows, which this figure leaves out."
        for name in common
        if name != RESIDUAL and (missing := int(np.isnan(seen[name]).sum()))
    ]
    return {name: known[name] for name in common}, {name: seen[name] for name in common}, notes


def outputs_of(table: pd.DataFrame) -> set[str]:
    """The columns of a table that hold what a model predicts in numbers."""
    return {
        str(name) for name in table.columns if str(name) == VALUE_COLUMN or str(name).startswith(PROBABILITY_PREFIX)
    }


def _require_outputs(reference: pd.DataFrame, stream: pd.DataFrame) -> None:
    """Refuse predictions of another model, of which inputs alone would be watched, or outputs without any number."""
    known, seen = outputs_of(reference), outputs_of(stream)
    if known != seen:
        before, now = (", ".join(sorted(each)) or "no output" for each in (known, seen))
        raise EvaluationError(
            f"Validation has {before}, and the stream {now}: these are not predictions of the same model. Give those "
            "of the model that is watched."
        )
    for name in sorted(seen):
        if np.isnan(_numbers(stream[name])).all():
            raise EvaluationError(
                f"The column '{name}' of the stream holds no number, so the model cannot be watched by it. Write "
                "numbers such as 0.25."
            )


def _truth(table: pd.DataFrame) -> pd.Series[Any] | None:
    name = next((each for each in TRUTH_COLUMNS if each in table), None)
    return None if name is None else table[name]


def _residual(table: pd.DataFrame) -> Floats | None:
    """How far the truth is from what was predicted, in standard deviations of the prediction; of a value plainly."""
    truth = _truth(table)
    columns = [str(name) for name in table.columns if str(name).startswith(PROBABILITY_PREFIX)]
    if truth is None:
        return None
    if VALUE_COLUMN in table and not columns:
        return _numbers(truth) - _numbers(table[VALUE_COLUMN])
    if len(columns) != 2:
        return None
    probability = np.clip(_numbers(table[columns[1]]), CLIP, 1 - CLIP)
    positive = (truth.astype(str) == columns[1].removeprefix(PROBABILITY_PREFIX)).to_numpy(np.float64)
    positive[truth.isna().to_numpy()] = np.nan
    return np.asarray((positive - probability) / np.sqrt(probability * (1 - probability)))


def _flags(reference: pd.DataFrame, stream: pd.DataFrame) -> tuple[dict[str, Floats], dict[str, Floats]]:
    known: dict[str, Floats] = {}
    seen: dict[str, Floats] = {}
    if "out_of_distribution" in stream:
        seen[OOD] = _booleans(stream["out_of_distribution"])
        # Where validation was not flagged, its limit is made for this share.
        known[OOD] = (
            _booleans(reference["out_of_distribution"])
            if "out_of_distribution" in reference
            else _every(len(reference), FALSE_ALARMS)
        )
    if "flags" in stream:
        seen[QUALITY] = _faulty(stream["flags"])
        known[QUALITY] = _faulty(reference["flags"]) if "flags" in reference else _every(len(reference), FAULTY)
    if "answer" in stream and "answer" in reference:
        for side, table in ((known, reference), (seen, stream)):
            side[ABSTENTIONS] = np.asarray(table["answer"].astype(str) == ABSTAINED, dtype=np.float64)
    before, now = _disagreement(reference), _disagreement(stream)
    if before is not None and now is not None:
        known[DISAGREEMENT], seen[DISAGREEMENT] = before, now
    return known, seen


def _every(count: int, share: float) -> Floats:
    """Flags of that share of so many images, evenly."""
    return np.asarray(np.arange(count) % round(1 / share) == 0, dtype=np.float64)


def _faulty(flags: pd.Series[Any]) -> Floats:
    """Whether any of the flags of an image names a fault of its acquisition or export."""
    words = flags.fillna("").astype(str).str.split(";")
    return np.asarray([not FAULTS.isdisjoint(each) for each in words], dtype=np.float64)


def _disagreement(table: pd.DataFrame) -> Floats | None:
    truth = _truth(table)
    if truth is None or PREDICTION_COLUMN not in table:
        return None
    differs = truth.astype(str) != table[PREDICTION_COLUMN].astype(str)
    wrong = np.asarray(differs, dtype=np.float64).copy()
    wrong[truth.isna().to_numpy()] = np.nan
    return wrong


def _patients(reference: pd.DataFrame) -> Any:
    if PATIENT_COLUMN not in reference or reference[PATIENT_COLUMN].isna().any():
        return np.arange(len(reference))
    return np.unique(reference[PATIENT_COLUMN].astype(str), return_inverse=True)[1]


def _numbers(values: pd.Series[Any]) -> Floats:
    return np.asarray(pd.to_numeric(values, errors="coerce"), dtype=np.float64)


def _booleans(values: pd.Series[Any]) -> Floats:
    return np.asarray(values.astype(str).str.lower().isin({"true", "1", "1.0"}), dtype=np.float64)


def _windows(
    times: Sequence[str], figures: dict[str, Floats], flags: dict[str, Floats], alarms: set[int]
) -> tuple[dict[str, Any], ...]:
    """The mean of each figure and the share of each flag in every ``WINDOW`` images."""
    rows = []
    for start in range(0, len(times), WINDOW):
        part = slice(start, min(start + WINDOW, len(times)))
        means = {name: _mean(values[part]) for name, values in {**figures, **flags}.items()}
        row = {"first": start + 1, "last": part.stop, "from": times[start], "to": times[part.stop - 1]}
        rows.append({**row, **means, "alarms": sum(start < number <= part.stop for number in alarms)})
    return tuple(rows)


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) and math.isfinite(known.mean()) else None
