"""Truth as labels of a whole sample: one of two, one of several, or any number of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.finding import Finding
from hounsfield.cohorts.targets.base import Samples
from hounsfield.errors import CohortError
from hounsfield.tasks import TASKS

SPLITS = ("train", "validation", "test")
# Rows that no split was given to.
UNASSIGNED = "unassigned"
# Several labels of one image stand in one cell, with this between them.
SEPARATOR = ";"
# From so many times as many images on, the most frequent label makes accuracy misleading.
IMBALANCE = 10


class LabelTargets:
    """See ``Targets``."""

    def check(self, samples: Samples) -> None:
        """See ``Targets.check``."""
        if TASKS[samples.task].paired and len(samples.labels) != 2:
            raise CohortError(
                f"The cohort '{samples.name}' is called {samples.task} and has {len(samples.labels)} labels "
                f"({', '.join(samples.labels)}): expected a negative and a positive one."
            )
        distinct_targets(samples)
        self.check_boxes(samples)

    def check_boxes(self, samples: Samples) -> None:
        """Refuse a table of boxes, which no task of this family has."""
        if samples.box_table is not None:
            raise CohortError(
                f"The cohort '{samples.name}' is of the task '{samples.task}' and has a table of boxes: only detection "
                "has one. Leave it out, or name the task detection."
            )

    def targets(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Zeros and ones: (rows, 1) where two labels share one output, else (rows, labels)."""
        codes, matrix = distinct_targets(samples)
        targets = matrix[codes]
        return targets[:, 1:] if TASKS[samples.task].paired else targets

    def strata(self, samples: Samples) -> npt.NDArray[np.int64]:
        """The labels of each row; a row without any is a stratum of its own."""
        targets = self.targets(samples).astype(np.int64)
        if TASKS[samples.task].paired:
            return np.concatenate([1 - targets, targets], axis=1)
        return with_none(targets)

    def check_trainable(self, samples: Samples) -> None:
        """Each label needs a training image and, unless labels are independent, a validation image."""
        codes, matrix = distinct_targets(samples)
        for split in ("train", "validation"):
            counts = matrix[codes[samples.rows(split)]].sum(0)
            absent = [label for label, count in zip(samples.labels, counts, strict=True) if count == 0]
            if absent and (split == "train" or not TASKS[samples.task].multi_label):
                raise CohortError(
                    f"The {split} split of the cohort '{samples.name}' has no image of {', '.join(absent)}: at least "
                    "one of each label is needed there. Add images of more patients, or leave the column 'split' out "
                    "to have the split made."
                )

    def truths(self, samples: Samples) -> list[Hashable | None]:
        """The set of labels of each row."""
        labels = samples.table["label"]
        sets = labels.map(lambda text: frozenset(parts_of(samples, text)))
        return sets.astype(object).where(labels.notna(), None).tolist()

    def questions(self, samples: Samples, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str | None, pd.Series[Any]]]:
        """One question for labels that exclude each other, otherwise one for each label."""
        labels = samples.table["label"].iloc[rows].astype(str).reset_index(drop=True)
        if not TASKS[samples.task].multi_label:
            yield None, labels
            return
        sets = labels.map(lambda text: frozenset(parts_of(samples, text)))
        for label in samples.labels:
            yield label, sets.map(lambda present, label=label: label if label in present else f"no {label}")

    def balance(self, samples: Samples) -> dict[str, dict[str, int]]:
        """A row with several labels counts under each."""
        splits = assigned_splits(samples)
        single = samples.table["label"].fillna("").map(lambda text: parts_of(samples, text))
        pairs = pd.DataFrame({"split": splits, "label": single}).explode("label").value_counts()
        return {
            split: {label: int(pairs.get((split, label), 0)) for label in samples.labels}
            for split in (*SPLITS, UNASSIGNED)
            if (splits == split).any()
        }

    def trained_labels(self, samples: Samples) -> list[str]:
        """See ``Targets.trained_labels``."""
        labels = samples.table["label"].iloc[samples.rows("train")].dropna().astype(str)
        present = set(labels.map(lambda text: parts_of(samples, text)).explode())
        return [label for label in samples.labels if label in present]

    def findings(self, samples: Samples, shapes: Sequence[tuple[int, ...]]) -> list[Finding]:  # noqa: ARG002 - of the contract
        """Imbalance, where labels exclude each other."""
        counts = samples.table["label"].value_counts()
        if TASKS[samples.task].multi_label or len(counts) < 2 or counts.max() < IMBALANCE * counts.min():
            return []
        text = (
            f"'{counts.index[0]}' has {counts.max() / counts.min():.0f} times as many images as '{counts.index[-1]}': "
            "accuracy alone misleads."
        )
        return [Finding("note", "Imbalance", text)]

    def subset(self, samples: Samples, table: pd.DataFrame) -> dict[str, Any]:  # noqa: ARG002 - of the contract
        """Labels stand in the table itself."""
        return {}


def with_none(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Strata with a last one for the rows that are in none of the others."""
    none = ~counts.any(axis=1, keepdims=True)
    return np.concatenate([counts, none], axis=1)


def assigned_splits(samples: Samples) -> pd.Series[Any]:
    """The split of each row, ``unassigned`` where it has none."""
    splits = samples.table["split"]
    return splits.astype(object).where(splits.notna(), UNASSIGNED)


def parts_of(samples: Samples, text: object) -> list[str]:
    """The labels of one cell."""
    if TASKS[samples.task].multi_label and isinstance(text, str):
        return [part for part in text.split(SEPARATOR) if part]
    return [str(text)]


def distinct_targets(samples: Samples) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each row the number of its distinct label text, and for each such text its zeros and ones (texts, labels).

    Raises:
        CohortError: a label is not among those of the cohort.
    """
    codes, texts = pd.factorize(samples.table["label"], use_na_sentinel=False)
    index = {label: position for position, label in enumerate(samples.labels)}
    matrix = np.zeros((len(texts), len(samples.labels)), np.float32)
    for row, text in enumerate(texts):
        for part in parts_of(samples, text):
            if part not in index:
                raise CohortError(
                    f"The cohort '{samples.name}' has a row labelled '{part}', and its labels are "
                    f"{', '.join(samples.labels)}. Correct the label, or name it among the labels."
                )
            matrix[row, index[part]] = 1
    return np.asarray(codes, np.int64), matrix
