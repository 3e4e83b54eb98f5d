"""The network of a bundle for other runtimes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hounsfield.atomic import replacing
from hounsfield.bundle import Bundle, export_onnx
from hounsfield.errors import BundleError, UsageError, require
from hounsfield.openvino_runtime import openvino_runtime


def export_bundle(bundle: Bundle, to: str, output: Path | None = None) -> Path:
    """Write the network for another runtime.

    A detector has two networks, trunk and head, and is written into a folder; what lies between them is
    :class:`hounsfield.inference.two_stage.TwoStage`, which a runtime has to do by itself.

    Args:
        bundle: a loaded bundle.
        to: "onnx" (one file), "openvino" (an .xml file with its .bin beside) or "saved_model" (a folder).
        output: the file or folder to be written; ``None``: inside the bundle.

    Returns:
        What was written.

    Raises:
        UsageError: no such runtime, or a suffix that its files do not have.
        BundleError: the network cannot be exported here.
        MissingDependency: a package for it is not installed.
    """
    if to not in EXPORTS:
        raise UsageError(f"'{to}' is no runtime that can be exported to: expected one of {', '.join(EXPORTS)}.")
    suffix, export = EXPORTS[to]
    if bundle.task == "detection":
        return _export_detector(bundle, to, output)
    path = output or bundle.folder / f"model{suffix or '_saved_model'}"
    if suffix and path.suffix != suffix:
        raise UsageError(f"The output '{path}' must end in '{suffix}' for {to}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    export(bundle, path)
    return path


def _export_detector(bundle: Bundle, to: str, output: Path | None) -> Path:
    """Both networks into a folder, by default the bundle's own."""
    folder = output or bundle.folder
    if folder.suffix in FILE_SUFFIXES or folder.is_file():
        raise UsageError(
            f"The output '{folder}' is one file, and a detector has two networks, trunk and head. Give a folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    PART_EXPORTS[to](bundle, folder)
    return folder


def _parts_to_onnx(bundle: Bundle, folder: Path) -> None:
    paths = bundle.onnx_parts
    if folder == bundle.folder or not all(path.is_file() for path in paths):
        export_onnx(bundle)
    if folder != bundle.folder:
        for path in paths:
            _copy(path, folder / path.name)


def _parts_to_openvino(bundle: Bundle, folder: Path) -> None:
    openvino_runtime("exporting to OpenVINO")
    paths = bundle.onnx_parts
    if not all(path.is_file() for path in paths):
        export_onnx(bundle)
    for path in paths:
        _save_openvino(path, folder / f"{path.stem}.xml")


def _parts_to_saved_model(bundle: Bundle, folder: Path) -> None:
    _require_tensorflow()
    network = bundle.network()
    for name, part in (("trunk", network.trunk), ("head", network.head)):
        _save_saved_model(part, folder / f"{name}_saved_model")


def _to_onnx(bundle: Bundle, path: Path) -> None:
    if path == bundle.onnx or not bundle.onnx.is_file():
        export_onnx(bundle)
    if path != bundle.onnx:
        _copy(bundle.onnx, path)


def _copy(source: Path, path: Path) -> None:
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def _to_openvino(bundle: Bundle, path: Path) -> None:
    # Asked for first: without it nothing is to be written.
    openvino_runtime("exporting to OpenVINO")
    if not bundle.onnx.is_file():
        export_onnx(bundle)
    _save_openvino(bundle.onnx, path)


def _save_openvino(source: Path, path: Path) -> None:
    openvino = openvino_runtime("exporting to OpenVINO")
    network = openvino.Core().read_model(source)
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(network, written, compress_to_fp16=False)
        # The weights first: the .xml is what a runtime opens.
        written.with_suffix(".bin").replace(path.with_suffix(".bin"))
        written.replace(path)


def _to_saved_model(bundle: Bundle, path: Path) -> None:
    _require_tensorflow()
    _save_saved_model(bundle.network(), path)


def _require_tensorflow() -> None:
    backend = require("keras", "exporting to SavedModel").backend.backend()
    if backend != "tensorflow":
        raise BundleError(
            f"A SavedModel is made by TensorFlow, and Keras runs on {backend}. Run the command again with the "
            "environment variable KERAS_BACKEND=tensorflow; the bundle's network fits every backend."
        )


def _save_saved_model(network: Any, path: Path) -> None:
    if path.exists():
        raise BundleError(f"{path} exists already, and a SavedModel is a whole folder. Remove it, or choose another.")
    with tempfile.TemporaryDirectory(prefix=".saved-model-", dir=path.parent) as folder:
        network.export(str(Path(folder) / "new"), format="tf_saved_model", verbose=False)
        (Path(folder) / "new").rename(path)


# Runtime -> the suffix of its file ("" for a folder), and what writes it.
EXPORTS: dict[str, tuple[str, Callable[[Bundle, Path], None]]] = {
    "onnx": (".onnx", _to_onnx),
    "openvino": (".xml", _to_openvino),
    "saved_model": ("", _to_saved_model),
}
FILE_SUFFIXES = {suffix for suffix, _ in EXPORTS.values() if suffix}
# The same for a detector, into a folder.
PART_EXPORTS: dict[str, Callable[[Bundle, Path], None]] = {
    "onnx": _parts_to_onnx,
    "openvino": _parts_to_openvino,
    "saved_model": _parts_to_saved_model,
}
