from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.cohorts.labels import class_order, nearest_label, reads_as_negative, tidy
from hounsfield.errors import CohortError
from hounsfield.images import Reference


class NoImages:
    """A source for tests that read no pixels."""

    def read(self, reference):
        raise NotImplementedError

    def stream(self, references):
        raise NotImplementedError

    def digest(self, references):
        return f"none of {len(references)}"


def make(labels, task="multi-class", order=("a", "b", "c"), **columns):
    table = pd.DataFrame({"image": [f"{row}.png" for row in range(len(labels))], "label": labels})
    for name in ("patient", "split"):
        table[name] = columns.get(name, [None] * len(labels))
    return Cohort(table, task, order, NoImages(), "table", "made")


def write_table(folder, rows, name="index.csv"):
    """A table and, for each image in it, a small file that exists."""
    table = pd.DataFrame(rows)
    for image in table["image"]:
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.arange(16, dtype=np.uint8).reshape(4, 4))
    table.to_csv(folder / name, index=False)
    return folder / name


def rows_of(labels):
    return [{"image": f"{row}.npy", "label": label} for row, label in enumerate(labels)]


def test_targets_of_each_task():
    multi_class = make(["b", "a", "c", "b"]).targets()
    np.testing.assert_array_equal(multi_class, [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    assert multi_class.dtype == np.float32
    binary = make(["sick", "well"], "binary", ("well", "sick")).targets()
    np.testing.assert_array_equal(binary, [[1], [0]])
    multi_label = make(["a;c", "", "b"], "multi-label").targets()
    np.testing.assert_array_equal(multi_label, [[1, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_a_label_outside_the_labels_is_refused():
    with pytest.raises(CohortError, match="labelled 'd'"):
        make(["a", "d"])


def test_a_binary_cohort_needs_two_labels():
    with pytest.raises(CohortError, match="called binary and has 3"):
        make(["a", "b", "c"], "binary")


def test_rows_subset_and_splits():
    cohort = make(["a", "b", "c", "a"]).with_splits(["train", "test", "train", "validation"])
    assert cohort.rows("train").tolist() == [0, 2]
    assert cohort.rows("validation").tolist() == [3]
    part = cohort.subset([3, 1])
    assert part.table["image"].tolist() == ["3.png", "1.png"]
    assert part.table.index.tolist() == [0, 1]
    assert len(cohort.subset(np.array([True, False, False, True]))) == 2
    assert make(["a"]).rows("train").size == 0


def test_unknown_splits_are_refused():
    with pytest.raises(CohortError, match="among them training"):
        make(["a"]).with_splits(["training"])
    with pytest.raises(CohortError, match="2 splits for 1 rows"):
        make(["a"]).with_splits(["train", "test"])
    with pytest.raises(CohortError, match="no split 'val'"):
        make(["a"]).rows("val")


def test_notes_are_not_repeated():
    assert make(["a"]).with_notes("one").with_notes("one", "two").notes == ("one", "two")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["pneumonia", "normal"], ("normal", "pneumonia")),
        (["malignant", "benign"], ("benign", "malignant")),
        (["benign", "adenoma"], ("benign", "adenoma")),
        (["tumor", "notumor"], ("notumor", "tumor")),
        (["no finding", "finding"], ("no finding", "finding")),
        (["nodule", "clear"], ("clear", "nodule")),
        (["control", "case"], ("control", "case")),
        (["1", "0"], ("0", "1")),
        (["TRUE", "FALSE"], ("FALSE", "TRUE")),
        (["without_mask", "with_mask"], ("without_mask", "with_mask")),
        (["COVID", "non-COVID"], ("non-COVID", "COVID")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["normal", "bacteria", "virus"], ("bacteria", "normal", "virus")),
    ],
)
def test_class_order(found, expected):
    assert class_order(found) == expected


def test_a_word_that_only_starts_like_no_is_not_negative():
    assert not reads_as_negative("nodule", "normal tissue")
    assert not reads_as_negative("necrosis", "scar")


def test_labels_are_tidied():
    texts, notes = tidy(pd.Series([" yes", "no", None, "NaN", "None"]))
    assert texts.tolist() == ["yes", "no", "", "", "None"]
    assert notes == ["Spaces around 1 labels were taken away."]
    assert tidy(pd.Series([1.0, 2.0, np.nan]))[0].tolist() == ["1", "2", ""]
    assert tidy(pd.Series(["1.5", "2.0"]))[0].tolist() == ["1.5", "2.0"]
    assert tidy(pd.Series(["01", "1"]))[0].tolist() == ["01", "1"]


@pytest.mark.parametrize(
    ("label", "expected"), [("pnuemonia", "pneumonia"), ("Pneumonia", "pneumonia"), ("oedema", None), ("T2", None)]
)
def test_nearest_label(label, expected):
    assert nearest_label(label, ["pneumonia", "normal", "T1"]) == expected


def test_a_misspelt_label_names_the_nearest(tmp_path):
    path = write_table(tmp_path, rows_of(["pneumonia"] * 5 + ["normal"] * 5 + ["pnuemonia"]))
    with pytest.raises(CohortError, match=r"'pnuemonia' on 1 image .* another spelling of 'pneumonia'"):
        load_cohort(path)


def test_labels_that_differ_in_case_are_refused(tmp_path):
    path = write_table(tmp_path, rows_of(["normal"] * 5 + ["sick"] * 5 + ["Normal"] * 4))
    with pytest.raises(CohortError, match="'Normal' on 4 images"):
        load_cohort(path)


def test_a_rare_label_like_another_is_mentioned(tmp_path):
    path = write_table(tmp_path, rows_of(["carcinoma"] * 60 + ["normal"] * 5 + ["carcinomas"] * 2))
    notes = load_cohort(path).notes
    assert any("'carcinomas' (2 images) is spelt much like 'carcinoma'" in note for note in notes)


def test_a_missing_label_is_refused(tmp_path):
    path = write_table(tmp_path, rows_of(["a", "b", "", "a"]))
    with pytest.raises(CohortError, match=r"no label for 1 of the 4 images .* first '2\.npy'"):
        load_cohort(path)


def test_one_class_only_is_refused(tmp_path):
    with pytest.raises(CohortError, match="only the label 'a'"):
        load_cohort(write_table(tmp_path, rows_of(["a", "a", "a"])))


def test_fewer_than_two_patients_in_a_class_are_refused(tmp_path):
    rows = rows_of(["apple", "apple", "pear", "pear", "pear"])
    for row, patient in zip(rows, ["1", "2", "3", "3", "3"], strict=True):
        row["patient"] = patient
    with pytest.raises(CohortError, match=r"fewer than two patients .* 'pear' \(3 images\)"):
        load_cohort(write_table(tmp_path, rows))


def test_known_labels_allow_missing_classes_and_refuse_unknown_ones(tmp_path):
    path = write_table(tmp_path, rows_of(["sick"]))
    cohort = load_cohort(path, labels=("well", "sick"))
    assert cohort.labels == ("well", "sick")
    assert cohort.targets().tolist() == [[1.0]]
    with pytest.raises(CohortError, match="Did you mean 'sickly'"):
        load_cohort(path, labels=("well", "sickly"))


def test_a_known_task_reads_single_labels_as_several(tmp_path):
    cohort = load_cohort(write_table(tmp_path, rows_of(["a", "b"])), labels=("a", "b", "c"), task="multi-label")
    assert cohort.task == "multi-label"
    np.testing.assert_array_equal(cohort.targets(), [[1, 0, 0], [0, 1, 0]])


def test_a_sample_has_a_key_of_its_own():
    cohort = make(["a", "b", "c"])
    assert cohort.table["sample"].tolist() == cohort.table["image"].tolist()
    table = cohort.table.assign(sample=["left", "right", "other"])
    named = dataclasses.replace(cohort, table=table)
    assert named.subset([2, 0]).table["sample"].tolist() == ["other", "left"]
    with pytest.raises(CohortError, match=r"several rows for the image '0\.png' of the sample 'left'"):
        dataclasses.replace(cohort, table=table.assign(sample="left", image="0.png", label="a"))


def test_references_of_rows_are_paths_or_places():
    cohort = make(["a", "b", "c"])
    first = cohort.table["image"].iloc[0]
    assert cohort.references([0]) == [Reference(first)]
    placed = dataclasses.replace(cohort, places={first: Reference("array", 7)})
    assert placed.references([1, 0]) == [Reference(cohort.table["image"].iloc[1]), Reference("array", 7)]
    assert placed.subset([0]).references() == [Reference("array", 7)]
