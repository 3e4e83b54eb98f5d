"""``model.keras``, written so that one network gives the same bytes whenever it is saved.

Keras itself writes the time, the addresses of objects in memory, and names of layers that count what its process has
built before. A training that is continued after a death builds less, so that its file would differ from that of one
that ran through. What Keras reads is the same: the configuration, and the weights by their place in the network.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hounsfield.errors import require

ABOUT, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
# The earliest time that an archive can hold.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def write_keras(network: Any, path: Path) -> None:
    """Write a ``keras.Model`` that is not compiled as a Keras file into a folder of its own."""
    keras = require("keras", "saving a network")
    weights = path.with_name(WEIGHTS)
    with _numbered_anew(network):
        # Not in Keras' scope for shared objects, which are named by their addresses. Layers are shared all the same.
        config = keras.saving.serialize_keras_object(network)
        network.save_weights(weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT, NO_TIME), json.dumps({"keras_version": keras.__version__}))
        archive.writestr(zipfile.ZipInfo(CONFIG, NO_TIME), json.dumps(config))
        target = archive.open(zipfile.ZipInfo(WEIGHTS, NO_TIME), "w", force_zip64=True)
        with weights.open("rb") as source, target:
            shutil.copyfileobj(source, target, 2**20)
    weights.unlink()


@contextmanager
def _numbered_anew(network: Any) -> Iterator[None]:
    """Let the names that Keras made up count from the first layer of this network, in the order of its layers."""
    operations = list(_operations(network))
    before = [operation.name for operation in operations]
    taken = {name for name, operation in zip(before, operations, strict=True) if not _is_made_up(name, operation)}
    try:
        for operation in operations:
            if _is_made_up(operation.name, operation):
                operation.name = _free_name(_kind(operation), taken)
                taken.add(operation.name)
        yield
    finally:
        for name, operation in zip(before, operations, strict=True):
            operation.name = name


def _operations(network: Any) -> Iterator[Any]:
    """The network, its layers and what is no layer in it, such as a function of keras.ops; also in nested networks."""
    seen: set[int] = set()
    for layer in network._flatten_layers():
        for operation in (layer, *getattr(layer, "operations", ())):
            if id(operation) not in seen:
                seen.add(id(operation))
                yield operation


def _is_made_up(name: str, operation: Any) -> bool:
    return re.fullmatch(rf"{_kind(operation)}(_\d+)?", name) is not None


def _kind(operation: Any) -> str:
    """A class in Keras' snake case, as it begins the names that it makes up: Conv2D, "conv2d"."""
    name = re.sub(r"\W+", "", type(operation).__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)).lower()


def _free_name(kind: str, taken: set[str]) -> str:
    names = (kind if number == 0 else f"{kind}_{number}" for number in range(len(taken) + 1))
    return next(name for name in names if name not in taken)
