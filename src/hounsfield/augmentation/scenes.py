"""Random changes of an image together with its boxes: mirroring, rotation, scaling, cropping, mosaics.

They run on the host, on one image at a time and before it is batched, because images come in many sizes and networks
take one: each is cropped and scaled into a canvas of the network's shape. The draw (``Placement``) is separate from
its use, so it can be inspected and replayed. Every draw depends on the seed, the epoch and the index alone, not on the
order in which workers ask. Intensities are changed later, in the batch, by ``RandomIntensity``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.boxes import are_valid, clipped, shifted, volumes
from hounsfield.images.image import Image
from hounsfield.object_masks import reframed
from hounsfield.plans.augmentation import SceneAugmentation
from hounsfield.preprocessing import Resize

# Scaling draws no window of fewer pixels than this along an axis.
LEAST_WINDOW = 2
# A position of a mask belongs to the object if it is at least so much of it.
HALF = 0.5


class Scene(NamedTuple):
    """An image with its objects.

    ``pixels`` (spatial axes …, channels); ``boxes`` float32 (n, 2·rank) in pixels of it, half-open; ``classes`` (n,);
    ``masks`` uint8 (n, side, side), the objects' box masks (see ``hounsfield.object_masks``), where they are learned.
    """

    pixels: npt.NDArray[Any]
    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    masks: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Placement:
    """How one image is placed on a canvas: mirrored, rotated, cropped to a window, resized and put down.

    Attributes:
        flips: spatial axes that are mirrored.
        quarters: rotation in right angles, rows towards columns, after mirroring.
        start: first pixel of the window along each axis, after the rotation.
        length: pixels of the window along each axis.
        size: what the window is resized to.
        at: pixel of the canvas where its first pixel goes.
        shape: of the canvas.
    """

    flips: tuple[int, ...]
    quarters: int
    start: tuple[int, ...]
    length: tuple[int, ...]
    size: tuple[int, ...]
    at: tuple[int, ...]
    shape: tuple[int, ...]

    def move(self, boxes: npt.NDArray[np.float32], shape: Sequence[int]) -> npt.NDArray[np.float32]:
        """Boxes of an image of this spatial shape, in pixels of the canvas; not clipped to the window."""
        rank = len(shape)
        turned = _turned_boxes(_mirrored_boxes(boxes, shape, self.flips), shape, self.quarters)
        factors = np.array(self.size, np.float64) / np.array(self.length)
        ends = [turned[..., :rank], turned[..., rank:]]
        moved = [(end - np.array(self.start)) * factors + np.array(self.at) for end in ends]
        return np.concatenate(moved, axis=-1).astype(np.float32)


def _mirrored_boxes(
    boxes: npt.NDArray[np.float32], shape: Sequence[int], flips: Sequence[int]
) -> npt.NDArray[np.float32]:
    result, rank = boxes.copy(), len(shape)
    for axis in flips:
        result[..., axis] = shape[axis] - boxes[..., rank + axis]
        result[..., rank + axis] = shape[axis] - boxes[..., axis]
    return result


def _turned_boxes(boxes: npt.NDArray[np.float32], shape: Sequence[int], quarters: int) -> npt.NDArray[np.float32]:
    """As ``numpy.rot90`` moves pixels: a quarter takes the column c of C to the row C − c, the row to the column."""
    rank = len(shape)
    y, x = rank - 2, rank - 1
    lengths = list(shape)
    for _ in range(quarters % 4):
        before = boxes
        boxes = before.copy()
        boxes[..., y], boxes[..., rank + y] = lengths[x] - before[..., rank + x], lengths[x] - before[..., x]
        boxes[..., x], boxes[..., rank + x] = before[..., y], before[..., rank + y]
        lengths[y], lengths[x] = lengths[x], lengths[y]
    return boxes


def draw_placement(
    generator: np.random.Generator,
    image_shape: Sequence[int],
    shape: Sequence[int],
    limits: SceneAugmentation,
    *,
    base: float | None = None,
    boxes: npt.NDArray[np.float32] | None = None,
) -> Placement:
    """Draw how an image is placed on a canvas.

    Args:
        generator: of every draw.
        image_shape: the image's spatial shape.
        shape: the canvas's spatial shape.
        limits: of the changes.
        base: the factor of size before any random change; ``None`` fits the whole image into the canvas.
        boxes: (n, 2·rank) of the image, around one of which the window may be drawn.
    """
    rank = len(shape)
    if base is None:
        base = _fitting(image_shape, shape)
    flips = tuple(axis for axis in limits.flip_axes if generator.random() < 0.5)
    quarters = int(generator.integers(4)) if limits.rotate90 else 0
    turned = _turned_shape(image_shape, quarters)
    factors = base * np.exp(
        generator.uniform(-1, 1) * np.log1p(limits.scale) + generator.uniform(-1, 1, rank) * np.log1p(limits.stretch)
    )
    target: list[float | None] = [None] * rank
    if boxes is not None and len(boxes) and generator.random() < limits.object_share:
        chosen = boxes[int(generator.integers(len(boxes)))][None]
        moved = _turned_boxes(_mirrored_boxes(chosen, image_shape, flips), image_shape, quarters)[0]
        target = ((moved[:rank] + moved[rank:]) / 2).tolist()
    draws = generator.random(rank).tolist()
    windows = [_window(*along) for along in zip(turned, shape, factors.tolist(), draws, target, strict=True)]
    start, length, size, at = (tuple(values) for values in zip(*windows, strict=True))
    return Placement(flips, quarters, start, length, size, at, tuple(shape))


def _turned_shape(shape: Sequence[int], quarters: int) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2]) if quarters % 2 else tuple(shape)


def _window(image: int, canvas: int, factor: float, draw: float, target: float | None) -> tuple[int, int, int, int]:
    """Along one axis: first pixel and length of the window, its size in the canvas, and where it begins there."""
    size = round(image * factor)
    if size <= canvas:
        size = max(1, size)
        return 0, image, size, int(draw * (canvas - size + 1))
    length = min(image, max(LEAST_WINDOW, round(canvas / factor)))
    first, last = 0, image - length
    if target is not None:
        # The target lies somewhere in the window.
        inside = min(max(int(target), 0), image - 1)
        first, last = max(0, inside - length + 1), min(image - length, inside)
    return first + int(draw * (last - first + 1)), length, canvas, 0


def place(scene: Scene, placement: Placement, *, fill: float = 0.0, keep: float = SceneAugmentation().keep) -> Scene:
    """Place an image and its boxes on a canvas.

    Args:
        scene: the image and its objects.
        placement: drawn for an image of this shape.
        fill: value of the canvas where no image is.
        keep: least part of a box inside the window; other boxes are removed, with their classes.
    """
    rank = len(placement.shape)
    pixels = np.flip(scene.pixels, placement.flips) if placement.flips else scene.pixels
    pixels = np.rot90(pixels, placement.quarters, axes=(rank - 2, rank - 1))
    window = pixels[tuple(slice(s, s + n) for s, n in zip(placement.start, placement.length, strict=True))]
    resized = Resize(size=placement.size).apply(Image(np.ascontiguousarray(window))).pixels
    canvas = np.full((*placement.shape, pixels.shape[-1]), fill, np.float32)
    canvas[tuple(slice(a, a + n) for a, n in zip(placement.at, placement.size, strict=True))] = resized
    moved = placement.move(scene.boxes, scene.pixels.shape[:-1])
    # Clipped to the window, the only part of the canvas that shows the image.
    inside = shifted(clipped(shifted(moved, [-a for a in placement.at]), placement.size), placement.at)
    kept = are_valid(inside) & (volumes(inside) >= keep * volumes(moved))
    masks = None if scene.masks is None else _turned_masks(scene.masks[kept], placement)
    if masks is not None:
        # Of an object that the window cuts the part that is left fills its box.
        masks = np.asarray(reframed(masks.astype(np.float32), moved[kept], inside[kept]) >= HALF, np.uint8)
    return Scene(canvas, inside[kept].astype(np.float32), scene.classes[kept], masks)


def _turned_masks(masks: npt.NDArray[np.uint8], placement: Placement) -> npt.NDArray[np.uint8]:
    mirrored = np.flip(masks, tuple(axis + 1 for axis in placement.flips))
    return np.asarray(np.rot90(mirrored, placement.quarters, axes=(1, 2)))


def augmented(
    fetch: Callable[[int], Scene],
    index: int,
    *,
    num_scenes: int,
    shape: Sequence[int],
    limits: SceneAugmentation,
    base: float | None = None,
    fill: float = 0.0,
    draw: tuple[int, int] = (0, 0),
) -> Scene:
    """One training canvas: image ``index`` changed at random, alone or, as a mosaic, together with others.

    Args:
        fetch: gives the image of an index, 0 to ``num_scenes`` − 1.
        index: of the image.
        num_scenes: how many there are to draw the others of a mosaic from.
        shape: the canvas's spatial shape.
        limits: of the changes.
        base: see ``draw_placement``.
        fill: value of the canvas where no image is.
        draw: (seed, epoch); the same values give the same canvas.
    """
    generator = np.random.default_rng((*draw, index))
    if generator.random() >= limits.mosaic:
        return _placed(fetch(index), generator, shape, limits, base=base, fill=fill)
    rank = len(shape)
    # The tiles meet somewhere in the middle half of the canvas.
    middle = [round(length * generator.uniform(0.25, 0.75)) for length in shape]
    others = generator.integers(num_scenes, size=2**rank - 1)
    members = generator.permutation([index, *others.tolist()])
    tiles = []
    for member, corner in zip(members.tolist(), itertools.product((0, 1), repeat=rank), strict=True):
        tile = [length - cut if side else cut for cut, side, length in zip(middle, corner, shape, strict=True)]
        scene = fetch(member)
        # A tile shows a part of an image at the scale that it would have alone.
        size = _fitting(scene.pixels.shape[:-1], shape) if base is None else base
        part = _placed(scene, generator, tile, limits, base=size, fill=fill)
        tiles.append(([side * cut for cut, side in zip(middle, corner, strict=True)], part))
    return _joined(tiles, shape)


def _placed(
    scene: Scene,
    generator: np.random.Generator,
    shape: Sequence[int],
    limits: SceneAugmentation,
    *,
    base: float | None,
    fill: float,
) -> Scene:
    placement = draw_placement(generator, scene.pixels.shape[:-1], shape, limits, base=base, boxes=scene.boxes)
    return place(scene, placement, fill=fill, keep=limits.keep)


def _fitting(image_shape: Sequence[int], shape: Sequence[int]) -> float:
    return min(wanted / length for wanted, length in zip(shape, image_shape, strict=True))


def _joined(tiles: Sequence[tuple[list[int], Scene]], shape: Sequence[int]) -> Scene:
    """Scenes side by side, each from its first pixel on."""
    pixels = np.empty((*shape, tiles[0][1].pixels.shape[-1]), np.float32)
    for origin, part in tiles:
        ends = zip(origin, part.pixels.shape[:-1], strict=True)
        pixels[tuple(slice(start, start + length) for start, length in ends)] = part.pixels
    boxes = np.concatenate([shifted(part.boxes, origin) for origin, part in tiles])
    classes = np.concatenate([part.classes for _, part in tiles])
    masks = [part.masks for _, part in tiles if part.masks is not None]
    return Scene(pixels, boxes, classes, np.concatenate(masks) if masks else None)
