"""What DATA is: detected, said aloud, or forced; and the one function that loads every kind."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from hounsfield.cohorts import (
    array_sets,
    box_rows,
    coco,
    detection_sources,
    drawn_shapes,
    hdf5,
    mask_coco,
    mask_dicom,
    mask_sources,
    mask_tables,
    voc,
    yolo,
)
from hounsfield.cohorts.channels import channel_names, with_channels
from hounsfield.cohorts.choosing import Choice, choose, what_else
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.extension import as_in_run, request_of_run, with_added
from hounsfield.cohorts.folders import cohort_of_tree, load_class_folders, load_dicom_folder
from hounsfield.cohorts.grouping import grouped
from hounsfield.cohorts.numpy_sets import is_medmnist, load_archive, load_pair
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.public import cache_folder, get_medmnist, parse_name
from hounsfield.cohorts.readings import Folder
from hounsfield.cohorts.request import READING, SETTINGS, DataRequest
from hounsfield.cohorts.table_files import is_list, is_table
from hounsfield.cohorts.tables import cohort_of_table, load_table
from hounsfield.cohorts.unlabelled import load_unlabelled
from hounsfield.cohorts.value_columns import refuse_task
from hounsfield.errors import CohortError, UsageError
from hounsfield.images import image_files
from hounsfield.images.reading import find_images
from hounsfield.images.settings import held
from hounsfield.phantoms import make_phantom, source_digest
from hounsfield.phantoms.micrograph import COCO_FILE
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Family, Task, family_of
from hounsfield.textfiles import other_kind

KINDS = (
    *("class folders", "table", "dicom folder", "medmnist", "npy pair", array_sets.KIND, "phantom"),
    *detection_sources.BOX_KINDS,
    *mask_sources.MASK_KINDS,
)
# The kinds that tell of one family alone.
KINDS_OF: dict[Family, tuple[str, ...]] = {
    "boxes": detection_sources.BOX_KINDS,
    "masks": mask_sources.MASK_KINDS,
}
# How phantoms can be read beside the way that their tables suggest.
PHANTOM_KINDS = (box_rows.KIND, mask_coco.KIND)
# What says where its images are by a path, which may start from another folder.
WITH_LABEL_COLUMNS = frozenset({"class folders", "table", "dicom folder", "phantom", box_rows.KIND})
WITH_IMAGES_ELSEWHERE = frozenset(
    {
        *("table", "dicom folder", coco.KIND, voc.KIND, yolo.KIND, box_rows.KIND),
        *(drawn_shapes.LABELME, drawn_shapes.CVAT, mask_tables.KIND, mask_coco.KIND, mask_dicom.KIND),
    }
)
FORMS = (
    "a folder with one sub-folder per class; a CSV or Parquet table with the columns image and label, or a folder that "
    "holds one; DICOM files with a table keyed by PatientID, StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID; a "
    f"MedMNIST .npz; IMAGES.npy,LABELS.npy; {array_sets.EXPECTED}; medmnist:NAME; phantom:NAME; "
    f"{detection_sources.BOX_FORMS}; {mask_sources.MASK_FORMS}"
)


def load_cohort(  # noqa: PLR0913 - one keyword for each option of the command line
    data: str | Path,
    *,
    kind: str | None = None,
    images: Path | None = None,
    label_columns: str | Sequence[str] | None = None,
    allow_outside: bool = False,
    exclude: Sequence[str] = (),
    label_level: int | None = None,
    image_column: str | None = None,
    patient_column: str | None = None,
    patient_pattern: str | None = None,
    channels: Sequence[str] = (),
    sample_column: str | None = None,
    positive: str | None = None,
    class_names: Path | None = None,
    join: Sequence[str] = (),
    test_on: str | None = None,
    uncertain: str | None = None,
    missing: str | None = None,
    readers: str | None = None,
    labels: Sequence[str] | None = None,
    task: Task | None = None,
    progress: Progress = silent,
) -> Cohort:
    """Load the samples of any form of DATA; no pixel is read yet.

    Args:
        data: a path, ``IMAGES.npy,LABELS.npy``, ``medmnist:NAME[:SIZE]`` or ``phantom:NAME``.
        kind: one of ``KINDS``, instead of what would be detected.
        images: the folder of the images, where a table lies elsewhere.
        label_columns: the label column of a table, or several columns of zeros and ones.
        allow_outside: whether paths of a table may lead out of that folder.
        exclude: names of folders or files, or patterns such as ``*_copy``, that are left out.
        label_level: which folder of an image's path is its class, counted from 1.
        image_column: the column of a table that names the images; found by its values by default.
        patient_column: the column of a table that names the patients.
        patient_pattern: a regular expression that finds the patient in an image's path: its first group, or all of it.
        channels: names of the channels of an image: columns of a table that each hold a file, or how the names of its
            files end, or names for the volumes of each file.
        sample_column: the column that says which images are judged together as one sample, or ``folder`` for the
            folder that an image lies in; a column called ``sample`` by default.
        positive: which of two labels is the positive one.
        class_names: a file with a name for each label.
        join: further tables, each ``FILE``, ``FILE:COLUMN`` or ``FILE:COLUMN=COLUMN``, joined to a table by their key.
        test_on: ``COLUMN=VALUE``: the rows of a table that are tested on; all others are trained on.
        uncertain: what a label of −1 counts as: ``ignore`` (the default: neither in the loss nor in any figure),
            ``positive``, ``negative`` or ``class``.
        missing: what an empty label counts as: ``ignore`` (the default) or ``negative``.
        readers: of boxes by several readers: ``half`` (the default: kept where at least half of an image's readers
            agree), ``all``, or the name of one.
        labels: the labels to expect, in class order, such as those of a trained network; then not every one of them
            needs to occur, and an unknown one is refused.
        task: the task to expect; data that can be read for several is read for this one. Without ``labels``: one of
            "multi-class", "ordinal" and "regression", between which a column of numbers leaves the choice, or
            "multi-label", which takes the labels of all rows of an image.
        progress: receives reports on downloads and DICOM headers.

    Raises:
        CohortError: there is no such data, or it cannot make a cohort; the message says what to do.
        UsageError: ``data`` is empty, ``kind`` or the name of a public set or phantom does not exist, or ``images`` is
            given for data that comes with its images.
    """
    refuse_task(task, known=bool(labels))
    columns = (label_columns,) if isinstance(label_columns, str) else tuple(label_columns or ())
    options = Options(
        images=images,
        label_columns=columns,
        allow_outside=allow_outside,
        exclude=tuple(exclude),
        label_level=label_level,
        image_column=image_column,
        patient_column=patient_column,
        patient_pattern=patient_pattern,
        channels=channel_names(channels),
        sample_column=sample_column,
        positive=positive,
        class_names=class_names,
        join=tuple(join),
        test_on=test_on,
        uncertain=uncertain,
        missing=missing,
        readers=readers,
        labels=tuple(labels or ()),
        task=task,
        progress=progress,
    )
    try:
        cohort = _load(os.fspath(data), options, _known_kind(kind))
        if options.channels and not cohort.channels:
            cohort = with_channels(cohort, options.channels)
        return grouped(cohort, options)
    except UnicodeEncodeError as error:
        raise CohortError(
            f"{data} holds the name '{error.object}', whose bytes are not UTF-8: the table of a cohort cannot keep it. "
            "Rename the file or folder."
        ) from error


def load_request(
    request: DataRequest,
    *,
    labels: Sequence[str] | None = None,
    task: Task | None = None,
    progress: Progress = silent,
) -> Cohort:
    """Load what a request names; see :func:`load_cohort`.

    Where it extends a run, the rows of that run come first, with their splits, and its own have no split.

    Args:
        request: DATA and its options.
        labels: the labels to expect.
        task: the task to expect, instead of that of the request.
        progress: receives reports on downloads and DICOM headers.
    """
    if request.extend is None:
        return _load_one(request, labels, task, progress)
    run = Path(request.extend)
    own = request_of_run(run)
    # Settings of the added data, such as --volume, say nothing of those of the run.
    with held(dict.fromkeys(SETTINGS.values(), "")):
        cohort = load_request(own, labels=labels, task=task, progress=progress)
    cohort = as_in_run(cohort, run)
    added = _load_one(request, cohort.labels or labels, cohort.task, progress)
    return with_added(cohort, added, request)


def _load_one(request: DataRequest, labels: Sequence[str] | None, task: Task | None, progress: Progress) -> Cohort:
    with held(request.settings()):
        if request.unlabelled:
            return load_unlabelled(request, progress)
        return load_cohort(
            request.data,
            images=Path(request.images) if request.images else None,
            class_names=Path(request.class_names) if request.class_names else None,
            labels=labels,
            task=task or request.task,
            progress=progress,
            **{name: getattr(request, name) for name in READING},
        )


def _load(text: str, options: Options, forced: str | None) -> Cohort:
    if not text.strip():
        raise UsageError(f"DATA is empty. Expected {FORMS}. Name one of these; the current folder is called '.'.")
    prefix, colon, name = text.partition(":")
    if colon and prefix in {"medmnist", "phantom"}:
        return _named(prefix, name, options, forced)
    if "," in text and not Path(text).exists():
        return _pair_of(text, options, forced)
    path = Path(text).expanduser()
    if not path.exists():
        raise CohortError(_not_found(path))
    if not path.is_dir() and (kind := other_kind(path.stat())):
        raise CohortError(f"{path} is {kind}, and expected is {FORMS}. Give one of these.")
    if forced is not None:
        if forced not in LOADERS:
            raise UsageError(f"A phantom is made by its name and not read from {path}: write phantom:NAME.")
        _refuse_images(options, text, forced)
        return _say_kind(LOADERS[forced](path, options), [], forced, options)
    choice = _chosen(path, options)
    if choice is None:
        also = what_else(Folder(path, options)) if path.is_dir() else ""
        # The forms are many: they are listed where nothing tells what the folder is.
        todo = f"{also} docs/data.md lists all forms." if also else f"Expected {FORMS}. Give one of these."
        raise CohortError(f"Found nothing in {path} that makes a cohort{_why_not(path)}. {todo}")
    _refuse_images(options, text, choice.kind)
    if path.is_dir():
        # Patterns that leave out tables alone concern no image.
        options = dataclasses.replace(options, exclude=Folder(path, options).image_patterns)
        options = _with_root(choice, path, options)
    cohort = _read_choice(choice, path, options)
    cohort = dataclasses.replace(cohort, notes=(*cohort.notes, *choice.notes))
    return _say_kind(cohort, [choice.kind, *choice.others], None, options)


def _chosen(path: Path, options: Options) -> Choice | None:
    """How DATA is read where no kind is forced."""
    if path.is_file():
        found = _fitting(_kinds_of_file(path, options), options.task)
        return Choice(found[0], path, others=found[1:]) if found else None
    if options.label_level is not None:
        return Choice("class folders", path)
    masks, possible = mask_sources.kinds_with_masks(path, options)
    if possible and options.task is not None and family_of(options.task) == "masks":
        masks, possible = possible, []
    certain = _fitting(_certain_kinds(path, masks), options.task)
    choice = choose(Folder(path, options), certain)
    return choice and dataclasses.replace(choice, others=[*choice.others, *possible])


def _with_root(choice: Choice, folder: Path, options: Options) -> Options:
    """The folder that was given as that of the images, where a table lies deeper and none of them beside it."""
    deeper = choice.path.is_file() and choice.path.parent != folder
    if not deeper or options.images is not None or next(find_images(choice.path.parent), None) is not None:
        return options
    return dataclasses.replace(options, images=folder)


def _read_choice(choice: Choice, folder: Path, options: Options) -> Cohort:
    if choice.tree is not None:
        return cohort_of_tree(choice.tree, options, choice.beside)
    if choice.table is not None:
        # Several tables in one: their images were looked for below the folder that was given.
        return cohort_of_table(choice.table, choice.path, options, root=Path(options.images or folder))
    return LOADERS[choice.kind](choice.path, options)


def _refuse_images(options: Options, data: str, kind: str) -> None:
    """Refuse a folder of images for a kind of data that would not look there."""
    if options.images is not None and kind not in WITH_IMAGES_ELSEWHERE:
        raise UsageError(
            f"The folder of images '{options.images}' was given (--images) for '{data}', which is read as {kind} and "
            f"comes with its images. Expected is --images for {', '.join(sorted(WITH_IMAGES_ELSEWHERE))} alone: leave "
            "it out, or give such data; --kind forces a kind."
        )


def _fitting(found: list[str], task: Task | None) -> list[str]:
    """Kinds in the order of likelihood; where a task is expected, those that speak of it come first."""
    if task is None:
        return found
    kinds = KINDS_OF.get(family_of(task))
    special = {kind for others in KINDS_OF.values() for kind in others}
    return sorted(found, key=lambda kind: kind not in kinds if kinds is not None else kind in special)


def _known_kind(kind: str | None) -> str | None:
    if kind is None:
        return None
    plain = kind.replace("-", " ").replace("_", " ").strip().lower()
    if plain not in KINDS:
        raise UsageError(f"There is no kind of data '{kind}': the kinds are {', '.join(KINDS)}.")
    return plain


def _say_kind(cohort: Cohort, found: Sequence[str], forced: str | None, options: Options) -> Cohort:
    told = f"Read as {cohort.kind}" + (", as asked." if forced else ".")
    others = [other for other in found if other != cohort.kind]
    if others and not forced:
        told = f"Read as {cohort.kind}; it could also be read as {' or '.join(others)}: ask for that with --kind."
    notes = [told]
    if options.label_columns and cohort.kind not in WITH_LABEL_COLUMNS:
        named = ", ".join(options.label_columns)
        notes.append(f"The label column {named} was not looked for: such data has no columns, but labels of its own.")
    return dataclasses.replace(cohort, notes=(*notes, *cohort.notes))


def _kinds_of_file(path: Path, options: Options) -> list[str]:
    """The kinds that a file can be read as, the likeliest first."""
    if is_table(path):
        return _kinds_of_table(path, options)
    if path.suffix.lower() == ".txt" and is_list(path):
        return _kinds_of_table(path, options)
    if path.suffix.lower() == ".npz" or hdf5.is_hdf5(path):
        return [array_sets.KIND] if array_sets.array_pairs(path) and not is_medmnist(path) else ["medmnist"]
    if path.suffix.lower() == ".npy" and (path.parent / "labels.npy").is_file():
        return ["npy pair"]
    masks, possible = mask_sources.kinds_with_masks(path, options)
    return [*masks, *detection_sources.kinds_with_boxes(path), *possible]


def _certain_kinds(path: Path, masks: list[str]) -> list[str]:
    """The kinds that files of their own form in a folder speak for, the likeliest first."""
    found = []
    if (path / "images.npy").is_file() and (path / "labels.npy").is_file():
        found.append("npy pair")
    found += masks
    found += detection_sources.kinds_with_boxes(path)
    archives = list(path.glob("*.npz"))
    if len(archives) == 1 and is_medmnist(archives[0]):
        found.append("medmnist")
    elif not found and array_sets.array_pairs(path):
        found.append(array_sets.KIND)
    elif archives:
        found.append("medmnist")
    return found


def _kinds_of_table(path: Path, options: Options) -> list[str]:
    """What a table can be read as, the likeliest first.

    Raises:
        CohortError: the file cannot be read.
    """
    found = Folder(path.parent, options).look_at(path)
    if found.error:
        raise CohortError(found.error)
    return found.kinds or ["table"]


def _load_table(path: Path, options: Options) -> Cohort:
    return load_table(_only_table(path, "table"), options)


def _load_boxes(path: Path, options: Options) -> Cohort:
    return box_rows.load_box_table(_only_table(path, box_rows.KIND), options)


def _load_mask_table(path: Path, options: Options) -> Cohort:
    return mask_tables.load_mask_table(_only_table(path, mask_tables.KIND), options)


def _load_dicom(path: Path, options: Options) -> Cohort:
    return load_dicom_folder(_only_table(path, "dicom folder"), options)


def _only_table(path: Path, kind: str) -> Path:
    if path.is_file():
        return path
    tables = [table.path for table in Folder(path, Options()).tables if kind in table.kinds]
    if len(tables) != 1:
        listed = ", ".join(table.name for table in tables) or "none"
        raise CohortError(
            f"Found {len(tables)} tables for the kind '{kind}' in {path} ({listed}): expected one. Give the path of "
            "the table that is meant."
        )
    return tables[0]


def _load_class_folders(path: Path, options: Options) -> Cohort:
    if not path.is_dir():
        raise CohortError(
            f"{path} is a file: class folders are a folder with one sub-folder per class. Give that folder."
        )
    return load_class_folders(path, options)


def _load_archive(path: Path, options: Options) -> Cohort:
    archives = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if len(archives) != 1:
        listed = ", ".join(archive.name for archive in archives) or "none"
        raise CohortError(
            f"Found {len(archives)} archives in {path} ({listed}): expected one. Give the path of the one meant."
        )
    return load_archive(archives[0], options)


def _load_pair(path: Path, options: Options) -> Cohort:
    folder = path if path.is_dir() else path.parent
    return load_pair(folder / "images.npy" if path.is_dir() else path, folder / "labels.npy", options)


LOADERS: dict[str, Callable[[Path, Options], Cohort]] = {
    "class folders": _load_class_folders,
    "table": _load_table,
    "dicom folder": _load_dicom,
    "medmnist": _load_archive,
    "npy pair": _load_pair,
    array_sets.KIND: array_sets.load_arrays,
    **detection_sources.LOADERS,
    **mask_sources.LOADERS,
    box_rows.KIND: _load_boxes,
    mask_tables.KIND: _load_mask_table,
}


def _pair_of(text: str, options: Options, forced: str | None) -> Cohort:
    parts = [Path(part.strip()).expanduser() for part in text.split(",")]
    if len(parts) != 2 or any(part.suffix.lower() != ".npy" for part in parts):
        raise CohortError(_not_found(Path(text)))
    if forced not in {None, "npy pair"}:
        raise UsageError(f"'{text}' is a pair of .npy files and cannot be read as {forced}. Leave the kind out.")
    _refuse_images(options, text, "npy pair")
    return _say_kind(load_pair(parts[0], parts[1], options), ["npy pair"], forced, options)


def _named(prefix: str, name: str, options: Options, forced: str | None) -> Cohort:
    if forced not in {None, prefix} and not (prefix == "phantom" and forced in PHANTOM_KINDS):
        raise UsageError(f"'{prefix}:{name}' is a {prefix} and cannot be read as {forced}. Leave the kind out.")
    _refuse_images(options, f"{prefix}:{name}", prefix)
    if prefix == "phantom":
        cohort = _load_phantom(name, options, forced)
    else:
        set_name, size = parse_name(name)
        cohort = load_archive(get_medmnist(set_name, size, progress=options.progress), options)
    return _say_kind(cohort, [prefix], forced, options)


def _load_phantom(name: str, options: Options, forced: str | None) -> Cohort:
    table = cached_phantom(name, progress=options.progress)
    outlined = (table.parent / COCO_FILE).is_file()
    found = [*_kinds_of_table(table, options), *([mask_coco.KIND] * outlined)]
    chosen = forced if forced in PHANTOM_KINDS else _fitting(found, options.task)[0]
    cohort = LOADERS[chosen](table.parent / COCO_FILE if chosen == mask_coco.KIND else table, options)
    return dataclasses.replace(cohort, kind="phantom", name=name)


def cached_phantom(name: str, *, seed: int = 0, progress: Progress = silent) -> Path:
    """The table of a phantom in the cache, made when it is not there yet.

    Args:
        name: a key of ``PHANTOMS``, with or without ``phantom:`` before it.
        seed: of everything random.
        progress: receives reports on patients.

    Raises:
        UsageError: no phantom has this name.
    """
    table = cache_folder() / "phantoms" / f"{name.removeprefix('phantom:')}-{seed}-{source_digest()}" / "cohort.csv"
    if table.is_file():
        return table
    table.parent.parent.mkdir(parents=True, exist_ok=True)
    return make_phantom(name, table.parent, seed=seed, progress=progress)


def _not_found(path: Path) -> str:
    parent = path.parent
    near = (
        difflib.get_close_matches(path.name, [entry.name for entry in parent.iterdir()], n=1) if parent.is_dir() else []
    )
    hint = f" Did you mean {parent / near[0]}?" if near else ""
    return f"There is no file or folder {path}.{hint} Expected {FORMS}. Check the path."


def _why_not(path: Path) -> str:
    if path.is_file():
        return f" (a file of type '{path.suffix or 'none'}')"
    num_entries = sum(1 for entry in os.scandir(path) if not entry.name.startswith("."))
    if num_entries == 0:
        return " (the folder is empty)"
    num_images = len([image for image in image_files(path) if image.parent == path])
    return (
        f" ({num_images} images without labels, {num_entries} entries in all)"
        if num_images
        else f" ({num_entries} entries)"
    )
