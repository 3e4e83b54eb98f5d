"""Cohorts from images with label maps: 3D boxes (or 2D ones) around what each map marks.

``label maps`` takes one box around each value of a map; ``label components`` one around each connected part of it,
where parts that touch by a corner are one; and in ``instance maps`` each value numbers one object, all of one class. In
2D each object keeps its pixels as its mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.cohorts.annotations import Annotations, build_box_cohort
from hounsfield.cohorts.box_table import MASK
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.map_channels import NUMBERED, kept_images, refuse_several_files, several_volumes
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED, Options
from hounsfield.errors import CohortError, ImageError, SeveralVolumes
from hounsfield.images import image_files, read_image
from hounsfield.images.image import Image
from hounsfield.object_masks import ObjectMask
from hounsfield.textfiles import parse_json, read_text

KINDS = ("label maps", "label components", "instance maps")
WHAT = ("each value", "each connected part of a value", "each value, which numbers one object,")
# The class of every object of an instance map.
OBJECT = "object"
# Names of the folder of images and of the folder of maps.
PAIRS = (("imagesTr", "labelsTr"), ("images", "labels"), ("images", "masks"), ("image", "label"), ("img", "seg"))
MILLIMETRES = 1e-2


@dataclass(frozen=True)
class _Marked:
    """The boxes of one map, each with its value, or why there are none."""

    shape: tuple[int, ...] = ()
    boxes: tuple[tuple[int, ...], ...] = ()
    values: tuple[int, ...] = ()
    masks: tuple[ObjectMask, ...] = ()
    reason: str = ""
    num_volumes: int = 1


def map_folders(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of maps below a folder, where it has both and maps are images."""
    for images, maps in PAIRS:
        if (path / images).is_dir() and (path / maps).is_dir() and image_files(path / maps):
            return path / images, path / maps
    return None


def load_label_maps(path: Path, options: Options, *, kind: str = KINDS[0]) -> Cohort:
    """The cohort of a folder with images and label maps of the same names.

    Args:
        path: has one of ``PAIRS`` of folders, and may have nnU-Net's ``dataset.json`` with the names of the labels.
        options: what the user chose.
        kind: one of ``KINDS``.

    Raises:
        CohortError: there are no such folders, or more than 5 % of the maps cannot be used.
    """
    folders = map_folders(path)
    if folders is None:
        raise CohortError(
            f"Found no folders of images and of label maps in {path}: expected one of "
            f"{', '.join(' and '.join(pair) for pair in PAIRS)}. Rename them."
        )
    pairs, notes = map_pairs(*folders, options, path)
    images = [os.path.relpath(image, path) for image, _ in pairs]
    separate = kind == KINDS[1]
    marked = list(ordered_map(lambda pair: _mark(*pair, separate=separate), pairs))
    options.progress("reading label maps", len(pairs), len(pairs))
    good, told = _usable(images, marked, path)
    names = {} if kind == KINDS[2] else map_names(path)
    rows = [
        (
            images[row],
            OBJECT if kind == KINDS[2] else names.get(value, str(value)),
            *box,
            f"value {value} of the map of {images[row]}",
        )
        for row in good
        for box, value in zip(marked[row].boxes, marked[row].values, strict=True)
    ]
    rank = len(marked[good[0]].shape)
    frame = pd.DataFrame(rows, columns=["image", "label", *BOX_COLUMNS[rank], "place"])
    if rank == 2:
        frame[MASK] = pd.Series([mask for row in good for mask in marked[row].masks], dtype=object)
    others = " or ".join(f"'--kind \"{other}\"'" for other in KINDS if other != kind)
    what = WHAT[KINDS.index(kind)]
    notes += [f"Boxes are around {what} of the label maps; {others} takes them otherwise.", *told]
    if kind == KINDS[2]:
        notes += _single_value([marked[row] for row in good])
    used = set(frame["label"])
    order = tuple(name for _, name in sorted(names.items()) if name in used) if used <= set(names.values()) else ()
    table = pd.DataFrame({"image": [images[row] for row in good]})
    found = Annotations(table, frame, order, {images[row]: marked[row].shape for row in good}, tuple(notes))
    return build_box_cohort(found, options, root=path, kind=kind, name=path.resolve().name)


def _single_value(marked: Iterable[_Marked]) -> list[str]:
    """A note where maps that should number objects hold one value alone, as those of a whole class do."""
    found = {value for each in marked for value in each.values}  # noqa: PD011 - of maps
    if len(found) != 1:
        return []
    told = (
        f"The maps hold the value {found.pop()} alone, so that each image has one object at most. If it marks several, "
        f"'--kind \"{KINDS[1]}\"' tells them apart where they do not touch."
    )
    return [told]


