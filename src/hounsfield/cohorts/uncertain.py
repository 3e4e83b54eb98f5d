"""Labels that a table calls uncertain (−1) or leaves empty: what they count as, and what is said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hounsfield.cohorts.labels import MISSING, join_columns
from hounsfield.errors import UsageError
from hounsfield.tasks import Task

# More distinct numbers than this are no grades.
MOST_GRADES = 20
UNCERTAIN = ("ignore", "positive", "negative", "class")
MISSING_CHOICES = ("ignore", "negative")
ONES, ZEROS, DOUBTS = {"1", "1.0", "true"}, {"0", "0.0", "false"}, {"-1", "-1.0"}
# Says of an image that it has none of the findings; of CheXpert's labels all but this one are findings.
NO_FINDING = "nofinding"
NO_FINDINGS = frozenset({"supportdevices"})


@dataclass(frozen=True)
class Policy:
    """What labels count as that are neither yes nor no.

    Attributes:
        uncertain: −1: ``ignore`` (left out of the loss and of every figure), ``positive``, ``negative``, or ``class``
            (a label of its own).
        missing: empty: ``ignore`` or ``negative``.
        leave_out: whether images with an empty label of any kind are left out, as it was asked for.
    """

    uncertain: str = "ignore"
    missing: str = "ignore"
    leave_out: bool = False

    def __post_init__(self) -> None:
        for name, chosen, known in (
            ("uncertain", self.uncertain, UNCERTAIN),
            ("missing", self.missing, MISSING_CHOICES),
        ):
            if chosen not in known:
                raise UsageError(f"'{chosen}' is not known (--{name}): expected {', '.join(known)}.")


DEFAULT = Policy()


@dataclass(frozen=True)
class Settled:
    """Several columns of labels after the policy.

    Attributes:
        labels: those that hold, ``;`` between them.
        unknown: likewise those of which it is not known; ``None`` where there are none.
        exclusive: whether each image has exactly one, of columns that hold nothing but zeros and ones.
        notes: what was decided.
    """

    labels: pd.Series[str]
    unknown: pd.Series[str] | None
    exclusive: bool
    notes: tuple[str, ...]


def are_flags(values: pd.Series[str]) -> bool:
    """Whether a column holds zeros and ones, apart from −1 and empty cells."""
    distinct = {_plain(value) for value in values.unique()} - MISSING
    return bool(distinct - DOUBTS) and distinct <= ONES | ZEROS | DOUBTS


def codes_of(values: pd.Series[str]) -> pd.Series[float]:
    """1, 0, −1 and NaN for empty of such a column."""
    named = {**dict.fromkeys(ONES, 1.0), **dict.fromkeys(ZEROS, 0.0), **dict.fromkeys(DOUBTS, -1.0)}
    return values.map({value: named.get(_plain(value), np.nan) for value in values.unique()}).astype(float)


def settle(codes: pd.DataFrame, policy: Policy, *, asked: bool) -> Settled:
    """Apply a policy to several columns of labels.

    A column ``No Finding`` is no label unless it was asked for: where it is 1, the findings that are empty are absent.

    Args:
        codes: 1, 0, −1 and NaN, a column per label.
        policy: what −1 and NaN count as.
        asked: whether the columns were named by the user.
    """
    notes: list[str] = []
    if not asked:
        codes, notes = _without_no_finding(codes)
    doubtful, empty = codes == -1, codes.isna()
    values, unknown = codes == 1, pd.DataFrame(data=False, index=codes.index, columns=codes.columns)
    if policy.uncertain == "positive":
        values |= doubtful
    elif policy.uncertain == "class":
        apart = doubtful.loc[:, doubtful.any()].add_suffix(" uncertain")
        values = pd.concat([values, apart], axis=1)
    elif policy.uncertain == "ignore":
        unknown |= doubtful
    if policy.missing == "ignore":
        unknown |= empty
    notes += _notes(int(doubtful.to_numpy().sum()), int(empty.to_numpy().sum()), policy, codes.size)
    never = [str(column) for column in values.columns if not values[column].any()]
    if never:
        notes.append(f"No image has the label {', '.join(never)}: the column holds no 1, and was left out.")
    unknown = unknown.drop(columns=[column for column in never if column in unknown.columns])
    plain = not doubtful.to_numpy().any() and not empty.to_numpy().any()
    return Settled(
        join_columns(values),
        join_columns(unknown) if unknown.to_numpy().any() else None,
        plain and bool((values.sum(axis=1) == 1).all()),
        tuple(notes),
    )


def settle_one(
    labels: pd.Series[str], column: str, policy: Policy, task: Task | None = None
) -> tuple[pd.Series[str], list[str]]:
    """Apply a policy to one column of 0 and 1, or of grades, that also holds −1 or empty cells.

    Any other column stays as it is, but for empty cells that were asked to be left out.

    Args:
        labels: tidied text.
        column: its name, for the notes.
        policy: what −1 and empty cells count as.
        task: that is expected, if any.

    Returns:
        The labels, ``None`` for rows to leave out, and notes.

    Raises:
        UsageError: −1 among grades was asked to be positive or negative.
    """
    values = set(labels.unique()) - {"-1", ""}
    binary = values == {"0", "1"}
    graded = task != "regression" and 2 <= len(values) <= MOST_GRADES and all(text.isdecimal() for text in values)
    doubtful, empty = labels == "-1", labels == ""
    if not graded:
        doubtful = doubtful & False
    if not binary and not policy.leave_out:
        # Of grades and names it is not plain that an empty cell means "not known".
        empty = empty & False
    if not doubtful.any() and not empty.any():
        return labels, []
    if doubtful.any() and not binary and policy.uncertain in {"positive", "negative"}:
        raise UsageError(
            f"The column '{column}' holds grades and {int(doubtful.sum()):,} times -1, which cannot be "
            f"{policy.uncertain} (--uncertain). Give --uncertain ignore or class."
        )
    settled = labels.astype(object)
    if policy.uncertain != "class":
        settled = settled.mask(doubtful, {"positive": "1", "negative": "0"}.get(policy.uncertain))
    settled = settled.mask(empty, "0" if policy.missing == "negative" and binary else None)
    notes = _notes(int(doubtful.sum()), int(empty.sum()), policy, len(labels))
    return settled, [f"{note[:-1]} (column '{column}')." for note in notes]


def _without_no_finding(codes: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    named = [column for column in codes.columns if _name(column) == NO_FINDING]
    findings = [column for column in codes.columns if column not in named and _name(column) not in NO_FINDINGS]
    if len(named) != 1 or len(findings) < 2:
        return codes, []
    none = codes[named[0]] == 1
    kept = codes.drop(columns=named)
    absent = kept[findings].isna() & none.to_numpy()[:, None]
    kept[findings] = kept[findings].mask(absent, 0.0)
    note = f"'{named[0]}' is no label of its own (name it with --label-column to have it one)"
    if absent.to_numpy().any():
        note += f": where it is 1, the findings that are empty ({int(absent.to_numpy().sum()):,}) are absent"
    return kept, [f"{note}."]


def _notes(doubtful: int, empty: int, policy: Policy, total: int) -> list[str]:
    read = {
        "ignore": "were ignored: they count neither in the loss nor in any figure",
        "positive": "count as positive, as asked",
        "negative": "count as negative, as asked",
        "class": "are a label of their own, as asked",
    }
    notes = []
    if doubtful:
        others = (
            "" if policy.uncertain != "ignore" else "; --uncertain positive, negative or class reads them otherwise"
        )
        notes.append(f"{doubtful:,} of {total:,} labels are uncertain (-1) and {read[policy.uncertain]}{others}.")
    if empty:
        others = "" if policy.missing != "ignore" else "; --missing negative reads them as absent"
        notes.append(f"{empty:,} of {total:,} labels are missing and {read[policy.missing]}{others}.")
    return notes


def _plain(value: object) -> str:
    return str(value).strip().lower()


def _name(column: object) -> str:
    return "".join(sign for sign in str(column).lower() if sign.isalnum())
