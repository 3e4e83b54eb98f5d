"""Cohorts from Pascal VOC: one XML file per image, and lists of names for the splits.

VOC counts pixels from 1 and names the first and the last one inside, so ``xmin`` 1 and ``xmax`` 640 are the whole width
of 640 columns: 0 to 640 here. A box whose corners coincide is a slip of the mouse, and counts as of no size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.boxes import COLUMNS as BOX_COLUMNS
from hounsfield.cohorts.annotations import Annotations, build_box_cohort
from hounsfield.cohorts.coco import split_in
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import text_lines
from hounsfield.cohorts.folders import subfolders
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.words import SPLIT_WORDS
from hounsfield.errors import CohortError
from hounsfield.images import image_files

KIND = "voc"
MAX_BYTES = 2**26
ANNOTATIONS, IMAGES, LISTS = "Annotations", "JPEGImages", "ImageSets/Main"


def annotation_files(path: Path) -> list[Path]:
    """The VOC files of a folder: in ``Annotations``, right in it, or in its folders of splits."""
    if not path.is_dir():
        return []
    below = [folder for folder in subfolders(path) if folder.name.lower() in {*SPLIT_WORDS, "annotations", "xmls"}]
    return [file for folder in (path, *below) for file in sorted(folder.glob("*.xml")) if not file.name.startswith(".")]


def looks_like_voc(path: Path) -> bool:
    """Whether a folder holds XML files of which the first one is VOC's."""
    files = annotation_files(path)
    if not files:
        return False
    with files[0].open("rb") as stream:
        return re.search(rb"<annotation\b", stream.read(2**12)) is not None


def load_voc(path: Path, options: Options) -> Cohort:
    """The cohort of a folder with VOC's XML files.

    Splits come from the lists in ``ImageSets/Main``, or from the folders that the files lie in.

    Raises:
        CohortError: there are no such files, one is broken, or the boxes cannot make a cohort.
    """
    files = annotation_files(path)
    if not files:
        raise CohortError(
            f"Found no XML file in {path}: expected Pascal VOC, a folder with {ANNOTATIONS}/*.xml and {IMAGES}. Check "
            "the path."
        )
    root = Path(options.images or path)
    splits, notes = _splits(path, files)
    pictures = _pictures(root)
    rows, sizes, boxes, difficult = [], {}, [], 0
    for file in files:
        if splits and file not in splits:
            continue
        tree = parse_xml(file)
        image = _image_of(file, tree, pictures)
        rows.append({"image": image} | ({"split": splits[file]} if splits else {}))
        sizes[image] = _size(tree)
        where = os.path.relpath(file, path)
        boxes += [(image, *values, f"object {n} of {where}") for n, values in enumerate(_objects(tree), start=1)]
        difficult += sum((item.findtext("difficult") or "0").strip() == "1" for item in tree.iter("object"))
    if difficult:
        notes.append(f"{difficult} boxes are marked as difficult, and count like the others.")
    frame = pd.DataFrame(boxes, columns=["image", "label", *BOX_COLUMNS[2], "place"])
    notes += _unused(pictures, {row["image"] for row in rows})
    found = Annotations(pd.DataFrame(rows), frame, sizes=sizes, notes=tuple(notes))
    return build_box_cohort(found, options, root=root, kind=KIND, name=path.resolve().name)


def parse_xml(path: Path, *, tag: str = "annotation", form: str = "Pascal VOC") -> Element:
    """The tree of an XML file without a document type, so that nothing in it can be expanded or fetched.

    Raises:
        CohortError: the file is not well-formed, declares a document type or entities, or is far too large.
    """
    if path.stat().st_size > MAX_BYTES:
        raise CohortError(
            f"{path} has {path.stat().st_size:,} bytes: expected annotations of one image. Check the file."
        )
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: object) -> NoReturn:
        raise CohortError(
            f"{path} declares a document type, in which entities can be defined that grow without end or read other "
            "files. Expected plain VOC annotations. Remove the <!DOCTYPE …> part if the file is to be trusted."
        )

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        tree = builder.close()
    except (expat.ExpatError, OSError, ValueError, LookupError) as error:
        raise CohortError(
            f"Cannot read {path} as XML ({error}). Expected {form}'s annotations: export them again."
        ) from error
    if tree.tag != tag:
        raise CohortError(f"Found <{tree.tag}> in {path}: expected <{tag}> of {form}. Check the file.")
    return tree


