"""Reading a finished run from its files; no Keras is needed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.bundle.about import read_about
from hounsfield.containers import read_parquet
from hounsfield.errors import RunError
from hounsfield.plans import load_plan
from hounsfield.runs.base import SPLITS, RunRecord, read_file
from hounsfield.runs.boxes import BoxRun
from hounsfield.runs.labels import LabelRun
from hounsfield.runs.log import read_events
from hounsfield.runs.manifest import check_run
from hounsfield.runs.masks import MaskRun
from hounsfield.runs.values import ValueRun
from hounsfield.tasks import Family, family_of
from hounsfield.textfiles import parse_json, read_text

logger = logging.getLogger(__name__)

# What a run of each family holds beside what all hold.
RUNS: dict[Family, type[RunRecord]] = {"labels": LabelRun, "values": ValueRun, "boxes": BoxRun, "masks": MaskRun}
# Files that further commands leave in a run, each with the command that makes it.
ADDITIONS = {
    "bias": "bias.json",
    "clinical": "clinical.json",
    "robustness": "robustness.json",
    "learning_curve": "learning_curve.json",
    "ablation": "ablation.json",
}


def read_run(folder: Path) -> RunRecord:
    """Read a finished run.

    Raises:
        RunError: there is no run, it is not finished, or a file of it is damaged.
        BundleError: its bundle cannot be read.
    """
    if not (folder / "plan.yaml").is_file():
        raise RunError(
            f"{folder} is not a run folder: it has no plan.yaml. Give the folder that 'hounsfield train' wrote."
        )
    if not (folder / "metrics.json").is_file():
        raise RunError(
            f"The run {folder} is not finished: it has no metrics.json, so there is nothing to report yet. Continue it "
            f"with: hounsfield train --resume {folder}"
        )
    listed = check_run(folder)
    bundle = Bundle.load(folder)
    events = read_events(folder / "log.jsonl")
    left_out = {image for event in events if event.get("event") == "left out" for image in event["images"]}
    cohort = read_file(folder / "cohort.parquet", read_parquet)
    return RUNS[family_of(bundle.task)].of(
        {
            "folder": folder,
            "plan": read_file(folder / "plan.yaml", load_plan),
            "environment": read_file(folder / "environment.json", _read_json),
            "cohort": cohort[~cohort["image"].isin(left_out)],
            "history": read_file(folder / "history.csv", pd.read_csv),
            "events": events,
            "metrics": read_file(folder / "metrics.json", _read_metrics),
            "bundle": bundle,
            "about": read_about(folder, bundle.labels),
            "additions": {name: found for name in ADDITIONS if (found := _addition(folder, name, listed)) is not None},
        }
    )


def read_addition(folder: Path, name: str) -> dict[str, Any] | None:
    """What a further command found, by a key of ``ADDITIONS``; ``None`` where it did not run to its end.

    Raises:
        RunError: a file of the run is damaged.
    """
    return _addition(folder, name, check_run(folder))


def _addition(folder: Path, name: str, listed: frozenset[str] | None) -> dict[str, Any] | None:
    path = folder / ADDITIONS[name]
    if not path.is_file():
        return None
    if listed is not None and path.name not in listed:
        logger.warning(
            "%s is left out: the manifest of the run does not list it, so its command was stopped, or the file comes "
            "from elsewhere. Run the command again.",
            path,
        )
        return None
    return read_file(path, _read_json)


def _read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The splits of ``metrics.json``; what else it holds is elsewhere in the run."""
    return {split: found for split, found in _read_json(path).items() if split in SPLITS}


def _read_json(path: Path) -> dict[str, Any]:
    return dict(parse_json(read_text(path)))
