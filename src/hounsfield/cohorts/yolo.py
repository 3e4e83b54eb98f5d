"""Cohorts from YOLO's text files: one an image, one line per box: ``class centre_x centre_y width height``, as shares.

A line may also hold a polygon, ``class x y x y x y …``; then the box around it counts. An image without a text file, or
with an empty one, has no objects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import from_centres, reversed_axes, scaled
from hounsfield.cohorts.annotations import Annotations, build_box_cohort
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import text_lines
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.shapes import image_shapes
from hounsfield.cohorts.words import SPLIT_WORDS
from hounsfield.errors import CohortError
from hounsfield.images import image_files
from hounsfield.textfiles import parse_yaml, read_text

KIND = "yolo"
SHEETS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels")
NO_LABELS = frozenset({"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "notes.txt", "readme.txt"})
NAMES = re.compile(r"^names\s*:", re.MULTILINE)
LINE = re.compile(r"\d+( [-+.\deE]+){4,}")


@dataclass(frozen=True)
class _Sheet:
    """What a data set says of itself: where it lies, the names of its classes, and the places of its splits."""

    root: Path
    names: dict[str, str]
    places: dict[str, list[str]] = field(default_factory=dict)


def looks_like_yolo(path: Path) -> bool:
    """Whether DATA is YOLO's: a sheet with names, or text files of such lines in ``labels`` or beside the images."""
    if path.is_file():
        return path.suffix.lower() in {".yaml", ".yml"}
    sheets = [path / name for name in SHEETS if (path / name).is_file()]
    if any(NAMES.search(sheet.read_text(encoding="utf-8", errors="replace")) for sheet in sheets):
        return True
    return any(LINE.match(" ".join(line.split())) for file in _some_texts(path) for line in _first_lines(file))


def _some_texts(path: Path) -> list[Path]:
    """One text file of each folder where labels may lie."""
    folders = [path, path / "labels", *(path / "labels" / word for word in SPLIT_WORDS)]
    folders += [path / word / "labels" for word in SPLIT_WORDS]
    texts = [[file for file in sorted(folder.glob("*.txt")) if file.name not in NO_LABELS] for folder in folders]
    return [files[0] for files in texts if files]


def _first_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return [stream.readline()]


def load_yolo(path: Path, options: Options) -> Cohort:
    """The cohort of a folder in YOLO's form, or of its ``data.yaml``.

    Raises:
        CohortError: there are no images, or the boxes cannot make a cohort.
    """
    sheet = _sheet(path)
    root = Path(options.images or sheet.root)
    images = _images(sheet, root)
    if not images:
        raise CohortError(
            f"Found no images in {root}: expected YOLO's layout, such as images/train and labels/train. Check the "
            "path, or the entries train, val and test of data.yaml."
        )
    shapes = image_shapes(root, list(images))
    # A box in shares of an unknown size has no place in pixels; whoever reads the pixels will name such an image.
    unreadable = [image for image in images if len(shapes.get(image, ())) != 2]
    rows = [{"image": image} | ({"split": split} if split else {}) for image, split in images.items()]
    boxes: list[tuple[Any, ...]] = []
    num_without = 0
    for image in images:
        text = _label_file(sheet.root, root, image)
        num_without += text is None
        if text is not None and len(shapes.get(image, ())) == 2:
            where = os.path.relpath(text, sheet.root)
            boxes += [(image, *values) for values in _boxes(text, where, shapes[image], sheet.names)]
    notes = _notes(images, num_without, unreadable, sheet)
    frame = pd.DataFrame(boxes, columns=["image", "label", *BOX_COLUMNS[2], "place"])
    found = Annotations(pd.DataFrame(rows), frame, tuple(sheet.names.values()), notes=tuple(notes))
    return build_box_cohort(found, options, root=root, kind=KIND, name=sheet.root.resolve().name)


def _notes(images: dict[str, str | None], num_without: int, unreadable: Sequence[str], sheet: _Sheet) -> list[str]:
    notes = []
    if num_without:
        notes.append(f"{num_without} of {len(images)} images have no text file and count as negatives.")
    if unreadable:
        named = ", ".join(unreadable[:NUM_NAMED])
        notes.append(f"The size of {len(unreadable)} images is unknown, so their boxes are too: {named}.")
    if not sheet.names:
        notes.append("No names of classes were found (data.yaml or classes.txt), so classes are called by number.")
    return notes


