"""Two cohorts read as one: images, boxes and masks of the second lie beside those of the first."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from hounsfield.cohorts.box_table import MASK
from hounsfield.cohorts.cohort import UNKNOWN, Cohort, ImageSource
from hounsfield.cohorts.masks import Layer, Masks, MaskSource
from hounsfield.cohorts.targets.boxes import known_boxes
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference


class JoinedSource:
    """Reads what has a prefix before its path from the second source, and all else from the first; see ``ImageSource``.

    Args:
        first: source.
        second: source, which does not know the prefix.
        prefix: of the paths of the second.
    """

    def __init__(self, first: ImageSource, second: ImageSource, prefix: str) -> None:
        self._sources = first, second
        self._prefix = prefix

    def read(self, reference: Reference) -> Image:
        """See ``ImageSource.read``."""
        return self._sources[self._is_second(reference)].read(self._own(reference))

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        """See ``ImageSource.stream``."""
        for is_second, group in itertools.groupby(references, self._is_second):
            yield from self._sources[is_second].stream([self._own(reference) for reference in group])

    def digest(self, references: Sequence[Reference]) -> str:
        """See ``ImageSource.digest``."""
        digest = hashlib.blake2b(self._prefix.encode(), digest_size=16)
        for is_second, source in enumerate(self._sources):
            own = [self._own(reference) for reference in references if self._is_second(reference) == is_second]
            digest.update(source.digest(own).encode())
        # In which order the two take turns.
        digest.update(bytes(self._is_second(reference) for reference in references))
        return digest.hexdigest()

    def _is_second(self, reference: Reference) -> bool:
        return reference.path.startswith(self._prefix)

    def _own(self, reference: Reference) -> Reference:
        return reference.replace(path=reference.path.removeprefix(self._prefix))


class JoinedMaskSource:
    """The same for masks, by the sample; see ``MaskSource``."""

    def __init__(self, first: MaskSource, second: MaskSource, prefix: str) -> None:
        self._sources = first, second
        self._prefix = prefix

    def layers(self, sample: str, image: Image) -> Iterator[Layer]:
        """See ``MaskSource.layers``."""
        return self._sources[sample.startswith(self._prefix)].layers(sample.removeprefix(self._prefix), image)

    def digest(self, samples: Sequence[str]) -> str:
        """See ``MaskSource.digest``."""
        parts = [
            source.digest([s.removeprefix(self._prefix) for s in samples if s.startswith(self._prefix) == is_second])
            for is_second, source in enumerate(self._sources)
        ]
        return hashlib.blake2b("|".join([self._prefix, *parts]).encode(), digest_size=16).hexdigest()


def joined(first: Cohort, second: Cohort, prefix: str) -> Cohort:
    """The rows of both; those of the second get a prefix before their names, and have the columns of the first.

    Args:
        first: cohort.
        second: of the same task and labels.
        prefix: with which no name of the first begins.

    Raises:
        CohortError: the two are of different tasks, or objects have masks in one of them alone.
    """
    if (first.task, first.labels, first.channels) != (second.task, second.labels, second.channels):
        raise CohortError(
            f"'{second.name}' is read as {_kind(second)}, and the data that it is added to are {_kind(first)}: "
            "expected the same. Choose how it is read with --kind, --label-column, --task or --channels."
        )
    renamed = second.table.assign(**{name: prefix + second.table[name].astype(str) for name in ("sample", "image")})
    columns = [*first.table.columns, *([UNKNOWN] if UNKNOWN in renamed and UNKNOWN not in first.table else [])]
    table = pd.concat([first.table, renamed.reindex(columns=columns)], ignore_index=True)
    if UNKNOWN in table:
        table[UNKNOWN] = table[UNKNOWN].fillna("")
    places = {prefix + image: place.replace(path=prefix + place.path) for image, place in second.places.items()}
    return dataclasses.replace(
        first,
        table=table,
        source=JoinedSource(first.source, second.source, prefix),
        notes=(*first.notes, *(f"Added data: {note}" for note in second.notes)),
        places={**first.places, **places},
        **_truth(first, second, prefix),
    )


def _kind(cohort: Cohort) -> str:
    channels = f" with the channels {', '.join(cohort.channels)}" if cohort.channels else ""
    labels = f" of {', '.join(cohort.labels)}" if cohort.labels else ""
    return f"images for {cohort.task}{labels}{channels}"


def _truth(first: Cohort, second: Cohort, prefix: str) -> dict[str, Any]:
    """What a family keeps beside the table."""
    found: dict[str, Any] = {}
    if first.has_boxes:
        found["box_table"] = _boxes(first, second, prefix)
    if first.masks is not None and second.masks is not None:
        found["masks"] = _masks(first.masks, second.masks, prefix)
    return found


def _boxes(first: Cohort, second: Cohort, prefix: str) -> pd.DataFrame:
    if first.box_rank != second.box_rank or first.has_object_masks != second.has_object_masks:
        raise CohortError(
            f"'{second.name}' has boxes of rank {second.box_rank}{_with_masks(second)}, and the data that it is added "
            f"to have boxes of rank {first.box_rank}{_with_masks(first)}: one detector cannot learn from both. Add "
            "boxes of the same kind, or train on one of the two alone."
        )
    old, new = known_boxes(first), known_boxes(second)
    columns = [name for name in old.columns if name in new.columns]
    renamed = new.assign(image=prefix + new["image"].astype(str))
    return pd.concat([old[columns], renamed[columns]], ignore_index=True)


def _with_masks(cohort: Cohort) -> str:
    return f" with a {MASK} each" if cohort.has_object_masks else ""


def _masks(first: Masks, second: Masks, prefix: str) -> Masks:
    different = [name for name in first.labels if second.labels.get(name, first.labels[name]) != first.labels[name]]
    if different:
        raise CohortError(
            f"The name '{different[0]}' in masks stands for '{first.labels[different[0]]}' in the one data and for "
            f"'{second.labels[different[0]]}' in the other: expected one meaning. Rename it in the data that is added."
        )
    return Masks(
        JoinedMaskSource(first.source, second.source, prefix),
        {**first.labels, **second.labels},
        first.overlapping or second.overlapping,
        {**first.facts, **{prefix + sample: facts for sample, facts in second.facts.items()}},
    )
