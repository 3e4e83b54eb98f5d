"""Which rows a run is tested on: its own test rows, or those of other data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, load_request
from hounsfield.cohorts.extension import first_request
from hounsfield.cohorts.files import full_path
from hounsfield.cohorts.request import DataRequest
from hounsfield.containers import read_parquet
from hounsfield.errors import RunError
from hounsfield.runs.folder import RunFolder, run_of
from hounsfield.runs.manifest import check_run
from hounsfield.runs.test_use import record_test_use, refuse_sealed

TRAINED = ("train", "validation")


@dataclass(frozen=True, eq=False)
class TestedRows:
    """What a run is tested on.

    Attributes:
        cohort: the rows.
        note: which they are, in words.
        trained: how many of them the run was trained or chosen on, as far as it knows their files.
    """

    cohort: Cohort
    note: str
    trained: int = 0


def tested_cohort(run: Path | str, data: DataRequest | str | None, bundle: Bundle, by: str | None) -> TestedRows:
    """The rows that a run is tested on; see :func:`evaluate_run`.

    Where the run's own test images are among them, however they were named, this is refused as long as they are sealed,
    and counted.

    Args:
        run: the run folder.
        data: other DATA; ``None`` for the run's own test rows.
        bundle: of the run.
        by: the command that is counted; ``None`` where the same command has been counted already.
    """
    if data is None:
        refuse_sealed(Path(run))
        cohort, note = _own_test_rows(RunFolder.open(Path(run)), bundle)
        found, looks = TestedRows(cohort, note), True
    else:
        request = (data if isinstance(data, DataRequest) else DataRequest(data)).with_settings()
        found, looks = _given_rows(Path(run), request, bundle)
    if looks and by is not None:
        record_test_use(Path(run), by)
    return found


def _given_rows(run: Path, request: DataRequest, bundle: Bundle) -> tuple[TestedRows, bool]:
    """The rows of DATA, and whether the run's own test images may be among them."""
    folder = RunFolder(run_of(run))
    if not folder.environment.is_file():
        return TestedRows(*_other(request, bundle)), False
    own = DataRequest.from_dict(folder.read_environment()["data"])
    is_own = _same_data(request, own)
    if is_own:
        refuse_sealed(run)
    # Other volumes or levels than those of training would be other images.
    cohort, note = _other(request.read_as(own), bundle)
    splits = splits_in_run(run, request, cohort)
    looks = is_own or bool((splits == "test").any())
    if looks:
        refuse_sealed(run)
    if trained := int(np.isin(splits, TRAINED).sum()):
        note = (
            f"Tested on {len(cohort):,} rows, {trained:,} of which the run was trained or chosen on: the figures are "
            "too good."
        )
    return TestedRows(cohort, note, trained), looks


def splits_in_run(run: Path, request: DataRequest, cohort: Cohort) -> npt.NDArray[np.str_]:
    """(rows,) the split that each image of DATA has in a run, empty for images that the run does not have.

    Images are the same where DATA is the same, or where they lie at the same place; a copy elsewhere is not known.
    """
    folder, nowhere = RunFolder(run_of(run)), np.full(len(cohort), "")
    if not folder.environment.is_file() or not folder.cohort.is_file():
        return nowhere
    own = DataRequest.from_dict(folder.read_environment()["data"])
    table, images = read_parquet(folder.cohort, columns=["image", "split"]), cohort.table["image"].astype(str)
    if _same_data(request, own):
        known = dict(zip(table["image"].astype(str), table["split"], strict=True))
    else:
        root = getattr(cohort.source, "root", None)
        if root is None:
            return nowhere
        images = images.map(lambda image: _place(root, image))
        known = {
            _place(place, image): split
            for place in _roots(own)
            for image, split in zip(table["image"].astype(str), table["split"], strict=True)
        }
    return images.map(known).fillna("").to_numpy(dtype=np.str_)


def places_of_run(run: Path) -> Iterator[Path]:
    """The files, and folders of slices, of all images of a run, as far as they lie where its data had them.

    Args:
        run: the folder of a run, or of its bundle; a bundle by itself has none.
    """
    folder = RunFolder(run_of(run))
    if not folder.environment.is_file() or not folder.cohort.is_file():
        return
    roots = list(_roots(DataRequest.from_dict(folder.read_environment()["data"])))
    for image in read_parquet(folder.cohort, columns=["image"])["image"].astype(str):
        places = (Path(full_path(root, image)) for root in roots)
        if (place := next((place for place in places if place.exists()), None)) is not None:
            yield place


def _same_data(request: DataRequest, own: DataRequest) -> bool:
    """Whether DATA is that of a run, so that images have the same names; added ones have others in the run."""
    return own.extend is None and request.to_dict()["data"] == own.data


def _roots(own: DataRequest) -> Iterator[Path]:
    """The folders that images of a run's DATA may be named from; those added to an earlier run have whole paths."""
    own = first_request(own)
    for part in own.data.split(","):
        yield from (Path(part), Path(part).parent)
    if own.images:
        yield Path(own.images)


def _place(root: Path, image: str) -> str:
    return os.path.normpath(root.resolve() / image)


def _own_test_rows(folder: RunFolder, bundle: Bundle) -> tuple[Cohort, str]:
    """The test rows as the run's table of samples names them."""
    check_run(folder.path)
    try:
        splits = read_parquet(folder.cohort, columns=["image", "split"])
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder.cohort}, the run's table of samples, cannot be read ({' '.join(str(error).split())}), so its "
            f"test rows are not known. Restore the file, or name other data: hounsfield evaluate {folder.path} DATA."
        ) from error
    chosen = set(splits["image"][splits["split"] == "test"])
    if not chosen:
        raise RunError(
            f"The run {folder.path} has no test rows. Name other data: hounsfield evaluate {folder.path} DATA."
        )
    cohort = load_request(
        DataRequest.from_dict(folder.read_environment()["data"]), labels=bundle.labels, task=bundle.task
    )
    cohort = cohort.subset(cohort.table["image"].isin(chosen).to_numpy())
    if len(cohort) < len(chosen):
        raise RunError(
            f"{len(chosen) - len(cohort):,} of the {len(chosen):,} test rows of the run {folder.path} are no longer in "
            "its data. Restore the data, or name other data to test on."
        )
    return cohort, f"Tested on the {len(cohort):,} test rows of the run."


def _other(request: DataRequest, bundle: Bundle) -> tuple[Cohort, str]:
    cohort = load_request(request, labels=bundle.labels, task=bundle.task)
    test = cohort.rows("test")
    if len(test):
        return cohort.subset(test), f"The data comes with splits: tested on its {len(test):,} test rows."
    return cohort, f"Tested on all {len(cohort):,} rows; whether some of them were trained on is not known."
