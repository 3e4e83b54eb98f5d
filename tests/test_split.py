from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.cohorts import Cohort, assign_folds, assign_splits, load_cohort
from hounsfield.cohorts.split import distribute, row_groups, same_pixels
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image


class Numbers:
    """A source whose image is the number before the dot, so that equal numbers are exact duplicates."""

    def read(self, reference):
        number = int(reference.path.split(".")[0])
        return Image(pixels=np.full((2, 2, 1), number, np.uint16))

    def stream(self, references):
        for reference in references:
            yield ImageError("broken") if reference.path.startswith("x") else self.read(reference)

    def digest(self, references):
        return "|".join(reference.path for reference in references)


def make(labels, patients=None, task=None, splits=None, images=None):
    distinct = sorted({part for label in labels for part in label.split(";") if part})
    table = pd.DataFrame({"image": images or [f"{row}.png" for row in range(len(labels))], "label": labels})
    table["patient"] = patients if patients is not None else [None] * len(labels)
    table["split"] = splits if splits is not None else [None] * len(labels)
    task = task or ("binary" if len(distinct) == 2 else "multi-class")
    return Cohort(table, task, tuple(distinct), Numbers(), "table", "made")


@st.composite
def cohorts(draw):
    """Patients of 1 to 6 images, each of one class, at least three patients a class."""
    num_classes = draw(st.integers(2, 4))
    sizes = [draw(st.lists(st.integers(1, 6), min_size=3, max_size=25)) for _ in range(num_classes)]
    labels, patients = [], []
    for number, images_of in enumerate(sizes):
        for patient, count in enumerate(images_of):
            labels += [f"class {number}"] * count
            patients += [f"{number}-{patient}"] * count
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(len(labels))
    return make([labels[row] for row in order], [patients[row] for row in order])


