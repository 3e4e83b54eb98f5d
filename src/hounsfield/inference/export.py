"""The network of a bundle for other runtimes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hounsfield.bundle import Bundle, export_onnx
from hounsfield.errors import BundleError, UsageError, require
from hounsfield.openvino_runtime import openvino_runtime


def export_bundle(bundle: Bundle, to: str, output: Path | None = None) -> Path:
    """Write the network for another runtime.

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
    path = output or bundle.folder / f"model{suffix or '_saved_model'}"
    if suffix and path.suffix != suffix:
        raise UsageError(f"The output '{path}' must end in '{suffix}' for {to}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    export(bundle, path)
    return path


def _to_onnx(bundle: Bundle, path: Path) -> None:
    if path == bundle.onnx or not bundle.onnx.is_file():
        export_onnx(bundle)
    if path != bundle.onnx:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        shutil.copyfile(bundle.onnx, temporary)
        temporary.replace(path)


def _to_openvino(bundle: Bundle, path: Path) -> None:
    openvino = openvino_runtime("exporting to OpenVINO")
    if not bundle.onnx.is_file():
        export_onnx(bundle)
    network = openvino.Core().read_model(bundle.onnx)
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=path.parent) as folder:
        written = Path(folder) / path.name
        openvino.save_model(network, written, compress_to_fp16=False)
        # The weights first: the .xml is what a runtime opens.
        written.with_suffix(".bin").replace(path.with_suffix(".bin"))
        written.replace(path)


def _to_saved_model(bundle: Bundle, path: Path) -> None:
    keras = require("keras", "exporting to SavedModel")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise BundleError(
            f"A SavedModel is made by TensorFlow, and Keras runs on {backend}. Run the command again with the "
            "environment variable KERAS_BACKEND=tensorflow; the bundle's network fits every backend."
        )
    if path.exists():
        raise BundleError(f"{path} exists already, and a SavedModel is a whole folder. Remove it, or choose another.")
    with tempfile.TemporaryDirectory(prefix=".saved-model-", dir=path.parent) as folder:
        bundle.network().export(str(Path(folder) / "new"), format="tf_saved_model", verbose=False)
        (Path(folder) / "new").rename(path)


# Runtime -> the suffix of its file ("" for a folder), and what writes it.
EXPORTS: dict[str, tuple[str, Callable[[Bundle, Path], None]]] = {
    "onnx": (".onnx", _to_onnx),
    "openvino": (".xml", _to_openvino),
    "saved_model": ("", _to_saved_model),
}
