"""Findings of overlapping windows against an oracle that knows every object."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield import boxes as geometry
from hounsfield.errors import ImageError
from hounsfield.inference.windows import Found, find, window_starts

PADDING = 40


class Oracle:
    """Reports the objects in a window, cut at its border; the pixels tell it where the window lies."""

    def __init__(self, boxes: Any, classes: Any, canvas: tuple[int, ...]) -> None:
        self.boxes, self.classes, self.canvas = np.asarray(boxes, np.float32), np.asarray(classes), canvas
        self.calls = 0

    def __call__(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        assert batch.shape[1:-1] == self.canvas
        self.calls += 1
        rank = len(self.canvas)
        start = batch[(0, *[0] * rank)].astype(int)
        inside = geometry.clipped(geometry.shifted(self.boxes, (-start).tolist()), self.canvas)
        share = geometry.volumes(inside) / geometry.volumes(self.boxes)
        rows = np.flatnonzero(share > 0)
        rows = rows[np.argsort(-share[rows], kind="stable")]
        count = len(rows)
        outcome = {
            "boxes": np.zeros((1, PADDING, 2 * rank), np.float32),
            "classes": np.full((1, PADDING), -1),
            "scores": np.zeros((1, PADDING), np.float32),
            "count": np.array([count]),
        }
        outcome["boxes"][0, :count], outcome["classes"][0, :count] = inside[rows], self.classes[rows]
        outcome["scores"][0, :count] = share[rows]
        return outcome


def places(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """An image whose channels are the coordinates of its pixels."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.float32)


def found_by(oracle: Oracle, shape: tuple[int, ...], **options: Any) -> Found:
    return find(oracle, places(shape), oracle.canvas, **{"window_overlap": 0.25, "detection_overlap": 0.5, **options})


def in_order(boxes: Any, classes: Any) -> list[tuple[float, ...]]:
    return sorted((*map(float, box), int(label)) for box, label in zip(boxes, classes, strict=True))


