"""Images whose channels lie in several files or volumes, put together as the user named them (``--channels``)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pandas as pd

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import MAX_BAD_FRACTION, NUM_NAMED
from hounsfield.cohorts.words import stem_of
from hounsfield.errors import CohortError, UsageError
from hounsfield.images import Reference
from hounsfield.tasks import MODEL_NAMES

# What stands between the name of a case and that of its channel.
BETWEEN = "_-. "


def channel_names(given: Sequence[str]) -> tuple[str, ...]:
    """The names of the channels, given one by one or with commas between them.

    Raises:
        UsageError: there is one only, or one stands there twice.
    """
    names = tuple(name for text in given for name in (part.strip() for part in text.split(",")) if name)
    if given and (len(names) < 2 or len(set(names)) < len(names)):
        raise UsageError(
            f"Found {', '.join(names) or 'nothing'} for the channels of one image (--channels): expected two names or "
            "more, each once, such as --channels t1,t2,flair."
        )
    return names


def channel_of(name: str, names: Sequence[str]) -> tuple[str, str] | None:
    """The case and the channel of a file such as ``case_t1.nii.gz``, the longest name first; ``None`` for neither."""
    path = PurePosixPath(name)
    stem = stem_of(path.name)
    for channel in sorted(names, key=len, reverse=True):
        if stem.lower() == channel.lower():
            return path.parent.as_posix(), channel
        case = stem[: len(stem) - len(channel)]
        if stem.lower().endswith(channel.lower()) and case[-1] in BETWEEN:
            return (path.parent / case.rstrip(BETWEEN)).as_posix(), channel
    return None


def channel_files(files: Iterable[str], names: Sequence[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Case → channel → file, and the files that are of no channel.

    Raises:
        CohortError: a case has two files for one channel.
    """
    cases: dict[str, dict[str, str]] = {}
    others = []
    for file in files:
        found = channel_of(file, names)
        if found is None:
            others.append(file)
            continue
        case, channel = found
        if channel in cases.setdefault(case, {}):
            raise CohortError(
                f"Found two files for the channel '{channel}' of '{case}': {cases[case][channel]} and {file}. Leave "
                "one out with --exclude."
            )
        cases[case][channel] = file
    return cases, others


def with_channels(cohort: Cohort, names: Sequence[str]) -> Cohort:
    """The cohort whose images have these channels: of files that end with the names, or the volumes of each file.

    Raises:
        CohortError: files of one case contradict each other, or more than 5 % of the cases lack a channel.
        UsageError: the cohort is of another family.
    """
    if cohort.family not in {"labels", "values"}:
        raise UsageError(
            "Channels in several files (--channels) are for labels and values of whole images, and this data is read "
            f"for a {MODEL_NAMES[cohort.family]}. Leave the option out."
        )
    if all(reference.several for reference in cohort.places.values()) and len(cohort.places) == len(cohort):
        # From columns of a table.
        return dataclasses.replace(cohort, channels=tuple(names))
    cases, others = channel_files(cohort.table["image"].astype(str), names)
    if not cases:
        return _of_volumes(cohort, names)
    lacking = {case: files for case, files in cases.items() if len(files) < len(names)}
    if len(lacking) > MAX_BAD_FRACTION * len(cases):
        case, files = next(iter(lacking.items()))
        absent = ", ".join(name for name in names if name not in files)
        raise CohortError(
            f"Found {len(lacking):,} of {len(cases):,} cases without all of the channels {', '.join(names)}, such as "
            f"'{case}', which lacks {absent}. Name the channels that every case has with --channels, as the names of "
            "their files end."
        )
    row_of = {str(image): row for row, image in enumerate(cohort.table["image"])}
    rows, places = [], {}
    for case, files in cases.items():
        if case not in lacking:
            reference = joined([files[name] for name in names])
            rows.append(_common(cohort, [row_of[files[name]] for name in names], reference.text))
            places[reference.text] = reference
    notes = [f"{len(names)} channels ({', '.join(names)}) are read from as many files of each of {len(rows):,} images."]
    left_out = [*others, *(file for files in lacking.values() for file in files.values())]
    if left_out:
        shown = ", ".join(left_out[:NUM_NAMED])
        notes.append(f"{len(left_out):,} files that are no such channel, or lack the others, were left out: {shown}.")
    table = pd.DataFrame(rows, columns=cohort.table.columns)
    return dataclasses.replace(cohort, table=table, places=places, channels=tuple(names)).with_notes(*notes)


def joined(paths: Sequence[str]) -> Reference:
    """The reference of an image whose channels lie in these files.

    Raises:
        CohortError: a path has a brace or a comma in it, by which it could not be told from the others.
    """
    strange = [path for path in paths if re.search(r"[{},]", path)]
    if strange:
        raise CohortError(
            f"The file '{strange[0]}' cannot be a channel, since braces and commas stand between the files of one "
            "image. Rename it."
        )
    return Reference.joined(paths)


def _common(cohort: Cohort, rows: list[int], image: str) -> dict[str, object]:
    """The row of an image from those of its channels, which must agree."""
    part = cohort.table.iloc[rows]
    for column in ("label", "patient", "split"):
        if len(set(part[column].astype(str))) > 1:
            # Patients are never named.
            values = "" if column == "patient" else f": {', '.join(sorted(set(part[column].astype(str))))}"
            raise CohortError(
                f"The channels of one image, {', '.join(part['image'].astype(str))}, differ in their {column}{values}. "
                "Correct the rows, or the names that --channels gives."
            )
    first = dict(part.iloc[0])
    return first | {"image": image, "sample": image if first["sample"] == first["image"] else first["sample"]}


def _of_volumes(cohort: Cohort, names: Sequence[str]) -> Cohort:
    """Each file of the cohort holds a volume per channel."""
    table, known = cohort.table, dict(cohort.places)
    if known:
        raise CohortError(
            f"No file ends with one of the names {', '.join(names)} (--channels), and the images are parts of files "
            "already. Name the channels as the names of their files end."
        )
    references = {
        str(image): joined([f"{image}[{number}]" for number in range(len(names))]) for image in table["image"]
    }
    texts = table["image"].map(lambda image: references[str(image)].text)
    samples = table["sample"].where(table["sample"] != table["image"], texts)
    note = (
        f"No file ends with one of the names {', '.join(names)}, so each is expected to hold as many volumes, which "
        "are these channels in this order."
    )
    places = {reference.text: reference for reference in references.values()}
    changed = table.assign(image=texts, sample=samples)
    return dataclasses.replace(cohort, table=changed, places=places, channels=tuple(names)).with_notes(note)
