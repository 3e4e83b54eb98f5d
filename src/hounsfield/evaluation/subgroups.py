"""Which cases belong together: every attribute column as groups, numbers in bins, and the pairs of two columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Booleans, Floats, Integers

# What a table of samples or predictions holds beside attributes of its cases.
NO_ATTRIBUTES = frozenset(
    {
        *("sample", "image", "label", "truth", "prediction", "patient", "split", "score", "unknown_labels", "mask"),
        *("top_view", "view_weights"),
        *("z0", "y0", "x0", "z1", "y1", "x1"),
    }
)
PROBABILITY = re.compile(r"^p_")
IDENTIFIER = re.compile(r"(?i)(^|[_ .-])u?id$|(study|series|instance)uid$")
AGE = re.compile(r"(?i)(^|[_ .-])age($|[_ .-])")
AGE_EDGES = (18.0, 40.0, 60.0, 80.0)
OLDEST = 125.0
MAX_LEVELS = 20  # more distinct texts than this are names, not groups
MAX_NUMBERS = 10  # more distinct numbers than this are cut in bins
NUM_BINS = 4
MAX_ATTRIBUTES = 20
MAX_PAIRS = 1000  # groups of two attributes; more would take long, and each would be small
UNKNOWN = "not recorded"


@dataclass(frozen=True, eq=False)
class Attribute:
    """One column as groups.

    Attributes:
        name: of the column.
        levels: the name of each group; a missing value is a group of its own.
        codes: (n,) the level of each case.
        binning: how numbers were cut; empty where they were not.
    """

    name: str
    levels: tuple[str, ...]
    codes: Integers
    binning: str = ""


@dataclass(frozen=True, eq=False)
class Subgroup:
    """The cases that share the level of one attribute, or of two.

    Attributes:
        parts: (column, level) of each attribute.
        rows: (n,) whether a case belongs to it.
    """

    parts: tuple[tuple[str, str], ...]
    rows: Booleans

    @property
    def name(self) -> str:
        """How a table or a sentence calls it."""
        return " and ".join(f"{column} = {level}" for column, level in self.parts)


def read_attributes(table: pd.DataFrame) -> tuple[tuple[Attribute, ...], tuple[str, ...]]:
    """Make groups of every column that describes the cases.

    Columns that belong to the table of samples itself (paths, labels, probabilities, boxes, identifiers) are passed
    over. Numbers with more than ten distinct values are cut in bins: ages at 18, 40, 60 and 80 years, others in four
    bins of equal size.

    Args:
        table: one row a case.

    Returns:
        The attributes, and what was left out or decided, in plain words.
    """
    found: list[Attribute] = []
    notes: list[str] = []
    for column in map(str, table.columns):
        if column in NO_ATTRIBUTES or PROBABILITY.search(column) or IDENTIFIER.search(column):
            continue
        attribute = make_attribute(column, table[column])
        if len(attribute.levels) > MAX_LEVELS:
            notes.append(f"'{column}' was left out: {len(attribute.levels):,} distinct values are too many for groups.")
        elif (twin := next((known for known in found if _same_groups(known, attribute)), None)) is not None:
            notes.append(f"'{column}' was left out: it makes the same groups as '{twin.name}'.")
        elif len(attribute.levels) > 1 and len(found) == MAX_ATTRIBUTES:
            notes.append(
                f"'{column}' was left out: only the first {MAX_ATTRIBUTES} columns that make groups are compared."
            )
        elif len(attribute.levels) > 1:
            found.append(attribute)
            notes += [f"'{column}' was divided into bins: {attribute.binning}."] if attribute.binning else []
    return tuple(found), tuple(notes)


def _same_groups(first: Attribute, second: Attribute) -> bool:
    """Whether two attributes put the same cases together, by whatever names."""
    pairs = len(np.unique(np.column_stack([first.codes, second.codes]), axis=0))
    return pairs == len(first.levels) == len(second.levels)


def make_attribute(name: str, values: pd.Series[Any]) -> Attribute:
    """Make groups of one column.

    Args:
        name: of the column.
        values: (n,) of any type.
    """
    if not pd.api.types.is_numeric_dtype(values):
        values = values.astype(object).map(_scalar)
    codes, distinct = pd.factorize(values, use_na_sentinel=True)
    known = pd.Series(distinct)
    numbers = pd.to_numeric(known, errors="coerce") if values.dtype != bool else pd.Series(np.nan, known.index)
    binning = ""
    if numbers.notna().all() and len(numbers) > MAX_NUMBERS:
        edges, binning = _edges(name, np.asarray(numbers, dtype=np.float64)[codes[codes >= 0]])
        names = np.array(_bin_names(edges), dtype=object)
        texts = names[np.searchsorted(edges, numbers.to_numpy(dtype=np.float64), side="right")]
        order = list(names)
    else:
        texts = np.array([_text(value) for value in known], dtype=object)
        order = sorted(set(texts), key=_natural)
    of_case = np.append(texts, UNKNOWN)[codes]
    levels = [level for level in dict.fromkeys([*order, UNKNOWN]) if level in set(of_case)]
    index = pd.Index(levels)
    return Attribute(name, tuple(levels), np.asarray(index.get_indexer(pd.Index(of_case)), dtype=np.int64), binning)


def _scalar(value: Any) -> Any:
    """A number, a text or nothing as it is; anything else, such as a date or a list, as text."""
    missing = value is None or value is pd.NaT or value is pd.NA
    return None if missing else value if isinstance(value, str | int | float | np.generic) else str(value)


def _text(value: Any) -> str:
    """A level as a person writes it: 1.0 and 1 are one level."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _natural(text: str) -> tuple[bool, float, str]:
    """Numbers in their order, then texts in theirs."""
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _edges(name: str, numbers: Floats) -> tuple[list[float], str]:
    """Inner edges of the bins, and how they were chosen."""
    if AGE.search(name) and ((numbers >= 0) & (numbers <= OLDEST)).all():
        inner = [edge for edge in AGE_EDGES if numbers.min() < edge <= numbers.max()]
        return inner, f"years, at {', '.join(f'{edge:g}' for edge in inner)}"
    quantiles = np.quantile(numbers, np.arange(1, NUM_BINS) / NUM_BINS)
    inner = sorted({float(f"{edge:.3g}") for edge in quantiles if edge > numbers.min()})
    return inner, f"{len(inner) + 1} of about equal size, at {', '.join(f'{edge:g}' for edge in inner)}"


