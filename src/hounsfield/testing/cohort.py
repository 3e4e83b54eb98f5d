"""Which rows a run is tested on: its own test rows, or those of other data."""

from __future__ import annotations

from pathlib import Path

from hounsfield.bundle import Bundle
from hounsfield.cohorts import Cohort, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.containers import read_parquet
from hounsfield.errors import RunError
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import check_run
from hounsfield.runs.test_use import record_test_use, refuse_sealed


def tested_cohort(run: Path | str, data: DataRequest | str | None, bundle: Bundle) -> tuple[Cohort, str]:
    """The rows that a run is tested on, and which they are, in words; see :func:`evaluate_run`."""
    if data is None:
        refuse_sealed(Path(run))
        return _own_test_rows(RunFolder.open(Path(run)), bundle)
    request = (data if isinstance(data, DataRequest) else DataRequest(data)).with_settings()
    folder = RunFolder(Path(run))
    if folder.environment.is_file():
        if is_own(Path(run), request):
            refuse_sealed(Path(run))
        # Other volumes or levels than those of training would be other images.
        request = request.read_as(DataRequest.from_dict(folder.read_environment()["data"]))
    return _other(request, bundle)


def count_use(run: Path | str, data: DataRequest | str | None, by: str) -> None:
    """Count a test that looks at the run's own test images, also where its own data is named."""
    if data is None or is_own(Path(run), data):
        record_test_use(Path(run), by)


def is_own(run: Path, data: DataRequest | str) -> bool:
    """Whether DATA is that of the run's training."""
    folder = RunFolder(run)
    if not folder.environment.is_file():
        return False
    own = str(folder.read_environment()["data"]["data"])
    given = data.data if isinstance(data, DataRequest) else data
    return given == own or Path(given).resolve() == Path(own).resolve()


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
