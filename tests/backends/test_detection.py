"""The pieces of the detector against independent references in float64: 1,000 random cases each, in 2D and in 3D."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from keras import ops
from scipy.ndimage import map_coordinates

from hounsfield import boxes as geometry
from hounsfield.detection import anchor_grid, fit_anchors, roi_align
from hounsfield.detection.anchors import decode, encode
from hounsfield.detection.matching import balanced_sample, match
from hounsfield.detection.roi_align import pyramid_level
from hounsfield.detection.suppression import best_kept, keep_mask

CASES = 1000
RANKS = pytest.mark.parametrize("rank", [2, 3])


def random_boxes(generator: np.random.Generator, shape: tuple[int, ...], rank: int, extent: float = 24) -> np.ndarray:
    """Boxes on quarters of pixels, so that float32 holds their coordinates and their areas exactly."""
    start = generator.integers(0, 3 * extent, (*shape, rank)) / 4
    sides = generator.integers(1, 2 * extent, (*shape, rank)) / 4
    return np.concatenate([start, start + sides], axis=-1)


def uneven_boxes(generator: np.random.Generator, count: int, rank: int) -> np.ndarray:
    """Boxes with fractions, some far apart, some inside each other, some empty."""
    starts = generator.uniform(-5, 40, (count, rank))
    lengths = generator.uniform(0, 20, (count, rank)) * (generator.random((count, 1)) > 0.05)
    return np.concatenate([starts, starts + lengths], axis=1).astype(np.float32)


def tensor(values: np.ndarray, dtype: str = "float32") -> object:
    return ops.convert_to_tensor(values, dtype)


def array(values: object) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(values))


def reference_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (…, n, 2·rank) and (…, m, 2·rank) boxes in float64: (…, n, m)."""
    rank = first.shape[-1] // 2
    ends = np.minimum(first[..., :, None, rank:], second[..., None, :, rank:])
    starts = np.maximum(first[..., :, None, :rank], second[..., None, :, :rank])
    shared = np.prod(np.clip(ends - starts, 0, None), axis=-1)
    areas = [np.prod(boxes[..., rank:] - boxes[..., :rank], axis=-1) for boxes in (first, second)]
    return shared / (areas[0][..., :, None] + areas[1][..., None, :] - shared)


@RANKS
def test_iou_and_its_generalisation_equal_the_reference(rank: int) -> None:
    generator = np.random.default_rng(rank)
    first, second = random_boxes(generator, (CASES,), rank), random_boxes(generator, (CASES,), rank)
    expected = reference_iou(first[:, None], second[:, None])[:, 0, 0]
    found = geometry.iou(tensor(first), tensor(second), namespace=ops)
    np.testing.assert_allclose(array(found), expected, atol=1e-5)
    hull = np.prod(np.maximum(first[:, rank:], second[:, rank:]) - np.minimum(first[:, :rank], second[:, :rank]), -1)
    areas = [np.prod(boxes[:, rank:] - boxes[:, :rank], -1) for boxes in (first, second)]
    union = (areas[0] + areas[1]) / (1 + expected)
    found = geometry.generalised_iou(tensor(first), tensor(second), namespace=ops)
    np.testing.assert_allclose(array(found), expected - (hull - union) / hull, atol=1e-5)


@RANKS
def test_coding_equals_the_papers_equation_and_leads_back(rank: int) -> None:
    generator = np.random.default_rng(rank)
    boxes, references = random_boxes(generator, (CASES,), rank), random_boxes(generator, (CASES,), rank)
    sides, reference_sides = (values[:, rank:] - values[:, :rank] for values in (boxes, references))
    centres, reference_centres = (values[:, :rank] + values[:, rank:] for values in (boxes, references))
    expected = np.concatenate(
        [(centres - reference_centres) / 2 / reference_sides, np.log(sides / reference_sides)], axis=-1
    )
    offsets = encode(tensor(boxes), tensor(references))
    np.testing.assert_allclose(array(offsets), expected, atol=1e-5, rtol=1e-6)
    np.testing.assert_allclose(array(decode(offsets, tensor(references))), boxes, atol=1e-4)


