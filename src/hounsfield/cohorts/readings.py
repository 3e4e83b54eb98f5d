"""The ways in which a folder can be read, with the evidence for each; the choice among them, or one refusal.

A reading is taken when it is the only one without a doubt. Where two fit, or where the only one could be wrong in
silence, the user gets one message: what was seen, the readings possible, and the option that chooses each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from hounsfield.cohorts import box_rows, mask_tables
from hounsfield.cohorts.folders import identifier_column
from hounsfield.cohorts.headers import is_dicom
from hounsfield.cohorts.label_columns import label_columns_of
from hounsfield.cohorts.options import NUM_NAMED, Options
from hounsfield.cohorts.table_files import is_table, read_table, table_stem
from hounsfield.cohorts.table_images import Match, Names, image_matches
from hounsfield.cohorts.tree import Tree, class_tree, images_below, other_files
from hounsfield.cohorts.words import SPLIT_WORDS, tokens
from hounsfield.errors import CohortError
from hounsfield.images.reading import find_images

# Tables are looked for in the folder itself, and where it has none, this much deeper.
TABLE_DEPTH = 2
MOST_TABLES = 40
# What to do with files of forms that are not read.
REMEDIES = {
    ".h5": "write their arrays with numpy.save as images.npy and labels.npy, or with numpy.savez as an .npz",
    ".hdf5": "write their arrays with numpy.save as images.npy and labels.npy, or with numpy.savez as an .npz",
    ".mat": "write their arrays with numpy.savez as an .npz",
    ".pkl": "pickled files can run any program; write their arrays with numpy.savez as an .npz",
    ".tfrecord": "export the images as PNG files with a table",
    ".xls": "save the sheet as .xlsx or CSV",
    ".ods": "save the sheet as .xlsx or CSV",
    ".svs": "export the regions that are labelled as PNG files",
}
# Tables of results and examples that come with competitions.
NO_TABLES = ("sample_submission", "submission")


@dataclass
class TableFile:
    """A table, and what it says of the images.

    Attributes:
        path: of the file.
        table: its rows.
        match: how its best column fits the images; ``None`` where none does.
        labels: the columns that may hold labels.
        kinds: what it can be read as, the likeliest first.
        error: why it cannot be read.
    """

    path: Path
    table: pd.DataFrame
    match: Match | None = None
    labels: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def usable(self) -> bool:
        """Whether it names images and has labels for them."""
        return bool(self.kinds) and (bool(self.labels) or "table" not in self.kinds)

    @property
    def describes(self) -> bool:
        """Whether it names images, with or without labels."""
        return self.match is not None


class Folder:
    """What lies in a folder, looked at once for all readings."""

    def __init__(self, path: Path, options: Options) -> None:
        self.path = path
        self.options = options

    @cached_property
    def images(self) -> list[str]:
        """The images below, without hidden ones and masks."""
        return images_below(Path(self.options.images or self.path), ())[0]

    @cached_property
    def names(self) -> Names:
        """The same by name."""
        return Names(self.images)

    @cached_property
    def has_dicom(self) -> bool:
        """Whether the first image below is DICOM."""
        first = next(find_images(Path(self.options.images or self.path)), None)
        return first is not None and is_dicom(str(first))

    @cached_property
    def tree(self) -> Tree:
        """The images as classes."""
        return class_tree(self.path, exclude=self.options.exclude, level=self.options.label_level)

    @cached_property
    def tables(self) -> list[TableFile]:
        """The tables in the folder or, where it has none, a little deeper."""
        found = [path for path in sorted(self.path.iterdir()) if _is_candidate(path)]
        for depth in range(1, TABLE_DEPTH + 1):
            if found:
                break
            found = [path for path in sorted(self.path.glob("*/" * depth + "*")) if _is_candidate(path)]
        return [self.look_at(path) for path in found[:MOST_TABLES]]

    def look_at(self, path: Path) -> TableFile:
        """What one table says of the images."""
        try:
            table = read_table(path)
        except CohortError as error:
            return TableFile(path, pd.DataFrame(), error=str(error))
        columns = [str(column) for column in table.columns]
        wanted = [column for column in self.options.label_columns if column in columns]
        found = TableFile(path, table, labels=wanted or label_columns_of(table))
        boxes = [box_rows.KIND] if "image" in columns and box_rows.box_columns(columns) else []
        matches = [] if boxes else image_matches(table, self.names)
        found.match = matches[0] if matches else None
        if "image" in columns:
            found.kinds = [*boxes, "table"] if box_rows.is_box_table(table) else ["table", *boxes]
            # Its own name is enough: messages on missing files say more than that nothing was found.
            found.labels = found.labels or ["?"]
        by_file = found.match is not None and 2 * found.match.num_files > found.match.num_distinct
        if identifier_column(columns) and self.has_dicom and not by_file and "image" not in columns:
            found.kinds = ["dicom folder"]
        elif found.match is not None and not found.kinds:
            found.kinds = ["table"]
        masks = mask_tables.mask_columns(table)
        if masks and found.kinds:
            found.labels = [label for label in found.labels if label not in {*masks, "?"}]
            found.kinds = [*found.kinds, mask_tables.KIND] if found.labels else [mask_tables.KIND]
        return found


def _is_candidate(path: Path) -> bool:
    stem = table_stem(path).lower()
    return is_table(path) and path.is_file() and not path.name.startswith(".") and stem not in NO_TABLES


@dataclass
class Choice:
    """The reading that was taken.

    Attributes:
        kind: of the data.
        path: what is read.
        tree: the folders, where they were looked at.
        beside: a table that adds patients and attributes to class folders.
        table: of several tables for splits, all of their rows.
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
    # Tables of the splits of one set belong together, also where labels can be read in some of them alone.
    usable += [
        other for other in folder.tables if other not in usable and any(_are_siblings(one, other) for one in usable)
    ]
    if certain and not usable:
        return Choice(certain[0], folder.path, others=[*certain[1:], *(["class folders"] * _has_classes(folder))])
    if usable:
        return _by_table(folder, usable, certain)
    if not _has_classes(folder):
        return None
    return _by_folders(folder)


