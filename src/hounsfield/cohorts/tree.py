"""What the folders below DATA are: splits, parts, classes, patients, the same tree once more.

The images are sorted by the folders that lead to them, level by level from above. A level at which there is one folder
says nothing; one of splits or parts is taken off; the first other one holds the classes, unless its names speak
against it.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from hounsfield.cohorts.words import (
    MASK,
    MASK_FOLDERS,
    NO_CLASSES,
    are_dates,
    are_kinds_of_image,
    are_parts,
    are_patients,
    mask_partners,
    split_like,
    split_word,
    stem_of,
    tokens,
)
from hounsfield.errors import UsageError
from hounsfield.images.reading import find_images

NUM_NAMED = 5
# Folders that end in a label, behind a number of their own.
ENDING = re.compile(r"(?P<stem>.+)[_\- ](?P<label>positive|negative|normal|abnormal|benign|malignant)", re.IGNORECASE)
# Folders that unpacking programs and systems leave, and folders whose content is not the data itself.
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".7z", ".rar", ".xz", ".zst")
LAYOUT_FOLDERS = frozenset(
    {"annotations", "images", "imagesets", "imagestr", "imagests", "jpegimages", "labels", "labelstr", "masks"}
)


@dataclass
class Tree:
    """The images below a folder as classes.

    Attributes:
        root: the folder.
        images: path of each image below the root, with ``/`` between folders.
        labels: the class folder of each.
        splits: the split of each; ``None`` for all where no folders are splits.
        level: which folder of a path is the class, counted from 1.
        patients: the patient's folder of each image, where it is known from how the classes were found.
        notes: what was decided.
        doubts: why this may be no set of class folders; with what would settle it.
    """

    root: Path
    images: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)
    level: int = 0
    patients: list[str | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _File:
    """An image with the folders that lead to it, from the level that is looked at."""

    path: str
    folders: tuple[str, ...]
    split: str | None = None

    def below(self) -> _File:
        return dataclasses.replace(self, folders=self.folders[1:])


def images_below(root: Path, exclude: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The images below a folder, sorted, without hidden ones, masks and what is excluded; and notes.

    Args:
        root: the folder.
        exclude: names of folders or files, or patterns such as ``*_copy``, that are left out.
    """
    every, notes = every_image(root, exclude)
    masks = _masks(every)
    if masks:
        every = [path for path in every if path not in masks]
        notes.append(
            f"{len(masks):,} files are masks of other images by their names and were left out, such as '{min(masks)}'."
        )
    return every, notes