def test_coding_stays_finite_for_wild_offsets_and_empty_boxes() -> None:
    wild = array(decode(tensor(np.full((1, 4), 1e4)), tensor(np.array([[3.0, 3, 4, 4]]))))
    assert np.isfinite(wild).all()
    assert np.isfinite(array(encode(tensor(np.zeros((1, 4))), tensor(np.array([[2.0, 2, 2, 2]]))))).all()


def greedy(suppresses: np.ndarray) -> list[bool]:
    """Suppression as every textbook has it: go down the list, and drop what an earlier kept box overlaps."""
    kept: list[bool] = []
    for index in range(len(suppresses)):
        kept.append(not any(kept[other] and suppresses[other, index] for other in range(index)))
    return kept


@pytest.mark.parametrize("by_class", [False, True])
@RANKS
def test_suppression_keeps_the_boxes_that_the_greedy_one_keeps(rank: int, by_class: bool) -> None:
    generator = np.random.default_rng(rank)
    boxes = random_boxes(generator, (CASES, 24), rank, extent=8)
    classes = generator.integers(0, 2, (CASES, 24))
    threshold = {2: 0.2, 3: 0.05}[rank]
    suppresses = reference_iou(boxes, boxes) > threshold
    if by_class:
        suppresses &= classes[:, :, None] == classes[:, None, :]
    expected = np.array([greedy(case) for case in suppresses])
    known = tensor(classes, "int32") if by_class else None
    found = keep_mask(tensor(boxes), ops.ones((CASES, 24), "bool"), threshold=threshold, classes=known)
    np.testing.assert_array_equal(array(found), expected)
    assert 0.2 < expected.mean() < 0.9


def test_suppression_follows_long_chains() -> None:
    """Each box suppresses the next, so every second one stays, however many there are."""
    start = np.arange(60, dtype=np.float64)[:, None] * 3
    boxes = np.concatenate([start, np.zeros((60, 1)), start + 10, np.ones((60, 1))], axis=1)
    found = array(keep_mask(tensor(boxes[None]), ops.ones((1, 60), "bool"), threshold=0.5))[0]
    np.testing.assert_array_equal(found, np.arange(60) % 2 == 0)


def test_suppression_pads_what_it_returns() -> None:
    boxes = np.array([[[0.0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 0, 0]]])
    scores = np.array([[0.9, 0.8, 0.3, -1.0]])
    indices, present = best_kept(tensor(boxes), tensor(scores), threshold=0.5, count=3)
    assert array(present).tolist() == [[True, True, False]]
    assert array(indices)[0, :2].tolist() == [0, 2]


@RANKS
def test_matching_equals_the_rules_of_the_paper(rank: int) -> None:
    generator = np.random.default_rng(rank)
    references = random_boxes(generator, (CASES, 12), rank, extent=12)
    truths = random_boxes(generator, (CASES, 4), rank, extent=12)
    present = generator.random((CASES, 4)) < 0.7
    found = match(
        tensor(references),
        tensor(truths),
        ops.convert_to_tensor(present),
        positive_from=0.4,
        negative_below=0.2,
        keep_best=True,
    )
    owner, overlap, positive, negative = (array(part) for part in found)
    table = reference_iou(references, truths) * present[:, None]
    champion = (table == table.max(1, keepdims=True)) & (table > 0)
    forced, best = champion.any(-1), table.max(-1)
    np.testing.assert_array_equal(positive, forced | (best >= 0.4))
    np.testing.assert_array_equal(negative, ~forced & (best < 0.2))
    allowed = np.where(forced[..., None], champion, table == best[..., None])
    assert np.take_along_axis(allowed, owner[..., None], axis=-1).all()
    np.testing.assert_allclose(overlap, np.take_along_axis(table, owner[..., None], axis=-1)[..., 0], atol=1e-5)
    assert (forced & (best < 0.4)).sum() > 100


