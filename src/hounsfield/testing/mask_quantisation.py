"""A segmenter in 8-bit integers: made from a bundle, and kept only if its masks of validation images stay the same."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.cohorts import MaskStore
from hounsfield.errors import EvaluationError
from hounsfield.evaluation.novelty import Novelty
from hounsfield.inference.engines import OpenVINOEngine
from hounsfield.inference.masks import Segmenter
from hounsfield.onnx_export.quantised import integer_networks
from hounsfield.progress import Progress, silent
from hounsfield.testing.engine_runs import evenly
from hounsfield.testing.masks import RawMasks, kept, predict
from hounsfield.testing.quantisation import IntegerEngine, check, cohort_of, layers_in_words, write_integers

# Windows by which the ranges of values are found, and by which layers are compared.
CALIBRATING, COMPARED = 60, 8
# Training images on which novelty is fitted.
NOVELTY_ROWS = 96
# The description that is judged apart from the others.
ORIENTATION = "orientation"
# What may change at most: mean Dice, the mean error of the Dice that the network expects, and the share of all pixels.
DICE_LOSS, ERROR_RISE, CHANGED = 0.002, 0.01, 0.002


@dataclass(frozen=True)
class MaskAttempt:
    """One quantised segmenter beside the one in float32, on validation images.

    Attributes:
        kept: layers that were left in float32.
        dice_loss: by how much the mean Dice fell.
        error_rise: by how much the mean error of the Dice that the network expects rose.
        changed: share of the pixels of an image that have another label, on the mean over images.
    """

    kept: tuple[str, ...]
    dice_loss: float
    error_rise: float
    changed: float

    @property
    def accepted(self) -> bool:
        """Whether all of it is within the limits."""
        return self.dice_loss < DICE_LOSS and self.error_rise < ERROR_RISE and self.changed <= CHANGED

    def line(self) -> str:
        """The outcome in words."""
        return (
            f"{layers_in_words(self.kept)}: Dice {-self.dice_loss:+.4f}, "
            f"error of the expected Dice {self.error_rise:+.4f}, {self.changed:.3%} of pixels change"
        )


def quantise_masks(run: Path, folder: Path, *, progress: Progress = silent) -> tuple[Bundle, list[MaskAttempt]]:
    """Write the bundle of a segmenter whose network computes in 8-bit integers; see ``quantisation.quantise``.

    Raises:
        UsageError, RunError, EvaluationError, MissingDependency: as there.
    """
    bundle = Bundle.load(run)
    check(bundle, run, folder)
    store = MaskStore.build(cohort_of(run, bundle), bundle.pipeline, progress=progress)
    train, validation = (np.asarray(store.cohort.rows(split)) for split in ("train", "validation"))
    before = predict(Segmenter(bundle, OpenVINOEngine(bundle, "f32")), store, validation, progress, "validation")
    windows = _windows(store, evenly(train, CALIBRATING), bundle.input_shape)
    attempts: list[MaskAttempt] = []
    with TemporaryDirectory() as name:
        for path, layers in integer_networks(bundle.onnx_files[0], Path(name), windows, COMPARED):
            engine = IntegerEngine(bundle, path)
            segmenter: Any = Segmenter(bundle, engine)
            after = predict(segmenter, store, validation, progress, "validation")
            attempts.append(_attempt(before, after, layers))
            if attempts[-1].accepted:
                fitted = predict(segmenter, store, evenly(train, NOVELTY_ROWS), progress, "training")
                known = kept(after, _novelty(bundle, fitted, after))
                return write_integers(folder, path, engine, bundle, kept=known, attempts=attempts), attempts
    raise EvaluationError(
        "The network stays in float32: in 8 bits its masks of validation images differ. "
        f"{'; '.join(each.line() for each in attempts)}. Allowed are a loss of Dice below {DICE_LOSS}, a rise of the "
        f"error of the expected Dice below {ERROR_RISE}, and {CHANGED:.1%} of pixels. Predict with OpenVINO in float32 "
        "or bfloat16."
    )


def _windows(store: MaskStore, rows: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """(rows, *shape) a window of each image, around a pixel of a label where it has one; zeros beyond the image."""
    found = np.zeros((len(rows), *shape), np.float32)
    for window, row in zip(found, rows.tolist(), strict=True):
        image = np.asarray(store.image(row))
        marked = [pixels for pixels in store.foreground(row) if len(pixels)]
        middle = marked[row % len(marked)][0] if marked else np.array(image.shape[:-1]) // 2
        ends = zip(middle.tolist(), shape[:-1], image.shape[:-1], strict=True)
        starts = [min(max(at - side // 2, 0), max(length - side, 0)) for at, side, length in ends]
        part = image[tuple(slice(start, start + side) for start, side in zip(starts, shape[:-1], strict=True))]
        window[tuple(slice(length) for length in part.shape)] = part
    return found


def _novelty(bundle: Bundle, fitted: RawMasks, after: RawMasks) -> Novelty:
    """The distances of what the network in 8 bits makes of images; how structures lie is that of the true masks."""
    parts = [
        {name: rows for name, rows in each.descriptions.items() if name != ORIENTATION} for each in (fitted, after)
    ]
    novelty = Novelty.fit(*parts)
    return replace(novelty, misorientation=bundle.novelty.misorientation if bundle.novelty else None)


def _attempt(before: RawMasks, after: RawMasks, layers: tuple[str, ...]) -> MaskAttempt:
    first, second = before.cases, after.cases
    errors = [float(np.nanmean(np.abs(each["expected"] - each["dice"]))) for each in (first, second)]
    changed = [
        float(np.mean((one.masks()[1] != other.masks()[1]).any(axis=-1)))
        for one, other in zip(before.pairs, after.pairs, strict=True)
    ]
    loss = float(np.nanmean(first["dice"]) - np.nanmean(second["dice"]))
    rise = errors[1] - errors[0]
    # Where nothing can be compared, nothing is known to be the same.
    return MaskAttempt(layers, loss, rise, float(np.mean(changed)) if changed else math.nan)
