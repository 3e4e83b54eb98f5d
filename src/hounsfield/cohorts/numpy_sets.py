"""Cohorts in NumPy files: MedMNIST archives, and a pair of arrays with images and labels."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hounsfield.cohorts.arrays import DAMAGE, ArraySource
from hounsfield.cohorts.build import labelled_cohort
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.labels import class_order, join_columns, tidy
from hounsfield.cohorts.options import Options, Origin
from hounsfield.cohorts.public import MEDMNIST
from hounsfield.errors import CohortError

MEMBER_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def load_archive(path: Path, options: Options) -> Cohort:
    """The cohort of an ``.npz`` with ``train_images``, ``train_labels`` and likewise ``val_`` and ``test_``.

    An archive with plain ``images`` and ``labels`` has no splits. Labels are class indices (images,) or (images, 1), or
    zeros and ones (images, labels); they get their names when the file is named after a set of MedMNIST.

    Raises:
        CohortError: the archive is damaged, needs pickle, or lacks these arrays.
    """
    found = members(path)
    pairs = {prefix: split for prefix, split in MEMBER_SPLITS.items() if f"{prefix}_images" in found}
    names = {f"{prefix}_images": (f"{prefix}_labels", split) for prefix, split in pairs.items()}
    if not names and "images" in found:
        names = {"images": ("labels", None)}  # type: ignore[dict-item]  # no split is a value here
    if not names:
        raise CohortError(
            f"Found the arrays {', '.join(found) or 'none'} in {path}: expected train_images and train_labels, val_ "
            "and test_ likewise, or images and labels. Save them under these names with numpy.savez."
        )
    source = ArraySource({images: (path, f"{images}.npy") for images in names})
    parts, values, places = [], [], []
    for images, (labels, split) in names.items():
        values.append(_labels(path, labels, source.header(images).shape[0], images))
        places += source.references(images)
        parts.append(pd.DataFrame({"split": [split] * source.header(images).shape[0]}))
    table = pd.concat(parts, ignore_index=True)
    return finish(
        table.assign(place=pd.Series(places, dtype=object)),
        stack(values, path),
        options,
        source,
        kind="medmnist",
        path=path,
    )


def load_pair(images: Path, labels: Path, options: Options) -> Cohort:
    """The cohort of two ``.npy`` files, one with images and one with as many labels.

    Raises:
        CohortError: a file is missing or damaged, needs pickle, or their lengths differ.
    """
    for path in (images, labels):
        if not path.is_file():
            raise CohortError(
                f"There is no file {path}: expected two .npy files, 'IMAGES.npy,LABELS.npy'. Check the path."
            )
    source = ArraySource({images.stem: (images, None)})
    values = _checked(labels, labels.name, source.header(images.stem).shape[0], images.name)
    table = pd.DataFrame({"place": source.references(images.stem), "split": None})
    return finish(table, values, options, source, kind="npy pair", path=images)


def is_medmnist(path: Path) -> bool:
    """Whether an archive has its arrays under the names that MedMNIST gives them, or ``images`` and ``labels``."""
    try:
        names = members(path) if path.suffix.lower() == ".npz" else []
    except CohortError:
        return True
    return "images" in names or any(f"{prefix}_images" in names for prefix in MEMBER_SPLITS)


def members(path: Path) -> list[str]:
    """The names of the arrays of an ``.npz``.

    Raises:
        CohortError: it cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except DAMAGE as error:
        raise CohortError(
            f"Cannot read the archive {path} ({error}): expected an .npz of numpy.savez. Copy it again from its source."
        ) from error


def _labels(path: Path, name: str, num_images: int, images: str) -> npt.NDArray[Any]:
    if name not in members(path):
        raise CohortError(f"Found {images} in {path} without {name}: expected a label for each image. Add the array.")
    return _checked(path, name, num_images, images)


def _checked(path: Path, name: str, num_images: int, images: str) -> npt.NDArray[Any]:
    return check_lengths(read_labels(path, name), f"'{name}' of {path}", num_images, images)


def read_labels(path: Path, name: str) -> npt.NDArray[Any]:
    """An array of labels: a ``.npy`` file, or a member of an ``.npz``; ``name`` may begin with the file's stem.

    Raises:
        CohortError: it cannot be read without pickle.
    """
    name = name.removeprefix(f"{path.stem}/")
    try:
        loaded = np.load(path, allow_pickle=False)
        values: npt.NDArray[Any] = loaded if isinstance(loaded, np.ndarray) else _member(loaded, name)
    except DAMAGE as error:
        pickled = "pickle" in str(error).lower() or "object" in str(error).lower()
        remedy = (
            "Save the labels again as numbers or fixed text, for example labels.astype('U')"
            if pickled
            else "Copy it again"
        )
        raise CohortError(
            f"Cannot read '{name}' of {path} ({error}): expected plain numbers or text, since pickle could run any "
            f"program. {remedy}."
        ) from error
    return values


