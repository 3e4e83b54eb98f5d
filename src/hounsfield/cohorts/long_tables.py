"""Tables with several rows per image, made one row per image: a row per finding, or per reader."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hounsfield.cohorts.label_columns import ATTRIBUTES, LABEL_NAMES, label_columns_of
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.readers import ALL, HALF, chosen_reader, reader_column
from hounsfield.cohorts.table_files import IMAGE_SUFFIX
from hounsfield.cohorts.uncertain import are_flags, codes_of
from hounsfield.cohorts.words import plain_name
from hounsfield.errors import UsageError

# So many findings at most are columns.
MOST_FINDINGS = 100
# At least this share of the images has a row for every finding.
LEAST_WHOLE = 0.95


def widened(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """A table with a row for each image and finding and a column of zeros and ones, with a column per finding instead.

    The finding is the end of a name, as in ``ID_0a1b_epidural``, or stands in a column of its own, such as ``finding``.
    Any other table comes back as it is.
    """
    flags = [
        str(column)
        for column in table.columns
        if plain_name(column) not in ATTRIBUTES and are_flags(table[column]) and len(table[column].unique()) > 1
    ]
    if len(flags) != 1 or len(table) < 4:
        return table, []
    for column in table.columns:
        if column == flags[0]:
            continue
        ends = table[column].astype(str).str.rsplit("_", n=1, expand=True)
        if ends.shape[1] == 2 and ends[1].notna().all() and _are_findings(ends[0], ends[1]):
            long = table.assign(**{column: ends[0], "_finding": ends[1]})
            told = f"The values of '{column}' end in a finding ({_some(ends[1])}): each was made a column."
            return _pivoted(long, column, "_finding", flags[0]), [told]
    if any(_names_files_once(table[column]) for column in table.columns):
        return table, []
    for name in table.columns:
        for column in table.columns:
            named = plain_name(name) in LABEL_NAMES and name not in (flags[0], column) and column != flags[0]
            if named and _are_findings(table[column], table[name]):
                told = (
                    f"Each image has a row for each value of '{name}' ({_some(table[name])}), which were made columns."
                )
                return _pivoted(table, column, name, flags[0]), [told]
    return table, []


def _names_files_once(values: pd.Series[str]) -> bool:
    """Whether a column names another file of images in each row: then an image has one row."""
    return values.is_unique and all(IMAGE_SUFFIX.search(text) for text in values.astype(str))


def _are_findings(images: pd.Series[str], findings: pd.Series[str]) -> bool:
    """Whether (almost) every image has one row for each finding."""
    count = findings.nunique()
    if not 2 <= count <= MOST_FINDINGS or not findings.astype(str).str.contains(r"[^\W\d_]", regex=True).all():
        return False
    pairs = pd.DataFrame({"image": images, "finding": findings})
    distinct = pairs.drop_duplicates()
    # A pair that occurs often is no image's finding but two attributes of many.
    if len(distinct) < LEAST_WHOLE * len(pairs):
        return False
    per_image = distinct.groupby("image").size()
    return len(per_image) > 1 and bool((per_image == count).mean() >= LEAST_WHOLE)


def _pivoted(long: pd.DataFrame, image: str, finding: str, value: str) -> pd.DataFrame:
    order = list(dict.fromkeys(long[finding]))
    wide = long.pivot_table(index=image, columns=finding, values=value, aggfunc="first", sort=False)[order]
    wide.columns = [str(column) for column in wide.columns]
    others = [column for column in long.columns if column not in {image, finding, value}]
    same = [column for column in others if long.groupby(image)[column].nunique(dropna=False).max() == 1]
    facts = long.drop_duplicates(image).set_index(image)[same]
    return facts.join(wide).fillna("").reset_index()


def merge_rows(table: pd.DataFrame, options: Options) -> tuple[pd.DataFrame, list[str]]:
    """One row per image of a table whose images are settled: its readers' majority, or all labels of its rows.

    Raises:
        UsageError: every reader's labels were asked for, which do not make one truth.
        CohortError: there is no such reader.
    """
    notes: list[str] = []
    if (reader := reader_column(table)) is not None:
        table, notes = _by_readers(table, reader, options)
    if options.every_label:
        table, told = _listed(table, options)
        notes += told
    return table, notes


def _by_readers(table: pd.DataFrame, reader: str, options: Options) -> tuple[pd.DataFrame, list[str]]:
    if options.readers == ALL:
        raise UsageError(
            f"Every reader's labels (--readers {ALL}) do not make one truth per image. Give {HALF} (the labels that at "
            "least half of an image's readers gave), or the name of one reader."
        )
    if options.readers not in {None, HALF}:
        chosen = chosen_reader(table, reader, str(options.readers))
        return chosen, [f"The labels are those of the reader {options.readers}, as asked."]
    labels = list(options.label_columns) or label_columns_of(table)
    if not labels:
        return table, []
    several = all(are_flags(table[column]) for column in labels)
    merged = _majority_of_flags(table, labels) if several else _most_frequent(table, labels[0])
    distinct = table.groupby("image")[labels].nunique(dropna=False)
    agreed = float((distinct.max(axis=1) == 1).mean())
    first = table.drop_duplicates("image").set_index("image")
    constant = [column for column in first.columns if table.groupby("image")[column].nunique(dropna=False).max() == 1]
    kept = first[[column for column in constant if column not in labels]].join(merged)
    told = (
        f"{table[reader].nunique()} readers labelled {len(kept):,} images and agree on {agreed:.0%} of them: the "
        "labels that at least half of an image's readers gave were kept. --readers NAME takes those of one reader."
    )
    return kept.reset_index(), [told, *_undecided(kept, labels)]


def _undecided(kept: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    tied = int((kept[list(labels)] == "").any(axis=1).sum())
    return [f"{tied:,} images have a label on which their readers are evenly divided: it is missing."] if tied else []


def _majority_of_flags(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """1 where at least half of the readers who decided say so; empty where nobody did."""
    codes = pd.DataFrame({column: codes_of(table[column]) for column in labels})
    means = codes.where(codes >= 0).groupby(table["image"], sort=False).mean()
    return pd.DataFrame(
        np.where(means.isna(), "", np.where(means >= 0.5, "1", "0")), index=means.index, columns=means.columns
    )


def _most_frequent(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """The label that most readers gave; empty where two lead."""

    def leading(values: pd.Series[str]) -> str:
        modes = values[values.astype(str) != ""].mode()
        return str(modes.iloc[0]) if len(modes) == 1 else ""

    return table.groupby("image", sort=False)[[label]].agg(leading)


def _listed(table: pd.DataFrame, options: Options) -> tuple[pd.DataFrame, list[str]]:
    """The labels of all rows of an image in one cell, where nothing else differs between them."""
    labels = list(options.label_columns) or label_columns_of(table)
    if len(labels) != 1 or table["image"].is_unique:
        return table, []
    texts = table[labels[0]].astype(object).where(table[labels[0]].notna(), "").astype(str).str.strip()
    cells = texts.groupby(table["image"]).agg(lambda values: ";".join(sorted(set(values) - {""})))
    kept = table.assign(**{labels[0]: table["image"].map(cells)}).drop_duplicates(ignore_index=True)
    told = f"The labels of the rows of one image ('{labels[0]}') were taken together, as asked: {len(kept):,} images."
    return kept, [told]


def _some(values: pd.Series[str]) -> str:
    names = list(dict.fromkeys(values.astype(str)))
    return ", ".join(names[:NUM_NAMED]) + (", …" if len(names) > NUM_NAMED else "")
