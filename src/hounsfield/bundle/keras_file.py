"""What ``model.keras`` would load, read from its configuration before Keras opens it."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hounsfield.errors import BundleError
from hounsfield.textfiles import parse_json, require_regular

MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
MAX_CONFIG = 2**26
# Unpacked over packed: weights hardly get smaller.
MAX_RATIO = 20
# Where the classes of a network may come from: Keras would import any module.
PACKAGES = frozenset({"keras", "builtins", "hounsfield"})
UTILITIES = frozenset({"utils", "saving", "ops", "backend", "config", "datasets", "callbacks", "export"})
# Operations that only compute, such as those that mirror the input of an ensemble; others of keras.ops run code.
OPERATIONS = frozenset(f"keras.src.ops.{module}" for module in ("numpy", "nn", "math"))
# Of functions those that Keras itself looks up as activations, losses and the like; all else would be called too.
FUNCTIONS = frozenset({"builtins", "keras.activations"})
# Values that are no classes.
VALUES = frozenset({"__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__"})
# Layers that run code or read files.
FORBIDDEN = frozenset(
    {
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup"),
        *("IntegerLookup", "TextVectorization", "Discretization", "HashedCrossing", "Hashing"),
    }
)
# Numbers of a layer, such as its filters: more of them would take all memory before any weight is read.
MAX_NUMBER = 2**14
SIZES = ("units", "filters", "kernel_size", "pool_size", "input_dim", "output_dim", "size", "padding", "num_heads")


def require_plain_network(path: Path) -> None:
    """Refuse a file whose network would run code, read other files, or take all memory.

    Raises:
        BundleError: it would, or is no Keras file.
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            config = parse_json(archive.read("config.json"))
        require_known_classes(config)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(
            f"{path} cannot be loaded ({error}): expected the layers of a network and their weights. Copy the bundle "
            "again from where it was made."
        ) from error


def require_known_classes(config: Any, further: Callable[[str, str], bool] = lambda _name, _module: False) -> None:
    """Refuse a configuration that names classes which may do more than compute, or layers that would take all memory.

    Args:
        config: as Keras writes it.
        further: of the name and the module of a class, whether it is allowed beside those of Keras and of this package.

    Raises:
        ValueError: it does.
    """
    for each in _dictionaries(config):
        _check_class(each, further)


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    names = [member.filename for member in archive.infolist()]
    if unknown := sorted(set(names) - MEMBERS):
        raise ValueError(f"it holds {unknown[0]:.80}")
    if len(set(names)) < len(names):
        raise ValueError("it holds a name twice")
    if archive.getinfo("config.json").file_size > MAX_CONFIG or sum(
        member.file_size for member in archive.infolist()
    ) > MAX_RATIO * max(size, 2**16):
        raise ValueError("it unpacks to more than any network has")


def _check_class(values: dict[str, Any], further: Callable[[str, str], bool]) -> None:
    name, module = values.get("class_name"), str(values.get("module") or "keras")
    if isinstance(name, str) and (name in FORBIDDEN or not (_computes(name, module) or further(name, module))):
        raise ValueError(f"it holds {name:.80} of the module {module:.80}")
    for field in SIZES:
        numbers = values.get(field)
        for number in numbers if isinstance(numbers, list) else [numbers]:
            if isinstance(number, int) and number > MAX_NUMBER:
                raise ValueError(f"a layer has the {field} {number:,}, and at most {MAX_NUMBER:,} are loaded")


def _computes(name: str, module: str) -> bool:
    """Whether a class comes from where layers and operations do."""
    if name in VALUES:
        return True
    if name == "function":
        return module in FUNCTIONS
    # Keras joins both with a point ("layers.Lambda" of "keras"), and would take a function where it expects a class.
    if not (name.isidentifier() and name[0].isupper()) or module.startswith("keras.applications"):
        return False
    parts = module.split(".")
    return module in OPERATIONS or (parts[0] in PACKAGES and (parts[0] != "keras" or UTILITIES.isdisjoint(parts)))


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
