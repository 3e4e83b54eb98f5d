"""Joining tables of one set by their keys: labels by study, splits by image, attributes by patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.table_files import IMAGE_SUFFIX, read_table, table_stem
from hounsfield.cohorts.words import plain_name
from hounsfield.errors import CohortError, UsageError

# A column is a key where at least this share of the values of one table occurs in the other.
LEAST_OVERLAP = 0.5
# A column of more distinct values than half of this may be a key under another name.
MANY_VALUES = 100
# Keys of more columns than this would be a coincidence.
MOST_COLUMNS = 3


@dataclass(frozen=True)
class Key:
    """The columns by which two tables fit together.

    Attributes:
        left: of the one table.
        right: of the other, in the same order.
        names: whether the values are compared as names of files, without folder and suffix.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    names: bool = False

    @property
    def text(self) -> str:
        """For notes."""
        pairs = zip(self.left, self.right, strict=True)
        return ", ".join(one if one == other else f"{one} = {other}" for one, other in pairs)


def join_files(table: pd.DataFrame, path: Path, others: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Join further tables to one, each in turn.

    Args:
        table: of ``path``.
        path: for messages, and the folder in which the others are looked for where they are not found as they are.
        others: each ``FILE``, ``FILE:COLUMN`` or ``FILE:COLUMN=COLUMN`` with the key, which is found otherwise.

    Raises:
        CohortError: a file is not there, no key is found, or its values are repeated in both tables.
    """
    notes: list[str] = []
    for text in others:
        other, chosen = _file_and_key(text, path)
        right = read_table(other).drop_duplicates(ignore_index=True)
        key = _chosen_key(table, right, chosen, other) if chosen else _found_key(table, right, path, other)
        table, told = _merge(table, right, key, path, other)
        notes += told
    return table, notes


def fits_together(left: pd.DataFrame, right: pd.DataFrame) -> bool:
    """Whether a key is found by which two tables can be joined."""
    try:
        _found_key(left, right, Path("a"), Path("b"))
    except CohortError:
        return False
    return True


def joined_paths(path: Path, others: Sequence[str]) -> set[Path]:
    """The files that :func:`join_files` reads beside ``path``."""
    return {_file_and_key(text, path)[0].resolve() for text in others}


def _file_and_key(text: str, path: Path) -> tuple[Path, str]:
    folder = path if path.is_dir() else path.parent
    whole, _, key = text.rpartition(":")
    for name, chosen in ((text, ""), (whole, key)):
        for place in (Path(name).expanduser(), folder / name):
            if name and place.is_file():
                return place, chosen
    raise CohortError(
        f"There is no table '{text}' (--join), here or in {folder}. Give the path of a table, and after a colon its "
        "key where it is not found, as in --join patients.csv:patient_id."
    )


def _chosen_key(left: pd.DataFrame, right: pd.DataFrame, chosen: str, other: Path) -> Key:
    one, _, two = chosen.partition("=")
    for column, table in ((one, left), (two or one, right)):
        if column not in table.columns:
            raise UsageError(
                f"There is no column '{column}' to join {other.name} by (--join): found "
                f"{', '.join(map(str, table.columns))}. Name one of these."
            )
    plain = Key((one,), (two or one,))
    as_names = Key(plain.left, plain.right, names=True)
    return plain if _overlap(left, right, plain) >= _overlap(left, right, as_names) else as_names


def _found_key(left: pd.DataFrame, right: pd.DataFrame, path: Path, other: Path) -> Key:
    """The key of fewest columns by which rows fit together and that is unique in one of the tables."""
    fitting = [key for key in _candidates(left, right) if _overlap(left, right, key) >= LEAST_OVERLAP]
    single = [key for key in fitting if _is_key(left, key.left) or _is_key(right, key.right)]
    if single:
        return max(single, key=lambda key: (key.left == key.right, _num_shared(left, right, key)))
    same = [key.left[0] for key in fitting if key.left == key.right]
    for count in range(2, MOST_COLUMNS + 1):
        for columns in combinations(sorted(same, key=lambda column: -left[column].nunique()), count):
            if _is_key(left, columns) or _is_key(right, columns):
                return Key(columns, columns)
    raise CohortError(
        f"Found no column by which {other.name} (columns {', '.join(map(str, right.columns))}) fits {path.name} "
        f"(columns {', '.join(map(str, left.columns))}): expected values that occur in both, each once in one of them. "
        f"Name the key, as in --join '{other.name}:COLUMN' or '{other.name}:COLUMN=OTHER_COLUMN'."
    )


def _candidates(left: pd.DataFrame, right: pd.DataFrame) -> Iterator[Key]:
    """Pairs of columns: of the same name, and of others whose values may be the same."""
    for one in left.columns:
        for two in right.columns:
            if plain_name(one) == plain_name(two) or 2 * min(left[one].nunique(), right[two].nunique()) > min(
                len(left), len(right), 100
            ):
                yield Key((one,), (two,))
                yield Key((one,), (two,), names=True)


def _distinct(table: pd.DataFrame, column: str) -> bool:
    """Whether a column has many values: few, such as 0 and 1, are shared by chance."""
    return 2 * table[column].nunique() > min(len(table), MANY_VALUES)


def _values(table: pd.DataFrame, columns: Sequence[str], *, names: bool) -> pd.Series[str]:
    """The key of each row as one text; empty where a part is."""
    parts = []
    for column in columns:
        text = table[column].astype(object).where(table[column].notna(), "").astype(str).str.strip()
        text = text.str.replace(r"^([+-]?\d+)\.0+$", r"\1", regex=True)
        if names:
            text = text.str.replace("\\", "/", regex=False).str.rsplit("/", n=1).str[-1]
            text = text.str.replace(IMAGE_SUFFIX, "", regex=True)
        parts.append(text)
    joined = parts[0].str.cat(pd.concat(parts[1:], axis=1), sep="\0") if len(parts) > 1 else parts[0]
    empty = pd.concat([part == "" for part in parts], axis=1).any(axis=1)
    return joined.mask(empty, "")


def _overlap(left: pd.DataFrame, right: pd.DataFrame, key: Key) -> float:
    one = set(_values(left, key.left, names=key.names)) - {""}
    two = set(_values(right, key.right, names=key.names)) - {""}
    return len(one & two) / max(1, min(len(one), len(two))) if len(one & two) > 1 else 0.0


def _num_shared(left: pd.DataFrame, right: pd.DataFrame, key: Key) -> int:
    return len(set(_values(left, key.left, names=key.names)) & set(_values(right, key.right, names=key.names)))


def _is_key(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    return not table.duplicated(list(columns)).any()


def _merge(
    left: pd.DataFrame, right: pd.DataFrame, key: Key, path: Path, other: Path
) -> tuple[pd.DataFrame, list[str]]:
    one = left.assign(_key=_values(left, key.left, names=key.names))
    two = right.assign(_key=_values(right, key.right, names=key.names))
    two = two[two["_key"] != ""]
    by_right = two["_key"].is_unique
    if not by_right and not one["_key"].is_unique:
        raise CohortError(
            f"Found values of {key.text} in several rows of {path.name} and of {other.name}, first "
            f"'{two['_key'][two['_key'].duplicated()].iloc[0]}': expected each once in one of the tables. Name another "
            f"key, as in --join '{other.name}:COLUMN'."
        )
    found = one["_key"].isin(two["_key"])
    if not found.any():
        raise CohortError(
            f"No value of {key.text} is in both {path.name} and {other.name}. Name another key, as in --join "
            f"'{other.name}:COLUMN'."
        )
    shared = [column for column in right.columns if column in left.columns]
    renamed = {column: f"{column} ({table_stem(other)})" for column in shared}
    merged = one.merge(two.rename(columns=renamed), on="_key", how="left" if by_right else "inner")
    merged, differing = _without_repeated(merged, renamed)
    notes = [_told(key, path, other, int(found.sum()), len(left), len(merged))]
    if differing:
        notes.append(f"{', '.join(differing)} differ from the columns of the same name in {path.name}: both were kept.")
    return merged.drop(columns="_key").reset_index(drop=True), notes


def _without_repeated(merged: pd.DataFrame, renamed: dict[str, str]) -> tuple[pd.DataFrame, list[str]]:
    """Columns that both tables have, once where they agree; a value that one table lacks is that of the other."""
    differing = []
    for column, other in renamed.items():
        ours, theirs = (
            merged[name].astype(object).where(merged[name].notna(), "").astype(str) for name in (column, other)
        )
        if ((ours == theirs) | (ours == "") | (theirs == "")).all():
            merged[column] = ours.where(ours != "", theirs)
            merged = merged.drop(columns=other)
        elif _values(merged, [column], names=True).equals(_values(merged, [other], names=True)):
            merged = merged.drop(columns=other)
        else:
            differing.append(other)
    return merged, differing


def _told(key: Key, path: Path, other: Path, num_found: int, total: int, rows: int) -> str:
    told = f"{other.name} was joined to {path.name} by {key.text}: {num_found:,} of {total:,} rows were found"
    return f"{told}, which make {rows:,} rows." if rows > total else f"{told}."
