"""Tables joined by their keys, and long tables made one row per image."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort, load_cohort, load_request
from hounsfield.cohorts.request import DataRequest
from hounsfield.errors import CohortError, UsageError

NUMBERS = np.random.default_rng(0)


def images(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), NUMBERS.integers(0, 255, (8, 8), dtype=np.uint8))


def table(path: Path, **columns: Any) -> None:
    pd.DataFrame(columns).to_csv(path, index=False)


def told(cohort: Cohort, words: str) -> bool:
    return words in " ".join(cohort.notes)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Twelve studies of six patients with two images each: labels by study, splits by image, sexes by patient."""
    names = [f"{number:02d}{view}" for number in range(12) for view in "ab"]
    images(tmp_path, [f"files/s{name[:2]}/{name}.png" for name in names])
    table(
        tmp_path / "labels.csv",
        study_id=[f"s{n:02d}" for n in range(12)],
        subject_id=[100 + n // 2 for n in range(12)],
        label=["ill" if n % 4 < 2 else "normal" for n in range(12)],
    )
    table(
        tmp_path / "views.csv",
        dicom_id=names,
        study_id=[f"s{name[:2]}" for name in names],
        split=["train" if int(name[:2]) < 8 else "test" for name in names],
    )
    (tmp_path / "patients.csv.gz").write_bytes(
        gzip.compress(("Subject ID,sex\n" + "".join(f"{100 + n},{'MF'[n % 2]}\n" for n in range(6))).encode())
    )
    return tmp_path


def test_three_tables_by_their_keys(studies: Path) -> None:
    cohort = load_cohort(studies / "labels.csv", join=["views.csv", str(studies / "patients.csv.gz")])
    assert len(cohort) == 24
    assert cohort.labels == ("normal", "ill")
    assert cohort.table["split"].value_counts().to_dict() == {"train": 16, "test": 8}
    assert cohort.table["patient"].nunique() == 6
    row = cohort.table.set_index("image").loc["files/s05/05b.png"]
    assert (row["label"], row["patient"], row["sex"]) == ("ill", "102", "M")
    assert told(cohort, "views.csv was joined to labels.csv by study_id: 12 of 12 rows were found, which make 24 rows")


def test_the_same_from_the_folder_and_in_a_request(studies: Path) -> None:
    cohort = load_cohort(studies, join=["views.csv", "patients.csv.gz"])
    request = DataRequest(
        str(studies / "labels.csv"), join=(str(studies / "views.csv"), "patients.csv.gz:subject_id=Subject ID")
    )
    again = load_request(DataRequest.from_dict(request.to_dict()))
    assert again.table["label"].tolist() == cohort.table["label"].tolist()
    assert "--join" in request.command_line()


def test_labels_that_need_a_join_are_refused_with_the_command(studies: Path) -> None:
    with pytest.raises(CohortError, match=r"labels\.csv as DATA with --join views\.csv"):
        load_cohort(studies)


def test_what_a_join_cannot_do_is_refused(studies: Path) -> None:
    with pytest.raises(CohortError, match=r"There is no table 'absent\.csv'"):
        load_cohort(studies / "labels.csv", join=["absent.csv"])
    table(studies / "other.csv", name=["x", "y", "z"], value=[1, 2, 3])
    with pytest.raises(CohortError, match=r"--join 'other\.csv:COLUMN'"):
        load_cohort(studies / "labels.csv", join=["other.csv"])
    with pytest.raises(UsageError, match="no column 'study'"):
        load_cohort(studies / "labels.csv", join=["views.csv:study"])
    table(studies / "twice.csv", label=["ill", "ill", "well", "well"], colour=["a", "b", "a", "c"])
    with pytest.raises(CohortError, match=r"in several rows of labels\.csv and of twice\.csv"):
        load_cohort(studies / "labels.csv", join=["twice.csv:label"])


def test_columns_that_differ_are_both_kept_and_gaps_are_filled(tmp_path: Path) -> None:
    images(tmp_path, [f"{n}.png" for n in range(6)])
    names = [f"{n}.png" for n in range(6)]
    table(tmp_path / "a.csv", image=names, label=list("ababab"), site=["N", "", "N", "S", "S", ""], age=[50] * 6)
    table(
        tmp_path / "b.csv", file=[f"old/{n}.dcm" for n in range(6)], site=["N", "S", "N", "S", "S", "N"], age=[51] * 6
    )
    cohort = load_cohort(tmp_path / "a.csv", join=["b.csv"])
    assert cohort.table["site"].tolist() == ["N", "S", "N", "S", "S", "N"]
    assert cohort.table["age (b)"].tolist() == [51] * 6
    assert told(cohort, "joined to a.csv by image = file")
    assert told(cohort, "age (b) differ from the columns of the same name")


def test_names_that_end_in_findings_become_columns(tmp_path: Path) -> None:
    images(tmp_path, [f"train/ID_{n:03d}.png" for n in range(8)])
    truth = {
        (n, finding): (n >> bit) & 1 for n in range(8) for bit, finding in enumerate(("epidural", "subdural", "any"))
    }
    table(tmp_path / "train.csv", ID=[f"ID_{n:03d}_{finding}" for n, finding in truth], Label=list(truth.values()))
    cohort = load_cohort(tmp_path)
    assert (len(cohort), cohort.task, set(cohort.labels)) == (8, "multi-label", {"epidural", "subdural", "any"})
    labels = dict(zip(cohort.table["image"], cohort.table["label"], strict=True))
    assert all(
        (finding in labels[f"train/ID_{n:03d}.png"].split(";")) == value for (n, finding), value in truth.items()
    )


def test_a_row_for_each_finding_becomes_columns(tmp_path: Path) -> None:
    images(tmp_path, [f"{n}.png" for n in range(6)])
    rows = [(n, finding, (n + bit) % 2) for n in range(6) for bit, finding in enumerate(("mass", "calc"))]
    table(
        tmp_path / "t.csv",
        image=[f"{n}.png" for n, _, _ in rows],
        finding=[f for _, f, _ in rows],
        present=[p for *_, p in rows],
    )
    cohort = load_cohort(tmp_path)
    assert (len(cohort), cohort.table["label"].tolist()) == (6, ["calc", "mass"] * 3)


def test_several_readers_of_labels_are_one_row_by_majority(tmp_path: Path) -> None:
    images(tmp_path, [f"{n}.png" for n in range(6)])
    said = {0: "aab", 1: "bbb", 2: "abb", 3: "aaa", 4: "bab", 5: "aba"}
    rows = [(f"{n}.png", f"R{reader}", label) for n, labels in said.items() for reader, label in enumerate(labels)]
    names, readers, labels = zip(*rows, strict=True)
    table(tmp_path / "t.csv", image=names, reader=readers, label=labels)
    cohort = load_cohort(tmp_path)
    assert cohort.table["label"].tolist() == ["a", "b", "b", "a", "b", "a"]
    assert told(cohort, "3 readers labelled 6 images and agree on 33% of them")
    assert load_cohort(tmp_path, readers="R2").table["label"].tolist() == ["b", "b", "b", "a", "b", "a"]
    with pytest.raises(UsageError, match="do not make one truth"):
        load_cohort(tmp_path, readers="all")


def test_several_readers_of_columns_of_labels(tmp_path: Path) -> None:
    images(tmp_path, [f"{n}.png" for n in range(6)])
    rows = [(f"{n}.png", f"R{r}", int(n + r > 3), int(n % 2 == 0)) for n in range(6) for r in range(2)]
    names, readers, mass, calc = zip(*rows, strict=True)
    table(tmp_path / "t.csv", image_id=names, rad_id=readers, mass=mass, calc=calc)
    cohort = load_cohort(tmp_path)
    # Half of two readers is enough.
    assert cohort.table["label"].tolist() == ["calc", "", "calc", "mass", "mass;calc", "mass"]


def test_rows_with_other_labels_of_one_image_are_refused_unless_asked_for(tmp_path: Path) -> None:
    images(tmp_path, [f"{n}.png" for n in range(6)])
    names = [f"{n}.png" for n in (0, 0, 1, 2, 3, 3, 4, 5)]
    table(tmp_path / "t.csv", image=names, label=list("abcabcac"))
    with pytest.raises(CohortError, match="--task multi-label"):
        load_cohort(tmp_path / "t.csv")
    cohort = load_cohort(tmp_path / "t.csv", task="multi-label")
    assert cohort.table["label"].tolist() == ["a;b", "c", "a", "b;c", "a", "c"]
