"""The data of a finished run with others added: no patient changes the split, and the test images stay the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.cohort import SPLITS, Cohort
from hounsfield.cohorts.duplicates import DuplicateGroup
from hounsfield.cohorts.joined import joined
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.split import distribute, row_groups
from hounsfield.cohorts.targets import TARGETS
from hounsfield.containers import read_parquet
from hounsfield.errors import CohortError
from hounsfield.progress import Progress, silent
from hounsfield.textfiles import parse_json, read_text

# Of a run folder.
ENVIRONMENT, TABLE = "environment.json", "cohort.parquet"
# The later of several splits is that of a patient who stands in more than one.
TRAIN, VALIDATION, TEST = SPLITS


def request_of_run(run: Path) -> DataRequest:
    """The DATA that a run was trained on, with the options of its reading.

    Raises:
        CohortError: there is no such run, or its file cannot be read.
    """
    try:
        return DataRequest.from_dict(parse_json(read_text(run / ENVIRONMENT))["data"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"The data of the run {run} are not known ({' '.join(str(error).split())}): expected {ENVIRONMENT} and "
            f"{TABLE} in it, as 'hounsfield train' writes them. Name the folder of a finished run, and keep it as long "
            "as a run that extends it is used."
        ) from error


def first_request(request: DataRequest) -> DataRequest:
    """The request of the run that was extended first; the request itself where it extends none."""
    while request.extend is not None:
        request = request_of_run(Path(request.extend))
    return request


def as_in_run(cohort: Cohort, run: Path) -> Cohort:
    """The rows of a run's data that it kept, in their order there, with the splits that it gave them.

    Args:
        cohort: its data as they are now.
        run: the folder.

    Raises:
        CohortError: images of the run are not in the data any more, or the truth of test images has changed.
    """
    try:
        kept = read_parquet(run / TABLE)
    except (OSError, ValueError) as error:
        raise CohortError(
            f"{run / TABLE} cannot be read ({' '.join(str(error).split())}), so the splits of the run are not known. "
            "Restore the file from a copy of the run."
        ) from error
    places = pd.Index(cohort.table["image"].astype(str)).get_indexer(pd.Index(kept["image"].astype(str)))
    if (places < 0).any():
        raise CohortError(
            f"{int((places < 0).sum()):,} of the {len(kept):,} images of the run {run} are no longer in its data, "
            f"first '{kept['image'][places < 0].iloc[0]}'. Restore the data of the run."
        )
    found = cohort.subset(places)
    test = (kept["split"] == TEST).to_numpy()
    changed = test & (_texts(found.table["label"]) != _texts(kept["label"])).to_numpy()
    if changed.any():
        raise CohortError(
            f"The truth of {int(changed.sum()):,} test images of the run {run} has changed in its data since, first "
            f"'{kept['image'][changed].iloc[0]}': the two runs would be tested on different truths. Restore the data, "
            "or train anew without --extend."
        )
    return found.with_splits(kept["split"].tolist())


def _texts(column: pd.Series[Any]) -> pd.Series[str]:
    return column.astype(object).where(column.notna(), "").astype(str).reset_index(drop=True)


def with_added(cohort: Cohort, added: Cohort, request: DataRequest) -> Cohort:
    """The rows of a run and, without a split as yet, those of other data.

    Args:
        cohort: the rows of the run, with their splits.
        added: the other data; what splits they have do not count.
        request: of the other data.

    Raises:
        CohortError: the run has these images already, or the two do not fit together.
    """
    place = getattr(added.source, "root", None) or request.data
    prefix = f"{Path(place).resolve()}/"
    twice = cohort.table["image"].astype(str).str.startswith(prefix)
    if twice.any():
        raise CohortError(
            f"The run {request.extend} was trained on {int(twice.sum()):,} images of {request.data} already. Add other "
            "data, or extend the run before it."
        )
    return joined(cohort, dataclasses.replace(added, table=added.table.assign(split=None)), prefix)


def place_added(
    cohort: Cohort,
    *,
    pictures: Mapping[str, int],
    groups: Sequence[DuplicateGroup],
    seed: int = 0,
    progress: Progress = silent,
) -> Cohort:
    """Give the rows without a split that of their patient, and leave the test images what they are.

    Patients are one where they share a picture. Rows of a test patient are left out; those of patients that the run
    did not have go to training and validation, in its proportion and stratified by label. A row of training or
    validation with the same pixels as an added one is replaced by it: what was said later counts.

    Args:
        cohort: of :func:`with_added`.
        pictures: image → a number that images of the same picture share.
        groups: the duplicates of the cohort.
        seed: of the draw of new patients.
        progress: receives reports.

    Raises:
        CohortError: all added rows are of test patients.
    """
    splits = cohort.table["split"].to_numpy(dtype=object).copy()
    added = np.asarray(cohort.table["split"].isna())
    patients = row_groups(cohort, pictures=pictures, progress=progress)[0]
    for split in SPLITS:
        members = np.isin(patients, patients[~added & (splits == split)])
        splits[added & members] = split
    tested = added & (splits == TEST)
    if tested.sum() == added.sum():
        raise CohortError(
            f"All {int(added.sum()):,} added images are of patients in the test split of the run, which stays as it "
            "is: there is nothing to train on. Add images of other patients."
        )
    new = np.flatnonzero(np.array([split is None or pd.isna(split) for split in splits]))
    splits[new] = _new_splits(cohort, new, patients[new], seed)
    replaced = _replaced(cohort, groups, added & ~tested, splits)
    counts = [int((added & (splits == split)).sum()) for split in (TRAIN, VALIDATION)]
    placed = f"{counts[0]:,} added images went to training and {counts[1]:,} to validation"
    notes = [f"{placed}; patients of the run kept their split, and the test images are those of the run."]
    if tested.any():
        notes.append(f"{int(tested.sum()):,} added images of patients in the test split were left out.")
    if replaced.any():
        notes.append(f"{int(replaced.sum()):,} images of the run were replaced by added ones with the same pixels.")
    table = cohort.table.assign(split=splits)
    return dataclasses.replace(cohort, table=table).subset(~tested & ~replaced).with_notes(*notes)


def _new_splits(
    cohort: Cohort, rows: npt.NDArray[np.int64], patients: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.object_]:
    if not len(rows):
        return np.empty(0, object)
    counts = [len(cohort.rows(split)) for split in (TRAIN, VALIDATION)]
    part = counts[1] / sum(counts)
    strata = TARGETS[cohort.family].strata(cohort.subset(rows))
    sides = distribute(strata, patients, (1 - part, part), seed=seed)
    return np.array([TRAIN, VALIDATION], object)[sides]


def _replaced(
    cohort: Cohort, groups: Sequence[DuplicateGroup], added: npt.NDArray[np.bool_], splits: npt.NDArray[np.object_]
) -> npt.NDArray[np.bool_]:
    """(rows,) whether a row of the run has the pixels of an added one; of samples of several images all rows stay."""
    found = np.zeros(len(cohort), bool)
    for group in groups if not cohort.has_views else ():
        rows = np.array(group.rows)
        if group.exact and added[rows].any():
            found[rows[~added[rows] & (splits[rows] != TEST)]] = True
    # An added row of a test patient replaces nothing, nor does one that is itself added.
    return np.asarray(found & cohort.table["split"].notna().to_numpy())
