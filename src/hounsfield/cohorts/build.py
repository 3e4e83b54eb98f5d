"""From a table whose images are settled to a cohort: labels, patients, splits and attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import yaml

from hounsfield.cohorts.cohort import UNKNOWN, Cohort
from hounsfield.cohorts.faults import together
from hounsfield.cohorts.folds import fold_column, shared_patients, splits_elsewhere
from hounsfield.cohorts.label_columns import read_labels
from hounsfield.cohorts.labels import check_known, check_labels, class_order, positive_note, split_labels, task_of, tidy
from hounsfield.cohorts.options import NUM_NAMED, Options, Origin
from hounsfield.cohorts.table_files import is_table, read_table
from hounsfield.cohorts.uncertain import Policy
from hounsfield.cohorts.value_columns import check_values, task_of_column
from hounsfield.cohorts.words import SPLIT_WORDS, patient_of_path, plain_name
from hounsfield.errors import CohortError, UsageError
from hounsfield.tasks import SEPARATOR, TASKS, family_of

# Columns that are taken for the patient where none is called so; in lower case without spaces and underlines.
PATIENT_COLUMNS = frozenset(
    {
        *("patientid", "patients", "patientnumber", "subject", "subjectid", "participant", "participantid", "mrn"),
        *("patnr", "patientnr", "patientennr", "patientennummer", "patientenid", "fallnummer"),
        *("lesionid", "pid", "personid", "caseid", "wsi", "slide", "slideid"),
    }
)


def build_cohort(table: pd.DataFrame, options: Options, origin: Origin, notes: Sequence[str]) -> Cohort:
    """Labels, patients, splits and attributes of a table whose column ``image`` is settled.

    Raises:
        CohortError: see ``labels.check_labels``; also contradicting rows, missing labels and unknown splits.
    """
    table, told = drop_repeated_rows(table, origin.where)
    table, renamed = name_patients(table, options, origin.where)
    policy = Policy(options.uncertain or "ignore", options.missing or "ignore", leave_out=options.missing == "ignore")
    wanted = options.label_columns or _named_value(table, options)
    read, (splits, split_notes) = together(
        lambda: read_labels(table, wanted, options.task, origin.where, policy),
        lambda: read_splits(table, options, origin.where),
    )
    columns: dict[str, pd.Series[str]] = {"image": table["image"], "label": read.text}
    if read.unknown is not None:
        columns[UNKNOWN] = read.unknown
    columns["patient"] = optional_column(table, "patient")
    columns["split"] = splits
    attributes = [column for column in table.columns if column not in {*columns, *read.columns}]
    final = pd.DataFrame(columns)
    for column in attributes:
        final[column] = attribute(table[column])
    given = final["split"].notna().any()
    final, num_rows = final[final["label"].notna()].reset_index(drop=True), len(final)
    if given and len(final) < num_rows:
        split_notes = [*split_notes, f"Of these, the labels leave {_sizes(final['split'])}."]
    # Patients that were chosen are read again from the same column.
    found = list(dict.fromkeys([*notes, *told, *renamed, *read.notes, *split_notes]))
    return labelled_cohort(final, options, origin, several=read.several, notes=found, column=read.columns[0])


def _named_value(table: pd.DataFrame, options: Options) -> tuple[str, ...]:
    """The column that is called like the value that a network predicts, where there is one."""
    expected = options.labels[:1] if options.task == "regression" else ()
    return tuple(name for name in expected if name in table.columns)


def labelled_cohort(
    table: pd.DataFrame,
    options: Options,
    origin: Origin,
    *,
    several: bool,
    notes: Sequence[str],
    order: Sequence[str] = (),
    column: str = "",
) -> Cohort:
    """Name and check the labels and put the cohort together.

    Args:
        table: the columns of ``Cohort.table``.
        options: what the user chose.
        origin: where the table comes from.
        several: whether an image may have several labels.
        notes: what was decided so far.
        order: the class order, where the data has one of its own.
        column: of a table, in which the labels stand.

    Raises:
        CohortError: see ``labels.check_labels``, ``labels.check_known`` and ``value_columns.check_values``.
        UsageError: the positive label is not one of two.
    """
    if options.class_names is not None:
        table, order = _renamed(table, options.class_names, order, several=several)
    parts = table["label"].unique()
    found = sorted({part for text in parts for part in (split_labels(text) if several else [text])})
    asked, label_notes = options.task, list[str]()
    if not several and not options.labels and not order:
        indices = not column or origin.kind == "class folders"
        name = f"The column '{column}'" if column else "The array of labels"
        asked, label_notes = task_of_column(table["label"], asked, column=name, indices=indices)
    if asked is not None and family_of(asked) == "values":
        task, grades = asked, check_values(table["label"], asked, origin.where)
        labels = options.labels or grades or (column or "value",)
        if grades:
            check_known(found, labels, origin.where)
    elif options.labels:
        check_known(found, options.labels, origin.where)
        labels = options.labels
        task = asked or task_of(labels, several=several)
    else:
        task = asked or task_of(found, several=several)
        label_notes += check_labels(table, task, origin.where)
        labels = tuple(order) or class_order(found)
    told, binary = [*notes, *label_notes], TASKS[task].paired
    if options.positive is not None and not options.labels:
        labels = _with_positive(labels, options.positive, binary=binary)
    if binary:
        told.append(positive_note(labels, chosen=options.positive is not None or bool(options.labels or order)))
    return Cohort(table, task, labels, origin.source, origin.kind, origin.name, tuple(told), places=dict(origin.places))


def _with_positive(labels: tuple[str, ...], positive: str, *, binary: bool) -> tuple[str, ...]:
    if not binary or positive not in labels:
        what = f"the labels are {', '.join(labels)}" if binary else f"there are {len(labels)} labels and not two"
        raise UsageError(
            f"'{positive}' cannot be the positive label (--positive): {what}. Name one of two labels, or leave it out."
        )
    return (next(label for label in labels if label != positive), positive)


def _renamed(
    table: pd.DataFrame, path: Path, order: Sequence[str], *, several: bool
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table with the names of a file in place of the labels; labels that are not in the file stay."""
    names = read_class_names(path)
    found = {part for text in table["label"].unique() for part in (split_labels(text) if several else [text])}
    unnamed = sorted(found - set(names) - set(names.values()))
    if unnamed:
        raise CohortError(
            f"The labels {', '.join(unnamed[:NUM_NAMED])} have no name in {path}: found names for {', '.join(names)}. "
            "Add them to the file."
        )
    named = {
        text: SEPARATOR.join(names.get(part, part) for part in split_labels(text)) if several else names.get(text, text)
        for text in table["label"].unique()
    }
    # The file has an order of its own, such as that of grades.
    listed = [name for label, name in names.items() if label in found or name in found]
    if UNKNOWN in table.columns:
        unknown = {
            text: SEPARATOR.join(names.get(part, part) for part in split_labels(text)) for text in table[UNKNOWN]
        }
        table = table.assign(**{UNKNOWN: table[UNKNOWN].map(unknown)})
    return table.assign(label=table["label"].map(named)), tuple(dict.fromkeys(listed)) if not order else tuple(
        names.get(label, label) for label in order
    )


