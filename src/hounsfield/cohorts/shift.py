"""In what two cohorts differ: labels, attributes, and plain figures of their images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from hounsfield.cohorts.scan import Scan
from hounsfield.cohorts.shortcuts import (
    attribute_columns,
    cramers_v,
    holm,
    independence_p_value,
    independent_rows,
    levels_of,
)
from hounsfield.cohorts.targets import TARGETS

Kind = Literal["label", "attribute", "figure"]
# What is reported passes both, as a shortcut does.
SIGNIFICANCE = 0.01
LEAST_STRENGTH = 0.1
# Figures of each image, in plain words.
FIGURES = {
    "minimum": "least value",
    "low": "percentile 1",
    "mean": "mean value",
    "high": "percentile 99",
    "maximum": "greatest value",
    "deviation": "deviation of values",
    "at_minimum": "share at the least value",
    "at_maximum": "share at the greatest value",
}
LABEL = "label"


@dataclass(frozen=True)
class Shift:
    """How one quantity differs between two cohorts.

    Attributes:
        name: of the quantity.
        kind: "label", "attribute" (of a table or header) or "figure" (of the pixels).
        strength: Cramér's V with Bergsma's correction for levels, the Kolmogorov-Smirnov distance for figures: 0 for
            none, 1 where one image tells its cohort.
        p_value: of no difference, adjusted by Holm's method for all quantities.
        first: level → share in the first cohort, or the figure's quartiles by name.
        second: the same of the second.
    """

    name: str
    kind: Kind
    strength: float
    p_value: float
    first: dict[str, float]
    second: dict[str, float]

    @property
    def notable(self) -> bool:
        """Whether the difference is beyond chance and not negligible."""
        return self.p_value < SIGNIFICANCE and self.strength >= LEAST_STRENGTH


def shifts(first: Scan, second: Scan, *, seed: int = 0) -> tuple[Shift, ...]:
    """Test every quantity that both cohorts have, strongest difference first.

    One image of each patient takes part, drawn by ``seed``. Levels are compared by Pearson's chi-square test (by Monte
    Carlo where cells are small), figures by the test of Kolmogorov and Smirnov.

    Args:
        first: what is known already, such as the training data.
        second: what is compared with it.
        seed: of the drawing.
    """
    rows = [independent_rows(scanned, seed) for scanned in (first, second)]
    generator = np.random.default_rng(seed)
    found = [*_level_tests(first, second, rows, generator), *_figure_tests(first, second, rows)]
    adjusted = holm(np.array([one.p_value for one in found]))
    tested = [replace(one, p_value=float(p_value)) for one, p_value in zip(found, adjusted, strict=True)]
    return tuple(sorted(tested, key=lambda one: (-one.strength, one.name)))


def _level_tests(
    first: Scan, second: Scan, rows: list[NDArray[np.int64]], generator: np.random.Generator
) -> Iterator[Shift]:
    columns = [_levelled(scanned, chosen) for scanned, chosen in zip((first, second), rows, strict=True)]
    if set(first.cohort.labels) != set(second.cohort.labels):
        columns[0] = {name: values for name, values in columns[0].items() if not name.startswith(LABEL)}
    for name in columns[0]:
        # What one cohort knows nothing of is no difference between the two.
        if name not in columns[1] or any(column[name].isna().all() for column in columns):
            continue
        levels = levels_of(pd.concat([columns[0][name], columns[1][name]], ignore_index=True))
        of_second = np.arange(len(levels)) >= len(columns[0][name])
        table = pd.crosstab(levels, of_second)
        if min(table.shape) < 2:
            continue
        shares = table / table.sum()
        kind: Kind = "label" if name == LABEL or name.startswith(f"{LABEL} ") else "attribute"
        p_value = independence_p_value(table.to_numpy(), generator)
        before, after = (
            {str(level): round(float(share), 4) for level, share in shares[side].items()} for side in (False, True)
        )
        yield Shift(name, kind, cramers_v(table.to_numpy()), p_value, before, after)


def _levelled(scanned: Scan, rows: NDArray[np.int64]) -> dict[str, pd.Series[Any]]:
    """Attributes and labels of some rows; each label that may come with others is a question of its own."""
    cohort = scanned.cohort
    questions = TARGETS[cohort.family].questions(cohort, rows)
    columns = {LABEL if label is None else f"{LABEL} {label}": answers for label, answers in questions}
    attributes = {name: values.iloc[rows].reset_index(drop=True) for name, values in attribute_columns(scanned).items()}
    return {**attributes, **columns}


def _figure_tests(first: Scan, second: Scan, rows: list[NDArray[np.int64]]) -> Iterator[Shift]:
    for column, name in FIGURES.items():
        values = [
            scanned.table[column].iloc[chosen].dropna().to_numpy(dtype=np.float64)
            for scanned, chosen in zip((first, second), rows, strict=True)
        ]
        if min(map(len, values)) < 2 or np.ptp(np.concatenate(values)) == 0:
            continue
        outcome = ks_2samp(values[0], values[1], method="asymp")
        before, after = ({f"{share}%": float(np.percentile(each, share)) for share in (25, 50, 75)} for each in values)
        yield Shift(name, "figure", float(outcome.statistic), float(outcome.pvalue), before, after)


def picture_descriptions(first: Scan, second: Scan) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """A vector for each readable image, by which a classifier may tell the cohorts apart.

    The thumbnail that the scan keeps (256 cells of an image, 1,728 of a volume), and the figures of its values.

    Returns:
        (n, F) and (m, F), in the order of the readable rows; ``None`` where the two have images of different rank.
    """
    sizes = {len(thumbnail) for scanned in (first, second) for thumbnail in scanned.table["thumbnail"].dropna()}
    if len(sizes) != 1:
        return None
    length = sizes.pop()
    return _described(first, length), _described(second, length)


def _described(scanned: Scan, length: int) -> NDArray[np.float64]:
    table = scanned.table[scanned.readable]
    blank = bytes(length)
    thumbnails = np.stack(
        [np.frombuffer(one if isinstance(one, bytes) else blank, dtype=np.int8) for one in table["thumbnail"]]
    )
    figures = np.nan_to_num(table[list(FIGURES)].to_numpy(dtype=np.float64), posinf=0.0, neginf=0.0)
    return np.hstack([thumbnails.astype(np.float64), figures])
