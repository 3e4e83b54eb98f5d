"""Detections in files, folders and arrays, in images of any size, in pixels of the images as they were read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hounsfield import boxes as geometry
from hounsfield.bundle import Bundle
from hounsfield.errors import ImageError, PreprocessingError
from hounsfield.images import Image
from hounsfield.inference.detection_engines import DetectionEngine, find_with, open_detection_engine
from hounsfield.inference.fitting import UnlikenessLog, require_fit, require_units
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import on_all_cores
from hounsfield.inference.prediction import BadImage, DetectionPrediction, without_bad
from hounsfield.inference.sources import Inputs, Source, frames, sources
from hounsfield.inference.windows import Found
from hounsfield.preprocessing.grid_change import apply_and_trace
from hounsfield.progress import Progress, silent

# Is shown an image as read with what was found in it, while the image is at hand; several threads may call it.
Viewer = Callable[[Image, DetectionPrediction], None]


class Looked(NamedTuple):
    """What was found in a prepared image, and its features (channels,), the mean over the windows."""

    found: Found
    features: Floats


class Detector:
    """Finds objects with a bundle; opened once, used for any number of inputs.

    Args:
        bundle: of a detector, loaded, or the folder of a run or bundle.
        engine: "auto", "openvino", "onnxruntime" or "keras".
        threshold: the score from which a finding is said, instead of the bundle's own.

    Raises:
        BundleError, MissingDependency, UsageError: as :func:`hounsfield.inference.open_detection_engine` does.
    """

    def __init__(self, bundle: Bundle | str | Path, engine: str = "auto", *, threshold: float | None = None) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.threshold = self.bundle.threshold if threshold is None else threshold
        self.engine: DetectionEngine = open_detection_engine(self.bundle, engine)
        self._rank = len(self.bundle.input_shape) - 1
        kept = self.bundle.counting
        self._novelty = kept.novelty if kept else None

    def predict(self, inputs: Inputs) -> list[DetectionPrediction]:
        """Find objects in every image of the inputs.

        Args:
            inputs: a file, a folder, an array of one image or of several, an ``Image``, or any number of these.

        Raises:
            ImageError: an image could not be read or does not fit; the message counts them and names the first five.
                :meth:`stream` goes on past them.
        """
        return without_bad(self.stream(inputs))

    def stream(
        self, inputs: Inputs, *, progress: Progress = silent, viewer: Viewer | None = None
    ) -> Iterator[DetectionPrediction | BadImage]:
        """Look at one image after another, in the order of the inputs; memory stays flat however many there are."""
        unlikeness = UnlikenessLog(self.bundle.source_range)

        def work(source: Source, alone: bool) -> list[DetectionPrediction | BadImage]:
            return list(self._of_source(source, alone, unlikeness, viewer))

        done = 0
        for results in on_all_cores(work, sources(inputs, self._rank)):
            yield from results
            done += len(results)
            progress("predict", done, None)
        unlikeness.conclude()

    def find(self, pixels: Floats) -> Found:
        """All findings in an image that the pipeline has prepared, down to the floor of scores.

        Args:
            pixels: (*spatial, channels), of any size.

        Returns:
            Boxes in pixels of the prepared image, best first.
        """
        return self.look(pixels).found

    def look(self, pixels: Floats, *, alone: bool = True) -> Looked:
        """As :meth:`find`, with the features of the image; ``alone`` as of an engine's ``run``."""
        features: list[Floats] = []

        def run(batch: Floats) -> dict[str, npt.NDArray[Any]]:
            outcome = self.engine.run(batch, alone=alone)
            features.extend(outcome["features"])
            return outcome

        found = find_with(self.bundle, run, pixels)
        return Looked(found, np.mean(features, axis=0, dtype=np.float32))

    def _of_source(
        self, source: Source, alone: bool, unlikeness: UnlikenessLog, viewer: Viewer | None
    ) -> Iterator[DetectionPrediction | BadImage]:
        try:
            found = frames(source.load(), source.name, self._rank)
        except ImageError as error:
            yield BadImage(source.name, str(error))
            return
        for name, image in found:
            try:
                prediction = self._of_image(image, name, alone, unlikeness)
            except (ImageError, PreprocessingError) as error:
                yield BadImage(name, str(error))
                continue
            unlikeness.count([prediction])
            if viewer is not None:
                viewer(image, prediction)
            yield prediction

    def _of_image(self, image: Image, name: str, alone: bool, unlikeness: UnlikenessLog) -> DetectionPrediction:
        require_units(image, name, self.bundle)
        prepared, change = apply_and_trace(self.bundle.pipeline, image)
        require_fit(prepared, image, name, self.bundle)
        pixels = np.ascontiguousarray(prepared.pixels, np.float32)
        looked = self.look(pixels, alone=alone)
        said = looked.found.at(looked.found.scores >= self.threshold)
        boxes = np.asarray(geometry.clipped(change.back(said.boxes), image.shape), np.float32)
        usable = geometry.are_valid(boxes)
        labels = tuple(self.bundle.labels[number] for number in said.classes[usable].tolist())
        unlike, reasons = self._unlikeness(pixels, looked.features)
        return DetectionPrediction(
            image=name,
            shape=image.shape,
            boxes=boxes[usable],
            labels=labels,
            scores=said.scores[usable],
            counts={label: labels.count(label) for label in self.bundle.labels},
            features=looked.features,
            ood_score=unlike,
            flags=(*reasons, *unlikeness.note(image, name)),
        )

    def _unlikeness(self, pixels: Floats, features: Floats) -> tuple[float | None, tuple[str, ...]]:
        """How far an image lies from those of training as a multiple of the limit, and why it is said to be unlike."""
        if self._novelty is None:
            return None, ()
        ratios = self._novelty.ratios({"features": features[np.newaxis]})
        unlike = max(float(each[0]) for each in ratios.values())
        blank = ("blank",) if pixels.min() == pixels.max() else ()
        return unlike, (*blank, *(name for name, each in ratios.items() if each[0] > 1))
