"""Reading the labels of a table, from one column of text or from several of zeros and ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from hounsfield.cohorts.labels import split_labels, tidy
from hounsfield.cohorts.uncertain import DEFAULT, Policy, are_flags, codes_of, settle, settle_one
from hounsfield.cohorts.words import plain_name, tokens
from hounsfield.errors import CohortError
from hounsfield.tasks import SEPARATOR, TASKS, Task

# Columns that are attributes by their name, so that zeros and ones in them are not taken for labels.
ATTRIBUTES = frozenset(
    {
        *("image", "patient", "split", "sex", "age", "view", "site", "manufacturer", "scanner", "laterality", "gender"),
        *("male", "female", "fold", "kfold", "cvfold", "patientid", "subjectid", "studyid", "imageid", "id", "subject"),
        *("participant", "mrn", "lesionid", "bmi", "weight", "height", "date", "siteid", "machineid", "followup"),
    }
)
# Names of the column that holds the labels, in lower case without spaces and underlines.
LABEL_NAMES = frozenset(
    {
        *("label", "labels", "class", "classname", "diagnosis", "dx", "target", "category", "pathology", "group"),
        *("finding", "findings", "findinglabels", "grade", "outcome", "disease", "condition"),
    }
)
# Among lists of labels these mean that there is none.
NO_FINDING = re.compile(r"no[ _\-]?findings?|normal|none|healthy|negative", re.IGNORECASE)
# Words of columns that describe a patient, an image or its making, and are no finding unless they are asked for.
ATTRIBUTE_WORDS = frozenset(
    {
        *(
            "view",
            "position",
            "projection",
            "laterality",
            "side",
            "orientation",
            "plane",
            "sequence",
            "modality",
            "phase",
        ),
        *("visit", "series", "slice", "instance", "rows", "columns", "width", "height", "spacing", "magnification"),
        *("device", "machine", "scanner", "vendor", "manufacturer", "hospital", "center", "centre", "site", "batch"),
        *("sex", "gender", "age", "race", "ethnicity", "smoker", "smoking", "quality", "source", "year", "month"),
        *("geschlecht", "alter", "seite", "datum", "aufnahmedatum", "gerät", "hersteller", "klinik", "bemerkung"),
        *("description", "comment", "comments", "notes", "report", "anatom", "localization", "procedure", "rater"),
    }
)
# A list as Python writes it.
LITERAL = re.compile(r"[\[({].*[\])}]", re.DOTALL)
# Columns that name something by their name: patient_id, StudyInstanceUID, file_name.
IDENTIFIER_NAME = re.compile(
    r"(^|[ _\-])(ids?|uids?|path|file|filename|url|name|date|time)$|(ID|Id|UID|Uid)$", re.IGNORECASE
)
# More values than this are measurements or texts.
MOST_CLASSES = 20
NUM_NAMED = 5


@dataclass(frozen=True)
class Labels:
    """The labels of a table.

    Attributes:
        text: of each row; ``None`` for a row to leave out.
        columns: where they came from.
        several: whether an image may have several.
        notes: what was decided.
        unknown: of several labels, those of which it is not known whether they hold, joined likewise.
    """

    text: pd.Series[str]
    columns: list[str]
    several: bool
    notes: list[str]
    unknown: pd.Series[str] | None = None


def read_labels(
    table: pd.DataFrame, label_columns: Sequence[str], task: Task | None, where: str, policy: Policy = DEFAULT
) -> Labels:
    """Read the labels of a table.

    Args:
        table: has a column ``image``, for messages.
        label_columns: the columns that hold the labels, or nothing to have them found.
        task: the task that is expected, if any.
        where: the table, for messages.
        policy: what uncertain and missing labels count as.

    Raises:
        CohortError: there are no such columns, a label is missing, or several columns hold more than zeros and ones.
    """
    wanted = list(label_columns) or _find_label_columns(table, where)
    require_columns(table, wanted, where)
    if len(wanted) > 1:
        return _several_columns(table, wanted, where, policy, asked=bool(label_columns))
    labels, notes = tidy(table[wanted[0]])
    if not label_columns and wanted[0] != "label":
        notes.append(f"The labels were read from the column '{wanted[0]}'.")
    listed, told = _listed(labels)
    if listed is not None:
        return Labels(listed, wanted, True, [*notes, *told])
    labels, told = settle_one(labels, wanted[0], policy, task)
    notes += told
    several = (task is not None and TASKS[task].multi_label) or bool(labels.str.contains(SEPARATOR, regex=False).any())
    if several:
        labels = labels.map({text: SEPARATOR.join(sorted(set(split_labels(text)))) for text in labels.unique()})
    elif (labels == "").any():
        rows = table["image"][labels == ""]
        raise CohortError(
            f"Found no label for {len(rows)} of the {len(table)} images of {where}, first '{rows.iloc[0]}'. Expected "
            f"one for each in the column '{wanted[0]}'. Fill them, or leave these images out with --missing ignore."
        )
    return Labels(labels, wanted, several, notes)


def require_columns(table: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    """Refuse label columns that are not in the table.

    Raises:
        CohortError: one is not.
    """
    absent = [column for column in columns if column not in table.columns]
    if absent:
        raise CohortError(
            f"There is no label column '{absent[0]}' in {where}: found {', '.join(table.columns)}. Name one of these."
        )


def _listed(labels: pd.Series[str]) -> tuple[pd.Series[str] | None, list[str]]:
    """Labels that are lists in one cell, with ``;`` between them; ``None`` where they are no lists.

    A vertical bar is never part of a name. A semicolon separates by our own rule; where words such as ``No Finding``
    stand among lists, they mean that an image has none of the labels.
    """
    distinct = [text for text in labels.unique() if text]
    if distinct and all(LITERAL.fullmatch(text) for text in distinct):
        # PadChest and others write the lists of Python.
        plain = labels.str.strip("[]{}()").str.replace(r"""['"]""", "", regex=True)
        labels = plain.str.replace(r"\s*,\s*", "|", regex=True)
        distinct = [*(text for text in labels.unique() if text), "|"]
    separator = next((sign for sign in ("|", SEPARATOR) if any(sign in text for text in distinct)), None)
    if separator is None and _are_comma_lists(distinct):
        separator = ","
    if separator is None:
        return None, []
    names = {text: sorted({part.strip() for part in text.split(separator) if part.strip()}) for text in labels.unique()}
    none = sorted({part for parts in names.values() for part in parts if NO_FINDING.fullmatch(part)})
    texts = {text: SEPARATOR.join(part for part in parts if part not in none) for text, parts in names.items()}
    notes = (
        []
        if separator == SEPARATOR
        else [f"The labels are lists with '{separator}' between them: an image may have several, or none."]
    )
    if none:
        notes.append(f"'{', '.join(none)}' means that an image has none of the labels.")
    return labels.map(texts), notes


def _are_comma_lists(distinct: Sequence[str]) -> bool:
    """Whether commas separate labels: each part of a list occurs as a label of its own, or in several lists."""
    lists = [[part.strip() for part in text.split(",")] for text in distinct if "," in text]
    if not lists:
        return False
    single = {text for text in distinct if "," not in text}
    counts = Counter(part for parts in lists for part in parts)
    return all(part in single or counts[part] > 1 for part in counts) and bool(single & set(counts))


def label_column_of(columns: Sequence[str]) -> list[str]:
    """The columns that hold labels by their names: ``label`` itself, or all that are called so in the field."""
    named = [column for column in columns if column.lower() == "label"]
    if "label" in named or len(named) == 1:
        return ["label"] if "label" in named else named
    return [column for column in columns if plain_name(column) in LABEL_NAMES]


def label_columns_of(table: pd.DataFrame) -> list[str]:
    """The columns of a table that may hold its labels: one of text, or several of zeros and ones; empty for none."""
    named = label_column_of([str(column) for column in table.columns])
    if named:
        return named
    prefixed = [column for column in table.columns if column.startswith("label_")]
    others = [column for column in table.columns if plain_name(column) not in ATTRIBUTES]
    columns = prefixed or [column for column in others if are_flags(table[column])]
    return columns if len(columns) > 1 else []


def lone_label(table: pd.DataFrame) -> str | None:
    """The only column that can hold labels, where it has few values; without the column that names the images."""
    found = label_candidates(table)
    if len(found) != 1:
        return None
    return found[0] if 2 * len(table[found[0]].unique()) <= len(table) and _few(table[found[0]]) else None


def _few(values: pd.Series[str]) -> bool:
    return len(values.unique()) <= MOST_CLASSES


def is_identifier(column: str) -> bool:
    """Whether a column names something, such as ``study_id``; ``class_id`` and ``disease_name`` are labels."""
    return bool(IDENTIFIER_NAME.search(column)) and not LABEL_NAMES & set(tokens(column))


def label_candidates(table: pd.DataFrame) -> list[str]:
    """The columns that are neither attributes nor identifiers by their names, and hold several values."""
    return [
        str(column)
        for column in table.columns
        if plain_name(column) not in ATTRIBUTES
        and not ATTRIBUTE_WORDS & set(tokens(str(column)))
        and not is_identifier(str(column))
        and len(table[column].unique()) > 1
    ]


def _find_label_columns(table: pd.DataFrame, where: str) -> list[str]:
    named = label_column_of([str(column) for column in table.columns])
    if len(named) > 1:
        raise CohortError(
            f"The columns {', '.join(named)} of {where} may all hold the labels. Choose with --label-column."
        )
    found = named or label_columns_of(table)
    if not found and (lone := lone_label(table)) is not None:
        return [lone]
    if not found:
        maybe = ", ".join(f"'{column}' ({_holds(table[column])})" for column in label_candidates(table)[:NUM_NAMED])
        raise CohortError(
            f"Found no labels in {where}: expected a column 'label', or columns of zeros and ones named after the "
            f"labels, and found {maybe or ', '.join(map(str, table.columns))}. Name the column with --label-column."
        )
    return found


def _holds(values: pd.Series[str]) -> str:
    distinct = list(dict.fromkeys(values.astype(str)))
    return f"{len(distinct):,} values such as {', '.join(distinct[:3])}"


def _several_columns(table: pd.DataFrame, columns: list[str], where: str, policy: Policy, *, asked: bool) -> Labels:
    wrong = [column for column in columns if not are_flags(table[column])]
    if wrong:
        found = ", ".join(repr(str(value)) for value in table[wrong[0]].unique()[:NUM_NAMED])
        raise CohortError(
            f"The label column '{wrong[0]}' of {where} holds {found}: expected 0 or 1 in each of several label "
            "columns (or -1 where it is uncertain). Correct the values, or name a single label column."
        )
    codes = pd.DataFrame({column.removeprefix("label_"): codes_of(table[column]) for column in columns})
    if any(SEPARATOR in column for column in codes.columns):
        raise CohortError(f"A label column of {where} has '{SEPARATOR}' in its name. Rename it.")
    named = f"Labels were read from {len(columns)} columns ({', '.join(columns)})"
    settled = settle(codes, policy, asked=asked)
    if settled.exclusive:
        notes = [f"{named}; each image has exactly one, so they exclude each other.", *settled.notes]
        return Labels(settled.labels, columns, False, notes)
    notes = [f"{named}; an image may have several, or none.", *settled.notes]
    return Labels(settled.labels, columns, True, notes, settled.unknown)