def test_matching_without_any_truth_makes_all_negative() -> None:
    references = random_boxes(np.random.default_rng(0), (1, 5), 2)
    found = match(
        tensor(references),
        tensor(np.zeros((2, 3, 4))),
        ops.zeros((2, 3), "bool"),
        positive_from=0.5,
        negative_below=0.3,
        keep_best=True,
    )
    assert not array(found.positive).any()
    assert array(found.negative).all()


def test_a_sample_is_balanced_and_of_fixed_size() -> None:
    generator = np.random.default_rng(0)
    kinds = generator.choice(3, p=[0.3, 0.5, 0.2], size=(CASES, 30))
    kinds[0], kinds[1] = 2, 0
    draws = tensor(generator.random((CASES, 30)))
    sample = balanced_sample(
        ops.convert_to_tensor(kinds == 0), ops.convert_to_tensor(kinds == 1), draws, count=16, max_positive=6
    )
    indices, positive, filled = (array(part) for part in sample)
    assert indices.shape == (CASES, 16)
    for case in range(CASES):
        chosen = indices[case][filled[case]]
        assert len(set(chosen.tolist())) == len(chosen)
        assert (kinds[case][chosen] == np.where(positive[case][filled[case]], 0, 1)).all()
        num_positive = min(6, (kinds[case] == 0).sum())
        assert positive[case].sum() == num_positive
        assert filled[case].sum() == num_positive + min(16 - num_positive, (kinds[case] == 1).sum())
    # Each positive is as likely as any other.
    share = np.bincount(indices[1:][positive[1:]], minlength=30) / (kinds[1:] == 0).sum(0)
    assert share.min() > 0.5 * share.max()


def read_by_interpolation(feature: np.ndarray, box: np.ndarray, stride: int, bins: int, points: int) -> np.ndarray:
    """RoI align of one box by SciPy's interpolation, in float64."""
    rank = len(box) // 2
    axes = []
    for axis in range(rank):
        start, end = box[axis] / stride, box[rank + axis] / stride
        width = (end - start) / bins
        axes.append([start + (b + (p + 0.5) / points) * width - 0.5 for b in range(bins) for p in range(points)])
    places = np.stack(np.meshgrid(*axes, indexing="ij"))
    read = np.stack(
        [map_coordinates(channel, places, order=1, mode="nearest") for channel in np.moveaxis(feature, -1, 0)], axis=-1
    )
    grid = read.reshape(*[size for _ in range(rank) for size in (bins, points)], -1)
    return grid.mean(axis=tuple(range(1, 2 * rank, 2)))


