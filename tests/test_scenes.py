"""Boxes that move with their images: a box moved is the box of the moved mask; the same draw gives the same canvas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.augmentation.scenes import (
    Placement,
    Scene,
    augmented,
    draw_placement,
    place,
)
from hounsfield.plans.augmentation import SCENE_STRENGTHS, SceneAugmentation

Draw = Callable[[st.SearchStrategy[Any]], Any]
RANKS = pytest.mark.parametrize("rank", [2, 3])


def masked(shape: tuple[int, ...], box: list[int], value: int = 1) -> Scene:
    """An image that is ``value`` inside one box and 0 outside."""
    rank = len(shape)
    pixels = np.zeros((*shape, 1), np.float32)
    pixels[tuple(slice(box[axis], box[rank + axis]) for axis in range(rank))] = value
    return Scene(pixels, np.array([box], np.float32), np.array([3]))


def box_of(pixels: npt.NDArray[Any], least: float = 0.5) -> list[int]:
    found = np.argwhere(pixels[..., 0] > least)
    return [*found.min(axis=0).tolist(), *(found.max(axis=0) + 1).tolist()]


@st.composite
def masks(draw: Draw, rank: int) -> Scene:
    shape = tuple(draw(st.integers(4, 14)) for _ in range(rank))
    ends = [sorted(draw(st.lists(st.integers(0, length), min_size=2, max_size=2, unique=True))) for length in shape]
    return masked(shape, [pair[0] for pair in ends] + [pair[1] for pair in ends])


@RANKS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_mirrored_turned_and_cut_box_is_the_box_of_the_mask(rank: int, data: st.DataObject) -> None:
    scene = data.draw(masks(rank))
    canvas = tuple(data.draw(st.integers(3, 18)) for _ in range(rank))
    limits = SceneAugmentation(flip_axes=tuple(range(rank)), turn=True, object_share=0.5, keep=1e-6)
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    placement = draw_placement(generator, scene.pixels.shape[:-1], canvas, limits, base=1.0, boxes=scene.boxes)
    placed = place(scene, placement, keep=limits.keep)
    assert placed.pixels.shape == (*canvas, 1)
    assert placed.pixels.sum() == np.prod(placed.boxes[:, rank:] - placed.boxes[:, :rank], axis=1).sum()
    if len(placed.boxes):
        assert placed.boxes[0].tolist() == box_of(placed.pixels)
        assert placed.classes.tolist() == [3]


@RANKS
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_scaled_box_is_the_box_of_the_scaled_mask_to_a_pixel(rank: int, data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(24, 40)) for _ in range(rank))
    scene = masked(shape, [5] * rank + [length - 6 for length in shape])
    limits = SceneAugmentation(flip_axes=(0,), turn=True, scale=0.6, stretch=0.2, keep=1e-6)
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    placement = draw_placement(generator, shape, (36,) * rank, limits)
    placed = place(scene, placement, keep=limits.keep)
    np.testing.assert_allclose(placed.boxes[0], box_of(placed.pixels), atol=1.01)


def test_every_pixel_stays_where_the_boxes_say() -> None:
    pixels = np.arange(5 * 7, dtype=np.float32).reshape(5, 7, 1)
    boxes = np.array([[y, x, y + 1, x + 1] for y in range(5) for x in range(7)], np.float32)
    scene = Scene(pixels, boxes, np.arange(35))
    for quarters in range(4):
        for flips in ((), (0,), (1,), (0, 1)):
            turned = (7, 5) if quarters % 2 else (5, 7)
            placement = Placement(flips, quarters, (0, 0), turned, turned, (1, 2), (9, 10))
            placed = place(scene, placement, fill=-1)
            for box, number in zip(placed.boxes.astype(int), placed.classes, strict=True):
                assert placed.pixels[box[0], box[1], 0] == number
            assert (placed.pixels == -1).sum() == 90 - 35


def test_objects_that_are_mostly_outside_go_with_their_class() -> None:
    scene = Scene(np.ones((10, 10, 1)), np.array([[0, 0, 4, 4], [0, 3, 4, 9]], np.float32), np.array([1, 2]))
    window = Placement((), 0, (0, 0), (10, 5), (10, 5), (0, 0), (10, 5))
    for keep, classes in ((0.3, [1, 2]), (0.4, [1])):
        placed = place(scene, window, keep=keep)
        assert placed.classes.tolist() == classes
        assert placed.boxes[0].tolist() == [0, 0, 4, 4]
    assert place(scene, window, keep=0.3).boxes[1].tolist() == [0, 3, 4, 5]


def test_no_change_fits_the_whole_image_into_the_canvas() -> None:
    scene = masked((20, 40), [5, 10, 15, 30])
    placement = draw_placement(np.random.default_rng(0), (20, 40), (16, 16), SCENE_STRENGTHS["none"])
    assert (placement.flips, placement.quarters, placement.length, placement.size) == ((), 0, (20, 40), (8, 16))
    placed = place(scene, placement)
    np.testing.assert_allclose(placed.boxes[0] - [placement.at[0], 0] * 2, [2, 4, 6, 12], atol=1e-5)


def test_windows_are_drawn_around_objects_where_asked() -> None:
    scene = masked((200, 300), [150, 20, 158, 28])
    for share, expected in ((1.0, 60), (0.0, 3)):
        limits = SceneAugmentation(object_share=share)
        found = 0
        for seed in range(60):
            generator = np.random.default_rng(seed)
            placement = draw_placement(generator, (200, 300), (48, 48), limits, base=1.0, boxes=scene.boxes)
            found += len(place(scene, placement).boxes)
        assert abs(found - expected) <= 6


def scenes(rank: int, count: int = 5) -> list[Scene]:
    generator = np.random.default_rng(1)
    made = []
    for number in range(count):
        shape = tuple(generator.integers(18, 30, rank).tolist())
        starts = generator.integers(0, 9, (4, rank))
        boxes = np.concatenate([starts, starts + generator.integers(3, 9, (4, rank))], axis=1)
        pixels = np.full((*shape, 1), number + 1, np.float32)
        made.append(Scene(pixels, boxes.astype(np.float32), np.full(4, number)))
    return made


@RANKS
def test_a_mosaic_shows_several_images_with_their_objects_inside(rank: int) -> None:
    known = scenes(rank)
    limits = SceneAugmentation(mosaic=1.0, scale=0.2, keep=0.25)
    canvas = augmented(known.__getitem__, 2, num_scenes=5, shape=(24,) * rank, limits=limits, draw=(0, 3))
    assert canvas.pixels.shape == (24,) * rank + (1,)
    assert 3 in canvas.pixels.round(3)
    assert len(np.unique(canvas.classes)) > 1
    assert (canvas.boxes[:, :rank] >= 0).all()
    assert (canvas.boxes[:, rank:] <= 24).all()
    for box, number in zip(canvas.boxes, canvas.classes, strict=True):
        inside = canvas.pixels[tuple(slice(int(np.ceil(box[a])), int(box[rank + a])) for a in range(rank))]
        # An object lies on the tile of its own image.
        assert np.unique(inside.round(3)).tolist() in ([number + 1], [])


@RANKS
def test_the_same_draw_gives_the_same_canvas_and_another_epoch_another(rank: int) -> None:
    generator = np.random.default_rng(0)
    known = [scene._replace(pixels=generator.random(scene.pixels.shape)) for scene in scenes(rank)]
    limits = SCENE_STRENGTHS["strong"].model_copy(update={"flip_axes": (0, 1), "turn": True})

    def canvas(index: int, *draw: int) -> Scene:
        made = augmented(
            known.__getitem__, index, num_scenes=5, shape=(20,) * rank, limits=limits, draw=(draw[0], draw[1])
        )
        assert made.boxes.dtype == np.float32
        assert made.pixels.dtype == np.float32
        assert len(made.boxes) == len(made.classes)
        return made

    first = [canvas(index, 7, 1) for index in range(5)]
    for index in (4, 0, 2):
        again = canvas(index, 7, 1)
        np.testing.assert_array_equal(again.pixels, first[index].pixels)
        np.testing.assert_array_equal(again.boxes, first[index].boxes)
    assert sum(np.array_equal(canvas(index, 7, 2).pixels, first[index].pixels) for index in range(5)) == 0
    assert sum(np.array_equal(canvas(index, 8, 1).pixels, first[index].pixels) for index in range(5)) == 0


def test_images_without_objects_and_of_bytes_pass() -> None:
    scene = Scene(np.full((9, 9, 3), 200, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    limits = SCENE_STRENGTHS["strong"]
    for epoch in range(4):
        canvas = augmented(lambda _: scene, 0, num_scenes=1, shape=(7, 5), limits=limits, fill=9.0, draw=(0, epoch))
        assert canvas.boxes.shape == (0, 4)
        assert set(np.unique(canvas.pixels)) <= {9.0, 200.0}
