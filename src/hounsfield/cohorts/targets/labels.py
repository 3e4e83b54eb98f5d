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
from hounsfield.tasks import SEPARATOR, TASKS, expected_labels, fits_labels, labels_in, num_outputs

SPLITS = ("train", "validation", "test")
# Rows that no split was given to.
UNASSIGNED = "unassigned"
# The column with the labels of a row of which it is not known whether they hold, joined likewise.
UNKNOWN = "unknown_labels"
# From so many times as many images on, the most frequent label makes accuracy misleading.
IMBALANCE = 10


class LabelTargets:
    """See ``Targets``."""

    def check(self, samples: Samples) -> None:
        """See ``Targets.check``."""
        if not fits_labels(len(samples.labels), samples.task):
            raise CohortError(
                f"The cohort '{samples.name}' is called {samples.task} and has {len(samples.labels)} labels "
                f"({', '.join(samples.labels)}): expected "
                f"{expected_labels(samples.task)}. Name every label, also the negative one, or name the task otherwise."
            )
        distinct_targets(samples)
        unknown_labels(samples)
        self.check_boxes(samples)

    def check_boxes(self, samples: Samples) -> None:
        """Refuse a table of boxes, which no task of this family has."""
        if samples.box_table is not None:
            raise CohortError(
                f"The cohort '{samples.name}' is of the task '{samples.task}' and has a table of boxes: only detection "
                "has one. Leave it out, or name the task detection."
            )

    def targets(self, samples: Samples) -> npt.NDArray[np.float32]:
        """Zeros and ones: (rows, 1) where two labels share one output, else (rows, labels), NaN where unknown."""
        codes, matrix = distinct_targets(samples)
        targets = matrix[codes]
        unknown = unknown_labels(samples)
        if unknown is not None:
            targets[unknown] = np.nan
        return targets[:, -num_outputs(len(samples.labels), samples.task) :]

    def strata(self, samples: Samples) -> npt.NDArray[np.int64]:
        """The labels of each row that are known to hold; a row without any is a stratum of its own."""
        targets = np.nan_to_num(self.targets(samples)).astype(np.int64)
        if TASKS[samples.task].paired:
            return np.concatenate([1 - targets, targets], axis=1)
        return with_none(targets)

    def check_trainable(self, samples: Samples) -> None:
        """Each label needs a training image and, unless labels are independent, a validation image.

        Where some truths are not known, each needs a training image that is known to be without it, too.
        """
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
        unknown = unknown_labels(samples)
        if unknown is None:
            return
        rows = samples.rows("train")
        without = ((matrix[codes[rows]] == 0) & ~unknown[rows]).any(axis=0)
        always = [label for label, found in zip(samples.labels, without, strict=True) if not found]
        if always:
            raise CohortError(
                f"No training image of the cohort '{samples.name}' is known to be without {', '.join(always)}: every "
                "other one is uncertain or missing, and was ignored. Leave the label out with --label-column for the "
                "others, or say what these values mean with --uncertain or --missing."
            )

    def truths(self, samples: Samples) -> list[Hashable | None]:
        """The set of labels of each row; ``None`` where one is not known."""
        labels = samples.table["label"]
        known = labels.notna().to_numpy()
        if (unknown := unknown_labels(samples)) is not None:
            known = known & ~np.asarray(unknown.any(axis=1))
        sets = labels.map(lambda text: frozenset(parts_of(samples, text)))
        return sets.astype(object).where(known, None).tolist()

    def questions(self, samples: Samples, rows: npt.NDArray[np.int64]) -> Iterator[tuple[str | None, pd.Series[Any]]]:
        """One question for labels that exclude each other, otherwise one for each label."""
        labels = samples.table["label"].iloc[rows].astype(str).reset_index(drop=True)
        if not TASKS[samples.task].multi_label:
            yield None, labels
            return
        sets = labels.map(lambda text: frozenset(parts_of(samples, text)))
        unknown = unknown_labels(samples)
        for column, label in enumerate(samples.labels):
            answers = sets.map(lambda present, label=label: label if label in present else f"no {label}")
            yield label, answers if unknown is None else answers.mask(unknown[rows, column])

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
    return labels_in(text, samples.task) if isinstance(text, str) else [str(text)]


def unknown_labels(samples: Samples) -> npt.NDArray[np.bool_] | None:
    """(rows, labels) where the truth is not known; ``None`` where all of it is.

    Raises:
        CohortError: a label is not among those of the cohort, is marked both unknown and present, or the labels
            exclude each other.
    """
    if UNKNOWN not in samples.table.columns or not (samples.table[UNKNOWN].fillna("") != "").any():
        return None
    codes, texts = pd.factorize(samples.table[UNKNOWN].fillna(""))
    index = {label: position for position, label in enumerate(samples.labels)}
    parts = [[part for part in str(text).split(SEPARATOR) if part] for text in texts]
    strange = sorted({part for each in parts for part in each} - set(index))
    if strange or not TASKS[samples.task].multi_label:
        raise CohortError(
            f"The column '{UNKNOWN}' of the cohort '{samples.name}' names {', '.join(strange) or 'labels'}: expected "
            f"labels of a multi-label task ({', '.join(samples.labels)}) of which it is not known whether they hold. "
            "Correct it, or leave the rows out."
        )
    matrix = np.zeros((len(texts), len(samples.labels)), bool)
    for row, each in enumerate(parts):
        matrix[row, [index[part] for part in each]] = True
    unknown = np.asarray(matrix[codes])
    label_codes, known = distinct_targets(samples)
    both = np.flatnonzero((unknown & (known[label_codes] > 0)).any(axis=1))
    if len(both):
        raise CohortError(
            f"The cohort '{samples.name}' has the sample '{samples.table['sample'].iloc[both[0]]}' with a label both "
            f"in 'label' and in '{UNKNOWN}'. Expected one of them: correct the row."
        )
    return unknown


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
