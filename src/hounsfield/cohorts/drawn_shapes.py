"""Cohorts from the files of annotation programs: LabelMe's JSON for each image, CVAT's XML for all of them.

Both count pixels from the corner of the first one, so that corners are half-open boxes as they are. Of a polygon, a
mask or an ellipse the box around it is taken; points and lines have none.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.cohorts.annotations import Annotations, build_box_cohort
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.voc import parse_xml
from hounsfield.cohorts.words import SPLIT_WORDS
from hounsfield.errors import CohortError
from hounsfield.images import image_files

LABELME, CVAT = "labelme", "cvat"
HEAD_BYTES = 2**12
# Shapes of LabelMe and of CVAT that surround an area.
AREAS = frozenset({"rectangle", "polygon", "circle", "mask", "box", "ellipse"})

Box = tuple[float, float, float, float]


@dataclass
class _Drawing:
    """What was drawn on one image.

    Attributes:
        name: of the image, as the file has it.
        place: of the file, for messages.
        size: (rows, columns) by the file; zeros where it says nothing.
        shapes: (label, kind, box); the box is ``None`` for a shape without an area.
        split: by the file, if any.
    """

    name: str
    place: str
    size: tuple[int, int]
    shapes: list[tuple[str | None, str, Box | None]] = field(default_factory=list)
    split: str | None = None


def labelme_files(path: Path) -> list[Path]:
    """The LabelMe files below a folder."""
    if not path.is_dir():
        return []
    return [file for file in sorted(path.rglob("*.json")) if not file.name.startswith(".") and _has(file, b'"shapes"')]


def cvat_file(path: Path) -> Path | None:
    """The XML file of CVAT that DATA names: itself, or the one in a folder."""
    files = [path] if path.is_file() and path.suffix.lower() == ".xml" else []
    if path.is_dir():
        files = [file for file in sorted(path.glob("*.xml")) if not file.name.startswith(".")]
    return files[0] if len(files) == 1 and _has(files[0], b"<annotations") else None


def _has(path: Path, words: bytes) -> bool:
    with path.open("rb") as stream:
        # Where the picture itself is in the file, the shapes stand before it.
        return words in stream.read(HEAD_BYTES)


def load_labelme(path: Path, options: Options) -> Cohort:
    """The cohort of a folder with LabelMe's JSON files.

    Raises:
        CohortError: there are no such files, one is broken, or the boxes cannot make a cohort.
    """
    files = labelme_files(path)
    if not files:
        raise CohortError(f"Found no LabelMe JSON below {path}: expected one beside each image. Check the path.")
    return _cohort([_labelme(file, path) for file in files], path, options, LABELME)


def load_cvat(path: Path, options: Options) -> Cohort:
    """The cohort of a folder with ``annotations.xml`` of "CVAT for images".

    Raises:
        CohortError: there is no such file, it is broken or of a video, or the boxes cannot make a cohort.
    """
    file = cvat_file(path)
    if file is None:
        raise CohortError(f"Found no CVAT XML in {path}: expected annotations.xml and its images. Check the path.")
    tree = parse_xml(file, tag="annotations", form="CVAT for images")
    if tree.find("track") is not None:
        raise CohortError(
            f"{file} has the tracks of a video, which name no images. Export the task again as 'CVAT for images'."
        )
    root = path if path.is_dir() else path.parent
    return _cohort([_cvat(item, file) for item in tree.iter("image")], root, options, CVAT)


def _labelme(file: Path, root: Path) -> _Drawing:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        name = str(content["imagePath"]).replace("\\", "/")
        place = os.path.relpath(file, root).replace(os.sep, "/")
        size = (int(content.get("imageHeight") or 0), int(content.get("imageWidth") or 0))
        shapes = [_labelme_shape(shape) for shape in content["shapes"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(
            f"Cannot read {file} as LabelMe's ({error}): expected JSON with imagePath and shapes. Export it again, or "
            "move it elsewhere."
        ) from error
    # A path in the file is relative to it; its name is enough.
    beside = (PurePosixPath(place).parent / PurePosixPath(name).name).as_posix()
    return _Drawing(beside, place, size, shapes)


def _labelme_shape(shape: dict[str, Any]) -> tuple[str | None, str, Box | None]:
    kind, points = str(shape.get("shape_type") or "polygon"), [(float(x), float(y)) for x, y in shape["points"]]
    label = str(shape.get("label") or "").strip() or None
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        points = [(x - radius, y - radius), (x + radius, y + radius)]
    return label, kind, _around(points) if kind in AREAS else None


def _cvat(item: Element, file: Path) -> _Drawing:
    size = (int(_number(item.get("height"), 0)), int(_number(item.get("width"), 0)))
    subset = SPLIT_WORDS.get((item.get("subset") or "").lower())
    drawing = _Drawing((item.get("name") or "").replace("\\", "/"), file.name, size, split=subset)
    for shape in item:
        if shape.tag == "tag":
            continue
        label = (shape.get("label") or "").strip() or None
        drawing.shapes.append((label, shape.tag, _around(list(_cvat_points(shape))) if shape.tag in AREAS else None))
    return drawing


def _cvat_points(shape: Element) -> Iterator[tuple[float, float]]:
    if shape.tag == "box":
        yield from ((_number(shape.get(f"x{end}")), _number(shape.get(f"y{end}"))) for end in ("tl", "br"))
    elif shape.tag == "ellipse":
        x, y, rx, ry = (_number(shape.get(name)) for name in ("cx", "cy", "rx", "ry"))
        yield from ((x - rx, y - ry), (x + rx, y + ry))
    elif shape.tag == "mask":
        left, top, width, height = (_number(shape.get(name)) for name in ("left", "top", "width", "height"))
        yield from ((left, top), (left + width, top + height))
    else:
        for pair in (shape.get("points") or "").split(";"):
            across, _, down = pair.partition(",")
            yield _number(across), _number(down)


def _number(text: str | None, otherwise: float = math.nan) -> float:
    try:
        return float(text or "")
    except ValueError:
        return otherwise


def _around(points: Sequence[tuple[float, float]]) -> Box:
    """(y0, x0, y1, x1) of the box around some points; NaN where one is no number."""
    if not points or any(math.isnan(value) for point in points for value in point):
        return (math.nan,) * 4
    xs, ys = zip(*points, strict=True)
    return min(ys), min(xs), max(ys), max(xs)


def _cohort(drawings: Sequence[_Drawing], path: Path, options: Options, kind: str) -> Cohort:
    root = Path(options.images or path)
    files = [os.path.relpath(image, root).replace(os.sep, "/") for image in image_files(root)]
    by_name: dict[str, list[str]] = {}
    for file in files:
        by_name.setdefault(PurePosixPath(file).name, []).append(file)
    known, rows, sizes, boxes, kinds = set(files), [], {}, [], Counter[str]()
    with_splits = all(drawing.split for drawing in drawings)
    for drawing in drawings:
        image = drawing.name if drawing.name in known else _found(drawing, by_name)
        rows.append({"image": image} | ({"split": str(drawing.split)} if with_splits else {}))
        sizes[image] = drawing.size
        kinds.update(shape for _, shape, _ in drawing.shapes)
        boxes += [
            (image, label, *box, f"shape {number} of {drawing.place}")
            for number, (label, _, box) in enumerate(drawing.shapes, start=1)
            if box is not None
        ]
    frame = pd.DataFrame(boxes, columns=["image", "label", *BOX_COLUMNS[2], "place"])
    notes = _notes(kinds, sorted(known - {row["image"] for row in rows}))
    found = Annotations(pd.DataFrame(rows), frame, sizes=sizes, notes=tuple(notes))
    return build_box_cohort(found, options, root=root, kind=kind, name=path.resolve().name)


def _found(drawing: _Drawing, by_name: dict[str, list[str]]) -> str:
    """The one file of the image's name; the path as it is where there is none, which is counted as missing."""
    files = by_name.get(PurePosixPath(drawing.name).name, [])
    ends = [file for file in files if file.endswith(f"/{drawing.name}")] or files
    if len(ends) > 1:
        raise CohortError(
            f"The image '{drawing.name}' of {drawing.place} may be {' or '.join(ends[:NUM_NAMED])}. Expected one file "
            "of this name: name the folder of the images with --images."
        )
    return ends[0] if ends else drawing.name


def _notes(kinds: Counter[str], unused: Sequence[str]) -> list[str]:
    notes = []
    outlined = sum(count for kind, count in kinds.items() if kind in AREAS - {"rectangle", "box"})
    if outlined:
        notes.append(f"Of {outlined:,} shapes that are no rectangles, the boxes around them were taken.")
    others = {kind: count for kind, count in kinds.items() if kind not in AREAS}
    if others:
        listed = ", ".join(f"{count:,} {kind}" for kind, count in others.items())
        notes.append(f"Shapes without an area were left out: {listed}.")
    if unused:
        named = ", ".join(unused[:NUM_NAMED]) + (", …" if len(unused) > NUM_NAMED else "")
        notes.append(f"{len(unused):,} images have no annotations and were left out: {named}.")
    return notes
