"""Cohorts from COCO's JSON: ``images``, ``annotations`` with ``bbox`` [x, y, width, height], ``categories``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.boxes import from_xywh
from hounsfield.cohorts.annotations import NO_MASK, Annotations, build_box_cohort
from hounsfield.cohorts.box_table import MASK
from hounsfield.cohorts.coco_shapes import marked_shape, object_mask
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.words import SPLIT_WORDS
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.limits import pixel_limit
from hounsfield.object_masks import ObjectMask
from hounsfield.textfiles import parse_json, read_text

KIND = "coco"
# Where the keys that make a JSON file COCO's are looked for: this much of its start and of its end.
HEAD_BYTES = 2**20
KEYS = re.compile(rb'"(images|annotations|categories)"\s*:')
# The lists of a COCO file, and what one of their entries is called.
PARTS = {"images": "image", "annotations": "annotation", "categories": "category"}
# Folders that file names may be relative to, as seen from the JSON file; the JSON's stem and split come besides.
IMAGE_FOLDERS = (".", "images", "..", "../images", "../JPEGImages")
TRIED = 20
# So many letters of a value are shown in a message.
SHOWN = 60
# What COCO says of an image that is no attribute of the sample.
NO_ATTRIBUTES = frozenset({"id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured"})


@dataclass(frozen=True)
class CocoDocument:
    """One JSON file, with its parts checked as far as their types go.

    Attributes:
        path: of the file.
        images: as the file has them.
        annotations: likewise.
        categories: identifier → name.
    """

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[Any, str]


@dataclass(frozen=True, eq=False)
class CocoPart:
    """One JSON file, and where its images lie.

    Attributes:
        document: what it says.
        root: the folder that the images' paths are relative to.
        references: identifier of an image → its path.
        images: one row per image: ``image``, ``split`` where it is known, attributes.
        sizes: path → (rows, columns) as the file says.
    """

    document: CocoDocument
    root: Path
    references: dict[Any, str]
    images: pd.DataFrame
    sizes: dict[str, tuple[int, ...]]


def coco_files(path: Path) -> list[Path]:
    """The COCO files that DATA names: itself, or those in a folder, its ``annotations`` or its folders of splits."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".json" else []
    named = [path, path / "annotations", *(path / word for word in SPLIT_WORDS)]
    found = [file for folder in named if folder.is_dir() for file in sorted(folder.glob("*.json"))]
    return [file for file in found if not file.name.startswith(".") and _looks_like_coco(file)]