def check_lengths(values: npt.NDArray[Any], where: str, num_images: int, images: str) -> npt.NDArray[Any]:
    """The labels, where they are as many as the images.

    Raises:
        CohortError: they are not, or are no labels by their shape.
    """
    if values.ndim not in (1, 2) or len(values) != num_images or values.size == 0:
        raise CohortError(
            f"Found {num_images} images in '{images}' and labels of shape {values.shape} in {where}: "
            "expected one label for each image, or one row of zeros and ones. Check that both belong together."
        )
    return values


def _member(archive: Any, name: str) -> npt.NDArray[Any]:
    with archive:
        return np.asarray(archive[name])


def stack(values: list[npt.NDArray[Any]], path: Path) -> npt.NDArray[Any]:
    """Labels of several arrays one after another: (n, labels).

    Raises:
        CohortError: they differ in their number of labels.
    """
    widths = {array.shape[1] if array.ndim == 2 else 1 for array in values}
    if len(widths) > 1:
        raise CohortError(
            f"The label arrays of {path} have different widths {sorted(widths)}: expected the same in each."
        )
    return np.concatenate([array.reshape(len(array), -1) for array in values])


def finish(
    table: pd.DataFrame,
    values: npt.NDArray[Any],
    options: Options,
    source: ArraySource,
    *,
    kind: str,
    path: Path,
    notes: Sequence[str] = (),
) -> Cohort:
    """The cohort of arrays.

    Args:
        table: ``place``, the reference of each image, ``split``, and ``patient`` where it is known.
        values: (n,) or (n, labels).
        options: what the user chose.
        source: of the images.
        kind: of the data.
        path: for names and messages.
        notes: what was decided so far.
    """
    values = values.reshape(len(values), -1)
    names = known_labels(path, values)
    several, notes = values.shape[1] > 1, [*notes]
    if several:
        labels, several = _from_columns(values, names, path)
        if not several:
            notes.append("Each image has exactly one of the labels, so the classes exclude each other.")
    else:
        labels = _from_indices(values[:, 0], names, path)
    if names:
        notes.append(f"The labels have the names of the MedMNIST set {_set_name(path)}.")
    order = names or (class_order([str(index) for index in range(values.shape[1])]) if several else ())
    places = {reference.text: reference for reference in table["place"]}
    patients = table.get("patient")
    table = pd.DataFrame({"image": list(places), "label": labels, "split": table["split"]})
    table["patient"] = patients
    if table["split"].notna().any():
        sizes = table["split"].value_counts()
        listed = ", ".join(f"{sizes[split]} {split}" for split in MEMBER_SPLITS.values() if split in sizes)
        notes.append(f"The splits are given: {listed}.")
    origin = Origin(source, kind, path.stem, f"the arrays of {path}", places)
    return labelled_cohort(table, options, origin, several=several, notes=notes, order=order)


def _from_indices(values: npt.NDArray[Any], names: tuple[str, ...], path: Path) -> pd.Series[str]:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise CohortError(
            f"Found {int((~np.isfinite(values)).sum())} labels of {path} that are NaN or infinite. Fill them."
        )
    codes, distinct = pd.factorize(values, sort=True)
    texts, _ = tidy(pd.Series(distinct))
    if (texts == "").any():
        raise CohortError(
            f"Found {int((texts == '')[codes].sum())} empty labels in {path}: expected one an image. Fill them."
        )
    labels = [names[int(text)] for text in texts] if names else list(texts)
    return pd.Series(np.asarray(labels, dtype=object)[codes], dtype=object).astype(str)


def _from_columns(values: npt.NDArray[Any], names: tuple[str, ...], path: Path) -> tuple[pd.Series[str], bool]:
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise CohortError(
            f"Found labels of shape {values.shape} in {path} that are not all 0 or 1: expected one column a label."
        )
    columns = names or tuple(str(index) for index in range(values.shape[1]))
    labels = join_columns(pd.DataFrame(values.astype(bool), columns=list(columns)))
    return labels, not bool((values.sum(axis=1) == 1).all())


def _set_name(path: Path) -> str:
    match = re.match(r"[a-z]+mnist(3d)?", path.stem.lower())
    return match.group() if match else ""


def known_labels(path: Path, values: npt.NDArray[Any]) -> tuple[str, ...]:
    """The label names of the MedMNIST set that a file is named after, when its labels fit them; else none."""
    entry = MEDMNIST.get(_set_name(path))
    if entry is None or values.dtype.kind not in "biuf":
        return ()
    names = tuple(entry.labels)
    fits = values.shape[1] == len(names) if values.shape[1] > 1 else bool(np.isin(values, range(len(names))).all())
    return names if fits else ()