def every_image(root: Path, exclude: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """As :func:`images_below`, with the masks.

    Raises:
        UsageError: ``exclude`` leaves out nothing.
    """
    prefix = os.path.join(root, "")  # noqa: PTH118 - as a text, for each image
    every = sorted(os.fspath(path).removeprefix(prefix).replace(os.sep, "/") for path in find_images(root))
    every = [path for path in every if not any(part.startswith("__") for part in path.split("/")[:-1])]
    notes = []
    if exclude:
        kept = [path for path in every if not any(fnmatch(p, e) for p in (path, *path.split("/")) for e in exclude)]
        if len(kept) == len(every):
            raise UsageError(
                f"Nothing below {root} is called {', '.join(exclude)} (--exclude). Name a folder or a file that is "
                "there, or leave the option out."
            )
        notes.append(f"{len(every) - len(kept):,} images were left out as asked: {', '.join(exclude)}.")
        every = kept
    return every, notes


def _masks(paths: Sequence[str]) -> set[str]:
    """The images that are masks of other ones: by their names, or in a folder of masks beside one of images."""
    by_stem: dict[str, list[str]] = {}
    for path in paths:
        by_stem.setdefault(stem_of(path), []).append(path)
    found = {path for stem in mask_partners(by_stem) for path in by_stem[stem]}
    in_folders = [path for path in paths if any(part.lower() in MASK_FOLDERS for part in path.split("/")[1:-1])]
    others = {_place(path) for path in set(paths) - set(in_folders)}
    return found | {path for path in in_folders if _place(path) in others}


def _place(path: str) -> tuple[str, str]:
    """Where an image lies two folders up, and its name without what says that it is a mask."""
    name = stem_of(path.rpartition("/")[2])
    match = MASK.fullmatch(name)
    return "/".join(path.split("/")[:-2]), match["stem"] if match else name


def class_tree(
    root: Path,
    *,
    exclude: Sequence[str] = (),
    level: int | None = None,
    forced: bool = False,
    below: tuple[list[str], list[str]] | None = None,
) -> Tree:
    """Sort the images below a folder into classes.

    Args:
        root: the folder.
        exclude: see :func:`images_below`.
        level: which folder of a path is the class, counted from 1, where that was chosen; then nothing is in doubt.
        forced: whether the folders were chosen to be classes, whatever their names.
        below: what :func:`images_below` found, where it looked already.

    Returns:
        The classes; no image where nothing below the folder can be a class.

    Raises:
        UsageError: no image lies as deep as ``level``.
    """
    paths, notes = below if below is not None else images_below(root, exclude)
    tree = Tree(root, notes=list(notes))
    files = [_File(path, tuple(path.split("/")[:-1])) for path in paths]
    loose = [file.path for file in files if not file.folders]
    files = [file for file in files if file.folders]
    if level is not None:
        return _at_level(tree, files, level)
    if loose:
        tree.notes.append(f"{len(loose):,} images beside the folders were left out: {_some(loose)}.")
    if files:
        _descend(tree, _without_copies(tree, files), forced=forced)
    return tree


def _at_level(tree: Tree, files: Sequence[_File], level: int) -> Tree:
    deep = [file for file in files if len(file.folders) >= level]
    if not deep or level < 1:
        deepest = max((len(file.folders) for file in files), default=0)
        raise UsageError(
            f"No image below {tree.root} lies in {level} folders (--label-level {level}): the deepest lies in "
            f"{deepest}. Give a number from 1 to {deepest}."
        )
    if len(deep) < len(files):
        shallow = [file.path for file in files if len(file.folders) < level]
        tree.notes.append(f"{len(shallow):,} images above level {level} were left out: {_some(shallow)}.")
    words = [{split_like(name) for name in file.folders[: level - 1]} - {None} for file in deep]
    given = all(len(found) == 1 for found in words)
    splits = [next(iter(found)) if given else None for found in words]
    _take(tree, deep, [file.folders[level - 1] for file in deep], splits, level)
    tree.notes.append(f"Folder {level} of each path was taken for the class, as asked.")
    return tree


def _take(tree: Tree, files: Sequence[_File], labels: list[str], splits: Sequence[str | None], level: int) -> None:
    tree.images, tree.labels, tree.splits, tree.level = [file.path for file in files], labels, list(splits), level


def _without_copies(tree: Tree, files: list[_File]) -> list[_File]:
    """Leave out a folder that holds once more what lies beside it, as some archives do."""
    tops = sorted({file.folders[0] for file in files})
    for top in tops:
        inside = {file.path.partition("/")[2] for file in files if file.folders[0] == top}
        beside = {file.path for file in files if file.folders[0] != top}
        shared = inside & beside
        if len(tops) < 2 or not shared:
            continue
        same = inside <= beside and all(_size(tree.root, path) == _size(tree.root, f"{top}/{path}") for path in inside)
        if same:
            tree.notes.append(
                f"The folder '{top}' holds {len(inside):,} files once more that lie beside it, and was left out."
            )
            return [file for file in files if file.folders[0] != top]
        tree.doubts.append(
            f"the folder '{top}' holds {len(shared):,} files of the same names as beside it, and not the same tree: "
            f"give {tree.root / top} as DATA, or leave it out with --exclude '{top}'"
        )
    return files


def _size(root: Path, path: str) -> int:
    return os.stat(os.path.join(root, path)).st_size  # noqa: PTH116, PTH118 - called for each image


def _descend(tree: Tree, files: list[_File], *, forced: bool) -> None:
    """Find the level of the classes."""
    level = 1
    while True:
        names = sorted({file.folders[0] for file in files if file.folders})
        deeper = [file for file in files if len(file.folders) > 1]
        if not names:
            return
        if len(names) == 1:
            if not deeper:
                # A single folder of images is no class: there is nothing to tell it from.
                _take(tree, files, [names[0]] * len(files), [file.split for file in files], level)
                return
            if shallow := [file.path for file in files if not file.folders]:
                tree.notes.append(f"{len(shallow):,} images beside the folders were left out: {_some(shallow)}.")
            files = [file.below() for file in files if file.folders]
        elif (splits := _splits_of(tree, names, deeper, level)) is not None:
            files = [
                dataclasses.replace(f.below(), split=splits[f.folders[0]]) for f in deeper if f.folders[0] in splits
            ]
        elif are_parts(names) and deeper:
            tree.notes.append(f"The folders {_some(names)} are parts of one set by their names.")
            files = [file.below() for file in files if len(file.folders) > 1]
        else:
            _classes(tree, files, names, level, forced=forced)
            return
        level += 1


def _splits_of(tree: Tree, names: Sequence[str], deeper: Sequence[_File], level: int) -> dict[str, str] | None:
    """Folder → split, where the folders of a level are splits; ``None`` where they are something else."""
    found = {name: split for name in names if (split := split_like(name)) is not None}
    exact = {name for name in names if split_word(name) is not None}
    if "train" not in found.values():
        return None
    holding = {file.folders[0] for file in deeper}
    others = [name for name in names if name not in found]
    strange = [name for name in found if name not in exact]
    if not others and set(names) <= holding and len(set(found.values())) == len(found):
        if strange:
            tree.notes.append(
                "The folders are splits by their names: " + ", ".join(f"{n} ({s})" for n, s in found.items()) + "."
            )
        return found
    # One such name alone may be a class; not where class folders lie below it.
    if len(exact) < 2 and not exact & holding:
        return None
    rest = [name for name in names if name not in exact]
    if rest:
        tree.doubts.append(
            f"{_some(sorted(exact))} are the names of splits, and {_some(rest)} stands beside them: leave it out with "
            + " ".join(f"--exclude '{name}'" for name in rest[:NUM_NAMED])
            + f", or say that all of these are classes with --label-level {level}"
        )
    if not exact <= holding:
        tree.doubts.append(
            f"{_some(sorted(exact))} are the names of splits, but no class folders lie below: give the table with the "
            f"labels, or say that these are the classes with --label-level {level}"
        )
        return None
    return {name: split for name, split in found.items() if name in exact}


def _classes(tree: Tree, files: list[_File], names: Sequence[str], level: int, *, forced: bool) -> None:
    """Take a level for the classes, and note what speaks against it."""
    layout = [] if forced else [name for name in names if name.lower() in LAYOUT_FOLDERS]
    if layout:
        tree.notes.append(f"The folders {_some(layout)} are not read as classes.")
    if not forced and _by_endings(tree, files, level):
        return
    kept = [file for file in files if file.folders and file.folders[0] not in layout]
    below = {file.folders[1] if len(file.folders) > 1 else "" for file in kept}
    # Some sets have the splits below the classes.
    words = {name: split_word(name) for name in below}
    if all(words.values()) and "train" in words.values() and not any(file.split for file in kept):
        kept = [dataclasses.replace(file, split=words[file.folders[1]]) for file in kept]
    _take(tree, kept, [file.folders[0] for file in kept], [file.split for file in kept], level)
    classes = sorted(set(tree.labels))
    if forced:
        return
    if are_parts(classes):
        tree.doubts.append(
            f"{_some(classes)} look like parts of one set and not like classes: give the table with the labels, or say "
            f"that they are classes with --label-level {level}"
        )
    elif are_dates(classes):
        tree.doubts.append(
            f"{_some(classes)} look like dates and not like classes: give the table with the labels, or keep these "
            f"with --label-level {level}"
        )
    elif are_patients(classes):
        tree.doubts.append(
            f"{len(classes):,} folders such as {_some(classes[:3])} look like patients or studies and not like "
            "classes: give the table with the labels, name the folder that is the class with --label-level N (N counts "
            f"the folders of a path from 1), or keep these with --label-level {level}"
        )
    else:
        _compare_splits(tree)
    _compare_levels(tree, kept, level)


def _by_endings(tree: Tree, files: Sequence[_File], level: int) -> bool:
    """Take folders such as ``study1_positive`` and ``study1_negative`` for the labels that they end in."""
    for depth in range(min((len(file.folders) for file in files), default=0)):
        endings = [ENDING.fullmatch(file.folders[depth]) for file in files]
        labels = [match["label"].lower() for match in endings if match is not None]
        stems = {match["stem"] for match in endings if match is not None}
        if len(labels) == len(files) and len(set(labels)) > 1 and any(map(str.isdigit, "".join(stems))):
            _take(tree, files, labels, [file.split for file in files], level + depth)
            tree.patients = [
                next((name for name in reversed(file.folders[:depth]) if any(map(str.isdigit, name))), None)
                for file in files
            ]
            tree.notes.append(
                f"The folders such as '{files[0].folders[depth]}' end in a label, which was taken: "
                f"{', '.join(sorted(set(labels)))}."
            )
            return True
    return False


def _compare_levels(tree: Tree, files: Sequence[_File], level: int) -> None:
    """Doubt folders below which others of the same names lie, which may be the classes themselves."""
    below: dict[str, set[str]] = {}
    stems: dict[str, set[str]] = {}
    for file in files:
        below.setdefault(file.folders[0], set()).update(file.folders[1:2])
        stems.setdefault(file.folders[0], set()).add(stem_of(file.path.rpartition("/")[2]))
    strange = [name for name in below if NO_CLASSES & set(tokens(name))]
    if strange and len(below) > 1:
        tree.doubts.append(
            f"{_some([repr(name) for name in strange])} is no class by its name, but images that were changed or have "
            f"no label: leave it out with {' '.join(f'--exclude {name!r}' for name in strange[:NUM_NAMED])}, or say "
            f"that all of these are classes with --label-level {level}"
        )
    if are_kinds_of_image(below) and len({frozenset(names) for names in stems.values()}) == 1:
        tree.doubts.append(
            f"the folders {_some(sorted(below))} hold images of the same names, and are views or sequences by their "
            f"names: give the table with the labels, or say that these are classes with --label-level {level}"
        )
    for name, inside in below.items():
        if name not in strange and len(inside & set(below) - {name}) > 1:
            tree.doubts.append(
                f"the folder '{name}' holds folders of the same names as beside it ({_some(sorted(inside))}): leave it "
                f"out with --exclude '{name}', give it alone as DATA, or say that all of these are classes with "
                f"--label-level {level}"
            )
    shared = set.intersection(*below.values()) if below else set()
    alike = len(below) > 1 and len(shared) > 1 and all(inside == shared for inside in below.values())
    apart = any(split_word(name) or any(map(str.isdigit, name)) for name in shared) or are_kinds_of_image(shared)
    if alike and not apart:
        tree.doubts.append(
            f"each of the folders {_some(sorted(below))} holds folders of the same names ({_some(sorted(shared))}): "
            f"say which are the classes with --label-level {level} or --label-level {level + 1}"
        )


def _compare_splits(tree: Tree) -> None:
    """Doubt classes that no two splits share."""
    by_split: dict[str, set[str]] = {}
    for label, split in zip(tree.labels, tree.splits, strict=True):
        if split is not None:
            by_split.setdefault(split, set()).add(label)
    train = by_split.pop("train", set())
    for split, found in by_split.items():
        if train and not train & found:
            tree.doubts.append(
                f"no folder of the training split ({_some(sorted(train))}) occurs in the {split} split "
                f"({_some(sorted(found))}), so they look like patients and not like classes: give the table with the "
                f"labels, or name the folder that is the class with --label-level N, counted from 1"
            )
            return


def patient_folders(tree: Tree) -> list[str | None]:
    """For each image the folder below its class that looks like its patient's; ``None`` for all where there is none.

    It does where each of its names has a number, lies in one place alone, and many hold several images.
    """
    if tree.patients and None not in tree.patients:
        return tree.patients
    below = [path.split("/")[tree.level : -1] for path in tree.images]
    for depth in range(min(map(len, below), default=0)):
        names = [parts[depth] for parts in below]
        places = {tuple(path.split("/")[: tree.level + depth + 1]) for path in tree.images}
        counts = Counter(names)
        distinct = len({place[-1] for place in places}) == len(places)
        if distinct and len(counts) > 3 and all(any(map(str.isdigit, name)) for name in counts):
            return list(names)
    return [None] * len(tree.images)


def other_files(root: Path) -> list[str]:
    """Notes on archives below a folder, which are not opened."""
    found = [
        os.path.relpath(os.path.join(parent, name), root)  # noqa: PTH118 - called for each file
        for parent, folders, names in os.walk(root)
        if not folders.sort()
        for name in sorted(names)
        if name.lower().endswith(ARCHIVES)
        and not name.startswith(".")
        and not name.lower().endswith((".nii.gz", ".csv.gz", ".tsv.gz"))
    ]
    return (
        [f"{len(found):,} archives were not opened: {_some(found)}. Unpack them if they belong to the data."]
        if found
        else []
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", …" if len(names) > NUM_NAMED else "")
