"""Explanations as work for many processes: each draws the pictures of its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hounsfield.distributed.predicting import BundleCopy
from hounsfield.distributed.work import Begin, Part
from hounsfield.explanation import Explainer
from hounsfield.explanation.structure import Layer
from hounsfield.images import Reference
from hounsfield.inference import BadImage
from hounsfield.inference.fitting import DifferenceLog
from hounsfield.inference.samples import SampleSource
from hounsfield.inference.sources import Source
from hounsfield.reports.explanations import write_explanation


class Numbered(NamedTuple):
    """An item with its number among all, by which its files are told from those of others."""

    number: int
    item: Source | SampleSource

    @property
    def reference(self) -> Reference:
        """Of the item."""
        return self.item.reference


def numbered(items: Iterable[Source | SampleSource]) -> Iterator[Numbered]:
    """Items with their numbers."""
    return (Numbered(number, item) for number, item in enumerate(items))


@dataclass(frozen=True)
class ExplanationWork:
    """The rows and pictures of explanations; see ``Explainer``.

    Attributes:
        bundle: that is explained.
        engine: "auto", or the name of one.
        method: by which.
        layer: whose feature maps.
        label: whose evidence.
        maps: format of the evidence at each pixel, or "none".
        folder: of the files, which every machine sees.
    """

    bundle: BundleCopy
    engine: str
    method: str
    layer: Layer
    label: str | None
    maps: str
    folder: Path = Path()

    def open(self) -> OpenedExplanation:
        """Load the bundle, and what the method needs."""
        explainer = Explainer(self.bundle.load(), self.method, layer=self.layer, label=self.label, engine=self.engine)
        return OpenedExplanation(explainer, self)

    def failed(self, item: Numbered, reason: str) -> Part:
        """The image as a bad one."""
        return Part(bad=[BadImage(item.reference, f"{item.reference} {reason}.")])

    def packed(self) -> ExplanationWork:
        """With the bundle's files."""
        return dataclasses.replace(self, bundle=self.bundle.packed())


class OpenedExplanation:
    """An explainer in a worker's process."""

    def __init__(self, explainer: Explainer, work: ExplanationWork) -> None:
        self._explainer = explainer
        self._work = work

    def run(self, items: Sequence[Numbered], begin: Begin) -> Part:
        """Explain some items, and write their pictures."""
        log = DifferenceLog(self._explainer.bundle.source_range, aloud=False)
        part = Part(differences=log.found, engines={self._explainer.predictor.engine.description})
        for place, (number, item) in enumerate(items):
            begin(place)
            for found in self._explainer.explain_item(item, log):
                if isinstance(found, BadImage):
                    part.bad.append(found)
                    continue
                name = f"{number:08d}-{len(part.rows)}"
                part.images += 1
                part.rows.append(write_explanation(found, self._work.folder, name, self._work.maps))
        return part