def read_class_names(path: Path) -> dict[str, str]:
    """Label → name from a file: a table of two columns, JSON or YAML (pairs or a list), or a text with a name per line.

    Raises:
        CohortError: the file is none of these.
    """
    try:
        content = _class_names(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        content, reason = None, " ".join(str(error).split())
    else:
        reason = "it holds no names"
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, dict) or not content:
        raise CohortError(
            f"Cannot read the names of the classes in {path} ({reason}): expected a table with the columns label and "
            "name, JSON or YAML with such pairs, or a text with one name per line, counted from 0."
        )
    return {str(label).strip(): str(name).strip() for label, name in content.items()}


def _class_names(path: Path) -> object:
    if is_table(path):
        table = read_table(path)
        return dict(zip(table.iloc[:, 0], table.iloc[:, 1], strict=True)) if len(table.columns) > 1 else None
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        return json.loads(text)
    if path.suffix.lower() in {".yaml", ".yml"}:
        return yaml.safe_load(text)
    return [line for line in text.splitlines() if line.strip()]


def name_patients(
    table: pd.DataFrame, options: Options | None = None, where: str = "the table"
) -> tuple[pd.DataFrame, list[str]]:
    """Settle the column ``patient``: as chosen, as it is, or a column such as PatientID; with a note.

    Raises:
        CohortError: there is no such column, or the pattern finds no patient in the path of an image.
    """
    if options is not None and options.patient_column is not None:
        column = options.patient_column
        if column not in table.columns:
            raise CohortError(
                f"There is no column '{column}' in {where} (--patient-column): found {', '.join(table.columns)}. Name "
                "one of these."
            )
        return table.assign(patient=table[column]), [f"The patients were read from the column '{column}', as asked."]
    if options is not None and options.patient_pattern is not None:
        return _patients_by_pattern(table, options.patient_pattern, where)
    if "patient" in table.columns:
        return table, []
    for column in table.columns:
        if plain_name(column) in PATIENT_COLUMNS:
            return table.rename(columns={column: "patient"}), [f"The column '{column}' was taken for the patient."]
    return table, []


