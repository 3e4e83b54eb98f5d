"""Which attribute tells the label without a look at the picture: what a network may learn in place of the disease."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, random_table

from hounsfield.cohorts.cohort import OWN_COLUMNS
from hounsfield.cohorts.scan import HEADER_TEXTS, Scan
from hounsfield.cohorts.targets import TARGETS

# An attribute is reported when it passes both: the family-wise error of one audit, and Cohen's (1988) small effect.
SIGNIFICANCE = 0.01
LEAST_STRENGTH = 0.1
# Levels with fewer samples are joined as "other"; numbers with more distinct values are cut in five.
LEAST_SAMPLES = 5
MOST_VALUES = 10
OTHER, UNKNOWN = "other", "unknown"
# Where a finding lies is part of the annotation, and known for the positive images alone.
ANNOTATIONS = frozenset({"z0", "y0", "x0", "z1", "y1", "x1"})
REPLICATES = 9999
# The approximation by the chi-square distribution needs this much in every cell (Cochran 1954).
LEAST_EXPECTED = 5.0


@dataclass(frozen=True)
class Shortcut:
    """How well one attribute alone predicts the label.

    Attributes:
        attribute: a column of the table, a fact of the headers, or a property of the files.
        label: the label that it predicts; ``None`` for the whole set of labels of a binary or multi-class task.
        strength: Cramér's V, corrected for bias: 0 for none, 1 when the attribute gives the label away.
        accuracy: balanced accuracy of guessing the label from the attribute alone, each sample left out in turn.
        chance: balanced accuracy of guessing blindly.
        p_value: of independence, adjusted by Holm's method for all the tests of the audit.
        num_samples: independent samples that were tested: one image per patient.
        counts: level → label → samples.
    """

    attribute: str
    label: str | None
    strength: float
    accuracy: float
    chance: float
    p_value: float
    num_samples: int
    counts: dict[str, dict[str, int]]

    @property
    def at_risk(self) -> bool:
        """Whether the association is beyond chance and not negligible."""
        return self.p_value < SIGNIFICANCE and self.strength >= LEAST_STRENGTH


def shortcuts(scanned: Scan, *, seed: int = 0) -> tuple[Shortcut, ...]:
    """Test every attribute against the label, strongest first.

    Several images of one patient are not independent, so one of each patient, drawn by ``seed``, takes part. Pearson's
    chi-square test of the table of levels by labels is used; where expected counts are small its null distribution is
    drawn by Monte Carlo with the margins fixed (Patefield 1981). P-values are adjusted for multiple comparisons by
    Holm (1979), strength is Cramér's V with the correction of Bergsma (2013, "A bias-correction for Cramér's V and
    Tschuprow's T", equation 8).
    """
    rows = independent_rows(scanned, seed)
    attributes = {name: levels_of(values.iloc[rows]) for name, values in attribute_columns(scanned).items()}
    tests = []
    for label, truth in TARGETS[scanned.cohort.family].questions(scanned.cohort, rows):
        answers = in_fifths(truth)
        for attribute, levels in attributes.items():
            table = pd.crosstab(levels, answers)
            if min(table.shape) > 1:
                tests.append((attribute, label, table))
    generator = np.random.default_rng(seed)
    adjusted = holm(np.array([independence_p_value(table.to_numpy(), generator) for *_, table in tests]))
    found = [_shortcut(*test, float(p_value)) for test, p_value in zip(tests, adjusted, strict=True)]
    return tuple(sorted(found, key=lambda one: (-one.strength, one.attribute, one.label or "")))


def attribute_columns(scanned: Scan) -> dict[str, pd.Series[Any]]:
    """All that is known of a row besides picture, label, patient and split; a table's column wins over a header's."""
    given, facts = scanned.cohort.table, scanned.table
    columns = {str(name): given[name] for name in given.columns if name not in {*OWN_COLUMNS, *ANNOTATIONS}}
    headers = {name: facts[name] for name in (*HEADER_TEXTS, "age", "modality", "orientation")}
    files = {
        "file type": given["image"].map(lambda reference: PurePosixPath(str(reference)).suffix.lower() or None),
        "image rows": facts["shape"].map(lambda shape: shape[-2] if shape else None),
        "image columns": facts["shape"].map(lambda shape: shape[-1] if shape else None),
        "image slices": facts["shape"].map(lambda shape: shape[0] if len(shape) == 3 else None),
        "pixel spacing": facts["spacing"].map(lambda spacing: spacing[-1], na_action="ignore"),
        "pixel type": facts["dtype"],
        "stored bits": facts["bits"],
        "channels": facts["channels"],
        "colour": facts["grey"].map({True: "grey", False: "colour"}),
    }
    return {name: values.reset_index(drop=True) for name, values in {**files, **headers, **columns}.items()}


def independent_rows(scanned: Scan, seed: int) -> NDArray[np.int64]:
    """One readable, labelled row of each patient, and every such row whose patient is not known."""
    usable = np.flatnonzero(scanned.readable & scanned.cohort.table["label"].notna().to_numpy())
    shuffled = np.random.default_rng(seed).permutation(usable)
    patients = scanned.patients.iloc[shuffled]
    return np.sort(shuffled[(~patients.duplicated() | patients.isna()).to_numpy()])


def levels_of(values: pd.Series[Any]) -> pd.Series[Any]:
    """A few named levels: many-valued numbers in fifths, rare levels joined, missing values a level of their own."""
    values = in_fifths(values.reset_index(drop=True))
    levels = values.astype(object).where(values.notna(), UNKNOWN).astype(str)
    counts = levels.value_counts()
    return levels.where(levels.map(counts) >= LEAST_SAMPLES, OTHER)


def in_fifths(values: pd.Series[Any]) -> pd.Series[Any]:
    """Many-valued numbers in fifths; anything else as it is."""
    numbers = pd.to_numeric(values, errors="coerce")
    numeric = bool((numbers.notna() == values.notna()).all())
    many = numeric and numbers.nunique() > MOST_VALUES
    return pd.qcut(numbers, 5, duplicates="drop").astype(object) if many else values


def _shortcut(attribute: str, label: str | None, table: pd.DataFrame, p_value: float) -> Shortcut:
    counts = table.to_numpy()
    return Shortcut(
        attribute=attribute,
        label=label,
        strength=cramers_v(counts),
        accuracy=accuracy_alone(counts),
        chance=1 / counts.shape[1],
        p_value=p_value,
        num_samples=int(counts.sum()),
        counts={str(level): {str(name): int(n) for name, n in row.items()} for level, row in table.iterrows()},
    )


def chi_square(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Pearson's statistic of one table (levels, labels) or of many (tables, levels, labels) with positive margins."""
    values = np.asarray(counts, dtype=np.float64)
    expected = _expected(values)
    return np.asarray((np.square(values - expected) / expected).sum(axis=(-2, -1)))


