"""Reading a finished run from its files; no Keras is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hounsfield.bundle import Bundle
from hounsfield.containers import read_parquet
from hounsfield.errors import RunError
from hounsfield.plans import load_plan
from hounsfield.runs.base import SPLITS, RunRecord, read_file
from hounsfield.runs.boxes import BoxRun
from hounsfield.runs.labels import LabelRun
from hounsfield.runs.manifest import check_run
from hounsfield.runs.masks import MaskRun
from hounsfield.runs.values import ValueRun
from hounsfield.tasks import Family, family_of
from hounsfield.textfiles import parse_json, read_text

# What a run of each family holds beside what all hold.
RUNS: dict[Family, type[RunRecord]] = {"labels": LabelRun, "values": ValueRun, "boxes": BoxRun, "masks": MaskRun}
# Files that further commands leave in a run, each with the command that makes it.
ADDITIONS = {
    "bias": "bias.json",
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
    check_run(folder)
    bundle = Bundle.load(folder)
    events = read_file(folder / "log.jsonl", _read_lines)
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
            "additions": {
                name: read_file(folder / file, _read_json)
                for name, file in ADDITIONS.items()
                if (folder / file).is_file()
            },
        }
    )


def _read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The splits of ``metrics.json``; what else it holds is elsewhere in the run."""
    return {split: found for split, found in _read_json(path).items() if split in SPLITS}


def _read_json(path: Path) -> dict[str, Any]:
    return dict(parse_json(read_text(path)))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [parse_json(line) for line in read_text(path).splitlines() if line.strip()]