def _looks_like_coco(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        stream.seek(max(len(head), path.stat().st_size - HEAD_BYTES))
        return len(set(KEYS.findall(head + stream.read()))) >= 2


def load_coco(path: Path, options: Options) -> Cohort:
    """The cohort of one COCO file, or of a folder with one for each split.

    The split follows from the file's name or its folder's (``train.json``, ``instances_val2017.json``,
    ``test/_annotations.coco.json``); a single file has no split.

    Raises:
        CohortError: a file is no COCO JSON, or the boxes cannot make a cohort.
    """
    documents = read_documents(path, options)
    parts = [_read_part(document) for document in documents]
    found = Annotations(
        images=pd.concat([part.images for part in parts], ignore_index=True),
        boxes=pd.concat([part.boxes for part in parts], ignore_index=True),
        order=tuple(dict.fromkeys(label for part in parts for label in part.order)),
        sizes={image: size for part in parts for image, size in part.sizes.items()},
        notes=tuple(note for part in parts for note in part.notes),
    )
    name = path.resolve().name if path.is_dir() else path.stem
    root = Path(options.images or documents[0].root)
    return build_box_cohort(found, options, root=root, kind=KIND, name=name)


def read_coco(path: Path) -> tuple[Annotations, dict[Any, str]]:
    """What one COCO file says, before any image is looked at, and the category of each identifier.

    Images go by their ``file_name`` and have a column ``id``; a ``score`` stays with its box.

    Raises:
        CohortError: the file is no COCO JSON.
    """
    document = _read(path)
    names = _names(document)
    rows = [
        {key: value for key, value in image.items() if key not in NO_ATTRIBUTES and _is_plain(value)}
        | {"image": names[image["id"]], "id": image["id"]}
        for image in document.images
    ]
    boxes, notes = _boxes(document, names)
    order = tuple(dict.fromkeys(document.categories.values()))
    return Annotations(pd.DataFrame(rows), boxes, order, notes=tuple(notes)), document.categories


def _root_of(file: Path) -> Path:
    """The folder of a data set, seen from one of its files."""
    return file.parent.parent if file.parent.name.lower() == "annotations" else file.parent


def _splits(files: Sequence[Path], root: Path) -> list[str | None]:
    if len(files) == 1:
        return [None]
    splits = [split_in(file.stem) or split_in(file.parent.name if file.parent != root else "") for file in files]
    if None in splits:
        raise CohortError(
            f"Found {len(files)} COCO files in {root} ({', '.join(os.path.relpath(file, root) for file in files)}): "
            "expected one, or one for each split with train, val or test in its name. Give the path of the one meant, "
            "or rename them."
        )
    return list(splits)


def split_in(name: str) -> str | None:
    """The split that a name such as ``instances_train2017`` speaks of, if any."""
    words = [SPLIT_WORDS[word] for word in re.findall(r"[a-z]+", name.lower()) if word in SPLIT_WORDS]
    return words[0] if len(set(words)) == 1 else None


def _read(path: Path) -> CocoDocument:
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise CohortError(f"Cannot read {path} as JSON ({reason}). Expected COCO's JSON: export it again.") from error
    parts: dict[str, list[dict[str, Any]]] = {}
    for key in PARTS:
        part = content.get(key) if isinstance(content, dict) else None
        if not isinstance(part, list):
            has = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise CohortError(
                f"Found no list of {key} in {path} (it has {has[:200] or 'nothing'}): expected COCO's images, "
                "annotations and categories. Export it again as COCO detection JSON."
            )
        _check_objects(part, key, path)
        parts[key] = part
    if not parts["images"]:
        raise CohortError(f"Found no images in {path}: its list is empty. Expected those that the boxes are of.")
    return CocoDocument(path, parts["images"], parts["annotations"], _categories(parts["categories"], path))


def _check_objects(listed: Sequence[Any], key: str, path: Path) -> None:
    number = next((number for number, item in enumerate(listed) if not isinstance(item, dict)), None)
    if number is not None:
        raise CohortError(
            f"Found {_shown(listed[number])} as {PARTS[key]} {number} (counted from 0) of {path}: expected an object "
            "in braces. Correct it, or export the file again as COCO detection JSON."
        )


def _shown(value: Any) -> str:
    """The start of a value as the file has it, for messages."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _categories(listed: Sequence[dict[str, Any]], path: Path) -> dict[Any, str]:
    categories: dict[Any, str] = {}
    for number, item in enumerate(listed):
        key, name = item.get("id"), item.get("name")
        if not isinstance(key, (str, int)) or not isinstance(name, (str, int)) or categories.get(key, name) != name:
            raise CohortError(
                f"Found category {number} of {path} with the id {key!r} and the name {name!r}: expected an id of its "
                "own and a name. Export it again as COCO detection JSON."
            )
        categories[key] = str(name)
    return categories


def read_documents(path: Path, options: Options) -> list[CocoPart]:
    """The COCO files of DATA, each with its split and where its images lie.

    Raises:
        CohortError: there are none, or a file is no COCO JSON.
    """
    files = coco_files(path)
    root = path if path.is_dir() else _root_of(path)
    if not files:
        raise CohortError(
            f"Found no COCO JSON in {path}: expected a file with images, annotations and categories, or a folder with "
            "such a file for each split. Check the path."
        )
    splits = _splits(files, root)
    return [_located(_read(file), split, root, options) for file, split in zip(files, splits, strict=True)]


def _located(document: CocoDocument, split: str | None, root: Path, options: Options) -> CocoPart:
    names = _names(document)
    prefix = ""
    if not options.images:
        prefix, hits = _image_folder(document, list(names.values()), split, root)
        # Exports often name images by their place on the machine of the annotator.
        bare = {key: name.rpartition("/")[2] for key, name in names.items()}
        if not hits and (found := _image_folder(document, list(bare.values()), split, root))[1]:
            prefix, names = found[0], bare
    references = {key: os.path.normpath(os.path.join(prefix, name)) for key, name in names.items()}  # noqa: PTH118 - references are text, and stay relative
    rows: list[dict[str, Any]] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for image in document.images:
        reference = references[image["id"]]
        extra = {key: value for key, value in image.items() if key not in NO_ATTRIBUTES and _is_plain(value)}
        rows.append({**extra, "image": reference} | ({"split": split} if split else {}))
        if all(isinstance(image.get(key), int) for key in ("height", "width")):
            sizes[reference] = (image["height"], image["width"])
    return CocoPart(document, root, references, pd.DataFrame(rows), sizes)


def _read_part(part: CocoPart) -> Annotations:
    boxes, notes = _boxes(part.document, part.references)
    boxes[MASK] = pd.Series(_object_masks(part.document), dtype=object)
    order = tuple(dict.fromkeys(part.document.categories.values()))
    return Annotations(part.images, boxes, order, part.sizes, tuple(notes))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _names(document: CocoDocument) -> dict[Any, str]:
    """Image identifier → file name."""
    names: dict[Any, str] = {}
    for number, image in enumerate(document.images):
        name, key = image.get("file_name"), image.get("id")
        if not isinstance(name, str) or not name or not isinstance(key, (str, int)) or key in names:
            raise CohortError(
                f"Found image {number} of {document.path} with the id {key!r} and the file name {name!r}: expected an "
                "id of its own and the path of a file. Export it again as COCO detection JSON."
            )
        names[key] = name.replace("\\", "/")
    return names


def _image_folder(document: CocoDocument, names: Sequence[str], split: str | None, root: Path) -> tuple[str, int]:
    """The folder, relative to the root, that has most of the first files, and how many of them."""
    here = document.path.parent
    stem = document.path.stem.removeprefix("instances_")
    words = [stem, *([word for word, meant in SPLIT_WORDS.items() if meant == split] if split else [])]
    below = [f"{parent}/{word}" for parent in IMAGE_FOLDERS for word in words]
    candidates = [os.path.relpath((here / folder).resolve(), root.resolve()) for folder in (*IMAGE_FOLDERS, *below)]
    inside = [folder for folder in dict.fromkeys(candidates) if not folder.startswith("..")]
    hits = [sum((root / folder / name).is_file() for name in names[:TRIED]) for folder in inside]
    best = int(np.argmax(hits))
    return inside[best], hits[best]


def _boxes(document: CocoDocument, references: dict[Any, str]) -> tuple[pd.DataFrame, list[str]]:
    crowds = sum(bool(item.get("iscrowd")) for item in document.annotations)
    single = [item for item in document.annotations if not item.get("iscrowd")]
    note = f"{crowds} crowd regions of {document.path.name} were left out: they outline groups and no single object."
    corners = from_xywh(np.array([_numbers(item.get("bbox")) for item in single], np.float64).reshape(-1, 4))
    frame = pd.DataFrame(corners, columns=list(BOX_COLUMNS[2]))
    identified = [item.get("image_id") for item in single]
    known = [references.get(key) if isinstance(key, (str, int)) else None for key in identified]
    frame["image"] = [
        image if image is not None else f"image {key}" for image, key in zip(known, identified, strict=True)
    ]
    labels = [_category(document, item.get("category_id")) for item in single]
    frame["label"] = pd.Series(labels, dtype=object)
    where = document.path.name
    places = [f"annotation {item.get('id', number)} of {where}" for number, item in enumerate(single)]
    for number in np.flatnonzero(~np.isfinite(corners).all(axis=1)):
        places[number] += f" with the bbox {_shown(single[number].get('bbox'))}"
    frame["place"] = places
    if any("score" in item for item in single):
        frame["score"] = pd.to_numeric(pd.Series([item.get("score") for item in single]), errors="coerce")
    return frame, [note] if crowds else []


def _object_masks(document: CocoDocument) -> list[ObjectMask | str]:
    """The mask of each single object, or in a text why there is none."""
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in document.images}
    found: list[ObjectMask | str] = []
    limit = pixel_limit()
    for item in document.annotations:
        if item.get("iscrowd"):
            continue
        key = item.get("image_id")
        rows, columns = sizes.get(key, (None, None)) if isinstance(key, (str, int)) else (None, None)
        if not marked_shape(item):
            found.append(NO_MASK)
        elif not isinstance(rows, int) or not isinstance(columns, int) or min(rows, columns) <= 0:
            found.append("the file does not say how large its image is")
        elif rows * columns > limit:
            found.append(f"the file gives its image {rows:,} × {columns:,} pixels, and at most {limit:,} are read")
        else:
            try:
                found.append(object_mask(item["segmentation"], (rows, columns)))
            except ImageError as error:
                found.append(str(error))
    return found


def _category(document: CocoDocument, key: Any) -> str | None:
    return document.categories.get(key) if isinstance(key, (str, int)) else None


def _numbers(bbox: Any) -> npt.NDArray[np.float64]:
    """Four numbers; not-a-number where there are no four, so that the box is named as invalid."""
    fits = isinstance(bbox, list) and len(bbox) == 4
    if not fits or not all(isinstance(value, (int, float)) for value in bbox):
        return np.full(4, np.nan)
    return np.array(bbox, np.float64)
