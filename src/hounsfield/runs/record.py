"""What a finished run says of itself, read from its files; no Keras is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import pandas as pd
import yaml

from hounsfield.bundle import Bundle
from hounsfield.errors import EvaluationError, RunError
from hounsfield.evaluation.classification import estimate_from_dict
from hounsfield.evaluation.detection import OVERLAP, DetectionAssessment
from hounsfield.evaluation.detections import detections_from_tables
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.predictions import MISSING_CELLS, Predictions, predictions_from_table

# Files that further commands leave in a run, each with the command that makes it.
ADDITIONS = {
    "bias": "bias.json",
    "robustness": "robustness.json",
    "learning_curve": "learning_curve.json",
    "ablation": "ablation.json",
}
SPLITS = ("train", "validation", "test")
REASON = re.compile(r"((?:^# .*\n)+)([a-z_]+):", re.MULTILINE)
TEXT_COLUMNS = ("image", "prediction", "label", "patient", "split")
Content = TypeVar("Content")


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """A finished run, of whatever task.

    Attributes:
        folder: where it lies.
        plan: its plan, field by field, and ``plan_text`` the file with the reasons.
        environment: where the data came from, versions, hardware.
        cohort: the table of samples with its splits, without those that could not be read.
        history: one row an epoch and member.
        events: the log.
        metrics: split → metric → value, low, high, n.
        bundle: what is deployed.
        additions: what further commands found, by the keys of ``ADDITIONS``.
    """

    folder: Path
    plan: dict[str, Any]
    plan_text: str
    environment: dict[str, Any]
    cohort: pd.DataFrame
    history: pd.DataFrame
    events: list[dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    bundle: Bundle
    additions: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """The split that the figures of the report are on: test where there is one, else validation."""
        return "test" if "test" in self.metrics else "validation"

    @property
    def testable(self) -> str:
        """How commands that test name this run: with other data where it has no test rows."""
        return "RUN" if self.split == "test" else "RUN DATA"

    @property
    def estimates(self) -> dict[str, Any]:
        """The metrics of that split."""
        return self.metrics[self.split]

    @property
    def num_networks(self) -> int:
        """Networks of the model: as many as the plan's folds, or those that an interrupt found with a whole epoch."""
        return int(self.history["member"].nunique()) if "member" in self.history else 1

    @property
    def reasons(self) -> dict[str, str]:
        """Field of the plan → why it is as it is, from the comments of the file."""
        return {
            name: " ".join(re.findall(r"^# (.*)$", text, re.MULTILINE)) for text, name in REASON.findall(self.plan_text)
        }

    @property
    def notes(self) -> list[str]:
        """What was detected, decided or left out while the data was read."""
        # A run that was resumed looked at its data again, and said the same again.
        return list(dict.fromkeys(str(event["text"]) for event in self.events if event.get("event") == "note"))

    def event(self, *names: str) -> dict[str, Any]:
        """The last event of a name, or of those it had in earlier versions; empty where there was none."""
        return next((event for event in reversed(self.events) if event.get("event") in names), {})

    def rows(self, split: str) -> pd.DataFrame:
        """The samples of a split."""
        return self.cohort[self.cohort["split"] == split]


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassifierRun(RunRecord):
    """A finished run of a network that labels whole images.

    Attributes:
        table: its predictions, one row an image of validation and test.
        tested: split → what the predictions say, checked.
    """

    table: pd.DataFrame
    tested: dict[str, Predictions]

    @property
    def shown(self) -> Predictions:
        """The predictions of the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return len(self.shown.answers)

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are not known."""
        groups = self.shown.groups
        return None if groups is None else len(make_clusters(self.shown.answers.truth, groups))

    @property
    def positive(self) -> str:
        """The positive label of a binary task."""
        return self.bundle.labels[-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectorRun(RunRecord):
    """A finished run of a network that finds objects.

    Attributes:
        boxes: the true boxes of all images, one row a box.
        tested: split → truths and findings, with the figures of ``metrics.json``; images in the order of ``rows``.
    """

    boxes: pd.DataFrame
    tested: dict[str, DetectionAssessment]

    @property
    def shown(self) -> DetectionAssessment:
        """The test on the split that is shown."""
        return self.tested[self.split]

    @property
    def num_cases(self) -> int:
        """Images of that split."""
        return self.shown.detections.num_images

    @property
    def num_patients(self) -> int | None:
        """Patients of that split; ``None`` where they are not known."""
        return self.shown.patients


Run = ClassifierRun | DetectorRun


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Raises:
        RunError: there is no run, it is not finished, or a file of it is damaged.
        BundleError: its bundle cannot be read.
    """
    if not (folder / "plan.yaml").is_file():
        raise RunError(
            f"{folder} is no run folder: plan.yaml was expected in it. Give the folder that 'hounsfield train' wrote."
        )
    if not (folder / "metrics.json").is_file():
        raise RunError(
            f"The run {folder} is not finished: it has no metrics.json, so there is nothing to report yet. Continue it "
            f"with: hounsfield train --resume {folder}"
        )
    plan_text = _read(folder / "plan.yaml", lambda path: path.read_text(encoding="utf-8"))
    bundle = Bundle.load(folder)
    events = _read(folder / "log.jsonl", _read_lines)
    left_out = {image for event in events if event.get("event") == "left out" for image in event["images"]}
    cohort = _read(folder / "cohort.parquet", pd.read_parquet)
    facts: dict[str, Any] = {
        "folder": folder,
        "plan": _read(folder / "plan.yaml", lambda _: dict(yaml.safe_load(plan_text))),
        "plan_text": plan_text,
        "environment": _read(folder / "environment.json", _read_json),
        "cohort": cohort[~cohort["image"].isin(left_out)],
        "history": _read(folder / "history.csv", pd.read_csv),
        "events": events,
        "metrics": _read(folder / "metrics.json", _read_metrics),
        "bundle": bundle,
        "additions": {
            name: _read(folder / file, _read_json) for name, file in ADDITIONS.items() if (folder / file).is_file()
        },
    }
    table = _read(folder / "predictions.csv", _read_predictions)
    if bundle.task == "detection":
        boxes = _read(folder / "boxes.parquet", pd.read_parquet)
        judged = _read(folder / "predictions.csv", lambda _: _judged(table, boxes, facts))
        return DetectorRun(**facts, boxes=boxes, tested=judged)
    tested = _read(folder / "predictions.csv", lambda _: _checked(table, bundle))
    return ClassifierRun(**facts, table=table, tested=tested)


def _checked(table: pd.DataFrame, bundle: Bundle) -> dict[str, Predictions]:
    return {
        str(split): predictions_from_table(
            rows.dropna(axis="columns", how="all"),
            name=str(split),
            task=bundle.classifier_task,
            threshold=bundle.threshold,
        )
        for split, rows in table.groupby("split", sort=False)
    }


def _judged(table: pd.DataFrame, boxes: pd.DataFrame, facts: Mapping[str, Any]) -> dict[str, DetectionAssessment]:
    """The findings beside the truth; what they are worth was measured already and stands in the metrics."""
    tested = {}
    for split, figures in facts["metrics"].items():
        rows = facts["cohort"][facts["cohort"]["split"] == split]
        images, patients = list(rows["image"]), rows["patient"]
        detections = detections_from_tables(
            boxes[boxes["image"].isin(images)],
            table[table["split"] == split],
            images=images,
            labels=facts["bundle"].labels,
        )
        tested[split] = DetectionAssessment(
            detections=detections,
            estimates={name: estimate_from_dict(found) for name, found in figures.items()},
            threshold=facts["bundle"].threshold,
            criterion="iou",
            overlap=OVERLAP,
            patients=int(patients.nunique()) if patients.notna().all() else None,
            split=split,
        )
    return tested


def _read_metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The splits of ``metrics.json``; what else it says is elsewhere in the run."""
    return {split: found for split, found in _read_json(path).items() if split in SPLITS}


def _read_predictions(path: Path) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, str), **MISSING_CELLS)
    return table


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read(path: Path, reader: Callable[[Path], Content]) -> Content:
    try:
        return reader(path)
    except (OSError, ValueError, TypeError, KeyError, BadZipFile, yaml.YAMLError, EvaluationError) as error:
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}: {' '.join(str(error).split())}), and the report is made "
            "from it. Restore the file from a copy of the run, or train again."
        ) from error