def _objects(tree: Element) -> Iterator[tuple[str | None, *tuple[float, ...]]]:
    """The label of each object, and its box; what is missing is not a number."""
    for item in tree.iter("object"):
        label = (item.findtext("name") or "").strip() or None
        corners = [_number(item.findtext(f"bndbox/{key}")) for key in ("ymin", "xmin", "ymax", "xmax")]
        yield (label, *_half_open(np.array(corners)).tolist())


def _half_open(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    starts, ends = corners[:2] - 1, corners[2:]
    return np.concatenate([starts, np.where(ends > corners[:2], ends, starts)])


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else np.nan
    except ValueError:
        return np.nan


def _size(tree: Element) -> tuple[int, int]:
    """(rows, columns) as the file says; 0 where it does not."""
    rows, columns = (_number(tree.findtext(f"size/{key}")) for key in ("height", "width"))
    return (int(rows), int(columns)) if np.isfinite([rows, columns]).all() else (0, 0)


def _pictures(root: Path) -> dict[str, list[str]]:
    """Stem → the images of this stem, relative to the root."""
    pictures: dict[str, list[str]] = {}
    for image in image_files(root):
        pictures.setdefault(image.stem, []).append(os.path.relpath(image, root))
    return pictures


def _image_of(file: Path, tree: Element, pictures: dict[str, list[str]]) -> str:
    """The image with the stem of the XML file, the nearest of several; or else the one that the XML names."""
    named = Path((tree.findtext("filename") or file.stem).replace("\\", "/"))
    for stem in (file.stem, named.stem):
        found = pictures.get(stem, [])
        if found:
            split = split_in(file.parent.name)
            beside = [image for image in found if split_in(Path(image).parent.name) == split]
            return (beside or found)[0]
    return named.name


def _splits(root: Path, files: Sequence[Path]) -> tuple[dict[Path, str], list[str]]:
    """The split of each file: by the lists, or by its folder; nothing where there is neither."""
    lists = {word: root / LISTS / f"{word}.txt" for word in (*SPLIT_WORDS, "trainval")}
    lists = {word: path for word, path in lists.items() if path.is_file()}
    if not lists:
        by_folder = {file: split_in(file.parent.name) for file in files}
        complete = {file: split for file, split in by_folder.items() if split}
        return (complete, []) if len(complete) == len(files) else ({}, [])
    named: dict[str, str] = {}
    for word, path in lists.items():
        if word == "trainval" and "train" in lists:
            continue
        for stem in _stems(path):
            split = SPLIT_WORDS.get(word, "train")
            if named.setdefault(stem, split) != split:
                raise CohortError(
                    f"Found '{stem}' in the lists of {root / LISTS} for {named[stem]} and for {split}: expected each "
                    "image in one. Correct the lists."
                )
    notes = []
    unlisted = [file.stem for file in files if file.stem not in named]
    if unlisted:
        notes.append(f"{len(unlisted)} XML files are in no list of {LISTS} and were left out: {_some(unlisted)}.")
    absent = sorted(set(named) - {file.stem for file in files})
    if absent:
        notes.append(f"{len(absent)} names in the lists of {LISTS} have no XML file: {_some(absent)}.")
    return {file: named[file.stem] for file in files if file.stem in named}, notes


def _stems(path: Path) -> list[str]:
    return [Path(line.split()[0]).stem for line in text_lines(path)]


def _unused(pictures: dict[str, list[str]], used: set[str]) -> list[str]:
    unused = sorted(image for found in pictures.values() for image in found if image not in used)
    return [f"{len(unused)} images have no XML file and were left out: {_some(unused)}."] if unused else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", …" if len(names) > NUM_NAMED else "")