def _has_classes(folder: Folder) -> bool:
    return len(set(folder.tree.labels)) > 1 or bool(folder.tree.doubts)


def _by_table(folder: Folder, usable: Sequence[TableFile], certain: Sequence[str]) -> Choice:
    joined = _tables_of_splits(usable)
    if len(usable) > 1 and joined is None:
        named = [table for table in usable if "image" in table.table.columns]
        if len(named) != 1:
            raise CohortError(_several_tables(folder, usable))
        usable = named
    best = usable[0]
    notes = [_unused(table) for table in folder.tables if table not in usable]
    others = [*best.kinds[1:], *certain]
    if joined is not None:
        notes.insert(0, f"The tables {', '.join(table.path.name for table in usable)} are the splits of one set.")
        return Choice("table", best.path, table=joined, others=others, notes=notes)
    # Folders of masks that a table names are no classes.
    classes = mask_tables.KIND not in best.kinds and _has_classes(folder) and not folder.tree.doubts
    if best.kinds[0] == "table" and classes:
        if (differing := _contradicts(folder.tree, best)) is not None:
            raise CohortError(
                f"{folder.path} can be read in two ways, which do not agree: {differing}. To take the labels of the "
                f"table, give {best.path} as DATA; to take the folders as classes, add --kind 'class folders'."
            )
        others.append("class folders")
    return Choice(best.kinds[0], best.path, others=others, notes=notes)


def _are_siblings(one: TableFile, other: TableFile) -> bool:
    """Whether two tables are the splits of one set."""
    return other.describes and _tables_of_splits([one, other]) is not None


