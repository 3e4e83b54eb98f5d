"""The sections on the data: what there is, how it was split, what was checked and left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pandas as pd

from hounsfield.boxes import COLUMNS, sides
from hounsfield.evaluation.subgroups import read_attributes
from hounsfield.reports.run_report.content import Block, Callout, Paragraph, Points, Section, Table, listed
from hounsfield.runs.record import SPLITS, DetectorRun, Run, RunRecord

NAMES = {"train": "training", "validation": "validation", "test": "test"}
# Columns that are no attribute of a patient or an image.
STRUCTURE = {"image", "label", "patient", "split", "z0", "y0", "x0", "z1", "y1", "x1"}
# Columns that could point at a person, and are never shown.
IDENTIFYING = re.compile(
    r"(?i:name|birth|address|phone|mrn|accession)|(ID|Uid|UID)$|(?i:(^|[_ ])u?id$)|(?i:^(study|series|instance))"
)
MOST_LEVELS = 12


def data_section(run: Run) -> Section:
    """How many images of whom, of which kind."""
    pipeline = ", ".join(str(step["name"]).replace("_", " ") for step in run.plan["pipeline"]["steps"])
    blocks: list[Block] = [
        Paragraph(_source(run)),
        _counts(run),
        *_box_tables(run),
        *_attribute_table(run),
        Paragraph(
            f"Before the network sees an image it goes through: {pipeline}. What these steps learn, they learned from "
            f"training images alone. The network takes {_shape(run.bundle.input_shape)}{_windows(run)}."
        ),
    ]
    return Section("data", "Data", tuple(blocks))


def _windows(run: Run) -> str:
    return "; larger images are seen in windows that overlap" if isinstance(run, DetectorRun) else ""


def split_section(run: RunRecord) -> Section:
    """Which patients are on which side, and whether anything leaks."""
    return Section("split", "Split and leaks", tuple(_split_blocks(run)))


def _split_blocks(run: RunRecord) -> Iterator[Block]:
    patients = run.cohort["patient"]
    if patients.isna().any():
        unknown = int(patients.isna().sum())
        yield Callout(
            "warning",
            "Patients are not known",
            f"{unknown:,} of {len(run.cohort):,} images name no patient. Images of one patient may lie on both sides "
            "of the split, so the figures may be too good, and intervals take every image for another patient.",
        )
    shared = shared_patients(run.cohort)
    if shared:
        yield Callout(
            "error",
            "Patients in two splits",
            f"{shared:,} patients have images in more than one split: the test figures are too good.",
        )
    elif patients.notna().all():
        count = patients.nunique()
        yield Paragraph(f"No patient is in two splits: {count:,} patients were compared by their identifiers.")
    if run.split != "test":
        yield Callout(
            "error",
            "No test images",
            "The data has no test rows. All figures of this report are on validation images, which also chose the "
            "epoch and the calibration, so they are too good. Test on other data: hounsfield evaluate RUN DATA.",
        )
    yield Paragraph("What was found and decided while the data was read:")
    yield Points(tuple(run.notes) or ("Nothing was noted.",))
    yield Paragraph(
        "Copies of pictures, contradicting labels, unreadable files and attributes that give the label away are looked "
        "for by: hounsfield inspect DATA."
    )


def shared_patients(cohort: pd.DataFrame) -> int:
    """How many patients have images in more than one split."""
    known = cohort.dropna(subset=["patient"])
    pairs = known[["patient", "split"]].drop_duplicates()
    return int(pairs["patient"].duplicated(keep="first").groupby(pairs["patient"]).any().sum())


def _source(run: RunRecord) -> str:
    cohort, origin = run.cohort, run.environment["data"]
    name = origin["data"] if ":" in origin["data"] else origin["data"].replace("\\", "/").rstrip("/").split("/")[-1]
    known = cohort["patient"].notna().all()
    patients = f" of {cohort['patient'].nunique():,} patients" if known else ""
    modality = run.bundle.modality or listed(run.bundle.source_range.modalities) or "unknown modality"
    smallest, largest = run.bundle.source_range.smallest, run.bundle.source_range.largest
    size = ""
    if smallest and largest:
        size = f", {_shape(smallest)}" + (f" to {_shape(largest)}" if smallest != largest else "") + " pixels"
    return f"{len(cohort):,} images{patients} from '{name}' ({modality}{size})."


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _counts(run: RunRecord) -> Table:
    """Images by label, and patients, in each split."""
    columns = ("split", *run.bundle.labels, "images", "patients")
    rows = []
    for split in SPLITS:
        part = run.rows(split)
        if part.empty:
            continue
        labels = part["label"].fillna("").astype(str).str.split(";")
        counts = [int(labels.map(lambda found, label=label: label in found).sum()) for label in run.bundle.labels]
        patients = f"{part['patient'].nunique():,}" if part["patient"].notna().all() else "unknown"
        rows.append((NAMES[split], *(f"{count:,}" for count in counts), f"{len(part):,}", patients))
    return Table("Images by label and split", columns, tuple(rows))


def _box_tables(run: Run) -> Iterator[Block]:
    """Objects by class and split, objects an image, and how long their sides are."""
    if not isinstance(run, DetectorRun):
        return
    labels, counted = run.bundle.labels, []
    for split in SPLITS:
        rows = run.rows(split)
        if not rows.empty:
            boxes = run.boxes[run.boxes["image"].isin(rows["image"])]
            counts = boxes["label"].value_counts()
            an_image = rows["image"].map(boxes["image"].value_counts()).fillna(0)
            by_label = (f"{int(counts.get(label, 0)):,}" for label in labels)
            counted.append((NAMES[split], *by_label, f"{len(boxes):,}", _quartiles(an_image), f"{an_image.max():,.0f}"))
    columns = ("split", *labels, "objects", "an image", "at most")
    yield Table("Objects by class and split", columns, tuple(counted), "An image: the median and quartiles.")
    lengths = sides(run.boxes[list(COLUMNS[run.shown.detections.rank])].to_numpy(float))
    rows_of = [(label, lengths[(run.boxes["label"] == label).to_numpy()]) for label in labels]
    axes = ("slices", "rows", "columns")[-lengths.shape[1] :]
    described = [(label, *(_quartiles(pd.Series(axis)) for axis in part.T)) for label, part in rows_of if len(part)]
    yield Table("Sides of boxes", ("class", *axes), tuple(described), "In pixels of the images: median and quartiles.")


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
    """Whether a column makes groups of the images that are shown, as the bias audit reads the table."""
    return bool(read_attributes(run.rows(run.split))[0])


def _attribute_table(run: RunRecord) -> Iterator[Block]:
    known = attributes(run.cohort)
    if not known:
        yield Paragraph("The table names no attribute such as sex, age, site or scanner, so none can be described.")
        return
    parts = {split: rows for split in SPLITS if not (rows := run.rows(split)).empty}
    described = [row for column in known for row in _attribute_rows(column, run.cohort, parts)]
    columns = ("attribute", *(NAMES[split] for split in parts))
    yield Table(
        "Who is in the data", columns, tuple(described), "Shares of images; of numbers the median and quartiles."
    )


def _attribute_rows(column: str, cohort: pd.DataFrame, parts: dict[str, pd.DataFrame]) -> Iterator[tuple[str, ...]]:
    values = cohort[column]
    if pd.api.types.is_numeric_dtype(values) and values.nunique() > MOST_LEVELS:
        yield (column, *(_quartiles(part[column]) for part in parts.values()))
        return
    levels: list[Any] = sorted(values.dropna().unique(), key=str)
    for level in levels:
        yield (f"{column}: {level}", *(_share(part[column] == level) for part in parts.values()))
    if values.isna().any():
        yield (f"{column}: missing", *(_share(part[column].isna()) for part in parts.values()))


def _share(chosen: pd.Series[Any]) -> str:
    return f"{int(chosen.sum()):,} ({chosen.mean():.0%})"


def _quartiles(values: pd.Series[Any]) -> str:
    low, middle, high = (float(point) for point in values.quantile([0.25, 0.5, 0.75]))
    missing = f", {int(values.isna().sum()):,} missing" if values.isna().any() else ""
    return f"{middle:g} ({low:g} to {high:g}){missing}"
