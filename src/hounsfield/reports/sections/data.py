"""The sections on the data: what there is, how it was split, what was checked and left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from hounsfield.boxes import COLUMNS, sides
from hounsfield.evaluation.subgroups import read_attributes
from hounsfield.reports.base import Page
from hounsfield.reports.sections.content import Block, Callout, Paragraph, Points, Section, Table, listed, percent
from hounsfield.runs import BoxRun, RunRecord
from hounsfield.runs.base import SPLITS

NAMES = {"train": "training", "validation": "validation", "test": "test"}
# Columns that are not attributes of a patient or an image.
STRUCTURE = {"sample", "image", "label", "patient", "split", "mask", "z0", "y0", "x0", "z1", "y1", "x1"}
# Columns that could identify a person, and are never shown.
IDENTIFYING = re.compile(
    r"(?i:name|birth|address|phone|mrn|accession)|(ID|Uid|UID)$|(?i:(^|[_ ])u?id$)|(?i:^(study|series|instance))"
)
MOST_LEVELS = 12
# More labels would not fit beside each other.
MOST_LABELS = 8


def data_section(run: RunRecord, page: Page[Any]) -> Section:
    """How many images of whom, and of which kind."""
    blocks: list[Block] = [
        Paragraph(_source(run)),
        *page.truth(run),
        *_attribute_table(run),
        Paragraph(
            f"Preprocessing of each image: {', '.join(pipeline_steps(run))}. Whatever these steps learn, they learned "
            f"from training images alone. The network's input is {shape_text(run.bundle.input_shape)}."
        ),
    ]
    return Section("data", "Data", tuple(blocks))


def pipeline_steps(run: RunRecord) -> list[str]:
    """The names of the preprocessing steps, in order."""
    return [str(step["name"]).replace("_", " ") for step in run.plan.pipeline.to_dict()["steps"]]


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as it is read: "28×28×1"."""
    return "×".join(map(str, shape))


def split_section(run: RunRecord) -> Section:
    """Which patients are in which split, and whether anything leaks."""
    return Section("split", "Split and leaks", tuple(_split_blocks(run)))


def _split_blocks(run: RunRecord) -> Iterator[Block]:
    patients = run.cohort["patient"]
    if not run.patients_known:
        yield Callout(
            "warning",
            "Patients are unknown",
            f"{int(patients.isna().sum()):,} of {len(run.cohort):,} images have no patient identifier. Images of one "
            "patient may be in several splits, so the figures may be too good, and intervals treat every image as a "
            "patient of its own.",
        )
    shared = shared_patients(run.cohort)
    if shared:
        yield Callout(
            "error",
            "Patients in more than one split",
            f"{shared:,} patients have images in more than one split: the test figures are too good.",
        )
    elif run.patients_known:
        yield Paragraph(f"No patient is in more than one split: {patients.nunique():,} identifiers were compared.")
    if run.sealed:
        yield Callout(
            "warning",
            "The test images are sealed",
            "The training left them alone. All figures of this report are on validation images, which also chose the "
            "epoch and the calibration, so they are too good. When nothing will be changed any more, open them: "
            "hounsfield evaluate RUN --open-seal",
        )
    elif run.split != "test":
        yield Callout(
            "error",
            "No test images",
            "The data has no test rows. All figures of this report are on validation images, which also chose the "
            "epoch and the calibration, so they are too good. Test on other data: hounsfield evaluate RUN DATA.",
        )
    yield Paragraph("Detected and decided while the data was read:")
    yield Points(tuple(run.notes) or ("Nothing was noted.",))
    yield Paragraph(
        "hounsfield inspect DATA looks for duplicates, contradicting labels, unreadable files and attributes that "
        "predict the label."
    )


def shared_patients(cohort: pd.DataFrame) -> int:
    """How many patients have images in more than one split."""
    known = cohort.dropna(subset=["patient"])
    pairs = known[["patient", "split"]].drop_duplicates()
    return int(pairs["patient"].duplicated(keep="first").groupby(pairs["patient"]).any().sum())


def _source(run: RunRecord) -> str:
    cohort, origin = run.cohort, run.environment["data"]
    name = origin["data"] if ":" in origin["data"] else _last(origin["data"])
    if origin.get("extend"):
        name = f"{name}, added to the data of the run {_last(origin['extend'])}"
    patients = f" of {cohort['patient'].nunique():,} patients" if run.patients_known else ""
    modality = run.bundle.modality or listed(run.bundle.source_range.modalities) or "unknown modality"
    smallest, largest = run.bundle.source_range.smallest, run.bundle.source_range.largest
    size = ""
    if smallest and largest:
        size = f", {shape_text(smallest)}{f' to {shape_text(largest)}' if smallest != largest else ''} pixels"
    return f"{len(cohort):,} images{patients} from '{name}' ({modality}{size})."