def _tables_of_splits(usable: Sequence[TableFile]) -> pd.DataFrame | None:
    """The rows of tables with the same columns, each named after another split, with a column ``split``."""
    if len(usable) < 2 or len({tuple(sorted(map(str, table.table.columns))) for table in usable}) > 1:
        return None
    splits = [{SPLIT_WORDS[word] for word in tokens(table_stem(one.path)) if word in SPLIT_WORDS} for one in usable]
    if any(len(found) != 1 for found in splits) or len(set().union(*splits)) < len(usable):
        return None
    if any(not one.describes for one in usable) or "split" in usable[0].table.columns:
        return None
    return pd.concat(
        [one.table.assign(split=next(iter(found))) for one, found in zip(usable, splits, strict=True)],
        ignore_index=True,
    )


def _several_tables(folder: Folder, usable: Sequence[TableFile]) -> str:
    listed = "; ".join(
        f"{one.path.name} ({len(one.table):,} rows" + (f", labels {', '.join(one.labels[:3])})" if one.labels else ")")
        for one in usable[:NUM_NAMED]
    )
    return (
        f"Found {len(usable)} tables for the kind '{usable[0].kinds[0]}' in {folder.path} that may hold the labels: "
        f"{listed}. Expected one. Give the path of the table that is meant as DATA."
    )


def _unused(table: TableFile) -> str:
    if table.error:
        return f"The table {table.path.name} was not used: {table.error}"
    what = "has no labels" if table.describes else "names none of the images"
    return f"The table {table.path.name} was not used: it {what}."


def _contradicts(tree: Tree, table: TableFile) -> str | None:
    """How folders and table disagree on the labels, in words; ``None`` where each folder has one label of its own."""
    if table.match is None or len(table.labels) != 1 or table.labels[0] not in table.table.columns:
        return None
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
    describing = [table for table in folder.tables if table.describes]
    notes = [_unused(table) for table in folder.tables if table not in describing]
    notes += other_files(folder.path)
    if tree.doubts:
        raise CohortError(_doubtful(folder))
    if len(describing) > 1:
        listed = ", ".join(table.path.name for table in describing)
        raise CohortError(
            f"The folders in {folder.path} are classes, and several tables beside them describe the same images: "
            f"{listed}. Join them into one, with the patient of each image, or give the one with the labels as DATA; "
            "--exclude does not concern tables, so move those that do not belong there."
        )
    if not describing:
        return Choice("class folders", folder.path, tree=tree, notes=notes)
    table = describing[0]
    if table.match is None or table.table[table.match.column].duplicated().any():
        return Choice("class folders", folder.path, tree=tree, notes=[*notes, _unused(table)])
    beside = table.table.assign(image=table.match.found)
    beside = beside[beside["image"] != ""]
    named = [str(column) for column in table.table.columns if column != table.match.column]
    notes.append(
        f"The folders are the labels, and the table {table.path.name} adds {', '.join(named[:12])} of "
        f"{len(beside):,} images."
    )
    return Choice("class folders", folder.path, tree=tree, beside=beside, notes=notes)


def _doubtful(folder: Folder) -> str:
    """Why folders may not be classes, and what lies beside them."""
    parts = [f"The folders in {folder.path} may not be classes: {'; '.join(folder.tree.doubts)}."]
    tables = [
        f"{table.path.name} (columns {', '.join(map(str, table.table.columns[:12]))})"
        for table in folder.tables
        if not table.error
    ]
    if tables:
        parts.append(
            f"Beside them lies {' and '.join(tables[:NUM_NAMED])}: give the table as DATA, and name its columns with "
            "--image-column and --label-column."
        )
    parts += [table.error for table in folder.tables if table.error]
    return " ".join(parts)


def what_else(folder: Folder) -> str:
    """What lies in a folder in which nothing makes a cohort: tables, and files of forms that are not read."""
    parts = [_unused(table) for table in folder.tables]
    suffixes = Counter(
        path.suffix.lower() for path in folder.path.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    for suffix, remedy in REMEDIES.items():
        if suffix in suffixes:
            parts.append(f"Found {suffixes[suffix]:,} files of type '{suffix}', which is not read: {remedy}.")
    return " ".join([*parts, *other_files(folder.path)])