def _sheet(path: Path) -> _Sheet:
    if path.is_file():
        return _read_sheet(path)
    sheet = next((path / name for name in SHEETS if (path / name).is_file()), None)
    if sheet is not None:
        return _read_sheet(sheet)
    lists = [folder / name for folder in (path, path / "labels") for name in NAME_LISTS]
    found = next((file for file in lists if file.is_file()), None)
    names = text_lines(found) if found else []
    return _Sheet(path, {str(number): name for number, name in enumerate(names)})


def _read_sheet(path: Path) -> _Sheet:
    try:
        content = parse_yaml(read_text(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CohortError(
            f"Cannot read {path} as YAML ({' '.join(str(error).split())}). Expected YOLO's data.yaml. Correct it."
        ) from error
    names = content.get("names") if isinstance(content, dict) else None
    if not isinstance(names, (list, dict)) or not names:
        raise CohortError(f"Found no names of classes in {path}: expected YOLO's 'names'. Add them, in class order.")
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    places = {}
    for word, split in SPLIT_WORDS.items():
        entry = content.get(word)
        listed = entry if isinstance(entry, list) else [entry]
        if texts := [str(item) for item in listed if item]:
            places[split] = texts
    base = str(content.get("path") or ".")
    below = path.parent / base
    root = below if not Path(base).is_absolute() and below.is_dir() else path.parent
    return _Sheet(root, {str(key): str(value) for key, value in pairs}, places)


def _images(sheet: _Sheet, root: Path) -> dict[str, str | None]:
    """Each image, relative to the root, with its split."""
    found: dict[str, str | None] = {}
    for split, places in sheet.places.items():
        for place in places:
            for image in _images_at(root, place):
                if found.setdefault(image, split) != split:
                    raise CohortError(
                        f"Found '{image}' in {found[image]} and in {split} of {sheet.root}: expected each image in one "
                        "split. Correct data.yaml."
                    )
    if found or sheet.places:
        return found
    every = [os.path.relpath(image, root) for image in image_files(root)]
    splits = [_split_of(image) for image in every]
    given = "train" in splits and None not in splits
    return {image: split if given else None for image, split in zip(every, splits, strict=True)}


def _split_of(image: str) -> str | None:
    words = [SPLIT_WORDS[part.lower()] for part in PurePosixPath(image).parts[:-1] if part.lower() in SPLIT_WORDS]
    return words[0] if words else None


def _images_at(root: Path, place: str) -> list[str]:
    """The images of an entry of data.yaml: a folder, or a text file with one path per line, below the root."""
    # Exports often write '../train/images' for what lies in 'train/images'.
    plain = place.replace("\\", "/")
    candidates = (root / plain, root / plain.removeprefix("./").removeprefix("../"))
    inside = [path for path in candidates if path.resolve().is_relative_to(root.resolve())]
    for path in inside:
        if path.is_dir():
            return [os.path.relpath(image, root) for image in image_files(path)]
        if path.is_file():
            return [os.path.normpath(line) for line in text_lines(path)]
    raise CohortError(
        f"Found '{place}' in data.yaml, which is no folder or list below {root}: expected the images of a split there. "
        "Correct the entry, or leave it out."
    )


def _label_file(home: Path, root: Path, image: str) -> Path | None:
    """The text file of an image: in ``labels`` where its path has ``images``, or beside it."""
    text = PurePosixPath(image.replace(os.sep, "/")).with_suffix(".txt")
    parts = list(text.parts)
    folders = [number for number, part in enumerate(parts[:-1]) if part.lower() == "images"]
    places = [Path(*parts[:number], "labels", *parts[number + 1 :]) for number in reversed(folders)]
    places += [Path("labels", *parts), Path(*parts)]
    return next((base / place for place in places for base in (root, home) if (base / place).is_file()), None)


def _boxes(
    path: Path, where: str, shape: tuple[int, ...], names: dict[str, str]
) -> Iterator[tuple[str | None, *tuple[float, ...], str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise CohortError(f"Cannot read {path} ({error}): expected a line of numbers a box. Save it again.") from error
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            box = _box(words[1:], shape)
            label = names.get(words[0]) if names else (words[0] if words[0].isdecimal() else None)
            yield (label, *box, f"line {number} of {where}")


def _box(words: Sequence[str], shape: tuple[int, ...]) -> list[float]:
    """(y0, x0, y1, x1) in pixels; not-a-number where the words are no box and no polygon."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        return [np.nan] * 4
    if len(values) == 4:
        corners = reversed_axes(from_centres(values))
    elif len(values) >= 6 and len(values) % 2 == 0:
        points = values.reshape(-1, 2)
        corners = reversed_axes(np.concatenate([points.min(axis=0), points.max(axis=0)]))
    else:
        return [np.nan] * 4
    return list(scaled(corners, shape).tolist())