def _expected(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    total = counts.sum(axis=(-2, -1), keepdims=True)
    return np.asarray(counts.sum(axis=-1, keepdims=True) * counts.sum(axis=-2, keepdims=True) / total)


def independence_p_value(counts: NDArray[Any], generator: np.random.Generator) -> float:
    """Probability of a statistic as great as this one when levels and labels are independent."""
    statistic = float(chi_square(counts))
    if _expected(counts.astype(np.float64)).min() >= LEAST_EXPECTED:
        return float(chi2.sf(statistic, (counts.shape[0] - 1) * (counts.shape[1] - 1)))
    drawn = random_table(counts.sum(axis=1), counts.sum(axis=0), seed=generator).rvs(size=REPLICATES)
    # Equal tables must compare as equal whatever the rounding of their sums.
    as_great = int((chi_square(drawn) >= statistic * (1 - 1e-9)).sum())
    return (1 + as_great) / (1 + REPLICATES)


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values for multiple tests so that the family-wise error is held (Holm 1979)."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p_values[order] * factors))
    return adjusted


def cramers_v(counts: NDArray[Any]) -> float:
    """Cramér's V of a table (levels, labels), corrected for bias (Bergsma 2013)."""
    total = float(counts.sum())
    num_levels, num_labels = counts.shape
    excess = float(chi_square(counts)) / total - (num_levels - 1) * (num_labels - 1) / (total - 1)
    least = min(size - (size - 1) ** 2 / (total - 1) for size in counts.shape)
    return float(np.sqrt(max(0.0, excess) / (least - 1))) if least > 1 else 0.0


def accuracy_alone(counts: NDArray[Any]) -> float:
    """Balanced accuracy of guessing the label by its relative frequency in the level, each sample left out in turn.

    At least that of guessing blindly: where an attribute tells nothing, the sample that is left out tips its level to
    the other label, and every guess would be wrong.
    """
    totals = counts.sum(axis=0)
    num_labels = counts.shape[1]
    right = np.zeros(num_labels)
    for label in range(num_labels):
        left_out = np.eye(num_labels, dtype=np.int64)[label]
        shares = (counts - left_out) / np.maximum(totals - left_out, 1)
        guessed = (counts[:, label] > 0) & (shares.argmax(axis=1) == label)
        right[label] = counts[guessed, label].sum() / totals[label]
    return float(max(right.mean(), 1 / num_labels))
