"""The rows of a table as every reading of it takes them: read, joined with others, long tables made wide."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hounsfield.cohorts.folds import with_split_of_folds
from hounsfield.cohorts.joins import join_files
from hounsfield.cohorts.long_tables import widened
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.table_files import read_table


def read_rows(path: Path, options: Options, *, may_be_empty: bool = False) -> pd.DataFrame:
    """A table with those that were asked for joined to it; ``attrs["notes"]`` says what was decided.

    Raises:
        CohortError: a table cannot be read or joined.
    """
    table = read_table(path, may_be_empty=may_be_empty)
    notes = list(table.attrs.get("notes", ()))
    if options.join:
        table, told = join_files(table, path, options.join)
        notes += told
    table, told = widened(table)
    notes += told
    # A column that was named keeps its name.
    if options.test_on is None:
        table, told = with_split_of_folds(table)
        notes += told
    table.attrs["notes"] = notes
    return table