def scattered(shape: tuple[int, ...], cell: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Disjoint objects, one a cell of a grid over the image, of random place and size within it."""
    generator = np.random.default_rng(seed)
    starts = [range(0, length - cell + 1, cell) for length in shape]
    corners = np.array(list(itertools.product(*starts)))
    first = corners + generator.integers(0, cell // 3, corners.shape)
    last = corners + generator.integers(2 * cell // 3, cell, corners.shape)
    chosen = generator.permutation(len(corners))[:PADDING]
    boxes = np.concatenate([first, last], axis=1)[chosen].astype(np.float32)
    return boxes, generator.integers(0, 2, len(boxes))


SHAPES = {
    "smaller": ((20, 30), (32, 40)),
    "equal": ((32, 40), (32, 40)),
    "larger": ((50, 47), (32, 40)),
    "much larger": ((130, 90), (32, 40)),
    "longer along one axis": ((12, 150), (32, 40)),
    "volume, smaller": ((10, 12, 14), (16, 16, 16)),
    "volume, equal": ((16, 16, 16), (16, 16, 16)),
    "volume, larger": ((24, 20, 18), (16, 16, 16)),
    "volume, much larger": ((40, 16, 36), (16, 16, 16)),
}


@pytest.mark.parametrize(("shape", "canvas"), SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("cell", [5, 9])
def test_an_oracle_s_objects_come_back_exactly(shape: tuple[int, ...], canvas: tuple[int, ...], cell: int) -> None:
    for seed in range(3):
        boxes, classes = scattered(shape, cell, seed)
        assert len(boxes)
        found = found_by(Oracle(boxes, classes, canvas), shape)
        assert in_order(found.boxes, found.classes) == in_order(boxes, classes)
        assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    canvas=st.tuples(st.integers(12, 40), st.integers(12, 40)),
    overlap=st.sampled_from([0.1, 0.25, 0.5]),
    seed=st.integers(0, 1000),
)
def test_one_object_of_any_place_and_size_comes_back(
    shape: tuple[int, int], canvas: tuple[int, int], overlap: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    first = [int(generator.integers(0, length)) for length in shape]
    last = [int(generator.integers(start + 1, length + 1)) for start, length in zip(first, shape, strict=True)]
    found = found_by(Oracle([[*first, *last]], [0], canvas), shape, window_overlap=overlap)
    assert in_order(found.boxes, found.classes) == [(*first, *last, 0)]


@pytest.mark.parametrize(("shape", "canvas"), SHAPES.values(), ids=SHAPES.keys())
def test_an_object_as_large_as_the_image_is_one(shape: tuple[int, ...], canvas: tuple[int, ...]) -> None:
    whole = [*[0] * len(shape), *shape]
    found = found_by(Oracle([whole], [3], canvas), shape)
    assert in_order(found.boxes, found.classes) == [(*whole, 3)]


def test_objects_that_touch_each_other_on_a_border_stay_two() -> None:
    # Windows of 32 columns over 56: the first ends at 32, the second starts at 24.
    boxes = [[4, 20, 12, 32], [4, 32, 12, 44]]
    found = found_by(Oracle(boxes, [0, 0], (32, 32)), (32, 56))
    assert in_order(found.boxes, found.classes) == in_order(boxes, [0, 0])


def test_objects_of_two_labels_in_one_place_stay_two() -> None:
    boxes = [[4, 22, 12, 34], [4, 22, 12, 34]]
    found = found_by(Oracle(boxes, [0, 1], (32, 32)), (32, 56))
    assert in_order(found.boxes, found.classes) == in_order(boxes, [0, 1])


def test_a_piece_that_scores_higher_than_the_whole_leaves_the_whole() -> None:
    def run(batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        first = batch[0, 0, 0, 1] == 0
        box, score = ([8, 20, 18, 30], 0.6) if first else ([8.5, 0, 17, 7], 0.9)
        boxes, scores = np.array([[box]], np.float32), np.array([[score]], np.float32)
        return {"boxes": boxes, "classes": np.zeros((1, 1), int), "scores": scores, "count": np.array([1])}

    found = find(run, places((32, 56)), (32, 32), window_overlap=0.25, detection_overlap=0.5)
    assert found.boxes.tolist() == [[8, 20, 18, 30]]
    assert found.scores.tolist() == pytest.approx([0.6])


def test_findings_in_the_filling_are_left_out_and_others_cut_at_the_image() -> None:
    oracle = Oracle([[2, 2, 6, 20], [12, 2, 15, 6]], [0, 0], (16, 32))
    found = found_by(oracle, (10, 12))
    assert found.boxes.tolist() == [[2, 2, 6, 12]]
    assert oracle.calls == 1


def test_nothing_found_is_no_box() -> None:
    for shape in ((20, 20), (70, 70)):
        found = found_by(Oracle(np.zeros((0, 4)), np.zeros(0, int), (32, 32)), shape)
        assert found.boxes.shape == (0, 4)
        assert (found.classes.dtype, found.scores.dtype) == (np.int64, np.float32)


def test_the_best_are_kept_where_few_are_asked_for() -> None:
    boxes, classes = scattered((90, 90), 12, seed=4)
    everything = found_by(Oracle(boxes, classes, (32, 40)), (90, 90))
    best = found_by(Oracle(boxes, classes, (32, 40)), (90, 90), max_detections=5)
    np.testing.assert_array_equal(best.boxes, everything.boxes[:5])


def test_windows_cover_the_axis_and_share_at_least_what_was_asked() -> None:
    for length, side, overlap in itertools.product((5, 32, 33, 100, 641), (32, 64), (0.0, 0.25, 0.9)):
        starts = window_starts(length, side, overlap)
        assert starts[0] == 0
        assert starts[-1] == max(0, length - side)
        assert all(0 < step <= max(1, side * (1 - overlap)) for step in np.diff(starts))


def test_an_image_of_another_rank_is_refused() -> None:
    with pytest.raises(ImageError, match="expected 3 axes"):
        find(
            Oracle(np.zeros((0, 6)), [], (8, 8, 8)), places((9, 9)), (8, 8, 8), window_overlap=0, detection_overlap=0.5
        )