def patients_by_folder(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Take folders such as ``patient00001`` for the patients, where neither the table nor a header names any."""
    if "patient" in table.columns and optional_column(table, "patient").notna().any():
        return table, []
    folders = [folder for image in table["image"] if (folder := patient_of_path(str(image))) is not None]
    if len(folders) < len(table) or len(set(folders)) < 2:
        return table, []
    note = f"The folders such as '{folders[0]}' were taken for the patients: {len(set(folders)):,}."
    return table.assign(patient=folders), [note]


def _patients_by_pattern(table: pd.DataFrame, pattern: str, where: str) -> tuple[pd.DataFrame, list[str]]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"'{pattern}' is no regular expression ({error}; --patient-pattern). Write one that finds the patient in "
            "the path of an image, such as 'patient(\\d+)'."
        ) from error
    matches = [compiled.search(image) for image in table["image"]]
    missed = [image for image, match in zip(table["image"], matches, strict=True) if match is None]
    if missed:
        raise CohortError(
            f"The pattern '{pattern}' (--patient-pattern) finds no patient in {len(missed):,} of {len(table):,} images "
            f"of {where}, first '{missed[0]}'. Correct the pattern, so that it fits every path."
        )
    patients = [match[1] if match.re.groups else match[0] for match in matches if match is not None]
    note = (
        f"The pattern '{pattern}' finds {len(set(patients)):,} patients, such as '{patients[0]}' of "
        f"{table['image'].iloc[0]}."
    )
    return table.assign(patient=patients), [note]


def attribute(values: pd.Series[str]) -> pd.Series[str]:
    """An attribute column with its values kept: empty text is missing, and text that is all numbers becomes numbers."""
    kept = values.where(values.astype(object) != "", None)
    present = kept.dropna()
    if present.empty or pd.api.types.is_numeric_dtype(kept.dtype):
        return kept
    numbers = pd.to_numeric(present, errors="coerce")
    leading_zeros = present.astype(str).str.match(r"[+-]?0\d").any()
    return kept if numbers.isna().any() or leading_zeros else pd.to_numeric(kept, errors="coerce")


def drop_repeated_rows(table: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """Keep one of rows that are equal, with a note.

    Raises:
        CohortError: two rows of one image say different things of it.
    """
    distinct = table.drop_duplicates()
    twice = distinct[distinct["image"].duplicated(keep=False)]
    if len(twice):
        image = twice["image"].iloc[0]
        rows = twice[twice["image"] == image]
        columns = [column for column in rows.columns if len(set(rows[column].astype(str))) > 1]
        raise CohortError(
            f"Found {twice['image'].nunique()} images in several rows of {where} that contradict each other, first "
            f"'{image}', whose rows differ in {', '.join(columns)}. Expected one row per image; several labels of one "
            f"image stand in one cell with '{SEPARATOR}' between them, or are taken together from its rows with "
            "--task multi-label."
        )
    if len(distinct) == len(table):
        return table, []
    note = f"{len(table) - len(distinct)} repeated rows were left out; each image counts once."
    return distinct.reset_index(drop=True), [note]


def read_splits(table: pd.DataFrame, options: Options, where: str) -> tuple[pd.Series[str], list[str]]:
    """The column ``split`` in this project's words, or nothing where there is none.

    Raises:
        CohortError: a word is not known, only some rows have a split, or none is for training.
    """
    if options.test_on is not None:
        return _tested_on(table, options.test_on, where)
    splits = optional_column(table, "split")
    if splits.isna().all():
        return splits, [*_folds_note(table), *splits_elsewhere(table)]
    words = {word: SPLIT_WORDS.get(str(word).strip().lower()) for word in splits.dropna().unique()}
    unknown = [str(word) for word, split in words.items() if split is None]
    if unknown:
        raise CohortError(
            f"Found {', '.join(repr(word) for word in unknown[:NUM_NAMED])} in the column 'split' of {where}: expected "
            "train, validation or test (training, val, valid and testing are understood too). Correct them, or rename "
            "the column if it means something else."
        )
    if splits.isna().any():
        raise CohortError(
            f"Found {int(splits.isna().sum())} of {len(table)} rows without a split in {where}: expected one for every "
            "row, or for no row. Fill them, or remove the column to have splits made."
        )
    final = splits.map(words).astype(object)
    return final, [f"The splits are given: {_sizes(final)}."]


def _sizes(splits: pd.Series[str]) -> str:
    sizes = splits.value_counts()
    return ", ".join(f"{sizes[split]} {split}" for split in ("train", "validation", "test") if split in sizes)


def _folds_note(table: pd.DataFrame) -> list[str]:
    """What is done with a column of folds."""
    column = fold_column(table)
    if column is None:
        return []
    told = f"The column '{column}' is no split; --test-on {column}=VALUE tests on one of its folds"
    known = table.assign(patient=optional_column(table, "patient"))
    if shared := shared_patients(known, column):
        return [f"{told}. {shared:,} patients are in several folds, so ensembles make folds of their own."]
    return [f"{told}, and ensembles are trained on them."]


def _tested_on(table: pd.DataFrame, choice: str, where: str) -> tuple[pd.Series[str], list[str]]:
    """The rows with a value are the test split, all others are for training."""
    column, _, value = choice.partition("=")
    if column not in table.columns or not value:
        raise UsageError(
            f"'{choice}' (--test-on) is not COLUMN=VALUE of {where}: its columns are {', '.join(table.columns)}. Write "
            "for example --test-on site=Lakeside."
        )
    tested = table[column].astype(str).str.strip() == value
    if tested.all() or not tested.any():
        values = sorted(set(table[column].astype(str)))[:12]
        raise CohortError(
            f"The column '{column}' of {where} is '{value}' in {int(tested.sum()):,} of {len(table):,} rows "
            f"(--test-on): expected some rows to test on and some to train on. It holds {', '.join(values)}."
        )
    splits = pd.Series(["test" if test else "train" for test in tested], index=table.index, dtype=object)
    return splits, [f"The {int(tested.sum()):,} rows with {column} = {value} are the test split, as asked."]


def optional_column(table: pd.DataFrame, column: str) -> pd.Series[str]:
    """A column as text, None where it is empty or the table lacks it."""
    if column not in table.columns:
        return pd.Series([None] * len(table), index=table.index, dtype=object)
    text, _ = tidy(table[column])
    return text.astype(object).where(text != "", None)
