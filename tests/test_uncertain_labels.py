"""Labels that are uncertain (−1) or missing: ignored by default, said, and read otherwise as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, UsageError

# One row an image: effusion, mass, hernia; −1 is uncertain, an empty cell missing.
CELLS = {
    "Effusion": ["1.0", "0.0", "-1.0", "", "1.0", "0.0", "1.0", "0.0"],
    "Mass": ["0.0", "1.0", "1.0", "-1.0", "1.0", "", "0.0", "1.0"],
    "Hernia": ["0.0", "0.0", "0.0", "0.0", "1.0", "1.0", "0.0", "0.0"],
}
N = np.nan


def write(folder: Path, columns: dict[str, list[str]]) -> Path:
    count = len(next(iter(columns.values())))
    for row in range(count):
        (folder / f"{row}.png").write_bytes(b"")
    table = {"image": [f"{row}.png" for row in range(count)], "patient": [f"p{row}" for row in range(count)]}
    path = folder / "t.csv"
    pd.DataFrame(table | columns).to_csv(path, index=False)
    return path


def of(cohort: Cohort, label: str) -> list[float]:
    found: list[float] = cohort.targets()[:, cohort.labels.index(label)].tolist()
    return found


def told(cohort: Cohort, words: str) -> bool:
    return any(words in note for note in cohort.notes)


def test_uncertain_and_missing_are_ignored_and_said(tmp_path: Path) -> None:
    found = load_cohort(write(tmp_path, CELLS))
    assert (found.task, found.labels) == ("multi-label", ("Effusion", "Hernia", "Mass"))
    assert of(found, "Effusion") == pytest.approx([1, 0, N, N, 1, 0, 1, 0], nan_ok=True)
    assert of(found, "Mass") == pytest.approx([0, 1, 1, N, 1, N, 0, 1], nan_ok=True)
    assert of(found, "Hernia") == [0, 0, 0, 0, 1, 1, 0, 0]
    assert told(found, "2 of 24 labels are uncertain (-1) and were ignored")
    assert told(found, "2 of 24 labels are missing and were ignored")
    assert told(found, "--uncertain")
    assert told(found, "--missing")


@pytest.mark.parametrize(("policy", "doubt"), [("positive", 1.0), ("negative", 0.0)])
def test_uncertain_as_asked(tmp_path: Path, policy: str, doubt: float) -> None:
    found = load_cohort(write(tmp_path, CELLS), uncertain=policy)
    assert of(found, "Effusion") == pytest.approx([1, 0, doubt, N, 1, 0, 1, 0], nan_ok=True)
    assert told(found, f"count as {policy}, as asked")


def test_missing_as_absent_leaves_uncertain_ones_unknown(tmp_path: Path) -> None:
    found = load_cohort(write(tmp_path, CELLS), missing="negative")
    assert of(found, "Effusion") == pytest.approx([1, 0, N, 0, 1, 0, 1, 0], nan_ok=True)


def test_uncertain_as_a_label_of_its_own(tmp_path: Path) -> None:
    columns = CELLS | {"Effusion": ["1", "0", "-1", "-1", "1", "0", "1", "0"], "Mass": ["0", "1"] * 4}
    found = load_cohort(write(tmp_path, columns), uncertain="class", missing="negative", labels=None)
    assert of(found, "Effusion uncertain") == [0, 0, 1, 1, 0, 0, 0, 0]
    assert of(found, "Effusion") == [1, 0, 0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("options", "labels", "rows"),
    [
        ({}, ("0", "1"), [0, 1, 0, 1]),
        ({"uncertain": "positive"}, ("0", "1"), [0, 1, 1, 0, 1, 1]),
        ({"uncertain": "negative"}, ("0", "1"), [0, 1, 0, 0, 1, 0]),
        ({"missing": "negative"}, ("0", "1"), [0, 1, 0, 1, 0, 0]),
    ],
)
def test_one_column_is_binary_and_not_three_classes(
    tmp_path: Path, options: dict[str, Any], labels: tuple[str, ...], rows: list[int]
) -> None:
    path = write(tmp_path, {"Edema": ["0.0", "1.0", "-1.0", "0.0", "1.0", "-1.0", "", ""]})
    found = load_cohort(path, label_columns="Edema", **options)
    assert (found.task, found.labels) == ("binary", labels)
    if options.get("missing"):
        assert sorted(found.targets()[:, 0].tolist()) == sorted(rows)
    else:
        assert found.targets()[:, 0].tolist() == rows
        assert told(found, "2 of 8 labels are missing")


def test_one_column_with_uncertain_as_a_class(tmp_path: Path) -> None:
    path = write(tmp_path, {"Edema": ["0", "1", "-1", "0", "1", "-1"]})
    found = load_cohort(path, label_columns="Edema", uncertain="class")
    assert (found.task, found.labels) == ("multi-class", ("-1", "0", "1"))
    assert told(found, "a label of their own, as asked")


def test_labels_of_minus_one_and_one_stay_two_classes(tmp_path: Path) -> None:
    found = load_cohort(write(tmp_path, {"label": ["-1", "1"] * 4}))
    assert (found.task, len(found)) == ("binary", 8)


def test_no_finding_makes_empty_findings_absent_and_is_no_label(tmp_path: Path) -> None:
    columns = {
        "No Finding": ["1.0", "", "", "1.0", "", ""],
        "Edema": ["", "1.0", "", "", "1.0", "0.0"],
        "Mass": ["", "1.0", "1.0", "", "", "-1.0"],
        "Support Devices": ["", "1.0", "", "1.0", "0.0", "0.0"],
    }
    found = load_cohort(write(tmp_path, columns))
    assert found.labels == ("Edema", "Mass", "Support Devices")
    assert of(found, "Edema") == pytest.approx([0, 1, N, 0, 1, 0], nan_ok=True)
    assert of(found, "Support Devices") == pytest.approx([N, 1, N, 1, 0, 0], nan_ok=True)
    assert told(found, "'No Finding' is no label of its own")


def test_a_policy_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected ignore, positive, negative, class"):
        load_cohort(write(tmp_path, CELLS), uncertain="drop")


def test_the_policy_is_kept_with_the_request() -> None:
    request = DataRequest("t.csv", uncertain="positive", missing="negative")
    assert DataRequest.from_dict(request.to_dict()) == request
    assert request.command_line() == "t.csv --uncertain positive --missing negative"


def test_uncertain_grades_are_ignored_and_no_grade_of_their_own(tmp_path: Path) -> None:
    grades = ["0", "1", "2", "3", "-1", "2", "", "1", "0", "3"]
    path = write(tmp_path, {"grade": grades})
    with pytest.raises(CohortError, match="--missing ignore"):
        load_cohort(path, task="ordinal")
    cohort = load_cohort(path, task="ordinal", missing="ignore")
    assert (cohort.labels, len(cohort)) == (("0", "1", "2", "3"), 8)
    assert told(cohort, "1 of 10 labels are uncertain (-1) and were ignored")
    assert load_cohort(path, task="ordinal", missing="ignore", uncertain="class").labels[0] == "-1"
    with pytest.raises(UsageError, match="holds grades"):
        load_cohort(path, task="ordinal", missing="ignore", uncertain="positive")