def _last(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").split("/")[-1]


def label_counts(run: RunRecord) -> Table:
    """Images by label, and patients, in each split."""
    rows = []
    for split, part in _parts(run).items():
        labels = part["label"].fillna("").astype(str).str.split(";")
        counts = [int(labels.map(lambda found, label=label: label in found).sum()) for label in run.bundle.labels]
        patients = f"{part['patient'].nunique():,}" if part["patient"].notna().all() else "unknown"
        rows.append((NAMES[split], *(f"{count:,}" for count in counts), f"{len(part):,}", patients))
    return Table("Images by label and split", ("split", *run.bundle.labels, "images", "patients"), tuple(rows))


def _parts(run: RunRecord) -> dict[str, pd.DataFrame]:
    """The samples of each split that has some."""
    return {split: rows for split in SPLITS if not (rows := run.rows(split)).empty}


def box_tables(run: BoxRun) -> Iterator[Block]:
    """Objects by class and split, objects per image, and the lengths of their sides."""
    labels, counted = run.bundle.labels, []
    for split, rows in _parts(run).items():
        boxes = run.boxes[run.boxes["image"].isin(rows["image"])]
        counts = boxes["label"].value_counts()
        per_image = rows["image"].map(boxes["image"].value_counts()).fillna(0)
        by_label = (f"{int(counts.get(label, 0)):,}" for label in labels)
        counted.append((NAMES[split], *by_label, f"{len(boxes):,}", quartiles(per_image), f"{per_image.max():,.0f}"))
    columns = ("split", *labels, "objects", "per image", "most")
    yield Table("Objects by class and split", columns, tuple(counted), "Per image: median and quartiles.")
    lengths = sides(run.boxes[list(COLUMNS[run.shown.detections.rank])].to_numpy(float))
    rows_of = [(label, lengths[(run.boxes["label"] == label).to_numpy()]) for label in labels]
    axes = ("slices", "rows", "columns")[-lengths.shape[1] :]
    described = [(label, *(quartiles(pd.Series(axis)) for axis in part.T)) for label, part in rows_of if len(part)]
    yield Table("Sides of boxes", ("class", *axes), tuple(described), "In pixels of the images: median and quartiles.")
    yield Paragraph("Images larger than the network's input are predicted in overlapping windows.")


def attributes(cohort: pd.DataFrame) -> list[str]:
    """The columns that describe patients or images and can be shown: few levels or numbers, and no identifiers."""
    found = []
    for column in map(str, cohort.columns):
        values = cohort[column].dropna()
        if column in STRUCTURE or IDENTIFYING.search(column) or values.empty:
            continue
        if values.nunique() <= MOST_LEVELS or pd.api.types.is_numeric_dtype(values):
            found.append(column)
    return found


def has_groups(run: RunRecord) -> bool:
    """Whether a column divides the images that are shown into groups, as the bias audit reads the table."""
    return bool(read_attributes(run.rows(run.split))[0])


def _attribute_table(run: RunRecord) -> Iterator[Block]:
    known = attributes(run.cohort)
    if not known:
        yield Paragraph("The table has no attribute such as sex, age, site or scanner to describe.")
        return
    parts = _parts(run)
    described = [row for column in known for row in _attribute_rows(column, run.cohort, parts)]
    columns = ("attribute", *(NAMES[split] for split in parts))
    counted = "Patients and their share, or images where so marked" if run.patients_known else "Images and their share"
    yield Table("Patients and images", columns, tuple(described), f"{counted}; median and quartiles of numbers.")


def label_shares(run: RunRecord) -> Iterator[Table]:
    """How frequent each label is in each group: groups may differ in performance because they differ in this."""
    labels = run.bundle.labels[-1:] if run.prevalence is not None else run.bundle.labels
    groups = [column for column in attributes(run.cohort) if _is_grouping(run.cohort[column])]
    if not groups or len(labels) > MOST_LABELS:
        return
    given = run.cohort["label"].fillna("").astype(str).str.split(";")
    rows = []
    for column in groups:
        for level in sorted(run.cohort[column].dropna().unique(), key=str):
            chosen = given[run.cohort[column] == level]
            shares = (percent(float(chosen.map(lambda each, label=label: label in each).mean())) for label in labels)
            rows.append((f"{column}: {level}", f"{len(chosen):,}", *shares))
    yield Table("Labels by group", ("group", "images", *labels), tuple(rows), "Of all splits together.")


def _is_grouping(values: pd.Series[Any]) -> bool:
    return not (pd.api.types.is_numeric_dtype(values) and values.nunique() > MOST_LEVELS)


def _attribute_rows(column: str, cohort: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> Iterator[tuple[str, ...]]:
    values, name = cohort[column], column
    if cohort["patient"].notna().all():
        if len(cohort[["patient", column]].drop_duplicates()) == cohort["patient"].nunique():
            # Of several images of a patient one is enough.
            parts = {split: part.drop_duplicates("patient") for split, part in parts.items()}
        else:
            name = f"{column} (images)"
    if not _is_grouping(values):
        yield (name, *(quartiles(part[column]) for part in parts.values()))
        return
    marked = name.removeprefix(column)
    levels: list[Any] = sorted(values.dropna().unique(), key=str)
    for level in levels:
        yield (f"{column}: {level}{marked}", *(_share(part[column] == level) for part in parts.values()))
    if values.isna().any():
        yield (f"{column}: missing{marked}", *(_share(part[column].isna()) for part in parts.values()))


def _share(chosen: pd.Series[Any]) -> str:
    return f"{int(chosen.sum()):,} ({percent(float(chosen.mean()))})"


def quartiles(values: pd.Series[Any]) -> str:
    """The median and both quartiles as text, with the number of missing values."""
    low, middle, high = (float(point) for point in values.quantile([0.25, 0.5, 0.75]))
    missing = f", {int(values.isna().sum()):,} missing" if values.isna().any() else ""
    return f"{middle:g} ({low:g} to {high:g}){missing}"
