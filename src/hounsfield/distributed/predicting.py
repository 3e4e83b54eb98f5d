"""Prediction as work for many processes: each opens the bundle and predicts parts as one process would."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hounsfield.atomic import make_private, replacing_folder
from hounsfield.bundle import Bundle
from hounsfield.distributed.work import Begin, Part
from hounsfield.images import Image
from hounsfield.inference import BadImage, BasePrediction, BasePredictor, open_predictor
from hounsfield.inference.fitting import DifferenceLog
from hounsfield.inference.prediction import Row
from hounsfield.inference.samples import SampleSource
from hounsfield.inference.sources import Source
from hounsfield.inference.tables import feature_row

# Content of a bundle's files by their names in its folder.
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class BundleCopy:
    """A bundle that processes open, here or on another machine.

    Attributes:
        folder: of the run or bundle.
        identity: of the bundle, by which a copy of it is known.
        files: its content, for machines that may not have the folder.
    """

    folder: str
    identity: str
    files: Files | None = field(default=None, repr=False)

    @classmethod
    def of(cls, bundle: Bundle) -> BundleCopy:
        """Without its content."""
        return cls(str(bundle.folder.absolute()), bundle.identity)

    def packed(self) -> BundleCopy:
        """With its content."""
        folder = Path(self.folder)
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return dataclasses.replace(self, files=found)

    def load(self) -> Bundle:
        """Open it; the content of a packed one is first written into this machine's cache, whole and once."""
        if self.files is None:
            return Bundle.load(self.folder)
        # Imported where it is needed: it takes pandas.
        cache: Path = importlib.import_module("hounsfield.cohorts.public").cache_folder()
        place = cache / "bundles" / self.identity
        if not place.is_dir():
            make_private(place.parent)
            with replacing_folder(place) as temporary:
                for name, content in self.files.items():
                    target = temporary / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
        return Bundle.load(place)


@dataclass(frozen=True)
class PredictionWork:
    """The rows of predictions, of the ``parts`` of a predictor.

    Attributes:
        bundle: that predicts.
        engine: "auto", or the name of one.
        options: of the predictor.
        alone: whether there is one part only; see ``BasePredictor.predict_part``.
    """

    bundle: BundleCopy
    engine: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False

    def open(self) -> OpenedPrediction:
        """Load bundle and engine."""
        predictor = open_predictor(self.bundle.load(), self.engine, **self.options)
        return OpenedPrediction(predictor, self._rows(), alone=self.alone)

    def _rows(self) -> Callable[[BasePrediction], list[Row]]:
        return lambda prediction: prediction.rows()

    def failed(self, item: Source | SampleSource, reason: str) -> Part:
        """The image as a bad one."""
        return Part(bad=[BadImage(item.reference, f"{item.reference} {reason}.")])

    def packed(self) -> PredictionWork:
        """With the bundle's files."""
        return dataclasses.replace(self, bundle=self.bundle.packed())


@dataclass(frozen=True)
class FeatureWork(PredictionWork):
    """The rows of feature vectors."""

    def _rows(self) -> Callable[[BasePrediction], list[Row]]:
        return lambda prediction: [feature_row(prediction)]


class OpenedPrediction:
    """A predictor in a worker's process.

    Args:
        predictor: that is open.
        rows: of one prediction.
        alone: as of ``PredictionWork``.
    """

    def __init__(
        self, predictor: BasePredictor[Any], rows: Callable[[BasePrediction], list[Row]], *, alone: bool
    ) -> None:
        self._predictor = predictor
        self._rows = rows
        self._alone = alone

    def run(self, items: Sequence[Source | SampleSource], begin: Begin) -> Part:
        """Predict one part."""
        log = DifferenceLog(self._predictor.bundle.source_range, aloud=False)
        watched = [_watched(item, number, len(items), begin) for number, item in enumerate(items)]
        part = Part(differences=log.found, engines={self._predictor.engine.description})
        for result in self._predictor.predict_part(watched, log, alone=self._alone):
            if isinstance(result, BadImage):
                part.bad.append(result)
            else:
                part.images += 1
                part.rows += self._rows(result)
        return part


def _watched(item: Source | SampleSource, number: int, count: int, begin: Begin) -> Source | SampleSource:
    """The same item, which tells when it is read; after the last one, the work goes on with all of them."""
    if isinstance(item, Source):
        return Source(item.reference, partial(_load, item, number, count, begin))
    return dataclasses.replace(
        item,
        images=tuple(Source(image.reference, partial(_load, image, number, count, begin)) for image in item.images),
    )


def _load(source: Source, number: int, count: int, begin: Begin) -> Image:
    begin(number)
    try:
        return source.load()
    finally:
        if number == count - 1:
            begin(None)
