"""Explanations of files, folders and arrays: where in the image as it was read the evidence lies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import ImageError
from hounsfield.explanation.methods import Method, open_method
from hounsfield.explanation.projection import place
from hounsfield.explanation.structure import Layer
from hounsfield.images import Image, Reference
from hounsfield.inference import BadImage, Prediction, Predictor, open_predictor
from hounsfield.inference.base import Prepared
from hounsfield.inference.fitting import DifferenceLog
from hounsfield.inference.prediction import View
from hounsfield.inference.samples import SampleSource
from hounsfield.inference.sources import Inputs, Source, frames
from hounsfield.inference.values import ValuePrediction, ValuePredictor
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Family

Floats = npt.NDArray[np.float32]
# Images of a sample that are explained, those of the most weight.
MOST_VIEWS = 12
# Whose predictions can be explained.
FAMILIES: tuple[Family, ...] = (Predictor.FAMILY, ValuePredictor.FAMILY)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where the evidence for a label lies in one image.

    Attributes:
        label: the label whose evidence this is; of values their name, for the evidence of a higher one.
        prediction: what was predicted.
        original: the image as it was read.
        grid: evidence over the network's input, as coarse as the method finds it.
        heat: evidence at each pixel of the original, its spatial shape; above 0 speaks for the label, below against.
        view: of a sample of several images, which of them this is, and how much it counts.
    """

    label: str
    prediction: Prediction | ValuePrediction
    original: Image
    grid: Floats
    heat: Floats
    view: View | None = None

    @property
    def image(self) -> str:
        """The image's name, as predictions have it."""
        return self.prediction.image if self.view is None else self.view.reference.text

    @property
    def of_several(self) -> str:
        """For a caption: the weight of this image in its sample; nothing of a single image."""
        count = len(self.prediction.views)
        return "" if self.view is None else f"; 1 of {count} images, weight {self.view.weight:.2f}"

    @property
    def probability(self) -> float:
        """The calibrated probability of the label; NaN of values, which have none."""
        return self.prediction.probabilities.get(self.label, math.nan)

    @property
    def peak(self) -> tuple[int, ...]:
        """The pixel of the original with the most evidence."""
        return tuple(int(index) for index in np.unravel_index(int(self.heat.argmax()), self.heat.shape))