def _bin_names(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    middle = [f"{low:g} to below {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *middle, f"{edges[-1]:g} and above"]


def single_groups(attributes: Iterable[Attribute]) -> list[Subgroup]:
    """The groups of each attribute by itself."""
    return [
        Subgroup(((attribute.name, level),), attribute.codes == code)
        for attribute in attributes
        for code, level in enumerate(attribute.levels)
    ]


def paired_groups(attributes: Sequence[Attribute]) -> tuple[list[Subgroup], tuple[str, ...]]:
    """The groups that two attributes make together, where they have a case.

    Returns:
        The groups, of the pairs with the fewest levels first, and which pairs were left out because there were more
        than a thousand groups.
    """
    pairs = sorted(combinations(attributes, 2), key=_size)
    found: list[Subgroup] = []
    left: list[str] = []
    for pair in pairs:
        if len(found) + _size(pair) > MAX_PAIRS:
            left.append(" and ".join(attribute.name for attribute in pair))
        else:
            found += _crossed(*pair)
    notes = (f"Pairs with too many groups were left out: {', '.join(left)}.",) if left else ()
    return found, notes


def _size(pair: tuple[Attribute, Attribute]) -> int:
    return len(pair[0].levels) * len(pair[1].levels)


def _crossed(first: Attribute, second: Attribute) -> Iterator[Subgroup]:
    for (one, level), (two, other) in product(enumerate(first.levels), enumerate(second.levels)):
        rows = (first.codes == one) & (second.codes == two)
        if rows.any():
            yield Subgroup(((first.name, level), (second.name, other)), rows)


def check_rows(table: pd.DataFrame, num_cases: int) -> None:
    """Look whether a table has one row a case.

    Raises:
        EvaluationError: it has not.
    """
    if len(table) != num_cases:
        raise EvaluationError(
            f"The table of attributes has {len(table):,} rows for {num_cases:,} cases; one a case is needed, in the "
            "same order. Take both from the same table."
        )
