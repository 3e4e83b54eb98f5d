"""What the predictors of labels and of values share: images one by one, or samples of several images joined."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.evaluation.novelty import Novelty
from hounsfield.images import Reference
from hounsfield.inference.base import BasePredictor, Prepared, Work
from hounsfield.inference.fitting import DifferenceLog
from hounsfield.inference.novelty import Distances, out_of_distribution, sample_out_of_distribution
from hounsfield.inference.onnx_networks import Floats
from hounsfield.inference.parallel import Turns, chunks
from hounsfield.inference.prediction import INTENSITY_COLUMNS, VIEW_COLUMNS, BadImage, Said, View
from hounsfield.inference.samples import SampleSource, sample_sources
from hounsfield.inference.sources import Inputs, Source
from hounsfield.inference.views import Outputs, Views, run, together


class WholeImagePredictor(BasePredictor[Said]):
    """Predicts by one network on whole images; see :class:`BasePredictor`.

    A family implements ``_read``.

    Attributes:
        views: how the images of a sample are joined; ``None`` where each image is judged by itself.
    """

    def __init__(self, bundle: Bundle | str | Path) -> None:
        super().__init__(bundle)
        self.views = Views.of(self.bundle)
        self._novelty: Novelty | None = self.bundle.novelty

    def run(self, batch: Floats, *, alone: bool = True) -> Outputs:
        """The network's outputs for prepared images (n, *input_shape); ``alone`` as of an engine's ``run``."""
        return run(self.engine, batch, alone=alone)

    @property
    def _image_columns(self) -> tuple[str, ...]:
        """The last columns of the rows: the weights of a sample's images, or the intensity of a single one."""
        if self.views is not None:
            return VIEW_COLUMNS
        return () if self._quality is None else INTENSITY_COLUMNS

    @abstractmethod
    def _read(self, prepared: Sequence[Prepared], outputs: Outputs, distances: Distances) -> list[Said]:
        """One prediction for each image, or sample, of which these are the outputs."""

    def _predictions(self, prepared: Sequence[Prepared], alone: bool, turns: Turns) -> list[Said]:
        # Of a few small arrays numpy.stack takes several times as long.
        batch = np.array([image.pixels for image in prepared])
        outputs = self.run(batch, alone=alone)
        with turns.turn():
            distances = Distances(None, [()] * len(batch))
            if self._novelty is not None:
                distances = out_of_distribution(self._novelty, batch, outputs.features)
            return self._read(prepared, outputs, distances)

    def _inputs(self, inputs: Inputs) -> Iterator[Any]:
        if self.views is None:
            return super()._inputs(inputs)
        return sample_sources(inputs, self.rank, str(self.bundle.settings.get("sample_column", "sample")))

    def _of_sources(self, chunk: Sequence[Any], alone: bool, work: Work) -> list[Said | BadImage]:
        if self.views is None:
            return super()._of_sources(chunk, alone, work)
        return [self._of_sample(sample, alone, work) for sample in chunk]

    def _of_sample(self, sample: SampleSource, alone: bool, work: Work) -> Said | BadImage:
        found = self._sample(sample.reference, sample.images, alone, work)
        if isinstance(found, BadImage):
            return found
        prediction, prepared = found
        work.differences.count([prediction])
        first = max(range(len(prepared)), key=lambda number: prediction.views[number].weight)
        original = prepared[first].original
        if work.viewer is not None and original is not None:
            work.viewer(original, prediction)
        return prediction

    def predict_sample(
        self, sample: SampleSource, differences: DifferenceLog
    ) -> tuple[Said, list[Prepared]] | BadImage:
        """Predict one sample: the prediction, and each of its images as read and as the network saw it."""
        return self._sample(
            sample.reference, sample.images, True, Work(differences, Turns(), lambda *_: None, trace=True)
        )

    def _sample(
        self, reference: Reference, images: Sequence[Source], alone: bool, work: Work
    ) -> tuple[Said, list[Prepared]] | BadImage:
        prepared: list[Prepared] = []
        outputs: list[Outputs] = []
        for batch in chunks(self._prepared(images, work), self._batch_size):
            good = [image for image in batch if isinstance(image, Prepared)]
            if len(good) < len(batch):
                bad = next(image for image in batch if isinstance(image, BadImage))
                return BadImage(reference, f"The sample {reference} has an image that cannot be judged. {bad}")
            outputs.append(self.run(np.array([image.pixels for image in good]), alone=alone))
            prepared += good
        if not prepared or self.views is None:
            return BadImage(reference, f"The sample {reference} has no image. Name a folder or a table that has some.")
        return self._joined(self.views, reference, prepared, together(outputs)), prepared

    def _joined(self, views: Views, reference: Reference, prepared: list[Prepared], outputs: Outputs) -> Said:
        joined = views.join(outputs)
        distances = Distances(None, [()])
        if self._novelty is not None:
            images = (image.pixels for image in prepared)
            distances = sample_out_of_distribution(self._novelty, images, joined.features)
        # An image of each kind is enough to say so.
        flags = tuple(dict.fromkeys(flag for image in prepared for flag in image.flags))
        whole = Prepared(reference, prepared[0].pixels, prepared[0].shape, flags)
        (prediction,) = self._read([whole], Outputs(joined.probabilities, joined.features), distances)
        weights = zip(prepared, joined.weights.tolist(), strict=True)
        return prediction.of_views(tuple(View(image.reference, weight) for image, weight in weights))
