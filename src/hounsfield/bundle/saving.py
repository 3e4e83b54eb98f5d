"""A bundle is written as a whole, from a network that Keras holds."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hounsfield.bundle.bundle import Bundle, write_manifest
from hounsfield.bundle.manifest import (
    MANIFEST,
    NETWORK,
    PIPELINE,
    SourceRange,
)
from hounsfield.errors import BundleError, require
from hounsfield.onnx_export import write_onnx, write_parts
from hounsfield.preprocessing import Pipeline
from hounsfield.tasks import Task
from hounsfield.version import __version__


def save_bundle(
    folder: str | Path,
    network: Any,
    *,
    pipeline: Pipeline,
    labels: tuple[str, ...],
    task: Task,
    threshold: float = 0.5,
    modality: str | None = None,
    source_range: SourceRange | None = None,
) -> Bundle:
    """Write a bundle under a temporary name and move it into place; one that was there is replaced as a whole.

    Args:
        folder: of the bundle, made if need be.
        network: a functional ``keras.Model`` with layers "features" and "probabilities"; saved in float32 and
            without its optimizer.
        pipeline: fitted preprocessing that gives the network's input.
        labels: in the order of the outputs.
        task: "binary", "multi-class" or "multi-label".
        threshold: the operating threshold.
        modality: DICOM modality of the training images, where they had one.
        source_range: what the training images were like.

    Raises:
        BundleError: network, labels and task do not fit each other, the pipeline was never fitted, or the folder
            holds something else.
    """
    folder = Path(folder)
    shape = tuple(network.input_shape[1:])
    bundle = Bundle(
        folder=folder,
        pipeline=pipeline,
        labels=tuple(labels),
        task=task,
        threshold=threshold,
        input_shape=shape,
        modality=modality,
        source_range=source_range or SourceRange(),
        versions=_versions(),
    )
    _check_parts(bundle, network)
    _write(bundle, _in_float32(network))
    return bundle


def save_detector(
    folder: str | Path,
    network: Any,
    *,
    pipeline: Pipeline,
    labels: tuple[str, ...],
    window_overlap: float,
    threshold: float = 0.5,
    modality: str | None = None,
    source_range: SourceRange | None = None,
) -> Bundle:
    """Write the bundle of a detector, in the way of :func:`save_bundle`.

    Args:
        folder: of the bundle, made if need be.
        network: a ``FasterRCNN`` in float32.
        pipeline: fitted; brings images of any size to the scale on which the network was trained.
        labels: in the order of the network's classes.
        window_overlap: share of a window that neighbours share in images larger than the network's input.
        threshold: the score from which a finding is said.
        modality: DICOM modality of the training images, where they had one.
        source_range: what the training images were like.

    Raises:
        BundleError: network and labels do not fit each other, the pipeline was never fitted, or the folder holds
            something else.
    """
    settings = network.settings
    bundle = Bundle(
        folder=Path(folder),
        pipeline=pipeline,
        labels=tuple(labels),
        task="detection",
        threshold=threshold,
        input_shape=tuple(settings.input_shape),
        modality=modality,
        source_range=source_range or SourceRange(),
        versions=_versions(),
        detector=settings.to_dict() | {"strides": list(network.strides), "window_overlap": window_overlap},
    )
    if settings.num_labels != len(labels):
        raise BundleError(
            f"The network tells {settings.num_labels} kinds of objects, and {len(labels)} labels were given: "
            f"{', '.join(labels)}. Give the labels that it was trained on."
        )
    _check_fitted(pipeline)
    _write(bundle, network)
    return bundle


def _write(bundle: Bundle, network: Any) -> None:
    """Write under a temporary name, and move it into place as a whole."""
    folder = bundle.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise BundleError(
            f"{folder} holds other files and no bundle, so it stays as it is. Give a new or empty folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        complete = dataclasses.replace(bundle, folder=Path(temporary) / "new")
        complete.folder.mkdir()
        network.save(complete.folder / NETWORK)
        bundle.pipeline.to_json(complete.folder / PIPELINE)
        write_manifest(complete)
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        complete.folder.rename(folder)


def export_onnx(bundle: Bundle) -> Path:
    """Write the bundle's network as ``model.onnx`` beside it, checked against Keras; see :mod:`hounsfield.onnx_export`.

    A detector has two files, ``trunk.onnx`` and ``head.onnx``.

    Returns:
        The file, of a detector that of the trunk.

    Raises:
        BundleError: no road to ONNX works here; prediction then falls back to Keras.
        MissingDependency: Keras, its backend or the package onnx is not installed.
    """
    network = bundle.network()
    if bundle.task == "detection":
        trunk, head = bundle.onnx_parts
        write_parts([(network.trunk, trunk), (network.head, head)])
        return trunk
    write_onnx(network, bundle.folder / NETWORK, bundle.onnx)
    return bundle.onnx


def _check_parts(bundle: Bundle, network: Any) -> None:
    outputs = network.output_shape[-1]
    names = {layer.name for layer in network.layers}
    if not {"features", "probabilities"} <= names:
        raise BundleError(
            "The network has no layers 'features' and 'probabilities'. Build it with hounsfield.models.build, or name "
            "its pooled vector and its last layer so."
        )
    if outputs != bundle.num_outputs or (bundle.task == "binary" and len(bundle.labels) != 2):
        raise BundleError(
            f"The network gives {outputs} probabilities, and the task is {bundle.task} with the labels "
            f"{', '.join(bundle.labels)}: expected {bundle.num_outputs} (binary: 1 for "
            "2 labels). Give the labels that it was trained on."
        )
    _check_fitted(bundle.pipeline)


def _check_fitted(pipeline: Pipeline) -> None:
    if pipeline.needs_fit:
        raise BundleError(
            "The pipeline has a step that was never fitted. Fit it on the training images first: pipeline.fit(images)."
        )


def _in_float32(network: Any) -> Any:
    """The same network uncompiled, every layer computing in float32."""
    keras = require("keras", "saving a network")
    plain = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    if all(layer.compute_dtype == "float32" for layer in network._flatten_layers(include_self=False)):
        return plain
    copy = keras.Model.from_config(_with_float32(plain.get_config()))
    copy.set_weights(network.get_weights())
    return copy


def _with_float32(config: Any) -> Any:
    """A layer's configuration in which every dtype policy is float32, also in nested networks."""
    if isinstance(config, dict):
        return {key: "float32" if key == "dtype" else _with_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_with_float32(value) for value in config)
    return config


def _versions() -> dict[str, str]:
    keras = require("keras", "saving a network")
    backend = keras.backend.backend()
    found = {
        "hounsfield": __version__,
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": backend,
    }
    try:
        found[backend] = version(backend)
    except PackageNotFoundError:
        # TensorFlow has several distributions of one import name.
        found[backend] = str(require(backend, "saving a network").__version__)
    return found
