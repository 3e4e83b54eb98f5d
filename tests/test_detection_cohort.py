"""The cohort with boxes: rows, classes, subsets, splits; what its table of boxes must not hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.cohorts import Cohort, assign_splits
from hounsfield.cohorts.annotations import INVALID
from hounsfield.cohorts.audit import audit
from hounsfield.cohorts.box_table import rank_of_columns
from hounsfield.errors import CohortError
from hounsfield.images import Reference
from hounsfield.images.image import Image


class NoImages:
    """A source for tests that read no pixels."""

    def read(self, reference: Reference) -> Image:
        raise NotImplementedError

    def stream(self, references: Sequence[Reference]) -> Iterator[Image]:
        raise NotImplementedError

    def digest(self, references: Sequence[Reference]) -> str:
        return f"{[reference.path for reference in references]}"


def samples(labels: Sequence[str], **columns: Any) -> pd.DataFrame:
    table = pd.DataFrame({"image": [f"{row}.png" for row in range(len(labels))], "label": labels})
    for name in ("patient", "split"):
        table[name] = columns.get(name, [None] * len(labels))
    return table


def box_rows(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["image", "label", *BOX_COLUMNS[(len(rows[0]) - 2) // 2]])


def make(
    boxes: pd.DataFrame | None = None, labels: Sequence[str] = ("red;white", "", "white"), **columns: Any
) -> Cohort:
    if boxes is None:
        boxes = box_rows(
            ("0.png", "red", 0, 1, 4, 6.5),
            ("2.png", "white", 1, 1, 2, 2),
            ("0.png", "white", 3, 3, 9, 9),
        )
    return Cohort(
        samples(labels, **columns), "detection", ("red", "white"), NoImages(), "coco", "made", box_table=boxes
    )


def test_boxes_and_classes_of_each_row() -> None:
    cohort = make()
    boxes, classes = cohort.boxes(0)
    assert boxes.tolist() == [[0, 1, 4, 6.5], [3, 3, 9, 9]]
    assert classes.tolist() == [0, 1]
    assert (boxes.dtype, classes.dtype) == (np.float32, np.int64)
    none, no_classes = cohort.boxes(1)
    assert none.shape == (0, 4)
    assert no_classes.shape == (0,)
    assert cohort.box_rank == 2
    assert cohort.box_counts().tolist() == [[1, 1], [0, 0], [0, 1]]
    assert cohort.targets().tolist() == [[1, 1], [0, 0], [0, 1]]


def test_subset_takes_the_boxes_along() -> None:
    part = make().subset([2, 1])
    assert part.box_table is not None
    assert len(part.box_table) == 1
    assert part.boxes(0)[0].tolist() == [[1, 1, 2, 2]]
    assert len(part.boxes(1)[0]) == 0
    split = make().with_splits(["train", "test", "validation"]).with_notes("told")
    assert split.boxes(2)[1].tolist() == [1]


def test_volumes_have_six_coordinates() -> None:
    cohort = make(box_rows(("1.png", "red", 0, 1, 2, 3, 4, 5)), ["", "red", ""])
    assert cohort.box_rank == 3
    assert cohort.boxes(1)[0].shape == (1, 6)
    assert cohort.boxes(0)[0].shape == (0, 6)
    assert rank_of_columns(["y0", "x0", "y1"]) is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("9.png", "red", 0, 0, 2, 2), "not in the table"),
        (("0.png", "green", 0, 0, 2, 2), "labelled otherwise than red, white"),
        (("0.png", "red", 0, 0, 0, 2), "of no size"),
        (("0.png", "red", 0, 0, np.nan, 2), "without a position"),
    ],
)
def test_a_box_that_does_not_belong_is_refused(row: tuple[Any, ...], said: str) -> None:
    with pytest.raises(CohortError, match=said):
        make(box_rows(("2.png", "red", 0, 0, 2, 2), row))


def test_boxes_and_task_go_together() -> None:
    with pytest.raises(CohortError, match="has no boxes"):
        Cohort(samples(["a"]), "detection", ("a",), NoImages(), "coco", "made")
    with pytest.raises(CohortError, match="a table of boxes"):
        Cohort(
            samples(["red", "blue"]),
            "binary",
            ("red", "blue"),
            NoImages(),
            "table",
            "m",
            box_table=box_rows(("0.png",) + (0,) * 5),
        )
    with pytest.raises(CohortError, match="has the columns image, label"):
        make(pd.DataFrame({"image": ["0.png"], "label": ["red"]}))
    plain = Cohort(samples(["a", "b"]), "binary", ("a", "b"), NoImages(), "table", "made")
    with pytest.raises(CohortError, match="has no boxes"):
        plain.boxes(0)


def test_splits_share_out_objects_of_each_class_by_patient() -> None:
    generator = np.random.default_rng(4)
    count = 120
    numbers = generator.integers(0, 6, (count, 2)) * (generator.random((count, 2)) < (0.9, 0.25))
    rows = [
        (f"{row}.png", label, 0, 0, 4, 4)
        for row in range(count)
        for label, number in zip(("red", "white"), numbers[row], strict=True)
        for _ in range(number)
    ]
    texts = [";".join(np.array(["red", "white"])[values > 0]) for values in numbers]
    cohort = make(box_rows(*rows), texts, patient=[f"p{row // 3}" for row in range(count)])
    divided = assign_splits(cohort, seed=1)
    assert divided.table.groupby("patient")["split"].nunique().max() == 1
    shares = divided.box_counts()[divided.rows("test")].sum(axis=0) / numbers.sum(axis=0)
    np.testing.assert_allclose(shares, 0.2, atol=0.06)
    assert 0.1 < len(divided.rows("test")) / count < 0.3


class Pictures(NoImages):
    """Reads images of 12 × 16, each another one but for those that are named alike."""

    def read(self, reference: Reference) -> Image:
        seed = int(reference.path.partition(".")[0]) % 10
        return Image(np.random.default_rng(seed).integers(0, 255, (12, 16, 1), np.uint8))

    def stream(self, references: Sequence[Reference]) -> Iterator[Image]:
        return map(self.read, references)


def test_figures_and_findings_of_boxes() -> None:
    boxes = box_rows(
        ("0.png", "red", 0, 1, 10, 10),
        ("10.png", "red", 0, 1, 10, 10),
        ("10.png", "red", 3, 1, 12, 10),
        ("1.png", "white", 0, 0, 11, 11),
        ("3.png", "red", 2, 2, 5, 13),
        ("3.png", "red", 2, 2, 12, 20),
    )
    table = pd.DataFrame({"image": ["0.png", "10.png", "1.png", "2.png", "3.png"]})
    table["label"] = ["red", "red", "white", "", "red"]
    table = table.assign(patient=list("abcde"), split=["train", "train", "train", "test", "test"])
    noted = (f"3 of 9 {INVALID} (3 outside the image): …",)
    source = Pictures()
    cohort = Cohort(table, "detection", ("red", "white"), source, "coco", "made", noted, box_table=boxes)
    found = audit(cohort)
    figures = found.fingerprint.boxes
    assert figures is not None
    assert (figures.num_boxes, figures.negatives, figures.num_small) == (6, 1, 1)
    assert figures.counts == {"train": {"red": 3, "white": 1}, "test": {"red": 2, "white": 0}}
    assert (figures.per_image.minimum, figures.per_image.median, figures.per_image.maximum) == (0, 1, 2)
    assert figures.sides["red"][0].minimum == 3
    assert figures.sides["white"][1].median == 11
    titles = {finding.title: finding for finding in found.findings}
    assert titles["Boxes outside their images"].rows == (4,)
    assert "3 of 9" in titles["Invalid boxes"].text
    assert "1 of 6 boxes" in titles["Small objects"].text
    # The same picture with one and with two objects.
    assert titles["Contradicting labels"].rows == (0, 1)
    assert found.to_dict()["fingerprint"]["boxes"]["num_boxes"] == 6