@RANKS
def test_roi_align_equals_interpolation_by_scipy(rank: int) -> None:
    generator = np.random.default_rng(rank)
    extent, strides, bins = {2: ((64, 80), (4, 8), 3), 3: ((32, 24, 40), (2, 4), 2)}[rank]
    features = [generator.normal(size=(2, *[side // stride for side in extent], 3)) for stride in strides]
    corners = np.sort(generator.uniform(0, 1, (2, CASES // 2, 2, rank)) * extent, axis=2)
    boxes = corners.reshape(2, -1, 2 * rank)
    boxes[0, 0], boxes[0, 1] = [0] * rank + list(extent), [5] * rank + [6] * rank
    found = array(roi_align([tensor(level) for level in features], tensor(boxes), strides, bins=bins, points=2))
    levels = []
    for image in range(2):
        for number, box in enumerate(boxes[image]):
            size = math.prod(box[rank:] - box[:rank]) ** (1 / rank)
            level = min(max(math.floor(math.log2(size / (2 * bins * strides[0])) + 1e-5), 0), 1)
            expected = read_by_interpolation(features[level][image], box, strides[level], bins, 2)
            np.testing.assert_allclose(found[image, number], expected, atol=1e-5)
            levels.append(level)
    assert {0, 1} <= set(levels)


def test_the_level_of_a_box_is_that_of_the_pyramid_paper() -> None:
    """Equation 1: 224 pixels belong on the level of stride 16, half of them one level finer."""
    sides = np.array([10.0, 100, 112, 223, 224, 448, 5000])
    boxes = np.stack([np.zeros(7), np.zeros(7), sides, sides], axis=-1)
    assert array(pyramid_level(tensor(boxes), (4, 8, 16, 32), 7)).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_anchors_are_centred_on_their_positions() -> None:
    grid = anchor_grid((10, 16), (4, 8), (((4, 6),), ((8, 8),)))
    assert grid.shape == (3 * 4 + 2 * 2, 4)
    np.testing.assert_array_equal(grid[0], [0, -1, 4, 5])
    np.testing.assert_array_equal(grid[5], [4, 3, 8, 9])
    np.testing.assert_array_equal(grid[-1], [8, 8, 16, 16])
    assert anchor_grid((8, 8, 8), (4, 8), ((), ((1, 2, 3), (3, 2, 1)))).shape == (2, 6)


def test_anchors_fit_the_sizes_and_proportions_they_are_given() -> None:
    generator = np.random.default_rng(0)
    kinds = np.array([[20, 20], [50, 50], [60, 120]])
    sides = kinds[generator.choice(3, p=[0.1, 0.8, 0.1], size=2000)] * np.exp(generator.normal(0, 0.05, (2000, 2)))
    fitted = fit_anchors(sides, (4, 8, 16, 32))
    assert [len(level) for level in fitted.shapes] == [1, 1, 1, 0]
    np.testing.assert_allclose([level[0] for level in fitted.shapes[:3]], kinds, rtol=0.05)
    assert fitted.coverage == 1.0
    assert fitted.mean_iou > 0.85


def test_more_proportions_need_more_anchors() -> None:
    generator = np.random.default_rng(1)
    kinds = np.array([[24, 24], [12, 48], [48, 12]])
    sides = kinds[generator.choice(3, size=999)] * np.exp(generator.normal(0, 0.05, (999, 2)))
    fitted = fit_anchors(sides, (4, 8, 16, 32))
    assert fitted.num_shapes == 3
    found = sorted(round(math.log2(height / width)) for height, width in fitted.shapes[0])
    assert found == [-2, 0, 2]


def test_anchors_of_one_box_and_of_volumes() -> None:
    assert fit_anchors([[7, 9]], (4, 8)).shapes == (((7.0, 9.0),), ())
    fitted = fit_anchors(np.full((5, 3), 30.0), (2, 4, 8))
    assert fitted.shapes == ((), ((30.0, 30.0, 30.0),), ())


@RANKS
def test_keras_ops_give_what_numpy_gives(rank: int) -> None:
    generator = np.random.default_rng(7)
    first = uneven_boxes(generator, 1000, rank)
    second = uneven_boxes(generator, 1000, rank)
    shape = (30, 25, 20)[:rank]
    pairs = [
        *((function, (first, second)) for function in (geometry.iou, geometry.generalised_iou, geometry.intersections)),
        (geometry.pairwise_iou, (first[:20], second[:30])),
        *(
            (function, (first,))
            for function in (
                geometry.volumes,
                geometry.sides,
                geometry.are_valid,
                geometry.to_centres,
                geometry.from_centres,
                geometry.reversed_axes,
                geometry.to_xywh,
                geometry.from_xywh,
            )
        ),
    ]
    for function, arguments in pairs:
        tensors = [ops.convert_to_tensor(argument) for argument in arguments]
        found = ops.convert_to_numpy(function(*tensors, namespace=ops))
        exact = function(*(argument.astype(np.float64) for argument in arguments))
        np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5)
    tensor = ops.convert_to_tensor(first)
    moves: list[tuple[Callable[..., Any], Any]] = [
        (geometry.clipped, shape),
        (geometry.clipped, np.array(shape, np.float32)),
        (geometry.scaled, (0.5, 2.0, 3.0)[:rank]),
        (geometry.shifted, (1.0, -2.0, 3.0)[:rank]),
    ]
    for function, values in moves:
        given_values = ops.convert_to_tensor(values) if isinstance(values, np.ndarray) else values
        found = ops.convert_to_numpy(function(tensor, given_values, namespace=ops))
        np.testing.assert_allclose(found, function(first, values), rtol=1e-6)
