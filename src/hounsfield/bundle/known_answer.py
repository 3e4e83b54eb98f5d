"""``known_answer.npz``: inputs and outputs of each network, kept at export, so that whatever runs it can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import replacing
from hounsfield.bundle.bundle import Bundle
from hounsfield.bundle.manifest import COPY_AGAIN, KNOWN_ANSWER
from hounsfield.containers import read_arrays
from hounsfield.errors import BundleError
from hounsfield.onnx_export.answers import KnownAnswer

_INPUT = "input"
# Images, or regions of one, that are kept; and the axes of the smallest output.
MAX_INPUTS = 10_000
MIN_RANK = 2


def write_known_answer(folder: Path, answers: Sequence[KnownAnswer]) -> None:
    """Write the answers of a bundle's networks, in their order."""
    arrays = {f"{part}.{_INPUT}": answer.inputs for part, answer in enumerate(answers)}
    for part, answer in enumerate(answers):
        arrays |= {f"{part}.output.{name}": output for name, output in answer.outputs.items()}
    with replacing(folder / KNOWN_ANSWER) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # the stub takes them for allow_pickle


def read_known_answer(bundle: Bundle) -> list[KnownAnswer]:
    """The answers of the networks of a bundle, in their order; none where its ONNX form was never made.

    Raises:
        BundleError: the file is damaged, or is that of another network.
    """
    path = bundle.folder / KNOWN_ANSWER
    if not path.is_file():
        return []
    try:
        arrays = {name: _checked(array, name) for name, array in read_arrays(path).items()}
        return [
            KnownAnswer(arrays[f"{part}.{_INPUT}"], {name: arrays[f"{part}.output.{name}"] for name in names})
            for part, names in enumerate(bundle.form.outputs(bundle.settings))
        ]
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"{path} is damaged ({error}). {COPY_AGAIN}") from error


def _checked(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """An array of inputs or outputs: some of them, all finite numbers in float32."""
    if array.dtype != np.float32 or array.ndim < MIN_RANK or not 1 <= len(array) <= MAX_INPUTS:
        raise ValueError(f"{name} is {array.dtype} of the shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    return array