@given(cohort=cohorts(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_splits_keep_patients_whole_cover_classes_and_repeat(cohort, seed):
    table = assign_splits(cohort, seed=seed).table
    assert table.groupby("patient")["split"].nunique().max() == 1
    assert (table.groupby("label")["split"].nunique() == 3).all()
    again = assign_splits(cohort, seed=seed).table
    assert table["split"].tolist() == again["split"].tolist()


@given(cohort=cohorts(), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_fractions_of_each_class_are_near(cohort, seed):
    table = assign_splits(cohort, seed=seed).table
    for label, rows in table.groupby("label"):
        largest = int(rows.groupby("patient").size().max())
        for split, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            found = int((rows["split"] == split).sum())
            assert abs(found - fraction * len(rows)) <= 2 * largest + 1, (label, split)


def test_fractions_are_exact_for_many_single_images():
    labels = ["a"] * 1000 + ["b"] * 500
    table = assign_splits(make(labels, [str(row) for row in range(1500)])).table
    counts = table.groupby(["label", "split"]).size()
    assert counts["a"].to_dict() == {"train": 700, "validation": 100, "test": 200}
    assert counts["b"].to_dict() == {"train": 350, "validation": 50, "test": 100}


def test_large_patients_do_not_all_end_in_training():
    sizes = [10] * 60 + [1] * 600
    patients = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.where(patients % 2, "a", "b")
    table = assign_splits(make(labels.tolist(), patients.astype(str).tolist())).table
    large = table[table["patient"].astype(int) < 60].groupby("split").size() / 600
    assert large["train"] == pytest.approx(0.7, abs=0.12)
    assert large["test"] == pytest.approx(0.2, abs=0.12)


def test_another_seed_gives_other_splits():
    cohort = make(["a", "b"] * 50, [str(row) for row in range(100)])
    assert (
        assign_splits(cohort, seed=1).table["split"].tolist() != assign_splits(cohort, seed=2).table["split"].tolist()
    )


@given(seed=st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_multi_label_splits_are_stratified(seed):
    generator = np.random.default_rng(seed)
    frequencies = np.array([0.4, 0.2, 0.05, 0.02])
    matrix = generator.random((1500, 4)) < frequencies
    labels = [";".join(np.array(list("abcd"))[row]) for row in matrix]
    patients = generator.integers(0, 700, 1500).astype(str).tolist()
    cohort = make(labels, patients, "multi-label")
    splits = assign_splits(cohort, seed=seed).table["split"].to_numpy()
    for split, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        chosen = splits == split
        assert chosen.mean() == pytest.approx(fraction, abs=0.03)
        for column in range(4):
            total = matrix[:, column].sum()
            expected = fraction * total
            assert abs(matrix[chosen, column].sum() - expected) <= max(3, 0.25 * expected)


def test_two_patients_a_class_lie_in_training_and_test():
    table = assign_splits(make(["a", "a", "b", "b"], list("1234"))).table
    assert set(table["split"]) == {"train", "test"}
    assert (table.groupby("label")["split"].nunique() == 2).all()


def test_given_splits_are_kept():
    cohort = make(["a", "b"] * 3, list("123456"), splits=["train"] * 2 + ["validation"] * 2 + ["test"] * 2)
    assert assign_splits(cohort) is cohort


def test_validation_is_taken_out_of_training_by_patient():
    labels = ["a", "b"] * 100
    patients = [str(row // 4) for row in range(200)]
    cohort = make(labels, patients, splits=["train"] * 160 + ["test"] * 40)
    done = assign_splits(cohort, seed=3)
    splits = done.table["split"]
    assert (splits[160:] == "test").all()
    assert (splits == "validation").sum() == pytest.approx(20, abs=4)
    assert done.table.groupby("patient")["split"].nunique().max() == 1
    assert any("No validation split was given" in note for note in done.notes)


def test_splits_without_training_rows_are_refused():
    with pytest.raises(CohortError, match="no training rows"):
        assign_splits(make(["a", "b"], splits=["test", "test"]))


def test_half_given_splits_are_refused():
    with pytest.raises(CohortError, match="1 of 2 rows without a split"):
        assign_splits(make(["a", "b"], splits=["train", None]))


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.9, 0.2, 0.1), (0.0, 0.5, 0.5), (1.1, -0.1, 0.0)])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(CohortError, match="three that sum to 1"):
        assign_splits(make(["a", "b"]), fractions=fractions)


def test_a_side_of_no_fraction_stays_empty():
    table = assign_splits(make(["a", "b"] * 20, [str(row) for row in range(40)]), fractions=(0.8, 0.2, 0.0)).table
    assert table["split"].value_counts().to_dict() == {"train": 32, "validation": 8}


def test_exact_duplicates_stay_together_when_patients_are_unknown():
    images = [f"{row % 30}.{row}" for row in range(90)]
    labels = ["a" if row % 30 < 15 else "b" for row in range(90)]
    done = assign_splits(make(labels, images=images))
    sides = done.table.groupby(done.table["image"].str.split(".").str[0])["split"].nunique()
    assert sides.max() == 1
    assert any("Patients are unknown" in note and "60 duplicates" in note for note in done.notes)


def test_a_duplicate_of_a_known_patient_joins_that_patient():
    images = ["1.a", "2.a", "1.b", "3.a"]
    groups, note = row_groups(make(["a", "b", "a", "b"], ["p", "p", None, None], images=images))
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert "2 of 4 rows" in note


def test_joining_follows_chains():
    # Patient p holds images 1 and 2, patient q holds 2 and 3, and a row without a patient is image 3.
    images = ["1.a", "2.a", "2.b", "3.a", "3.b"]
    groups, _ = row_groups(make(["a", "b", "a", "b", "a"], ["p", "p", "q", "q", None], images=images))
    assert len(set(groups.tolist())) == 1


def test_unreadable_images_are_no_duplicates_of_each_other():
    numbers = same_pixels(make(["a", "b", "a"], images=["x1", "x2", "3.a"]))
    assert len(set(numbers.tolist())) == 3


def test_a_grey_image_stored_as_colour_is_the_same_image():
    class Twins(Numbers):
        def read(self, reference):
            grey = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
            return Image(pixels=np.repeat(grey, 3, -1) if reference.path == "colour" else grey)

    cohort = dataclasses.replace(make(["a", "b"], images=["grey", "colour"]), source=Twins())
    assert same_pixels(cohort).tolist() == [0, 0]


@given(cohort=cohorts(), num_folds=st.integers(2, 5), seed=st.integers(0, 20))
@settings(max_examples=40, deadline=None)
def test_folds_keep_patients_whole_and_leave_the_test_out(cohort, num_folds, seed):
    cohort = assign_splits(cohort, seed=seed)
    if cohort.subset(cohort.table["split"] != "test").table["patient"].nunique() < num_folds:
        return
    folds = assign_folds(cohort, num_folds, seed=seed)
    assert (folds[cohort.rows("test")] == -1).all()
    rest = cohort.table.assign(fold=folds)[cohort.table["split"] != "test"]
    assert rest["fold"].between(0, num_folds - 1).all()
    assert rest.groupby("patient")["fold"].nunique().max() == 1
    np.testing.assert_array_equal(folds, assign_folds(cohort, num_folds, seed=seed))
    patients_of = rest.groupby("label")["patient"].nunique()
    for label in patients_of[patients_of >= num_folds].index:
        assert rest[rest["label"] == label]["fold"].nunique() == num_folds


def test_folds_need_splits_and_patients():
    cohort = make(["a", "b"] * 3, list("112233"))
    with pytest.raises(CohortError, match="Call assign_splits first"):
        assign_folds(cohort, 2)
    with pytest.raises(CohortError, match="Cannot make 4 folds of 3 patients"):
        assign_folds(cohort.with_splits(["train"] * 6), 4)


def test_distribute_shares_every_stratum_by_hand():
    strata = np.array([[True, False]] * 4 + [[False, True]] * 4)
    sides = distribute(strata, np.arange(8), (0.5, 0.5), seed=0)
    assert np.bincount(sides[:4]).tolist() == [2, 2]
    assert np.bincount(sides[4:]).tolist() == [2, 2]


@pytest.mark.data
def test_patients_of_the_public_x_rays_stay_whole(data_folder):
    cohort = assign_splits(load_cohort(data_folder / "chest-xray" / "index.csv"))
    assert cohort.table.groupby("patient")["split"].nunique().max() == 1
    shares = pd.crosstab(cohort.table["label"], cohort.table["split"], normalize="index")
    np.testing.assert_allclose(shares["test"], 0.2, atol=0.02)
    np.testing.assert_allclose(shares["validation"], 0.1, atol=0.02)


@pytest.mark.data
def test_duplicates_among_the_public_mri_slices_stay_together(data_folder):
    cohort = assign_splits(load_cohort(data_folder / "brain-mri"))
    pixels = same_pixels(cohort)
    assert cohort.table["split"].groupby(pixels).nunique().max() == 1
    assert len(np.unique(pixels)) < len(cohort)
