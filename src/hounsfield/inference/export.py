"""The networks of a bundle for other runtimes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hounsfield.atomic import flush, flush_folder, flush_tree, replacing, scratch_folder
from hounsfield.bundle import Bundle, export_onnx
from hounsfield.errors import BundleError, UsageError, require
from hounsfield.openvino_runtime import openvino_runtime


def export_bundle(bundle: Bundle, to: str, output: Path | None = None) -> Path:
    """Write the networks for another runtime.

    A bundle of several networks, such as the trunk and the head of a detector, is written into a folder. What lies
    between those two is :class:`hounsfield.inference.two_stage.TwoStage`, which a runtime has to do by itself.

    Args:
        bundle: a loaded bundle.
        to: "onnx" (a file per network), "openvino" (an .xml file with its .bin beside) or "saved_model" (a folder).
        output: the file or folder to be written; ``None``: inside the bundle.

    Returns:
        What was written.

    Raises:
        UsageError: no such runtime, or a suffix that its files do not have.
        BundleError: the network cannot be exported here.
        MissingDependency: a package for it is not installed.
    """
    suffix, export = _exporter(to)
    stems = [Path(part.file).stem for part in bundle.parts]
    paths = [bundle.folder / f"{stem}{suffix or '_saved_model'}" for stem in stems]
    if len(stems) > 1:
        folder = output or bundle.folder
        if folder.suffix in FILE_SUFFIXES or folder.is_file():
            raise UsageError(
                f"The output '{folder}' is one file, and the bundle has {len(stems)} networks, {' and '.join(stems)}. "
                "Give a folder."
            )
        paths, written = [folder / path.name for path in paths], folder
    else:
        paths = [output or paths[0]]
        written = paths[0]
        if suffix and written.suffix != suffix:
            raise UsageError(f"The output '{written}' must end in '{suffix}' for {to}.")
    export(bundle, paths)
    return written


def needs_keras(bundle: Bundle, to: str, output: Path | None = None) -> bool:
    """Whether the network itself is read to be exported: the ONNX files of a bundle serve all but SavedModel.

    Raises:
        UsageError: no such runtime.
    """
    _exporter(to)
    return to == "saved_model" or not bundle.has_onnx or (to == "onnx" and output is None)


def _exporter(to: str) -> tuple[str, Callable[[Bundle, list[Path]], None]]:
    if to not in EXPORTS:
        raise UsageError(f"Networks cannot be exported to '{to}': expected one of {', '.join(EXPORTS)}.")
    return EXPORTS[to]


def _to_onnx(bundle: Bundle, paths: list[Path]) -> None:
    sources = bundle.onnx_files
    if paths[0] == sources[0] or not bundle.has_onnx:
        export_onnx(bundle)
    for source, path in zip(sources, paths, strict=True):
        if path != source:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                shutil.copyfile(source, temporary)


def _to_openvino(bundle: Bundle, paths: list[Path]) -> None:
    # Asked for first: without it nothing is to be written.
    openvino = openvino_runtime("exporting to OpenVINO")
    if not bundle.has_onnx:
        export_onnx(bundle)
    for source, path in zip(bundle.onnx_files, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        network = openvino.Core().read_model(source)
        with scratch_folder(path) as folder:
            written = folder / path.name
            openvino.save_model(network, written, compress_to_fp16=False)
            # The weights first: the .xml is what a runtime opens.
            for suffix in (".bin", path.suffix):
                flush(written.with_suffix(suffix))
                written.with_suffix(suffix).replace(path.with_suffix(suffix))
            flush_folder(path.parent)


def _to_saved_model(bundle: Bundle, paths: list[Path]) -> None:
    backend = require("keras", "exporting to SavedModel").backend.backend()
    if backend != "tensorflow":
        raise BundleError(
            f"A SavedModel is made by TensorFlow, and Keras runs on {backend}. Run the command again with the "
            "environment variable KERAS_BACKEND=tensorflow; the bundle's network fits every backend."
        )
    for path in paths:
        if path.exists():
            raise BundleError(
                f"{path} exists already, and a SavedModel is a whole folder. Remove it, or choose another."
            )
    network = bundle.network()
    parts = [network] if len(paths) == 1 else [part for part, _ in bundle.form.ends(network)]
    for part, path in zip(parts, paths, strict=True):
        _save_saved_model(part, path)


def _save_saved_model(network: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path) as folder:
        network.export(str(folder / "new"), format="tf_saved_model", verbose=False)
        flush_tree(folder)
        (folder / "new").rename(path)
        flush_folder(path.parent)


# Runtime -> the suffix of its files ("" for folders), and what writes them.
EXPORTS: dict[str, tuple[str, Callable[[Bundle, list[Path]], None]]] = {
    "onnx": (".onnx", _to_onnx),
    "openvino": (".xml", _to_openvino),
    "saved_model": ("", _to_saved_model),
}
FILE_SUFFIXES = {suffix for suffix, _ in EXPORTS.values() if suffix}
