"""Predictions of files, folders and arrays: read, preprocess and run, each on every core, with flat memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.errors import ImageError, PreprocessingError
from hounsfield.images import Image
from hounsfield.inference.engines import Engine, open_engine
from hounsfield.inference.fitting import UnlikenessLog, require_fit, require_units
from hounsfield.inference.parallel import Turns, chunks, on_all_cores
from hounsfield.inference.postprocessor import Postprocessor, Waiting
from hounsfield.inference.prediction import BadImage, Prediction, without_bad
from hounsfield.inference.sources import Inputs, Source, frames, sources
from hounsfield.preprocessing.grid_change import GridChange, apply_and_trace
from hounsfield.progress import Progress, silent
from hounsfield.tasks import refuse_threshold

# So many images make a batch, fewer when they are large: engines gain nothing more, and memory stays small.
BATCH_IMAGES = 16
BATCH_VALUES = 2**23


class _Work(NamedTuple):
    """What the threads of one stream share."""

    unlikeness: UnlikenessLog
    turns: Turns


class Predictor:
    """Predicts with a bundle; opened once, used for any number of inputs.

    Args:
        bundle: a loaded bundle, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras".
        threshold: instead of the bundle's own; for binary and multi-label tasks.
        coverage: of sets of labels that hold the true one with this probability; ``None`` for no sets.
        by_class: whether the coverage shall hold within each true label.
        max_risk: share of wrong answers above which not to answer; ``None`` for always answering.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_engine` does.
        UsageError: a threshold is given for a multi-class task, which has none.
        BundleError, EvaluationError: as :class:`hounsfield.inference.postprocessor.Postprocessor` does.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        engine: str = "auto",
        *,
        threshold: float | None = None,
        coverage: float | None = None,
        by_class: bool = False,
        max_risk: float | None = None,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        # Of a detector there is none.
        refuse_threshold(self.bundle.classifier_task, threshold)
        self.judge = Postprocessor(
            self.bundle, threshold=threshold, coverage=coverage, by_class=by_class, max_risk=max_risk
        )
        self.engine: Engine = open_engine(self.bundle, engine)
        self._batch_size = max(1, min(BATCH_IMAGES, BATCH_VALUES // math.prod(self.bundle.input_shape)))

    def predict(self, inputs: Inputs) -> list[Prediction]:
        """Predict every image of the inputs.

        Args:
            inputs: a file, a folder, an array of one image or of several, an ``Image``, or any number of these.

        Raises:
            ImageError: an image could not be read or does not fit; the message counts them and names the first five.
                :meth:`stream` goes on past them.
        """
        return without_bad(self.stream(inputs))

    def stream(self, inputs: Inputs, *, progress: Progress = silent) -> Iterator[Prediction | BadImage]:
        """Predict one image after another, in the order of the inputs; memory stays flat however many there are."""
        work = _Work(UnlikenessLog(self.bundle.source_range), Turns())
        parts = chunks(sources(inputs, len(self.bundle.input_shape) - 1), self._batch_size)
        done = 0
        for results in on_all_cores(lambda chunk, alone: self._predict(chunk, alone, work), parts):
            yield from results
            done += len(results)
            progress("predict", done, None)
        work.unlikeness.conclude()

    def predict_image(
        self, image: Image, name: str, unlikeness: UnlikenessLog
    ) -> tuple[Prediction, Image, GridChange] | BadImage:
        """Predict one image of the network's rank that was read already; ``unlikeness`` takes note of it.

        Returns:
            The prediction, what the network saw, and how the grid of that lies to the image's own.
        """
        try:
            require_units(image, name, self.bundle)
            prepared, change = apply_and_trace(self.bundle.pipeline, image)
            require_fit(prepared, image, name, self.bundle)
        except (ImageError, PreprocessingError) as error:
            return BadImage(name, str(error))
        waiting = Waiting(name, prepared.pixels, unlikeness.note(image, name))
        (prediction,) = self._run([waiting], True, _Work(unlikeness, Turns()))
        return prediction, prepared, change

    def _predict(self, chunk: Sequence[Source], alone: bool, work: _Work) -> list[Prediction | BadImage]:
        batches = chunks(self._prepared(chunk, work), self._batch_size)
        results: list[Prediction | BadImage] = []
        while True:
            with work.turns.turn():
                batch = next(batches, None)
            if batch is None:
                return results
            predictions = iter(self._run([each for each in batch if isinstance(each, Waiting)], alone, work))
            results.extend(each if isinstance(each, BadImage) else next(predictions) for each in batch)

    def _prepared(self, chunk: Sequence[Source], work: _Work) -> Iterator[Waiting | BadImage]:
        """The network's input for each frame of the sources, or the reason why there is none."""
        found = chain.from_iterable(map(self._frames, chunk))
        # Small images are read together and then prepared together: each part of the program stays in the processor's
        # cache for as long. Of large ones no more than one is held.
        while together := list(islice(found, self._batch_size if work.turns.small else 1)):
            for frame in together:
                yield frame if isinstance(frame, BadImage) else self._prepare(*frame, work)

    def _frames(self, source: Source) -> Iterator[tuple[str, Image] | BadImage]:
        try:
            yield from frames(source.load(), source.name, len(self.bundle.input_shape) - 1)
        except ImageError as error:
            yield BadImage(source.name, str(error))

    def _prepare(self, name: str, image: Image, work: _Work) -> Waiting | BadImage:
        work.turns.see(image.pixels.size)
        try:
            require_units(image, name, self.bundle)
            prepared = self.bundle.pipeline.apply(image)
            require_fit(prepared, image, name, self.bundle)
        except (ImageError, PreprocessingError) as error:
            return BadImage(name, str(error))
        return Waiting(name, prepared.pixels, work.unlikeness.note(image, name))

    def _run(self, waiting: Sequence[Waiting], alone: bool, work: _Work) -> list[Prediction]:
        if not waiting:
            return []
        # Of a few small arrays numpy.stack takes several times as long.
        batch = np.array([image.pixels for image in waiting])
        outputs = self.engine.run(batch, alone=alone)
        with work.turns.turn():
            predictions = self.judge.predictions(waiting, batch, outputs)
        work.unlikeness.count(predictions)
        return predictions
