"""Agreement of masks: overlap, surfaces and lesions against two independent tools and against cases by hand."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - its name everywhere
import surface_distance
from medpy.metric import binary as medpy
from scipy import ndimage
from surface_distance import lookup_tables

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.lesions import match_lesions
from hounsfield.evaluation.segmentation import METRICS, compare_label_maps, compare_masks
from hounsfield.evaluation.surfaces import cell_areas, surface, surface_distances

SPACINGS = ((1.0, 1.0, 1.0), (5.0, 0.7, 0.7), (0.3, 2.1, 1.7), (0.43, 0.43, 0.43))
Pair = tuple[np.ndarray, np.ndarray, tuple[float, ...]]


def random_pairs(count: int, seed: int) -> Iterator[Pair]:
    """Smooth shapes, noise and single voxels of both ranks with spacings from .3 to 5 mm; neither is empty."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        rank = 2 + number % 2
        shape = tuple(generator.integers(5, 22, rank))
        smooth = generator.choice([0.0, 1.0, 2.5])
        field = generator.normal(size=(2, *shape))
        field[1] = field[0] + generator.uniform(0.1, 1.5) * field[1]
        if smooth:
            field = np.stack([ndimage.gaussian_filter(each, smooth) for each in field])
        masks = [each > np.quantile(each, generator.uniform(0.5, 0.95)) for each in field]
        if number % 10 == 0:
            masks[number // 10 % 2] = np.zeros(shape, bool)
            masks[number // 10 % 2][tuple(generator.integers(0, shape))] = True
        yield masks[0], masks[1], SPACINGS[generator.integers(len(SPACINGS))][:rank]


def itk(mask: np.ndarray, spacing: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing([float(step) for step in spacing[::-1]])
    return image


def test_overlap_is_that_of_simpleitk_and_medpy() -> None:
    for true, predicted, spacing in random_pairs(120, 0):
        found = compare_masks(true, predicted, spacing)
        measured = sitk.LabelOverlapMeasuresImageFilter()
        measured.Execute(itk(true, spacing), itk(predicted, spacing))
        assert found["dice"] == pytest.approx(measured.GetDiceCoefficient(), abs=1e-9)
        assert found["dice"] == pytest.approx(medpy.dc(predicted, true), abs=1e-9)
        assert found["iou"] == pytest.approx(measured.GetJaccardCoefficient(), abs=1e-9)
        assert found["iou"] == pytest.approx(medpy.jc(predicted, true), abs=1e-9)


def deepmind(true: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The distances and areas of DeepMind's package, which fails on NumPy 2 where a mask is empty."""
    with warnings.catch_warnings():
        # It takes SciPy's functions from where they were once.
        warnings.simplefilter("ignore", DeprecationWarning)
        return dict(surface_distance.compute_surface_distances(true, predicted, spacing))


def test_elements_of_surfaces_and_their_distances_are_those_of_deepmind() -> None:
    for true, predicted, spacing in random_pairs(120, 1):
        expected = deepmind(true, predicted, spacing)
        names = ("distances_gt_to_pred", "distances_pred_to_gt")
        for found, name in zip(surface_distances(true, predicted, spacing), names, strict=True):
            np.testing.assert_allclose(found.distances, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (3.0, 0.5)])
def test_lengths_of_contours_are_those_of_deepmind(spacing: tuple[float, ...]) -> None:
    table = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
    expected = [table[sum(8 >> bit for bit in range(4) if code >> bit & 1)] for code in range(16)]
    assert cell_areas(spacing) == pytest.approx(expected, abs=1e-12)


def ball(radius: float, spacing: tuple[float, ...]) -> np.ndarray:
    sides = [2 * math.ceil(radius / step) + 5 for step in spacing]
    grid = np.meshgrid(
        *((np.arange(side) - side // 2) * step for side, step in zip(sides, spacing, strict=True)), indexing="ij"
    )
    return np.asarray(sum(axis**2 for axis in grid) < radius**2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
def test_areas_of_smooth_surfaces_are_those_of_deepmind(spacing: tuple[float, ...]) -> None:
    mask = ball(21.3, spacing)
    found = surface(mask, spacing).areas.sum()
    expected = deepmind(mask, mask, spacing)["surfel_areas_gt"].sum()
    assert found == pytest.approx(expected, rel=0.01)
    # Steps of voxels make every surface somewhat too large.
    assert 1 < found / (4 * math.pi * 21.3**2) < 1.2


def test_the_area_of_a_plane_and_of_a_slope_by_hand() -> None:
    # One layer of 4×5 voxels of 3×2×1 mm: inside the border a cell has 2·1 mm² on each of both sides.
    areas = surface(np.ones((1, 4, 5), bool), (3.0, 2.0, 1.0)).areas
    assert np.isclose(areas, 2.0).sum() == 24
    # A single voxel is an octahedron with half axes of a, b, c = half the spacing: 8 triangles.
    a, b, c = 1.5, 1.0, 0.5
    octahedron = 8 * 0.5 * math.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2)
    assert surface(np.ones((1, 1, 1), bool), (3.0, 2.0, 1.0)).areas.sum() == pytest.approx(octahedron)


def test_areas_do_not_depend_on_the_direction() -> None:
    mask = np.random.default_rng(2).random((9, 10, 11)) > 0.6
    expected = surface(mask, (3.0, 2.0, 1.0)).areas.sum()
    assert surface(mask[::-1, :, ::-1], (3.0, 2.0, 1.0)).areas.sum() == pytest.approx(expected)
    assert surface(mask.transpose(2, 0, 1), (1.0, 3.0, 2.0)).areas.sum() == pytest.approx(expected)


def test_distances_of_shifted_blocks_by_hand() -> None:
    true = np.zeros((20, 20, 20), bool)
    true[5:15, 5:15, 5:15] = True
    found = compare_masks(true, np.roll(true, 2, axis=0), (2.0, 1.0, 1.0), tolerance=4)
    # Half of the faces across the shift lie 4 mm apart and all others within: nothing is farther than the shift.
    assert found["hd95"] == pytest.approx(4)
    assert found["nsd"] == 1
    assert 0 < found["assd"] < 4
    assert found["dice"] == pytest.approx(0.8)
    less = compare_masks(true, np.roll(true, 2, axis=0), (2.0, 1.0, 1.0), tolerance=3.9)
    assert 0.5 < less["nsd"] < 1


def test_distances_are_near_to_medpy_which_counts_voxels_of_the_border() -> None:
    for true, predicted, spacing in random_pairs(60, 3):
        found = surface_distances(true, predicted, spacing)
        # Voxels of the border lie up to half a voxel from the corners of their cells, on both sides.
        near = math.hypot(*spacing)
        hausdorff = max(each.distances[-1] for each in found)
        assert hausdorff == pytest.approx(medpy.hd(predicted, true, spacing, connectivity=true.ndim), abs=near)


def test_a_mask_against_itself_is_perfect() -> None:
    for true, _, spacing in random_pairs(20, 4):
        assert compare_masks(true, true, spacing) == {name: metric.best for name, metric in METRICS.items()}


def test_the_order_of_the_masks_does_not_matter() -> None:
    for true, predicted, spacing in random_pairs(20, 5):
        assert compare_masks(true, predicted, spacing) == pytest.approx(compare_masks(predicted, true, spacing))


@pytest.mark.parametrize("rank", [2, 3])
def test_empty_masks_follow_the_rules(rank: int) -> None:
    nothing, something = np.zeros((8,) * rank, bool), np.zeros((8,) * rank, bool)
    something[(3,) * rank] = True
    spacing = (1.0,) * rank
    assert all(math.isnan(value) for value in compare_masks(nothing, nothing, spacing).values())
    one = compare_masks(something, nothing, spacing)
    assert one == compare_masks(nothing, something, spacing)
    assert one == {"dice": 0, "iou": 0, "nsd": 0, "hd95": math.inf, "assd": math.inf}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicted": np.zeros((4, 5), bool)}, "shapes"),
        ({"spacing": (1.0,)}, "spacing"),
        ({"spacing": (1.0, 0.0)}, "spacing"),
        ({"spacing": (1.0, math.nan)}, "spacing"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    mask = np.ones((4, 4), bool)
    with pytest.raises(EvaluationError, match=message):
        compare_masks(**{"true": mask, "predicted": mask, "spacing": (1.0, 1.0)} | changes)


def lesion(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    for y0, x0, y1, x1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def test_lesions_by_hand() -> None:
    true = lesion((0, 0, 4, 4), (10, 10, 14, 14), (0, 15, 2, 17))
    # One exact, one at a quarter (IoU 4/28), one beside any.
    predicted = lesion((0, 0, 4, 4), (12, 12, 16, 16), (17, 0, 19, 2))
    assert match_lesions(true, predicted) == {
        "lesions_true": 3,
        "lesions_predicted": 3,
        "lesions_found": 2,
        "lesions_same": 1,
        "lesions_iou": 1,
    }


def test_one_large_prediction_finds_one_lesion_only() -> None:
    true = lesion((0, 0, 4, 4), (0, 6, 4, 10))
    assert match_lesions(true, lesion((0, 0, 4, 10)))["lesions_found"] == 1


def test_label_maps_and_channels_agree_and_unknown_voxels_do_not_count() -> None:
    generator = np.random.default_rng(6)
    true = generator.integers(0, 3, (9, 9, 1)).astype(np.uint8)
    predicted = generator.integers(0, 3, (9, 9, 1)).astype(np.uint8)
    channels = [np.concatenate([each == 1, each == 2], axis=-1).astype(np.uint8) for each in (true, predicted)]
    options: dict[str, Any] = {"spacing": (1.0, 1.0), "labels": ("a", "b")}
    found = compare_label_maps(true, predicted, **options)
    assert found == compare_label_maps(*channels, **options)
    unknown = true.copy()
    unknown[:4] = 255
    cut = compare_label_maps(unknown, predicted, **options)
    assert cut == [
        {**each, "true": each["true"], "predicted": each["predicted"]}
        for each in compare_label_maps(true[4:], predicted[4:], **options)
    ]
    changed = predicted.copy()
    changed[:4] = 1
    assert compare_label_maps(unknown, changed, **options) == cut
