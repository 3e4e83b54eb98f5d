"""The state of a training after an epoch, as one file of plain arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np

from hounsfield.atomic import replacing
from hounsfield.errors import RunError
from hounsfield.training.averaging import WeightAverage
from hounsfield.training.fitted import Fitted


def save_checkpoint(path: Path, twin: keras.Model, average: WeightAverage, fitted: Fitted) -> None:
    """Write weights, optimiser, random states, average, best weights and history; never half a file."""
    arrays: dict[str, np.ndarray] = {"history": np.array(json.dumps(fitted.history)), "count": np.array(average.count)}
    groups = {
        "variable": values_of(twin),
        "average": average.weights,
        "best": fitted.weights,
    }
    for group, values in groups.items():
        arrays |= {f"{group}{number:05d}": np.asarray(value) for number, value in enumerate(values)}
    with replacing(path) as temporary:
        _write(temporary, arrays)


def load_checkpoint(path: Path, twin: keras.Model, average: WeightAverage, fitted: Fitted) -> None:
    """Put everything back where ``save_checkpoint`` found it.

    Raises:
        RunError: the file is damaged or belongs to another network.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            groups = {
                group: [archive[key] for key in sorted(archive) if key.startswith(group)]
                for group in ("variable", "average", "best")
            }
            fitted.history[:] = json.loads(str(archive["history"]))
            average.count = int(archive["count"])
        assign(twin, groups["variable"])
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(
            f"The checkpoint {path.name} cannot be continued from ({error}). It was expected to be the state of this "
            "plan's network. Start the run anew in another folder, or restore the file."
        ) from error
    average.weights, fitted.weights = groups["average"], groups["best"]


def kept_in(path: Path, fitted: Fitted) -> None:
    """Put the history and the best weights of a checkpoint back, without a network; it was written a moment ago."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        fitted.history[:] = json.loads(str(archive["history"]))
        fitted.weights = [archive[key] for key in sorted(archive) if key.startswith("best")]


def values_of(twin: keras.Model) -> list[np.ndarray]:
    """All that changes in training."""
    return [keras.ops.convert_to_numpy(variable) for variable in _variables(twin)]


def assign(twin: keras.Model, values: Sequence[np.ndarray]) -> None:
    """Put back what ``values_of`` gave."""
    for variable, value in zip(_variables(twin), values, strict=True):
        variable.assign(value)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes the arrays for allow_pickle


def _variables(twin: keras.Model) -> list[keras.Variable]:
    """All that changes in training; where the optimiser is in its schedule is decided anew for each epoch."""
    twin.optimizer.build(twin.trainable_variables)
    return [*twin.variables, *twin.optimizer.kept]
