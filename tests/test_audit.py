"""Duplicates, leaks, contradictions and shortcuts, against brute force, SciPy and cases worked by hand."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.audit import _clipped, audit
from hounsfield.cohorts.changes import SHEARED, SHIFTED, ZOOMED
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.duplicates import DuplicateGroup, detail_correlation, duplicate_groups, near_pairs
from hounsfield.cohorts.leaks import Leak, drop_leaks, leaking_rows, leaks, settle_leaks
from hounsfield.cohorts.scan import scan
from hounsfield.cohorts.shortcuts import accuracy_alone, chi_square, cramers_v, holm, independence_p_value, shortcuts
from hounsfield.cohorts.signature import CELLS, signature
from hounsfield.cohorts.store_building import refuse_bad
from hounsfield.errors import CohortError, ImageError
from hounsfield.images import Reference
from hounsfield.images.image import Image, Metadata


class InMemory:
    """A source whose references are row numbers of the images it was made with."""

    def __init__(self, images: Sequence[Image | ImageError]) -> None:
        self.images = images
        self.name = uuid.uuid4().hex

    def read(self, reference: Reference) -> Image:
        item = self.images[int(reference.path)]
        if isinstance(item, ImageError):
            raise item
        return item

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        return (self.images[int(reference.path)] for reference in references)

    def digest(self, references: Sequence[Reference]) -> str:
        return f"{self.name} {references}"


def make_cohort(images: Sequence[Image | ImageError], **columns: Any) -> Cohort:
    table = pd.DataFrame({"image": [str(row) for row in range(len(images))]})
    table["label"] = columns.pop("label", (["no", "yes"] * len(images))[: len(images)])
    table["patient"] = columns.pop("patient", pd.NA)
    table["split"] = columns.pop("split", pd.NA)
    return Cohort(table.assign(**columns), "binary", ("no", "yes"), InMemory(images), "table", "memory")


def anatomy(seed: int, shape: tuple[int, ...] = (96, 120)) -> np.ndarray:
    """A smooth random picture with some fine structure, as bytes, without a channel axis."""
    generator = np.random.default_rng(seed)
    field = generator.normal(size=shape).astype(np.float32)
    for axis, length in enumerate(shape):
        kernel = np.exp(-0.5 * np.square(np.arange(-12, 13) / (length / 25)))
        field = np.apply_along_axis(np.convolve, axis, field, kernel, mode="same")
    field += 0.05 * field.std() * generator.normal(size=shape)
    scaled = (field - field.min()) / (field.max() - field.min())
    return (30 + 190 * scaled).astype(np.uint8)


def image(pixels: np.ndarray, **facts: Any) -> Image:
    return Image(pixels[..., None], metadata=Metadata(**facts))


def as_jpeg(pixels: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)


def resized(factor: float, method: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=method)


CHANGES = {
    "JPEG of quality 50": as_jpeg,
    "half the size": resized(0.5, cv2.INTER_AREA),
    "half the size, linear": resized(0.5, cv2.INTER_LINEAR),
    "one and a half times the size": resized(1.5, cv2.INTER_CUBIC),
    "brighter": lambda pixels: cv2.add(pixels, 12),
    "more contrast": lambda pixels: cv2.convertScaleAbs(pixels, alpha=1.1),
    "16 bits": lambda pixels: pixels.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found(change: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = [anatomy(seed) for seed in range(12)]
    cohort = make_cohort([image(one) for one in (*pixels, change(pixels[4]))])
    assert duplicate_groups(scan(cohort)) == (DuplicateGroup((4, 12), exact=False),)


def test_grey_stored_as_colour_is_a_near_duplicate() -> None:
    grey = anatomy(1)[..., None]
    groups = duplicate_groups(scan(make_cohort([Image(grey), Image(np.repeat(grey, 3, axis=-1))])))
    assert groups == (DuplicateGroup((0, 1), exact=False),)


def test_volumes_resized_are_found_and_others_are_not() -> None:
    volumes = [anatomy(seed, (32, 40, 48)) for seed in range(6)]
    half = volumes[2].reshape(16, 2, 20, 2, 24, 2).mean(axis=(1, 3, 5)).astype(np.float32)
    groups = duplicate_groups(scan(make_cohort([image(one) for one in (*volumes, half)])))
    assert groups == (DuplicateGroup((2, 6), exact=False),)


def test_one_backdrop_under_different_noise_is_no_duplicate() -> None:
    generator = np.random.default_rng(0)
    backdrop = np.add.outer(np.arange(64) * 2.0, np.arange(64)) + 30
    noisy = [(backdrop + generator.normal(0, 2, backdrop.shape)).astype(np.uint8) for _ in range(60)]
    assert duplicate_groups(scan(make_cohort([image(one) for one in noisy]))) == ()


def test_exact_groups_stand_alone_and_within_their_near_group() -> None:
    first, second = anatomy(0), anatomy(1)
    images = [image(one) for one in (second, first, as_jpeg(first), second, first)]
    assert duplicate_groups(scan(make_cohort(images))) == (
        DuplicateGroup((0, 3), exact=True),
        DuplicateGroup((1, 4), exact=True),
        DuplicateGroup((1, 2, 4), exact=False),
    )


def test_constant_images_are_alike_only_to_the_bit() -> None:
    flat = [np.full((20, 20), value, np.uint8) for value in (0, 7, 0)]
    assert duplicate_groups(scan(make_cohort([image(one) for one in flat]))) == (DuplicateGroup((0, 2), exact=True),)
    assert signature(flat[1][..., None]) is None


def test_unreadable_images_are_nobodys_duplicates() -> None:
    bad = ImageError("cut off")
    assert duplicate_groups(scan(make_cohort([bad, image(anatomy(0)), bad]))) == ()


# --- leaks -------------------------------------------------------------------------------------------------------


def test_leaks_of_patients_and_pictures() -> None:
    pixels = [anatomy(seed) for seed in range(6)]
    images = [image(one) for one in (*pixels, pixels[0], as_jpeg(pixels[1]))]
    splits = ["train", "train", "validation", "test", "train", "test", "validation", "test"]
    patients = ["a", "b", "c", "d", "d", "e", "f", "g"]
    cohort = make_cohort(images, split=splits, patient=patients)
    found = leaks(cohort)
    assert found == (
        Leak("patient", (3, 4), ("train", "test")),
        Leak("duplicate", (0, 6), ("train", "validation")),
        Leak("near-duplicate", (1, 7), ("train", "test")),
    )
    assert leaking_rows(cohort, found).tolist() == [0, 1, 4]
    assert leaking_rows(cohort, found, keep_test_leaks=True).tolist() == [0]


def test_a_leak_through_three_splits_stays_in_the_last() -> None:
    cohort = make_cohort([image(anatomy(0))] * 3, split=["train", "validation", "test"])
    found = leaks(cohort)
    assert leaking_rows(cohort, found).tolist() == [0, 1]
    assert leaking_rows(cohort, found, keep_test_leaks=True).tolist() == [0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["train", "validation", "test"])), max_size=12))
def test_nothing_leaks_after_dropping(rows: list[tuple[str, str]]) -> None:
    splits, patients = [split for _, split in rows], [patient for patient, _ in rows]
    cohort = make_cohort([ImageError("not read")] * len(rows), label="yes", split=splits, patient=patients)
    found = leaks(cohort)
    kept = cohort.subset(np.setdiff1d(np.arange(len(rows)), leaking_rows(cohort, found)))
    assert kept.table.groupby("patient")["split"].nunique().le(1).all()
    assert (kept.table["split"] == "test").sum() == splits.count("test")


def test_settling_leaks_stops_drops_or_allows() -> None:
    pixels = [anatomy(seed) for seed in range(4)]
    images = [image(one) for one in (*pixels, pixels[0], pixels[1])]
    splits = ["train", "train", "train", "train", "validation", "test"]
    cohort = make_cohort(images, split=splits)
    with pytest.raises(
        CohortError, match=r"1 picture, for example '1' \(train\) and '5' \(test\).*--drop-leaks.* 1 rows"
    ):
        settle_leaks(cohort)
    dropped = settle_leaks(cohort, drop=True)
    assert dropped.table["image"].tolist() == ["2", "3", "4", "5"]
    assert dropped.notes[-1] == "Left out 2 of train, because these were in two splits: 2 pictures."
    allowed = settle_leaks(cohort, allow=True)
    assert allowed.table["image"].tolist() == ["1", "2", "3", "4", "5"]
    assert "Test figures are too good: 1 picture in training" in allowed.notes[-1]
    clean = cohort.subset([2, 3, 4, 5])
    assert settle_leaks(clean) is clean


def test_a_patient_is_never_named_when_training_stops() -> None:
    cohort = make_cohort([image(anatomy(seed)) for seed in range(2)], split=["train", "test"], patient="DOE^JANE")
    with pytest.raises(CohortError) as caught:
        settle_leaks(cohort)
    assert "1 patient" in str(caught.value)
    assert "DOE" not in str(caught.value)


def test_dropping_a_whole_label_is_refused() -> None:
    images = [image(anatomy(seed)) for seed in range(3)]
    cohort = make_cohort(images, label=["no", "yes", "yes"], split=["train", "train", "test"], patient=["a", "b", "b"])
    with pytest.raises(CohortError, match="no training image of yes"):
        drop_leaks(cohort)


def test_without_splits_nothing_is_read() -> None:
    assert leaks(make_cohort([ImageError("never asked for")])) == ()


# --- shortcuts ---------------------------------------------------------------------------------------------------

TABLES = [np.array([[30, 10], [12, 40]]), np.array([[20, 7, 9], [8, 30, 11], [9, 8, 25], [10, 10, 10]])]


@pytest.mark.parametrize("counts", TABLES)
def test_statistics_equal_scipy(counts: np.ndarray) -> None:
    reference = chi2_contingency(counts, correction=False)
    assert float(chi_square(counts)) == pytest.approx(reference.statistic)
    assert independence_p_value(counts, np.random.default_rng(0)) == pytest.approx(reference.pvalue)
    # Without the correction for bias, V is SciPy's; with it, V is smaller.
    plain = association(counts, method="cramer")
    assert 0 < cramers_v(counts) < plain
    assert cramers_v(1000 * counts) == pytest.approx(association(1000 * counts, method="cramer"), abs=1e-3)


def test_monte_carlo_p_value_of_a_small_table_equals_fishers() -> None:
    # Fisher's exact test of [[4, 0], [0, 4]]: two of the C(8, 4) = 70 tables are as extreme.
    assert independence_p_value(np.array([[4, 0], [0, 4]]), np.random.default_rng(0)) == pytest.approx(
        2 / 70, abs=0.006
    )


def test_holm_by_hand() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_accuracy_leaves_each_sample_out() -> None:
    assert accuracy_alone(np.array([[10, 0], [0, 10]])) == 1.0
    # A level of one sample predicts nothing once that sample is left out.
    assert accuracy_alone(np.eye(6, dtype=int)[:, :1] + np.array([[0, 1]] * 6)) < 1.0
    # One that tells nothing does not do worse than guessing.
    assert accuracy_alone(np.array([[10, 10], [10, 10]])) == 0.5


def test_a_scanner_that_predicts_the_label_is_found() -> None:
    generator = np.random.default_rng(0)
    labels = generator.choice(["no", "yes"], 200)
    scanner = np.where(generator.random(200) < 0.9, np.where(labels == "yes", "A", "B"), "A")
    images = [image(np.full((4, 4), row % 250, np.uint8), scanner=str(scanner[row])) for row in range(200)]
    site = generator.choice(["north", "south"], 200)
    found = {one.attribute: one for one in shortcuts(scan(make_cohort(images, label=labels, site=site)))}
    assert found["scanner"].at_risk
    assert found["scanner"].counts["A"]["yes"] == int(((scanner == "A") & (labels == "yes")).sum())
    assert found["scanner"].accuracy > 0.85
    assert not found["site"].at_risk


def test_chance_raises_no_alarm_among_many_attributes() -> None:
    images = [image(np.zeros((4, 4), np.uint8))] * 150
    alarms = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        columns = {f"attribute {number}": generator.integers(0, 4, 150).astype(str) for number in range(15)}
        tested = shortcuts(scan(make_cohort(images, label=generator.choice(["no", "yes"], 150), **columns)))
        assert len(tested) == 15
        alarms += any(one.p_value < 0.05 for one in tested)
    # The family-wise error is at most 5 %; more than 3 of 10 would have a probability of 0.001.
    assert alarms <= 3


def test_images_of_one_patient_count_once() -> None:
    # 4 patients with 50 images each: the site goes with the patient, and so seems to predict the label.
    rows = np.arange(200)
    labels, site = np.where(rows // 50 < 2, "no", "yes"), np.where(rows // 50 < 2, "north", "south")
    images = [image(np.zeros((4, 4), np.uint8))] * 200
    apart = shortcuts(scan(make_cohort(images, label=labels, site=site)))
    assert [one.at_risk for one in apart if one.attribute == "site"] == [True]
    together = shortcuts(scan(make_cohort(images, label=labels, site=site, patient=(rows // 50).astype(str))))
    assert not any(one.at_risk for one in together)


# --- the audit as a whole ----------------------------------------------------------------------------------------


def test_audit_names_what_is_wrong() -> None:
    pixels = [anatomy(seed) for seed in range(3)]
    images = [image(pixels[0]), image(pixels[0]), image(pixels[1]), image(as_jpeg(pixels[1])), ImageError("cut off")]
    cohort = make_cohort(
        images, label=["no", "yes", "no", "no", "yes"], split=["train", "test", "train", "train", "test"]
    )
    found = audit(cohort)
    assert [(one.severity, one.title, one.rows) for one in found.findings] == [
        ("error", "Unreadable images", (4,)),
        ("error", "Leaks into test", (0, 1)),
        ("warning", "Contradicting labels", (0, 1)),
        ("note", "Exact duplicates", (0, 1)),
        ("note", "Near-duplicates", (2, 3)),
        ("note", "Patients unknown", ()),
    ]
    assert found.contradictions == (DuplicateGroup((0, 1), exact=True),)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["leaks"] == [{"kind": "duplicate", "rows": [0, 1], "splits": ["train", "test"]}]


def test_clipped_images_are_one_finding_whatever_tells_them() -> None:
    pixels = [anatomy(seed) for seed in range(52)]
    # More values at the maximum than the others have, but not 5 %; and 5 % where there are too few others.
    pixels[8] = np.minimum(pixels[8], np.quantile(pixels[8], 0.96).astype(np.uint8))
    pixels[9] = np.minimum(pixels[9], np.quantile(pixels[9], 0.6).astype(np.uint8))
    for part, row, told in ((np.delete(np.arange(52), 9), 8, "than the others"), ([0, 9], 1, "more than 5 %")):
        found = audit(make_cohort([image(pixels[number]) for number in part])).findings
        (only,) = (one for one in found if one.title == "Clipped images")
        assert only.rows == (row,)
        assert told in only.text
    (both,) = _clipped((1, 2), (2, 3))
    assert both.rows == (1, 2, 3)
    assert both.text.startswith("3 images are clipped")


@pytest.mark.parametrize(
    ("holes", "unreadable", "severity"), [(2, 0, "warning"), (3, 0, "error"), (1, 1, "warning"), (2, 1, "error")]
)
def test_too_many_images_that_training_leaves_out_are_an_error(holes: int, unreadable: int, severity: str) -> None:
    """Of 40 images, 2 may be left out, as the store counts them: unreadable ones and those with NaN together."""
    pixels = [anatomy(seed).astype(np.float32) for seed in range(40 - unreadable)]
    for array in pixels[:holes]:
        array[3, 4] = np.nan
    cohort = make_cohort([*map(image, pixels), *[ImageError("cut off")] * unreadable])
    found = [one for one in audit(cohort).findings if one.title in ("Unreadable images", "Values that are not finite")]
    assert {one.severity for one in found} == {severity}
    assert sorted(row for one in found for row in one.rows) == [*range(holes), *range(40 - unreadable, 40)]
    if severity == "error":
        assert all("at most 5%" in one.text and "here these are 7.5%" in one.text for one in found)
        with pytest.raises(CohortError, match="3 of 40 images that cannot be used"):
            refuse_bad((("", ""),) * len({row for one in found for row in one.rows}), len(cohort))


def brute_force_groups(arrays: Sequence[np.ndarray]) -> list[tuple[int, ...]]:
    """Rows of equal arrays, compared value by value among those of one sum."""
    buckets = defaultdict(list)
    for row, array in enumerate(arrays):
        buckets[array.shape, int(array.sum(dtype=np.int64))].append(row)
    groups = []
    for rows in buckets.values():
        while rows:
            same = [row for row in rows if np.array_equal(arrays[row], arrays[rows[0]])]
            rows[:] = [row for row in rows if row not in same]
            groups.append(tuple(same))
    return sorted(group for group in groups if len(group) > 1)


@pytest.mark.data
def test_pneumoniamnist_has_the_duplicates_that_brute_force_finds(data_folder: Path) -> None:
    path = data_folder / "pneumoniamnist" / "pneumoniamnist.npz"
    with np.load(path) as archive:
        arrays = np.concatenate([archive[f"{split}_images"] for split in ("train", "val", "test")])
    cohort = load_cohort(path)
    groups = duplicate_groups(scan(cohort))
    assert [group.rows for group in groups] == brute_force_groups(list(arrays))
    assert (len(groups), all(group.exact for group in groups)) == (27, True)
    found = leaks(cohort)
    assert [leak.splits for leak in found] == [("train", "validation")] * 8


@pytest.mark.data
def test_chest_xray_public_split_leaks_the_patients_that_pandas_finds(data_folder: Path) -> None:
    cohort = load_cohort(data_folder / "chest-xray" / "index.csv")
    index = pd.read_csv(data_folder / "chest-xray" / "index.csv").set_index("image")
    given_splits = index["origin_split"].reindex(cohort.table["image"]).replace("val", "validation")
    cohort = cohort.with_splits(list(given_splits))
    scanned = scan(cohort)
    shared = index.groupby("patient")["origin_split"].nunique()
    groups = duplicate_groups(scanned)
    found = leaks(cohort, scanned=scanned, groups=groups)
    assert sum(leak.kind == "patient" for leak in found) == int((shared > 1).sum())
    exact = [group.rows for group in groups if group.exact]
    arrays = [cohort.read(row).pixels for row in range(len(cohort))]
    assert sorted(exact) == brute_force_groups(arrays)
    near = [group for group in groups if not group.exact]
    # One radiograph was put into training and, cropped and stretched, into test.
    names = [Path(cohort.table["image"].iloc[row]).stem for group in near for row in group.rows]
    assert names == ["person447_virus_921", "person447_virus_921_1"]
    assert near[0].changes[0].kinds == (SHIFTED, ZOOMED, SHEARED)


@pytest.mark.data
def test_a_thousand_distinct_images_of_one_class_raise_no_alarm(data_folder: Path) -> None:
    with np.load(data_folder / "pneumoniamnist" / "pneumoniamnist.npz") as archive:
        positive = archive["train_images"][archive["train_labels"][:, 0] == 1]
    distinct = np.unique(positive, axis=0)[:1000]
    scanned = scan(make_cohort([image(one) for one in distinct], label="yes"))
    assert duplicate_groups(scanned) == ()
    # The look-up by hash loses nothing: comparing all pairs finds none either.
    assert len(near_pairs(scanned, np.arange(1000))) == 0


@pytest.mark.data
@pytest.mark.parametrize("change", [as_jpeg, CHANGES["half the size"], CHANGES["brighter"]])
def test_changed_copies_of_small_radiographs_are_found(
    data_folder: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with np.load(data_folder / "pneumoniamnist" / "pneumoniamnist.npz") as archive:
        originals = np.unique(archive["test_images"], axis=0)[:150]
    images = [image(one) for one in (*originals, *(change(one) for one in originals))]
    groups = duplicate_groups(scan(make_cohort(images)))
    assert [group.rows for group in groups] == [(row, row + 150) for row in range(150)]


def test_detail_correlation_of_a_thumbnail_with_itself_is_one() -> None:
    marks = signature(anatomy(0)[..., None])
    assert marks is not None
    thumbnail = np.frombuffer(marks.thumbnail, np.int8).reshape(1, CELLS[2], CELLS[2])
    assert detail_correlation(thumbnail, thumbnail) == pytest.approx([1.0])
    assert detail_correlation(thumbnail, -thumbnail) == pytest.approx([-1.0])
