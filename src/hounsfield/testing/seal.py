"""Opening the test images of a run that was trained with ``--seal``: once, dated, its figures kept in the run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.atomic import replacing, write_json
from hounsfield.cohorts.quality import intensities, with_intensities
from hounsfield.cohorts.scan import scan
from hounsfield.evaluation.classification import estimates_to_dict
from hounsfield.progress import Progress, silent
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.manifest import adding
from hounsfield.runs.test_use import open_seal
from hounsfield.safe_text import cell
from hounsfield.testing.run import Tested, evaluate_run
from hounsfield.testing.table import TESTS
from hounsfield.textfiles import parse_json, read_text


def open_test(run: Path | str, *, progress: Progress = silent) -> Tested:
    """Test a sealed run as its training would have done it, and add figures and predictions to the run.

    The opening is written down before anything is predicted, so it counts whatever follows. Where it was interrupted,
    the same call completes it.

    Args:
        run: its folder.
        progress: told of the images.

    Raises:
        RunError: the run was not sealed, or was opened before.
    """
    folder = RunFolder.open(Path(run))
    open_seal(folder.path)
    tested = evaluate_run(run, progress=progress)
    # Data without splits of its own does not name that of its rows.
    table = TESTS[tested.assessment.family].table(tested.cohort, tested.raw, tested.bundle).assign(split="test")
    table = with_intensities(table, intensities(scan(tested.cohort, progress=progress)))
    metrics: dict[str, Any] = parse_json(read_text(folder.metrics))
    metrics["test"] = estimates_to_dict(dict(tested.assessment.estimates))
    with adding(folder.path, [folder.predictions, folder.metrics]):
        with replacing(folder.predictions) as temporary:
            _joined(folder.predictions, table).to_csv(temporary, index=False)
        # Last: a run whose metrics have a test has all else.
        write_json(folder.metrics, metrics)
    return tested


def _joined(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The predictions as they stand in the file, cell by cell, with those of the test behind them."""
    text = io.StringIO(table.map(cell).to_csv(index=False))
    kept, added = (pd.read_csv(each, dtype=str, keep_default_na=False) for each in (path, text))
    return pd.concat([kept[kept["split"] != "test"], added]).fillna("")