def map_pairs(images: Path, maps: Path, options: Options, data: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Each image that has a map, with it."""
    by_place = {_place(file, maps): file for file in image_files(maps)}
    found, without = [], []
    of_map: dict[Path, list[Path]] = {}
    for image in kept_images(image_files(images), options):
        place = _place(image, images)
        partner = by_place.get(place) or by_place.get(NUMBERED.sub("", place))
        if partner is None:
            without.append(image.name)
        else:
            found.append((image, partner))
            of_map.setdefault(partner, []).append(image)
    refuse_several_files(of_map, data)
    if not found:
        raise CohortError(
            f"Found no image in {images} that has a label map of its name in {maps}. Expected the same names in both."
        )
    named = ", ".join(without[:NUM_NAMED])
    return found, [f"{len(without)} images have no label map and were left out: {named}."] if without else []


def _place(path: Path, folder: Path) -> str:
    """Where a file lies in a folder, without its suffix: in subfolders the same name may be of another image."""
    return path.relative_to(folder).as_posix().removesuffix(".gz").rpartition(".")[0]


def _mark(image_path: Path, map_path: Path, *, separate: bool) -> _Marked:
    try:
        image, labels = read_image(image_path), read_image(map_path)
    except SeveralVolumes as error:
        return _Marked(reason=str(error), num_volumes=len(error.volumes))
    except ImageError as error:
        return _Marked(reason=str(error))
    reason = _mismatch(image, labels)
    if reason:
        return _Marked(reason=reason)
    values = labels.pixels[..., 0]
    if not np.array_equal(values, np.rint(values)):
        return _Marked(reason="its label map holds values that are not whole numbers")
    found = list(_parts(values.astype(np.int64), separate=separate))
    boxes, numbers = tuple(box for _, box, _ in found), tuple(value for value, _, _ in found)
    masks = tuple(ObjectMask.of(part, box[:2]) for _, box, part in found) if len(image.shape) == 2 else ()
    return _Marked(image.shape, boxes, numbers, masks)


def _mismatch(image: Image, labels: Image) -> str:
    """Why a map does not lie on its image; empty where it does."""
    if labels.shape != image.shape or labels.channels != 1:
        return f"its label map has the shape {labels.shape} and {labels.channels} channels, the image {image.shape}"
    known = image.affine is not None and labels.affine is not None
    if known and not np.allclose(image.affine, labels.affine, atol=MILLIMETRES):  # type: ignore[arg-type]  # both are there
        return "its label map lies elsewhere in the patient (another affine)"
    return ""


def _parts(
    values: npt.NDArray[np.int64], *, separate: bool
) -> Iterator[tuple[int, tuple[int, ...], npt.NDArray[np.bool_]]]:
    """Value, box and the pixels in the box of what a map marks; 0 and what is below it is background."""
    marked = [int(value) for value in np.unique(values) if value > 0]
    codes = np.searchsorted(marked, values) + 1
    # find_objects wants small numbers without gaps, and a map may hold any.
    compact = np.where(np.isin(values, marked), codes, 0).astype(np.int32)
    for value, window in zip(marked, ndimage.find_objects(compact), strict=True):
        if not separate:
            yield value, _box(window), values[window] == value
            continue
        touching = np.ones((3,) * values.ndim, bool)
        parts, _ = ndimage.label(values[window] == value, structure=touching)
        for number, part in enumerate(ndimage.find_objects(parts), start=1):
            starts = [outer.start for outer in window]
            box = _box([slice(s + p.start, s + p.stop) for s, p in zip(starts, part, strict=True)])
            yield value, box, parts[part] == number


def _box(window: Any) -> tuple[int, ...]:
    return (*(int(part.start) for part in window), *(int(part.stop) for part in window))


def _usable(images: list[str], marked: list[_Marked], path: Path) -> tuple[list[int], list[str]]:
    good = [row for row, found in enumerate(marked) if not found.reason]
    bad = [row for row, found in enumerate(marked) if found.reason]
    if not bad:
        return good, []
    if not good and all(found.num_volumes > 1 for found in marked):
        raise several_volumes(len(marked), marked[0].num_volumes, path)
    named = "; ".join(f"{images[row]} ({marked[row].reason})" for row in bad[:NUM_NAMED])
    if len(bad) > MAX_BAD_FRACTION * len(images):
        raise CohortError(
            f"Found {len(bad)} of {len(images)} images of {path} whose label map cannot be used: {named}. Expected "
            "maps of whole numbers that lie on their images. Correct or remove them."
        )
    return good, [f"{len(bad)} images were left out, since their label map cannot be used: {named}."]


def map_regions(path: Path) -> dict[str, tuple[int, ...]]:
    """Label → its values, by nnU-Net's ``dataset.json`` whose labels share values; empty for any other."""
    sheet = path / "dataset.json"
    try:
        labels = parse_json(read_text(sheet)).get("labels", {}) if sheet.is_file() else {}
        if not any(isinstance(value, list) for value in labels.values()):
            return {}
        several = {
            str(n): tuple(int(v) for v in (value if isinstance(value, list) else [value]))
            for n, value in labels.items()
        }
        return {name: values for name, values in several.items() if any(values)}
    except (OSError, ValueError, TypeError, AttributeError):
        # Names that cannot be read are refused by map_names.
        return {}


def map_names(path: Path) -> dict[int, str]:
    """Value → name by nnU-Net's or the Decathlon's ``dataset.json``; empty where there is none."""
    sheet = path / "dataset.json"
    if not sheet.is_file():
        return {}
    try:
        labels = parse_json(read_text(sheet)).get("labels", {})
        pairs = [(key, value) if str(key).isdecimal() else (value, key) for key, value in labels.items()]
        return {int(value): str(name) for value, name in pairs if int(value) > 0}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CohortError(
            f"Cannot read the names of the labels in {sheet} ({error}): expected 'labels' with a number for each name. "
            "Correct it, or remove it to name labels by their number."
        ) from error
