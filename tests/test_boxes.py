"""Box geometry against counting pixels and against plain Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield import boxes as geometry

Array = npt.NDArray[Any]
SIDE = 12
RANKS = pytest.mark.parametrize("rank", [2, 3])


def random_boxes(generator: np.random.Generator, count: int, rank: int, *, side: float = 40.0) -> Array:
    """Boxes with fractions, some far apart, some inside each other, some empty."""
    starts = generator.uniform(-5, side, (count, rank))
    lengths = generator.uniform(0, side / 2, (count, rank)) * (generator.random((count, 1)) > 0.05)
    return np.concatenate([starts, starts + lengths], axis=1)


def box_as_mask(box: Array, rank: int, side: int = SIDE) -> Array:
    mask = np.zeros((side,) * rank, bool)
    mask[tuple(slice(int(box[axis]), int(box[rank + axis])) for axis in range(rank))] = True
    return mask


@st.composite
def whole_boxes(draw: Callable[[st.SearchStrategy[Any]], Any], rank: int) -> Array:
    """One box of whole pixels inside a cube of SIDE."""
    ends = [sorted(draw(st.tuples(st.integers(0, SIDE), st.integers(0, SIDE)))) for _ in range(rank)]
    return np.array([pair[0] for pair in ends] + [pair[1] for pair in ends], np.float64)


def plain_iou(first: Array, second: Array, rank: int, *, generalised: bool = False) -> float:
    """By the definition, on Python numbers."""
    shared = hull = volume_first = volume_second = 1.0
    for axis in range(rank):
        a0, a1, b0, b1 = (float(box[axis + end]) for box in (first, second) for end in (0, rank))
        shared *= max(0.0, min(a1, b1) - max(a0, b0))
        hull *= max(a1, b1) - min(a0, b0)
        volume_first *= a1 - a0
        volume_second *= b1 - b0
    union = volume_first + volume_second - shared
    overlap = shared / union if union > 0 else 0.0
    return overlap - (hull - union) / hull if generalised and hull > 0 else overlap


@RANKS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_measures_count_pixels(rank: int, data: st.DataObject) -> None:
    first, second = data.draw(whole_boxes(rank)), data.draw(whole_boxes(rank))
    one, other = box_as_mask(first, rank), box_as_mask(second, rank)
    assert geometry.volumes(first) == one.sum()
    assert geometry.intersections(first, second) == (one & other).sum()
    union = (one | other).sum()
    assert geometry.iou(first, second) == ((one & other).sum() / union if union else 0)


@RANKS
def test_iou_and_generalised_iou_against_the_definition(rank: int) -> None:
    generator = np.random.default_rng(3)
    first, second = random_boxes(generator, 1000, rank), random_boxes(generator, 1000, rank)
    for function, generalised in ((geometry.iou, False), (geometry.generalised_iou, True)):
        expected = [plain_iou(a, b, rank, generalised=generalised) for a, b in zip(first, second, strict=True)]
        np.testing.assert_allclose(function(first, second), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(function(first.astype(np.float32), second.astype(np.float32)), expected, atol=1e-5)


@RANKS
def test_generalised_iou_of_boxes_apart_is_negative_and_of_equal_ones_is_one(rank: int) -> None:
    box = np.array([0.0] * rank + [2.0] * rank)
    assert geometry.generalised_iou(box, box) == 1
    assert geometry.generalised_iou(box, geometry.shifted(box, [8.0] * rank)) < -0.5


@RANKS
def test_pairwise_is_elementwise_of_every_pair(rank: int) -> None:
    generator = np.random.default_rng(5)
    first, second = random_boxes(generator, 7, rank), random_boxes(generator, 5, rank)
    table = geometry.pairwise_iou(first, second)
    assert table.shape == (7, 5)
    assert table[3, 4] == geometry.iou(first[3], second[4])


@RANKS
def test_empty_and_inverted_boxes_share_nothing(rank: int) -> None:
    point = np.array([3.0] * (2 * rank))
    inverted = np.array([6.0] * rank + [2.0] * rank)
    whole = np.array([0.0] * rank + [9.0] * rank)
    assert geometry.iou(point, point) == 0
    assert geometry.generalised_iou(point, point) == 0
    assert geometry.volumes(inverted) == 0
    assert geometry.iou(inverted, whole) == 0


@RANKS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_clipped_is_what_is_inside(rank: int, data: st.DataObject) -> None:
    box = data.draw(whole_boxes(rank))
    shape = data.draw(st.tuples(*[st.integers(1, SIDE)] * rank))
    inside = box_as_mask(box, rank)[tuple(slice(0, length) for length in shape)]
    cut = geometry.clipped(box, shape)
    assert geometry.volumes(cut) == inside.sum()
    assert (cut[:rank] >= 0).all()
    assert (cut[rank:] <= shape).all()
    np.testing.assert_array_equal(cut, geometry.clipped(box, np.array(shape, np.float64)))


def test_validity_names_what_cannot_be_learned() -> None:
    boxes = np.array([[0, 0, 2, 2], [0, 0, 0, 2], [5, 5, 2, 7], [0, np.nan, 2, 2], [0, 0, np.inf, 2], [0, 0, 1, 1]])
    assert geometry.are_valid(boxes).tolist() == [True, False, False, False, False, True]
    assert geometry.are_valid(boxes, smallest=1.0).tolist() == [True, False, False, False, False, False]


@RANKS
def test_conversions_by_hand_and_back(rank: int) -> None:
    box = np.array([10.0, 20.0, 14.0, 30.0] if rank == 2 else [1.0, 10.0, 20.0, 4.0, 14.0, 30.0])
    as_xywh = [20, 10, 10, 4] if rank == 2 else [20, 10, 1, 10, 4, 3]
    as_centres = [12, 25, 4, 10] if rank == 2 else [2.5, 12, 25, 3, 4, 10]
    as_xyxy = [20, 10, 30, 14] if rank == 2 else [20, 10, 1, 30, 14, 4]
    assert geometry.to_xywh(box).tolist() == as_xywh
    assert geometry.from_xywh(geometry.to_xywh(box)).tolist() == box.tolist()
    assert geometry.to_centres(box).tolist() == as_centres
    assert geometry.from_centres(geometry.to_centres(box)).tolist() == box.tolist()
    assert geometry.reversed_axes(box).tolist() == as_xyxy
    assert geometry.reversed_axes(geometry.reversed_axes(box)).tolist() == box.tolist()


def test_plain_numbers_leave_the_type_alone() -> None:
    box = np.array([[1, 2, 3, 4]], np.float32)
    for moved in (geometry.scaled(box, (2, 0.5)), geometry.shifted(box, (1, 2)), geometry.clipped(box, (2, 2))):
        assert moved.dtype == np.float32
    assert geometry.scaled(box, (2, 0.5)).tolist() == [[2, 1, 6, 2]]
    assert geometry.shifted(box, np.array([[1.0, -1.0]], np.float32)).tolist() == [[2, 1, 4, 3]]


def test_a_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match="Got 5 instead"):
        geometry.iou(np.zeros((2, 5)), np.zeros((2, 5)))
