"""What a page lays over an image: where the evidence of a prediction lies, and the masks of one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import make_private, replacing
from hounsfield.errors import ImageError
from hounsfield.explanation import Explainer
from hounsfield.images import Image, Reference
from hounsfield.inference import BadImage, BasePredictor
from hounsfield.inference.mask_prediction import MaskPrediction
from hounsfield.inference.sources import frames, sources
from hounsfield.serving.cases import OverlayKind
from hounsfield.serving.watchdog import Watchdog


class Overlays:
    """Writes arrays on the grid of an image, in the process of its model.

    Args:
        predictor: of the model.
        watchdog: over each of them.
    """

    def __init__(self, predictor: BasePredictor[Any], watchdog: Watchdog) -> None:
        self._predictor = predictor
        self._watchdog = watchdog
        self._explainer = cache(lambda label: Explainer(predictor.bundle, "occlusion", label=label or None))

    def write(self, inputs: str | list[str], number: int, kind: OverlayKind, label: str, target: str) -> list[str]:
        """Write the overlay of one prediction as a file of NumPy: (labels, spatial …), and return the labels.

        Args:
            inputs: of the predictions, in the same order.
            number: of the prediction among them.
            kind: "evidence": float32, above 0 where it speaks for the label, in logits; "masks": uint8, 0 and 1.
            label: whose evidence; "" for the one that the model explains by itself.
            target: the file.

        Raises:
            ImageError: the image cannot be read or does not fit.
            HounsfieldError: the model has no such overlay.
        """
        with self._watchdog:
            labels, values = self._masks(inputs, number) if kind == "masks" else self._evidence(inputs, number, label)
            make_private(Path(target).parent)
            with replacing(Path(target)) as temporary, temporary.open("wb") as file:
                np.save(file, values)
            return labels

    def _evidence(self, inputs: str | list[str], number: int, label: str) -> tuple[list[str], npt.NDArray[np.float32]]:
        if self._predictor.views is not None:
            raise ImageError("The model judges several images together: the evidence is shown by 'hounsfield explain'.")
        found = next(islice(self._images(inputs), number, None), None)
        if found is None:
            raise ImageError("There is no such image.")
        explained = self._explainer(label).explain_image(found[1], found[0])
        if isinstance(explained, BadImage):
            raise ImageError(explained.reason)
        return [explained.label], explained.heat[np.newaxis].astype(np.float32)

    def _masks(self, inputs: str | list[str], number: int) -> tuple[list[str], npt.NDArray[np.uint8]]:
        found = next(islice(self._predictor.stream(inputs), number, None), None)
        if not isinstance(found, MaskPrediction):
            raise ImageError("There is no mask for this image.")
        return list(found.labels), np.stack([found.region(label) for label in found.labels]).astype(np.uint8)

    def _images(self, inputs: str | list[str]) -> Iterator[tuple[Reference, Image]]:
        """The images of the inputs, as many as there are predictions of them."""
        rank = self._predictor.rank
        for source in sources(inputs, rank, self._predictor.channels):
            yield from frames(source.load(), source.reference, rank)
