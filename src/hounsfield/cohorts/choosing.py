"""The choice among the readings of a folder, or one refusal.

A reading is taken when it is the only one without a doubt. Where two fit, or where the only one could be wrong in
silence, the user gets one message: what was seen, the readings possible, and the option that chooses each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pandas as pd

from hounsfield.cohorts import mask_tables
from hounsfield.cohorts.build import PATIENT_COLUMNS
from hounsfield.cohorts.joins import fits_together
from hounsfield.cohorts.label_columns import ATTRIBUTES, is_identifier
from hounsfield.cohorts.mask_content import mask_classes, mask_endings
from hounsfield.cohorts.options import NUM_NAMED
from hounsfield.cohorts.readings import Folder, TableFile
from hounsfield.cohorts.table_files import table_stem
from hounsfield.cohorts.tree import Tree, other_files
from hounsfield.cohorts.words import SPLIT_WORDS, plain_name, split_like, tokens
from hounsfield.errors import CohortError

# A table that names no more than this share of the images that another one names is about a part of them.
SMALL_PART = 0.2
# Two folders whose names stand in a table may well be classes.
MANY_FOLDERS = 3
# What to do with files of forms that are not read.
ARRAYS = "write their arrays with numpy.savez as an .npz with x_train, y_train, x_test, y_test"
REMEDIES = {
    ".h5": f"its arrays have no names that tell images from labels; {ARRAYS}",
    ".hdf5": f"its arrays have no names that tell images from labels; {ARRAYS}",
    ".mat": ARRAYS,
    ".pkl": f"pickled files can run any program; {ARRAYS}",
    ".pickle": f"pickled files can run any program; {ARRAYS}",
    ".pt": f"pickled files can run any program; {ARRAYS}",
    ".tfrecord": "export the images as PNG files with a table, for example with tfds.as_numpy",
    ".tfrec": "export the images as PNG files with a table",
    ".lmdb": "export the images as PNG files with a table",
    ".zarr": ARRAYS,
    ".json": "write the image and the label of each entry into a CSV table",
    ".jsonl": "write the image and the label of each entry into a CSV table",
    ".xls": "save the sheet as .xlsx or CSV",
    ".ods": "save the sheet as .xlsx or CSV",
    ".svs": "export the regions that are labelled as PNG files",
    ".ndpi": "export the regions that are labelled as PNG files",
    ".mp4": "export the frames as PNG files, for example with ffmpeg",
    ".avi": "export the frames as PNG files, for example with ffmpeg",
}


@dataclass
class Choice:
    """The reading that was taken.

    Attributes:
        kind: of the data.
        path: what is read.
        tree: the folders, where they were looked at.
        beside: a table that adds patients and attributes to class folders.
        table: the rows of several tables, whose column ``image`` counts from the folder of the images.
        others: further kinds that the data could be read as, in silence harmless.
        notes: what was left out.
    """

    kind: str
    path: Path
    tree: Tree | None = None
    beside: pd.DataFrame | None = None
    table: pd.DataFrame | None = None
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def choose(folder: Folder, certain: Sequence[str]) -> Choice | None:
    """Choose how a folder is read.

    Args:
        folder: what lies in it.
        certain: kinds that files of their own form speak for, such as COCO's JSON.

    Returns:
        The choice; ``None`` where nothing makes a cohort.

    Raises:
        CohortError: several readings fit, or the only one could be wrong in silence.
    """
    usable = [table for table in folder.tables if table.usable]
    classes = _has_classes(folder)
    if not usable and not certain and (not classes or folder.tree.doubts) and _joinable(folder) is None:
        # Where nothing else is a reading, the only column of few values is.
        usable = [table for table in folder.tables if table.lone and table.kinds == ["table"] and not table.against]
    # Tables of the splits of one set belong together, also where labels can be read in some of them alone.
    usable += [other for other in folder.tables if other not in usable and _is_sibling(other, usable)]
    if certain and not usable:
        return Choice(certain[0], folder.path, others=[*certain[1:], *(["class folders"] * classes)])
    if usable:
        return _by_table(folder, usable, certain)
    if classes:
        return _by_folders(folder)
    if (join := _joinable(folder)) is not None:
        raise CohortError(f"No table in {folder.path} has both images and labels: {join}")
    return None


def _has_classes(folder: Folder) -> bool:
    return len(set(folder.tree.labels)) > 1 or bool(folder.tree.doubts)


def _by_table(folder: Folder, usable: Sequence[TableFile], certain: Sequence[str]) -> Choice:
    kept, notes = _without_parts(usable)
    joined = _tables_of_splits(kept)
    if joined is not None:
        notes.insert(0, f"The tables {', '.join(_name(folder, table) for table in kept)} are the splits of one set.")
    elif len(kept) > 1:
        kept = _only_labelled(folder, kept)
    best = kept[0]
    describing = [] if joined is not None else _describing(folder, best, usable)
    notes += [_unused(table) for table in folder.tables if table not in (*kept, *describing) and table not in usable]
    others = [*best.kinds[1:], *certain]
    if joined is None and describing:
        joined, told = _with_attributes(best, describing)
        notes += told
    # Folders of masks that a table names are no classes.
    classes = mask_tables.KIND not in best.kinds and _has_classes(folder) and not folder.tree.doubts
    if best.kinds[0] == "table" and classes:
        if (differing := _contradicts(folder, best)) is not None:
            raise CohortError(
                f"{folder.path} can be read in two ways, which do not agree: {differing}. To take the labels of the "
                f"table, give {best.path} as DATA; to take the folders as classes, add --kind 'class folders'."
            )
        others.append("class folders")
    return Choice(best.kinds[0], best.path, table=joined, others=others, notes=notes)


def _without_parts(usable: Sequence[TableFile]) -> tuple[list[TableFile], list[str]]:
    """The tables without those that speak of a small part of the images that another one names."""
    most = max((table.match.num_distinct for table in usable if table.match), default=0)
    small = [t for t in usable if t.match is not None and t.match.num_distinct <= SMALL_PART * most]
    splits = [table for table in small if _is_sibling(table, [one for one in usable if one is not table])]
    small = [table for table in small if table not in splits]
    notes = [
        f"The table {table.path.name} names {table.match.num_distinct:,} of {most:,} images (as {table.kinds[0]}) and "
        "was not used: give it as DATA to have these alone."
        for table in small
        if table.match is not None
    ]
    return [table for table in usable if table not in small], notes


def _only_labelled(folder: Folder, usable: Sequence[TableFile]) -> list[TableFile]:
    """The one table that is to be read, of several.

    Raises:
        CohortError: several have labels or boxes.
    """
    named = [table for table in usable if "image" in table.table.columns and table.labels]
    if len(named) == 1 and all(table.kinds[0] == "table" for table in usable):
        return named
    raise CohortError(_several_tables(folder, usable))


def _describing(folder: Folder, best: TableFile, usable: Sequence[TableFile]) -> list[TableFile]:
    """Tables without labels that have one row for each image of the table that is read."""
    if best.match is None or best.kinds[0] != "table":
        return []
    images = set(best.match.found) - {""}
    return [
        table
        for table in folder.tables
        if table not in usable
        and table.match is not None
        and not table.lone
        and len(set(table.match.found) & images) > SMALL_PART * len(images)
        and _adds(table)
    ]


def _with_attributes(best: TableFile, describing: Sequence[TableFile]) -> tuple[pd.DataFrame, list[str]]:
    joined, notes = _by_place(best), []
    for other in describing:
        columns = [column for column in other.table.columns if column not in {*joined.columns, other.image_column}]
        if columns:
            joined = joined.merge(_by_place(other)[["image", *columns]], on="image", how="left")
            notes.append(f"The table {other.path.name} adds {', '.join(columns[:12])} of the same images.")
    return joined, notes


def _by_place(table: TableFile) -> pd.DataFrame:
    """The rows of a table with a column ``image`` of places below the folder; what was not found stays as it is."""
    if table.match is None:
        return table.table
    column = table.match.column
    values = table.table[column].astype(str)
    image = [place or value for place, value in zip(table.match.found, values, strict=True)]
    keep = column != "image" and (plain_name(column) in PATIENT_COLUMNS or column in table.labels)
    others = table.table if keep else table.table.drop(columns=column)
    placed = others.assign(image=image)
    placed.attrs["notes"] = [
        *table.table.attrs.get("notes", ()),
        (
            f"The column '{column}' of {table.path.name} names the images: {sum(map(bool, table.match.found)):,} of "
            f"{len(image):,} rows were found below the folder."
        ),
    ]
    return placed


def _is_sibling(other: TableFile, usable: Sequence[TableFile]) -> bool:
    """Whether a table and one of several are the splits of one set."""
    return other.describes and any(_tables_of_splits([one, other]) is not None for one in usable if one is not other)


def _tables_of_splits(usable: Sequence[TableFile]) -> pd.DataFrame | None:
    """The rows of tables with the same columns, each named after another split, with a column ``split``."""
    if len(usable) < 2 or len({tuple(sorted(map(str, table.table.columns))) for table in usable}) > 1:
        return None
    if len({_without_split(one.path) for one in usable}) > 1:
        return None
    splits = [_splits_of(one.path) for one in usable]
    if any(len(found) != 1 for found in splits) or len(set().union(*splits)) < len(usable):
        return None
    if any(not one.describes for one in usable) or "split" in usable[0].table.columns:
        return None
    parts = [_by_place(one).assign(split=next(iter(found))) for one, found in zip(usable, splits, strict=True)]
    joined = pd.concat(parts, ignore_index=True)
    joined.attrs["notes"] = [note for part in parts for note in part.attrs.get("notes", ())]
    return joined


def _splits_of(path: Path) -> set[str]:
    """The splits that the name of a table, or else that of its folder, speaks of."""
    found = {SPLIT_WORDS[word] for word in tokens(table_stem(path)) if word in SPLIT_WORDS}
    of_folder = split_like(path.parent.name)
    return found or ({of_folder} if of_folder else set())


def _without_split(path: Path) -> tuple[str, ...]:
    return tuple(word for word in tokens(table_stem(path)) if word not in SPLIT_WORDS and not word.isdecimal())


def _name(folder: Folder, table: TableFile) -> str:
    return table.path.relative_to(folder.path).as_posix()


def _several_tables(folder: Folder, usable: Sequence[TableFile]) -> str:
    listed = "; ".join(
        f"{_name(folder, one)} ({one.kinds[0]}, {len(one.table):,} rows"
        + (f", labels {', '.join(one.candidates[:3])})" if one.kinds[0] != "box table" and one.candidates else ")")
        for one in usable[:NUM_NAMED]
    )
    # Boxes keep their rows when a table with the class of each image is joined to them.
    first, second = (one.path for one in sorted(usable[:2], key=lambda table: table.kinds[0] == "table"))
    return (
        f"Found {len(usable)} tables in {folder.path} that may hold the truth: {listed}. Expected one. Give the path "
        f"of the table that is meant as DATA, such as {first}; leave others out with --exclude '{second.name}'; or "
        f"join them by their key: {first} as DATA with --join {second.name}."
    )


def _unused(table: TableFile) -> str:
    if table.error:
        return f"The table {table.path.name} was not used: {table.error}"
    if table.against:
        return f"The table {table.path.name} was not used: {table.against}."
    if not table.describes:
        # Such as which sheet of several was read.
        notes = table.table.attrs.get("notes", ())
        return " ".join([f"The table {table.path.name} was not used: it names none of the images.", *notes])
    if table.match is not None and table.match.ambiguous:
        return f"The table {table.path.name} was not used: its column '{table.image_column}' may mean several files."
    found = ", ".join(table.candidates[:NUM_NAMED])
    if not found:
        return f"The table {table.path.name} was not used: it has no labels."
    return (
        f"The table {table.path.name} names the images in its column '{table.image_column}', and none of its other "
        f"columns ({found}) is known to hold labels: where one does, name it with --label-column."
    )


def _contradicts(folder: Folder, table: TableFile) -> str | None:
    """How folders and table disagree on the labels, in words; ``None`` where each folder has one label of its own."""
    if table.match is None or len(table.labels) != 1 or table.labels[0] not in table.table.columns:
        return None
    tree = folder.tree
    by_image = dict(zip(table.match.found, table.table[table.labels[0]].astype(str), strict=True))
    pairs = {
        (label, by_image[image]) for image, label in zip(tree.images, tree.labels, strict=True) if image in by_image
    }
    if not pairs or len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs}):
        return None
    folders = sorted({folder for folder, _ in pairs})
    return (
        f"the folders {', '.join(folders[:NUM_NAMED])} look like classes, and {table.path.name} has labels for the "
        f"same images in its column '{table.labels[0]}', such as "
        f"{' and '.join(f'{label} in {name}' for name, label in sorted(pairs)[:3])}"
    )


def _by_folders(folder: Folder) -> Choice:
    tree = folder.tree
    tree.doubts += _told_by_tables(folder)
    if masks := mask_classes(tree):
        named = ", ".join(masks[:NUM_NAMED])
        tree.doubts.append(
            f"the images in {named} hold two values or few, as masks do, and those in the other folders do not: leave "
            f"them out with {' '.join(f'--exclude {name!r}' for name in masks[:NUM_NAMED])}, or say that these are "
            f"classes with --label-level {tree.level}"
        )
    if endings := mask_endings(tree):
        excluded = " ".join(f"--exclude '*{ending}.*'" for ending in endings[:NUM_NAMED])
        tree.doubts.append(
            f"the files that end in {', '.join(endings[:NUM_NAMED])} hold two values or few, as masks do, and those "
            f"beside them without this ending do not: leave them out with {excluded}, or say that all are images with "
            f"--label-level {tree.level}"
        )
    if tree.doubts:
        raise CohortError(_doubtful(folder))
    describing = [table for table in folder.tables if table.match is not None and _adds(table)]
    unused = [t for t in folder.tables if t.match is None or t.against or t.match.ambiguous]
    notes = [*other_files(folder.path), *(_unused(table) for table in unused)]
    beside: pd.DataFrame | None = None
    for table in describing:
        rows = _by_place(table)
        rows = rows[rows["image"].isin(tree.images)]
        added = [str(column) for column in rows.columns if column != "image"]
        notes.append(
            f"The folders are the labels, and the table {_name(folder, table)} adds {', '.join(added[:12])} of "
            f"{len(rows):,} images."
        )
        rows = rows.set_index("image")
        beside = rows if beside is None else beside.combine_first(rows)
    beside = None if beside is None else beside.reset_index()
    return Choice("class folders", folder.path, tree=tree, beside=beside, notes=notes)


def _told_by_tables(folder: Folder) -> list[str]:
    """What tables say against folders as classes: that they are patients or studies, which have labels of their own."""
    tree, found = folder.tree, []
    names = set(tree.labels)
    for table in folder.tables:
        if table.match is None or len(names) < MANY_FOLDERS:
            continue
        labels = [name for name in (*table.labels, *([table.lone] if table.lone else [])) if name != table.image_column]
        listed = {place.rpartition("/")[2] for place in table.match.found}
        fewer = labels and labels[0] in table.table and table.table[labels[0]].nunique() < len(listed)
        if not table.match.num_files and 2 * len(listed & names) > len(names) and fewer:
            found.append(
                f"{_name(folder, table)} names these folders in its column '{table.image_column}' and has labels for "
                f"them ({', '.join(labels[:3])}): give it as DATA, or keep the folders as classes with --label-level "
                f"{tree.level}" + (f"; {table.against}" if table.against else "")
            )
        elif (column := _same_as_folders(tree, table)) is not None:
            found.append(
                f"they are the values of the column '{column}' of {_name(folder, table)}: give it as DATA and name the "
                f"labels with --label-column, or keep the folders as classes with --label-level {tree.level}"
            )
    return found


def _same_as_folders(tree: Tree, table: TableFile) -> str | None:
    """The column of identifiers or attributes that has the folder of each image."""
    by_image = dict(zip(tree.images, tree.labels, strict=True))
    places = table.match.found if table.match is not None else []
    folders = pd.Series([by_image.get(place, "") for place in places], dtype=object)
    if not (folders != "").any():
        return None
    known = (folders != "").to_numpy()
    for column in table.table.columns:
        about = plain_name(column) in PATIENT_COLUMNS | ATTRIBUTES or is_identifier(str(column))
        values = table.table[column].astype(str)
        if about and column != table.image_column and (values[known].to_numpy() == folders[known].to_numpy()).all():
            return str(column)
    return None


def _adds(table: TableFile) -> bool:
    """Whether a table has one row per image, and columns beside the one that names it."""
    if table.match is None or table.match.ambiguous or len(table.table.columns) < 2 or table.against:
        return False
    return not pd.Series([place for place in table.match.found if place]).duplicated().any()


def _doubtful(folder: Folder) -> str:
    """Why folders may not be classes, and what lies beside them."""
    parts = [f"The folders in {folder.path} may not be classes: {'; '.join(folder.tree.doubts)}."]
    if (join := _joinable(folder)) is not None:
        return " ".join([*parts, join])
    if _told_by_tables(folder):
        # The tables were spoken of already.
        return parts[0]
    tables = [
        f"{_name(folder, table)} (columns {', '.join(map(str, table.table.columns[:12]))})"
        for table in folder.tables
        if not table.error
    ]
    if tables:
        parts.append(
            f"Beside them lies {' and '.join(tables[:NUM_NAMED])}: give the table as DATA, and name its columns with "
            "--image-column and --label-column."
        )
    parts += [_unused(table) for table in folder.tables if table.error or table.against]
    return " ".join(parts)


def _joinable(folder: Folder) -> str | None:
    """How a table of labels and tables that name the images fit together, where they do."""
    labelled = [t for t in folder.tables if t.labels and (t.match is None or not t.match.num_files)]
    naming = [t for t in folder.tables if t.match is not None and t.match.num_files]
    for table in labelled:
        fitting = [other for other in naming if fits_together(table.table, other.table)]
        if fitting:
            others = " ".join(f"--join {_name(folder, other)}" for other in fitting[:2])
            return (
                f"The table {_name(folder, table)} has the labels ({', '.join(table.labels[:NUM_NAMED])}) without the "
                f"images, which {' and '.join(_name(folder, other) for other in fitting)} name: give {table.path} as "
                f"DATA with {others}."
            )
    return None


def what_else(folder: Folder) -> str:
    """What lies in a folder in which nothing makes a cohort: tables, and files of forms that are not read."""
    parts = []
    for reason, same in groupby(folder.tables, key=lambda table: _unused(table).partition(" was not used")[2]):
        tables = list(same)
        parts.append(
            _unused(tables[0])
            if len(tables) == 1 or not reason
            else f"The tables {', '.join(table.path.name for table in tables)} were not used{reason}"
        )
    suffixes = Counter(
        suffix
        for path in folder.path.rglob("*")
        if path.is_file() and not path.name.startswith(".")
        for suffix in {part.lower().partition("-")[0] for part in path.suffixes}
    )
    for suffix, remedy in REMEDIES.items():
        if suffix in suffixes:
            parts.append(f"Found {suffixes[suffix]:,} files of type '{suffix}', which is not read: {remedy}.")
    return " ".join([*parts, *other_files(folder.path)])
