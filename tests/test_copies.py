"""Augmented copies: keypoints, alignment, what was done to a picture, and the groups that follow from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hounsfield.cohorts import Cohort, assign_splits, load_cohort
from hounsfield.cohorts.alignment import Agreement, Alignment, agreement, fitted, smoothed
from hounsfield.cohorts.audit import audit
from hounsfield.cohorts.changes import GREY_VALUES, MIRRORED, ROTATED, SHEARED, SHIFTED, TURNED, ZOOMED, described
from hounsfield.cohorts.copies import Joined, copy_pairs, decoded
from hounsfield.cohorts.duplicates import duplicate_groups
from hounsfield.cohorts.keypoints import keypoints, unit
from hounsfield.cohorts.leaks import settle_leaks
from hounsfield.cohorts.neighbours import candidate_pairs
from hounsfield.cohorts.scan import scan
from hounsfield.cohorts.signature import signature
from hounsfield.errors import CohortError

Pixels = np.ndarray


def scene(seed: int, side: int = 200) -> Pixels:
    """Blurred blobs of many sizes on a slope, as bytes (rows, columns): something with corners at every scale."""
    generator = np.random.default_rng(seed)
    canvas = np.full((side, side), 90, np.uint8)
    for _ in range(60):
        middle = generator.integers(0, side, 2).tolist()
        axes = generator.integers(3, 24, 2).tolist()
        cv2.ellipse(
            canvas, middle, axes, float(generator.uniform(0, 180)), 0, 360, int(generator.integers(20, 235)), -1
        )
    slope = np.linspace(0, 20, side)[:, None]
    return np.asarray(cv2.GaussianBlur(canvas.astype(np.float32) + slope, (0, 0), 1.2).astype(np.uint8))


def picture(pixels: Pixels) -> bytes:
    marks = signature(pixels[..., None])
    assert marks is not None
    assert marks.picture is not None
    return marks.picture


def moved(pixels: Pixels, linear: Pixels, shift: tuple[float, float] = (0, 0)) -> Pixels:
    middle = (np.array(pixels.shape[::-1]) - 1) / 2
    affine = np.column_stack([linear, middle - linear @ middle + shift])
    return cv2.warpAffine(pixels, affine, pixels.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def turn(degrees: float) -> Pixels:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def noisy(pixels: Pixels) -> Pixels:
    changed = pixels + np.random.default_rng(0).normal(0, 12, pixels.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


COPIES: dict[str, tuple[Callable[[Pixels], Pixels], set[str]]] = {
    "mirrored": (lambda pixels: pixels[:, ::-1], {MIRRORED}),
    "upside down": (lambda pixels: pixels[::-1], {MIRRORED}),
    "quarter turn": (np.rot90, {TURNED}),
    "rotated": (lambda pixels: moved(pixels, turn(13)), {ROTATED}),
    "shifted": (lambda pixels: moved(pixels, np.eye(2), (25, -15)), {SHIFTED}),
    "zoomed": (lambda pixels: moved(pixels, np.eye(2) * 1.14), {ZOOMED}),
    "cropped": (lambda pixels: pixels[:172, 10:182], {ZOOMED, SHIFTED}),
    "sheared": (lambda pixels: moved(pixels, np.array([[1, 0.2], [0, 1]])), {SHEARED, ROTATED}),
    "darker": (lambda pixels: (pixels * 0.4).astype(np.uint8), {GREY_VALUES}),
    "gamma": (lambda pixels: (255 * (pixels / 255) ** 1.8).astype(np.uint8), {GREY_VALUES}),
    "noise": (noisy, {GREY_VALUES}),
    "mirrored, rotated and noisy": (lambda pixels: noisy(moved(pixels[:, ::-1], turn(-9))), {MIRRORED, ROTATED}),
}


@pytest.mark.parametrize(("change", "kinds"), COPIES.values(), ids=COPIES)
def test_an_augmented_copy_is_found_and_its_change_named(change: Callable[[Pixels], Pixels], kinds: set[str]) -> None:
    originals = [scene(seed) for seed in range(10)]
    pictures = [picture(np.ascontiguousarray(one)) for one in (*originals, change(originals[4]))]
    found = copy_pairs(pictures, Joined(len(pictures)))
    assert [(pair.first, pair.second) for pair in found] == [(4, 10)]
    assert set(found[0].kinds) == kinds


def test_what_takes_no_part_or_is_known_is_left_alone() -> None:
    pictures = [picture(one) for one in (scene(0), scene(0)[:, ::-1].copy(), scene(1))]
    joined = Joined(4)
    joined.join(0, 2)
    assert copy_pairs([pictures[0], None, pictures[1], pictures[2]], joined) == []
    assert copy_pairs([None, None], Joined(2)) == []
    assert copy_pairs([], Joined(0)) == []


def test_a_mirrored_descriptor_is_that_of_the_mirror_image() -> None:
    pixels = decoded(picture(scene(3)))
    plain, mirrored = keypoints(pixels), keypoints(np.ascontiguousarray(pixels[:, ::-1]))
    expected = np.array([pixels.shape[1] - 1, 0]) + mirrored.places * (-1, 1)
    distances = np.linalg.norm(plain.places[:, None] - expected, axis=2)
    same = np.argwhere((distances < 0.5) & (np.abs(plain.sizes[:, None] / mirrored.sizes - 1) < 0.1))
    likeness = unit(plain.descriptors, mirrored=True) @ unit(mirrored.descriptors).T
    wrong = unit(plain.descriptors) @ unit(mirrored.descriptors).T
    assert len(same) >= 40
    assert np.median(likeness[tuple(same.T)]) > 0.97
    assert np.median(wrong[tuple(same.T)]) < 0.9


def test_the_map_between_two_pictures_is_the_one_that_made_the_second() -> None:
    pixels = decoded(picture(scene(5)))
    affine = np.column_stack([turn(10) * 1.05, (4.0, -9.0)])
    second = cv2.warpAffine(pixels, affine, pixels.shape[::-1])
    fit = fitted(keypoints(pixels), keypoints(second), mirrored=False)
    assert fit is not None
    corners = np.array([[20, 20, 1], [100, 30, 1], [60, 110, 1]]).T
    assert np.abs(fit[0] @ corners - affine @ corners).max() < 1
    assert fitted(keypoints(pixels), keypoints(second), mirrored=True) is None


def test_grey_values_agree_under_any_brightness_and_not_with_another_picture() -> None:
    first, other = decoded(picture(scene(6))), decoded(picture(scene(7)))
    identity = np.eye(2, 3)
    same = agreement(smoothed(first), smoothed(first) * 0.5 + 20, identity)
    assert same == pytest.approx((1, 0), abs=2e-3)
    unlike = agreement(smoothed(first), smoothed(other), identity)
    assert unlike.correlation < 0.5 < unlike.difference
    flat = agreement(smoothed(first), np.full(first.shape, 7, np.float32), identity)
    assert flat.correlation == pytest.approx(0, abs=1e-6)
    away = np.array([[1.0, 0, 120], [0, 1, 0]])
    assert agreement(smoothed(first), smoothed(first), away) == (0, 1)


def test_a_change_in_one_place_shows_in_the_difference_alone() -> None:
    first = decoded(picture(scene(6)))
    second = first.copy()
    cv2.circle(second, (64, 64), 14, 255, -1)
    found = agreement(smoothed(first), smoothed(second), np.eye(2, 3))
    assert found.correlation > 0.999
    assert found.difference > 0.03


def test_evidence_by_hand() -> None:
    assert Alignment(np.eye(2, 3), 64, Agreement(0.9001, 0.009)).evidence == pytest.approx(3 + 1 + 1)
    assert Alignment(np.eye(2, 3), 16, Agreement(0.9901, 0.099)).evidence == pytest.approx(2 + 2 + 0.5)
    assert not Alignment(np.eye(2, 3), 16, Agreement(0.9901, 0.099)).confirmed


def test_candidates_are_those_that_brute_force_finds() -> None:
    originals = [scene(seed) for seed in range(20)]
    copies = [moved(one, turn(8)) for one in originals]
    images = [keypoints(decoded(picture(one))) for one in (*originals, *copies)]
    likeness = np.array([[(unit(a.descriptors) @ unit(b.descriptors).T > 0.97).sum() for b in images] for a in images])
    np.fill_diagonal(likeness, 0)
    assert likeness[:20].argmax(axis=1).tolist() == list(range(20, 40))
    found = [tuple(row) for row in candidate_pairs(images)[:20].tolist()]
    assert sorted(found) == [(row, row + 20, 0) for row in range(20)]


@given(
    st.booleans(),
    st.integers(0, 3),
    st.floats(-40, 40),
    st.floats(0.8, 1.25),
    st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
)
def test_a_map_is_taken_apart_into_what_it_was_made_of(
    mirrored: bool, quarters: int, degrees: float, zoom: float, shift: tuple[float, float]
) -> None:
    side = 128
    linear = turn(90 * quarters + degrees) @ np.diag([-1.0 if mirrored else 1.0, 1.0]) * zoom
    middle = np.full(2, (side - 1) / 2)
    affine = np.column_stack([linear, middle - linear @ middle + np.array(shift) * side])
    kinds, text = described(affine, (side, side), (side, side))
    assert (MIRRORED in kinds) == mirrored
    # Mirroring from top to bottom is half a turn after mirroring from left to right.
    assert (TURNED in kinds) == ((quarters % 2 if mirrored else quarters) > 0)
    assert (ROTATED in kinds) == (abs(degrees) >= 2)
    assert (f"rotated by {abs(degrees):.0f}°" in text) == (abs(degrees) >= 2)
    assert (ZOOMED in kinds) == (max(zoom, 1 / zoom) >= 1.03)
    assert (SHIFTED in kinds) == (max(map(abs, shift)) >= 0.025)
    assert SHEARED not in kinds


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_joining_equals_connected_components(pairs: list[tuple[int, int]]) -> None:
    joined = Joined(12)
    apart = sum(joined.join(*pair) for pair in pairs)
    ends = np.array(pairs, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (ends[:, 0], ends[:, 1])), shape=(12, 12))
    number, expected = connected_components(graph, directed=False)
    assert apart == 12 - number
    roots = joined.roots()
    assert [(roots == root).tolist() for root in roots] == [(expected == one).tolist() for one in expected]


def real(folder: Path, number: int) -> list[Pixels]:
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".jpg", ".jpeg"})
    chosen = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    return list({one.tobytes(): one for one in chosen}.values())[:number]


def written(folder: Path, images: list[Pixels]) -> Cohort:
    """A cohort of two class folders, whose files are named by the position of their image."""
    for position, pixels in enumerate(images):
        path = folder / "ab"[position % 2] / f"{position}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), pixels)
    return load_cohort(folder)


def groups_of(folder: Path, images: list[Pixels]) -> list[set[int]]:
    cohort = written(folder, images)
    positions = [int(Path(reference).stem) for reference in cohort.table["image"]]
    groups = duplicate_groups(scan(cohort))
    return [{positions[row] for row in group.rows} for group in groups if not group.exact]


@pytest.mark.data
@pytest.mark.parametrize("name", ["brain-mri/pituitary", "chest-xray/normal"])
def test_copies_of_real_images_are_grouped_with_their_originals(data_folder: Path, tmp_path: Path, name: str) -> None:
    originals = real(data_folder / name, 60)
    copies = [
        noisy(moved(one[:, ::-1], turn(degrees) * zoom, (10, -8)))
        for one, degrees, zoom in zip(originals, np.linspace(-15, 15, 60), np.linspace(0.86, 1.14, 60), strict=True)
    ]
    groups = groups_of(tmp_path, [*originals, *copies])
    hits = sum(any({row, row + len(originals)} <= group for group in groups) for row in range(len(originals)))
    assert hits >= 0.95 * len(originals)


@pytest.mark.data
def test_distinct_radiographs_of_one_class_are_kept_apart(data_folder: Path, tmp_path: Path) -> None:
    assert groups_of(tmp_path, real(data_folder / "chest-xray" / "bacteria", 250)) == []


@pytest.fixture
def augmented(tmp_path: Path) -> Cohort:
    """Twelve pictures, and of each a copy mirrored and turned by 8°, twelve positions later."""
    originals = [scene(seed) for seed in range(12)]
    return written(tmp_path / "data", [*originals, *(moved(one[:, ::-1], turn(8)) for one in originals)])


def pictured(cohort: Cohort) -> list[int]:
    """The picture of each row of ``augmented``."""
    return [int(Path(reference).stem) % 12 for reference in cohort.table["image"]]


def test_the_audit_names_the_kinds_with_an_example(augmented: Cohort) -> None:
    finding = next(one for one in audit(augmented).findings if one.title == "Near-duplicates")
    assert finding.text.startswith("24 images are changed copies of one another, in 12 groups")
    assert "mirrored (12), rotated (12)" in finding.text
    assert "(mirrored, rotated by 8°)" in finding.text


@pytest.mark.parametrize("known", [False, True])
def test_copies_are_kept_on_one_side_whether_patients_are_known_or_not(augmented: Cohort, known: bool) -> None:
    named = [f"patient {row}" for row in range(len(augmented))] if known else None
    cohort = augmented if named is None else dataclasses.replace(augmented, table=augmented.table.assign(patient=named))
    groups = duplicate_groups(scan(cohort))
    pictures = {reference: row for row, reference in enumerate(cohort.table["image"])}
    for group in groups:
        pictures |= {cohort.table["image"].iloc[row]: group.rows[0] for row in group.rows}
    split = assign_splits(cohort, seed=0, pictures=pictures)
    sides = pd.Series(split.table["split"].to_numpy()).groupby(pictured(split)).nunique()
    assert sides.tolist() == [1] * 12
    assert "12 " in split.notes[-1]


def test_copies_across_given_splits_are_refused_or_dropped(augmented: Cohort) -> None:
    split = ["train" if int(Path(one).stem) < 12 else "test" for one in augmented.table["image"]]
    # One picture's copy lies on its own side, and training keeps both.
    split = ["train" if at == 3 else side for at, side in zip(pictured(augmented), split, strict=True)]
    cohort = augmented.with_splits(split)
    with pytest.raises(CohortError, match=r"11 pictures with changed copies.*--drop-leaks.*11 rows") as refused:
        settle_leaks(cohort)
    assert "(train)" in str(refused.value)
    kept = settle_leaks(cohort, allow=True)
    assert len(kept) == 24
    with pytest.raises(CohortError, match="no training image"):
        settle_leaks(cohort, drop=True)
