"""What every predictor does: read files, folders and arrays, prepare and predict, on every core, with flat memory."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import ImageError, PreprocessingError, UsageError
from hounsfield.images import Image, Reference
from hounsfield.inference.engines import Engine, open_engine
from hounsfield.inference.fitting import DifferenceLog, require_fit, require_units
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import Turns, chunks, on_all_cores
from hounsfield.inference.prediction import BadImage, Row, Said, without_bad
from hounsfield.inference.sources import Inputs, Source, frames, sources
from hounsfield.inference.tables import write_table
from hounsfield.inference.views import Views
from hounsfield.preprocessing.grid_change import GridChange, apply_and_trace
from hounsfield.progress import Progress, silent
from hounsfield.quality import Measures, measure
from hounsfield.tasks import MODEL_NAMES, Family

# So many images make a batch, fewer when they are large: engines gain nothing more, and memory stays small.
BATCH_IMAGES = 16
BATCH_VALUES = 2**23


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as the network takes it.

    Attributes:
        reference: where it came from.
        pixels: the network's input, float32.
        shape: the spatial lengths of the image as read.
        flags: in what the image differs from those of training.
        change: how the grid of the input lies to that of the image as read; ``None`` where it was not asked for.
        original: the image as read, where somebody wants to see it.
        spacing: of the image as read, in mm; ``None`` where unknown.
        affine: of the image as read, likewise.
        measured: of the image as read, where the bundle tells faulty ones by it.
    """

    reference: Reference
    pixels: Floats
    shape: tuple[int, ...]
    flags: tuple[str, ...] = ()
    change: GridChange | None = None
    original: Image | None = None
    spacing: tuple[float, ...] | None = None
    affine: npt.NDArray[np.float64] | None = None
    measured: Measures | None = None

    @property
    def intensity(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the values as read; ``None`` where they were not measured."""
        return None if self.measured is None else (self.measured.mean, self.measured.deviation)


class Table(NamedTuple):
    """A table beside that of ``rows()``: its columns, and the row of one image."""

    columns: Sequence[str]
    row: Callable[[Any], Row]


class Work(NamedTuple):
    """What the threads of one stream share.

    Attributes:
        differences: takes note of images unlike those of training.
        turns: of the threads.
        viewer: is shown each image with its prediction.
        trace: whether predictions need to know how the grid of the input lies to that of the image.
    """

    differences: DifferenceLog
    turns: Turns
    viewer: Callable[[Image, Any], None] | None = None
    trace: bool = False


class BasePredictor(ABC, Generic[Said]):
    """Predicts with a bundle; opened once, it serves any number of inputs, and calls from several threads.

    A family implements ``_predictions``, ``columns`` and ``agree``.

    Attributes:
        FAMILY: of the bundles that it takes.
        OPTIONS: names of the options of its constructor.
        TABLES: names of the further tables that it has, see ``table``.
        bundle: with its pipeline, labels and threshold.
        engine: that runs the networks.

    Args:
        bundle: a loaded bundle, or the folder of a run or bundle.

    Raises:
        BundleError: the bundle is of another family, or damaged.
    """

    FAMILY: ClassVar[Family]
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"threshold"})
    TABLES: ClassVar[frozenset[str]] = frozenset()
    # Whether predictions need to know how the grid of the input lies to that of the image.
    _trace: ClassVar[bool] = False

    def __init__(self, bundle: Bundle | str | Path) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.bundle.require(self.FAMILY)
        self.engine: Engine
        # How the images of a sample are joined, in families that do so.
        self.views: Views | None = None
        self._quality = self.bundle.quality
        self._batch_size = max(1, min(BATCH_IMAGES, BATCH_VALUES // math.prod(self.bundle.input_shape)))

    def _open(self, engine: str | Engine) -> None:
        """Called last in a constructor: what is wrong with the options is found before an engine is opened."""
        self.engine = open_engine(self.bundle, engine) if isinstance(engine, str) else engine

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels of an image, where they lie in several files or volumes."""
        return tuple(self.bundle.settings.get("channels", ()))

    @property
    def rank(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.bundle.input_shape) - 1

    @property
    def _alone(self) -> bool:
        """Whether images are predicted one after another, each with every core: large ones do not fit side by side."""
        return False

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The columns of the predictions' rows, in order."""

    @abstractmethod
    def _predictions(self, prepared: Sequence[Prepared], alone: bool, turns: Turns) -> list[Said]:
        """One prediction per image, in their order; ``alone`` as of an engine's ``run``."""

    @classmethod
    @abstractmethod
    def agree(cls, bundle: Bundle, engines: Sequence[Engine], images: Iterable[Floats]) -> bool:
        """Whether two engines decide the same, the first being exact.

        Args:
            bundle: its threshold counts.
            engines: an exact one and another one.
            images: prepared images; without any the answer is ``False``.
        """

    def explained(self, predicted: Said | None, label: str | None) -> tuple[str, Floats]:  # noqa: ARG002 - see families
        """What a heat map shows: the name of it, and the weights (outputs,) of the logits whose sum speaks for it.

        Args:
            predicted: by which the label is chosen where none is asked for.
            label: that the user asks for.

        Raises:
            UsageError: there is no such label, or predictions of this family have no heat maps.
        """
        raise UsageError(f"A {MODEL_NAMES[self.FAMILY]} has no heat maps. Draw its predictions instead.")

    def logits(self, outputs: Floats) -> npt.NDArray[np.floating]:  # noqa: ARG002 - see families
        """The network's outputs (n, outputs) before its last activation, for families with heat maps."""
        raise UsageError(f"A {MODEL_NAMES[self.FAMILY]} has no heat maps. Draw its predictions instead.")

    def table(self, name: str) -> Table:
        """The table of one of the ``TABLES``."""
        raise KeyError(name)

    def info(self) -> dict[str, Any]:
        """What is open here, as plain values."""
        bundle = self.bundle
        return {
            "family": self.FAMILY,
            "task": bundle.task,
            "labels": list(bundle.labels),
            "threshold": bundle.threshold,
            "input_shape": list(bundle.input_shape),
            "modality": bundle.modality,
            "engine": self.engine.description,
            "versions": dict(bundle.versions),
        }

    def summary(self, predictions: int, rows: int) -> str | None:  # noqa: ARG002 - each family says what it counts
        """What to say at the end of so many predictions with so many rows; ``None`` for nothing."""
        return None

    def write(self, path: str | Path, predictions: Iterable[Said]) -> int:
        """Write predictions as they come as .csv, .parquet or .json; see ``write_table``.

        Returns:
            The number of rows.
        """
        return write_table(path, self.columns, (row for prediction in predictions for row in prediction.rows()))

    @classmethod
    def has_files(cls, bundle: Bundle) -> bool:  # noqa: ARG003 - see families
        """Whether predictions are files, and a folder can be named for them."""
        return False

    def write_files(self, folder: Path, name: str, prediction: Said) -> list[Path]:  # noqa: ARG002 - see families
        """Write the files of one prediction, for families that have some.

        Args:
            folder: exists.
            name: that no other prediction has, without suffix.
            prediction: of this predictor.

        Returns:
            What was written.

        Raises:
            UsageError: predictions of this family are rows of a table alone.
        """
        raise UsageError(
            f"The predictions of a {MODEL_NAMES[self.FAMILY]} are rows of a table: expected a file for them, and found "
            f"the folder {folder}. Give -o a name that ends in .csv, .parquet or .json."
        )

    def predict(self, inputs: Inputs) -> list[Said]:
        """Predict every image of the inputs.

        Args:
            inputs: a file, a folder, an array of one image or of several, an ``Image``, or any number of these.

        Raises:
            ImageError: an image could not be read or does not fit; the message counts them and names the first five.
                :meth:`stream` goes on past them.
        """
        return without_bad(self.stream(inputs))

    def stream(
        self, inputs: Inputs, *, progress: Progress = silent, viewer: Callable[[Image, Said], None] | None = None
    ) -> Iterator[Said | BadImage]:
        """Predict one image after another, in the order of the inputs; memory stays flat however many there are.

        Args:
            inputs: as of :meth:`predict`.
            progress: told of the images.
            viewer: is shown each image as read with its prediction; several threads may call it.
        """
        work = Work(DifferenceLog(self.bundle.source_range), Turns(progress), viewer, self._trace)
        parts = self.parts(inputs)
        done = 0
        if self._alone:
            found: Iterator[list[Said | BadImage]] = (self._of_sources(chunk, True, work) for chunk in parts)
        else:
            found = on_all_cores(lambda chunk, alone: self._of_sources(chunk, alone, work), parts)
        for results in found:
            yield from results
            done += len(results)
            progress("predict", done, None)
        work.differences.conclude()

    def parts(self, inputs: Inputs) -> Iterator[list[Any]]:
        """The inputs unread, in the parts that are predicted together: a ``Source`` or a ``SampleSource`` an item."""
        return chunks(self._inputs(inputs), self._batch_size if self.views is None else 1)

    def predict_part(
        self, part: Sequence[Any], differences: DifferenceLog, *, alone: bool = False, turns: Turns | None = None
    ) -> list[Said | BadImage]:
        """Predict one of the ``parts``, as :meth:`stream` does.

        Args:
            part: its items.
            differences: takes note of the images.
            alone: whether it is the only part; ``stream`` then lets the network have every core for it.
            turns: of all threads that predict parts at one time.
        """
        return self._of_sources(part, alone or self._alone, Work(differences, turns or Turns(), None, self._trace))

    def predict_image(
        self, image: Image, reference: Reference, differences: DifferenceLog
    ) -> tuple[Said, Prepared] | BadImage:
        """Predict one image of the network's rank that was read already; ``differences`` takes note of it.

        Returns:
            The prediction, and what the network saw, with how its grid lies to the image's own.
        """
        work = Work(differences, Turns(), trace=True)
        (prepared,) = self._with_faults([self._prepare(reference, image, work)], work)
        if isinstance(prepared, BadImage):
            return prepared
        (prediction,) = self._run([prepared], True, work)
        return prediction, prepared

    def _inputs(self, inputs: Inputs) -> Iterator[Any]:
        """What is predicted one by one: the sources of single images, unless a family joins several."""
        return sources(inputs, self.rank, self.channels)

    def _of_sources(self, chunk: Sequence[Source], alone: bool, work: Work) -> list[Said | BadImage]:
        batches = chunks(self._prepared(chunk, work), self._batch_size)
        results: list[Said | BadImage] = []
        while True:
            with work.turns.turn():
                batch = next(batches, None)
            if batch is None:
                return results
            predictions = iter(self._run([each for each in batch if isinstance(each, Prepared)], alone, work))
            results.extend(each if isinstance(each, BadImage) else next(predictions) for each in batch)

    def _prepared(self, chunk: Sequence[Source], work: Work) -> Iterator[Prepared | BadImage]:
        """The network's input for each frame of the sources, or the reason why there is none."""
        found = chain.from_iterable(map(self._frames, chunk))
        # Small images are read together and then prepared together: each part of the program stays in the processor's
        # cache for as long. Of large ones no more than one is held.
        while together := list(islice(found, self._batch_size if work.turns.small else 1)):
            made = [frame if isinstance(frame, BadImage) else self._prepare(*frame, work) for frame in together]
            yield from self._with_faults(made, work)

    def _with_faults(self, made: Sequence[Prepared | BadImage], work: Work) -> Iterator[Prepared | BadImage]:
        """The same with the faults of acquisition and export that each image shows beside those of training."""
        if self._quality is None:
            yield from made
            return
        measured = [each.measured if isinstance(each, Prepared) else None for each in made]
        for each, faults in zip(made, self._quality.faults(measured), strict=True):
            if faults and isinstance(each, Prepared):
                work.differences.note_faults(faults, each.reference.text)
                yield replace(each, flags=(*each.flags, *faults))
            else:
                yield each

    def _frames(self, source: Source) -> Iterator[tuple[Reference, Image] | BadImage]:
        try:
            yield from frames(source.load(), source.reference, self.rank)
        except ImageError as error:
            yield BadImage(source.reference, str(error))

    def _prepare(self, reference: Reference, image: Image, work: Work) -> Prepared | BadImage:
        work.turns.see(image.pixels.size)
        try:
            require_units(image, reference.text, self.bundle)
            if work.trace:
                result, change = apply_and_trace(self.bundle.pipeline, image)
            else:
                result, change = self.bundle.pipeline.apply(image), None
            require_fit(result, image, reference.text, self._input_of(result))
        except (ImageError, PreprocessingError) as error:
            return BadImage(reference, str(error))
        flags = work.differences.note(image, reference.text)
        pixels = np.ascontiguousarray(result.pixels, np.float32)
        original = image if work.viewer else None
        measured = None if self._quality is None else measure(image.pixels, image.rank)
        return Prepared(reference, pixels, image.shape, flags, change, original, image.spacing, image.affine, measured)

    def _input_of(self, prepared: Image) -> tuple[int, ...]:  # noqa: ARG002 - most networks take one shape
        """The shape that a prepared image has to have."""
        return self.bundle.input_shape

    def _run(self, prepared: Sequence[Prepared], alone: bool, work: Work) -> list[Said]:
        if not prepared:
            return []
        predictions = self._predictions(prepared, alone, work.turns)
        work.differences.count(predictions)
        if work.viewer is not None:
            for image, prediction in zip(prepared, predictions, strict=True):
                if image.original is not None:
                    work.viewer(image.original, prediction)
        return predictions