class Explainer:
    """Explains what a bundle predicts; opened once, used for any number of inputs.

    Args:
        bundle: a loaded bundle, or the folder of a run or bundle.
        method: "auto", "activation", "grad_cam", "integrated_gradients" or "occlusion".
        layer: "fine" or "last": which feature maps the first two look at.
        label: whose evidence; where not given, the positive label of a binary task, else the most probable one.
            Of values there is one evidence, that for a higher value.
        engine: of the predictions, and of occlusion.

    Raises:
        UsageError: no such method or label.
        BundleError: the network's structure does not allow the method.
        MissingDependency: Keras or an engine is not installed.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        method: str = "auto",
        *,
        layer: Layer = "fine",
        label: str | None = None,
        engine: str = "auto",
    ) -> None:
        self.predictor: Any = open_predictor(bundle, engine)
        self.bundle = self.predictor.bundle
        self.predictor.explained(None, label)
        self._label = label
        logits = self.predictor.logits
        self.method: Method = open_method(method, self.bundle.network, self.predictor.engine, layer, logits)

    def explain(self, inputs: Inputs) -> list[Explanation]:
        """Explain every image of the inputs.

        Args:
            inputs: as :meth:`hounsfield.Predictor.predict` takes them.

        Raises:
            ImageError: an image could not be read or does not fit; :meth:`stream` goes on past it.
        """
        found = []
        for result in self.stream(inputs):
            if isinstance(result, BadImage):
                raise ImageError(str(result))
            found.append(result)
        return found

    def stream(self, inputs: Inputs, *, progress: Progress = silent) -> Iterator[Explanation | BadImage]:
        """Explain one image after another, in the order of the inputs; of volumes each slice for a 2D network."""
        differences = DifferenceLog(self.bundle.source_range)
        done = 0
        progress("explain", done, None)
        for item in self.items(inputs):
            for result in self.explain_item(item, differences):
                yield result
                # A sample counts once, however many of its images are explained.
                done += isinstance(item, Source)
                progress("explain", done, None)
            done += isinstance(item, SampleSource)
        differences.conclude()

    def items(self, inputs: Inputs) -> Iterator[Source | SampleSource]:
        """What is explained one by one, unread."""
        return chain.from_iterable(self.predictor.parts(inputs))

    def explain_item(self, item: Source | SampleSource, differences: DifferenceLog) -> Iterator[Explanation | BadImage]:
        """Explain one of the ``items``: an image, each slice of a volume for a 2D network, or a sample."""
        if isinstance(item, SampleSource):
            yield from self._explain_sample(item, differences)
            return
        try:
            found = frames(item.load(), item.reference, len(self.bundle.input_shape) - 1)
        except ImageError as error:
            yield BadImage(item.reference, str(error))
            return
        for reference, image in found:
            yield self._explain(image, reference, differences)

    def explain_sample(
        self, reference: Reference, images: Sequence[tuple[Reference, Image]]
    ) -> list[Explanation] | BadImage:
        """Explain images that were read already: one, or those of a sample in the order of their weight."""
        if self.predictor.views is None:
            found = self.explain_image(images[0][1], reference)
            return found if isinstance(found, BadImage) else [found]
        loaded = tuple(Source(each, partial(_same, image)) for each, image in images)
        explained = list(self._explain_sample(SampleSource(reference, loaded), DifferenceLog(self.bundle.source_range)))
        bad = [each for each in explained if isinstance(each, BadImage)]
        return bad[0] if bad else [each for each in explained if isinstance(each, Explanation)]

    def _explain_sample(self, sample: SampleSource, differences: DifferenceLog) -> Iterator[Explanation | BadImage]:
        """The images of a sample that count most, in the order of their weight."""
        predicted = self.predictor.predict_sample(sample, differences)
        if isinstance(predicted, BadImage):
            yield predicted
            return
        prediction, prepared = predicted
        order = sorted(range(len(prepared)), key=lambda number: -prediction.views[number].weight)
        for number in order[:MOST_VIEWS]:
            view, image = prediction.views[number], prepared[number]
            found = self._evidence(prediction, image, image.original)
            # The logit of a sample is the weighted mean of those of its images, and so is what speaks for it.
            share = np.float32(view.weight)
            yield replace(found, grid=found.grid * share, heat=found.heat * share, view=view)

    def explain_image(self, image: Image, reference: Reference | None = None) -> Explanation | BadImage:
        """Explain one image of the network's rank that was read already; its own reference where none is given."""
        reference = reference or image.reference or Reference("image")
        return self._explain(image, reference, DifferenceLog(self.bundle.source_range))

    def _explain(self, image: Image, reference: Reference, differences: DifferenceLog) -> Explanation | BadImage:
        predicted = self.predictor.predict_image(image, reference, differences)
        if isinstance(predicted, BadImage):
            return predicted
        prediction, prepared = predicted
        return self._evidence(prediction, prepared, image)

    def _evidence(self, prediction: Any, prepared: Prepared, image: Any) -> Explanation:
        label, target = self.predictor.explained(prediction, self._label)
        evidence = self.method.evidence(prepared.pixels, target)
        matrix = prepared.change.matrix if prepared.change else None
        heat = place(evidence, prepared.pixels.shape[:-1], image.shape, matrix)
        return Explanation(label, prediction, image, evidence, heat)

    def target(self, label: str) -> Floats:
        """(outputs,): the logits whose weighted sum speaks for a label; the negative one of a binary task has −1."""
        target: Floats = self.predictor.explained(None, label)[1]
        return target


def _same(image: Image) -> Image:
    return image
