"""Cohorts in arrays by the names that people give them: ``x_train`` and ``y_train``, in ``.npy``, ``.npz`` or HDF5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts import hdf5
from hounsfield.cohorts.arrays import DAMAGE, ArraySource
from hounsfield.cohorts.build import PATIENT_COLUMNS
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.numpy_sets import check_lengths, finish, members, read_labels, stack
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.table_files import read_table
from hounsfield.cohorts.words import SPLIT_WORDS, plain_name, tokens
from hounsfield.errors import CohortError

KIND = "arrays"
IMAGE_WORDS = frozenset({"x", "image", "images", "img", "imgs", "pixels", "volume", "volumes", "scans"})
LABEL_WORDS = frozenset({"y", "label", "labels", "target", "targets", "class", "classes", "diagnosis"})
SUFFIXES = (".npy", ".npz", *hdf5.HDF5_SUFFIXES)
EXPECTED = (
    "arrays named after what they hold, such as x_train and y_train, x_test and y_test, or images and labels, in .npy, "
    ".npz or HDF5 files"
)


@dataclass(frozen=True)
class Array:
    """One array: where it is, what it holds by its name, and of which split."""

    path: Path
    member: str | None
    role: str
    split: str | None
    rest: tuple[str, ...]

    @property
    def name(self) -> str:
        """How references call it."""
        return self.path.stem if self.member is None else f"{self.path.stem}/{self.member.removesuffix('.npy')}"


def array_pairs(path: Path) -> list[tuple[Array, Array]]:
    """The images and labels that belong together by their names, in a file or right in a folder."""
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    arrays = [array for file in files if not file.name.startswith(".") for array in _arrays(file)]
    labels = {(array.split, array.rest): array for array in arrays if array.role == "labels"}
    pairs = [
        (array, labels[array.split, array.rest])
        for array in arrays
        if array.role == "images" and (array.split, array.rest) in labels
    ]
    # Without splits there is one pair; several of one split would be several sets.
    return pairs if len({images.split for images, _ in pairs}) == len(pairs) else []


def _arrays(file: Path) -> list[Array]:
    if file.suffix.lower() == ".npy":
        return _named(file, [None])
    try:
        return _named(file, list(hdf5.array_names(file) if hdf5.is_hdf5(file) else members(file)))
    except (*DAMAGE, KeyError, CohortError):
        # Whoever reads the file will say what is wrong with it.
        return []


def _named(file: Path, names: Sequence[str | None]) -> list[Array]:
    found = []
    for name in names:
        own, of_file = tokens(name or file.stem), tokens(file.stem)
        role = _role(own) or _role(of_file)
        splits = [SPLIT_WORDS[word] for word in (*own, *of_file) if word in SPLIT_WORDS]
        if role is not None:
            # What is left tells sets apart that lie side by side, and is that of the file where each has an own file.
            said = IMAGE_WORDS | LABEL_WORDS | set(SPLIT_WORDS)
            rest = tuple(word for word in of_file if word not in said) if len(names) == 1 else ()
            inside = tuple(word for word in own if word not in said) if len(names) > 1 else ()
            member = f"{name}.npy" if file.suffix.lower() == ".npz" else name
            found.append(Array(file, member, role, splits[0] if splits else None, (*rest, *inside)))
    return found


def _role(words: Sequence[str]) -> str | None:
    if LABEL_WORDS & set(words):
        return "labels"
    return "images" if IMAGE_WORDS & set(words) else None


def load_arrays(path: Path, options: Options) -> Cohort:
    """The cohort of arrays of images and labels, with splits by their names.

    Raises:
        CohortError: there are no such arrays, or they do not belong together.
    """
    pairs = array_pairs(path)
    if not pairs:
        names = [f"{file.name}" for file in ([path] if path.is_file() else sorted(path.iterdir()))]
        raise CohortError(
            f"Found no images with labels in {path} ({', '.join(names[:NUM_NAMED])}): expected {EXPECTED}. Save them "
            "under such names."
        )
    source = ArraySource({images.name: (images.path, images.member) for images, _ in pairs})
    parts, values, notes = [], [], list[str]()
    for images, labels in pairs:
        count = source.header(images.name).shape[0]
        values.append(_values(labels, count, images.name))
        part = pd.DataFrame({"place": pd.Series(source.references(images.name), dtype=object), "split": images.split})
        patients, told = _patients(images, count)
        parts.append(part.assign(patient=patients))
        notes += told
    table = pd.concat(parts, ignore_index=True)
    named = "; ".join(f"{images.name} with {labels.name}" for images, labels in pairs)
    notes.insert(0, f"Images and labels were found by the names of their arrays: {named}.")
    where = path if path.is_file() else path / "arrays"
    return finish(table, stack(values, path), options, source, kind=KIND, path=where, notes=notes)


def _values(labels: Array, count: int, images: str) -> npt.NDArray[Any]:
    """The labels of one array, without axes of length 1 behind the first."""
    if not hdf5.is_hdf5(labels.path):
        values = read_labels(labels.path, labels.name)
    else:
        try:
            values = hdf5.read_array(labels.path, str(labels.member))
        except (*DAMAGE, KeyError) as error:
            raise CohortError(
                f"Cannot read '{labels.member}' of {labels.path} ({error}): expected labels. Copy the file again."
            ) from error
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    return check_lengths(values, f"'{labels.name}'", count, images)


def _patients(images: Array, count: int) -> tuple[pd.Series[str] | None, list[str]]:
    """Patients, or slides, of a table with a row per image beside the file, as PatchCamelyon's ``…_meta.csv``."""
    stem = images.path.stem.rpartition("_")[0]
    table_path = images.path.with_name(f"{stem}_meta.csv")
    if not stem or not table_path.is_file():
        return None, []
    table = read_table(table_path)
    column = next((name for name in table.columns if plain_name(name) in PATIENT_COLUMNS), None)
    if column is None or len(table) != count:
        return None, [f"The table {table_path.name} was not used: it has no patients for the {count:,} images."]
    told = f"The column '{column}' of {table_path.name} was taken for the patient: {table[column].nunique():,}."
    return table[column].reset_index(drop=True), [told]
