"""A bundle is written as a whole, from a network that Keras holds."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hounsfield.atomic import replacing_folder
from hounsfield.bundle.bundle import Bundle, rewriting, write_manifest
from hounsfield.bundle.keras_writing import write_keras
from hounsfield.bundle.known_answer import write_known_answer
from hounsfield.bundle.manifest import (
    KNOWN_ANSWER,
    MANIFEST,
    NETWORK,
    PIPELINE,
    SourceRange,
)
from hounsfield.bundle.table import FORMS
from hounsfield.errors import BundleError, require
from hounsfield.onnx_export.writing import write_onnx
from hounsfield.preprocessing import Pipeline
from hounsfield.tasks import Task, Threshold, family_of
from hounsfield.version import __version__


def save_bundle(
    folder: str | Path,
    network: Any,
    *,
    pipeline: Pipeline,
    labels: tuple[str, ...],
    task: Task,
    threshold: Threshold = 0.5,
    source_range: SourceRange | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle under a temporary name and move it into place; one that was there is replaced as a whole.

    Args:
        folder: of the bundle, made if need be.
        network: of a classifier a functional ``keras.Model`` with layers "features" and "probabilities"; for
            detection a ``FasterRCNN``. Saved in float32 and without its optimizer.
        pipeline: fitted preprocessing that gives the network's input; of a detector it brings images of any size to
            the scale on which the network was trained.
        labels: in the order of the outputs.
        task: one of ``hounsfield.tasks.TASKS``.
        threshold: the operating threshold.
        source_range: what the training images were like.
        settings: what prediction has to know and the network does not; of a detector ``window_overlap``.

    Raises:
        BundleError: network, labels and task do not fit each other, the pipeline was never fitted, or the folder
            holds something else.
    """
    form = FORMS[family_of(task)]
    form.check(network, labels, task)
    if pipeline.needs_fit:
        raise BundleError(
            "The pipeline has a step that was never fitted. Fit it on the training images first: pipeline.fit(images)."
        )
    shape, known = form.settings(network, settings or {})
    modalities = source_range.modalities if source_range else ()
    bundle = Bundle(
        folder=Path(folder),
        pipeline=pipeline,
        labels=tuple(labels),
        task=task,
        threshold=threshold,
        input_shape=shape,
        modality=modalities[0] if len(modalities) == 1 else None,
        source_range=source_range or SourceRange(),
        versions=_versions(),
        settings=known,
    )
    _write(bundle, form.deployed(network))
    return bundle


def _write(bundle: Bundle, network: Any) -> None:
    """Write under a temporary name, and move it into place as a whole."""
    folder = bundle.folder
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise BundleError(
            f"{folder} holds other files and no bundle, so it stays as it is. Give a new or empty folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(folder) as new:
        write_keras(network, new / NETWORK)
        bundle.pipeline.to_json(new / PIPELINE)
        write_manifest(dataclasses.replace(bundle, folder=new))


def export_onnx(bundle: Bundle) -> Path:
    """Write the bundle's networks as ONNX into it, checked against Keras; see :mod:`hounsfield.onnx_export`.

    What they give for a few inputs is kept as the known answer. The folder is replaced as a whole.

    Returns:
        The first of the files.

    Raises:
        BundleError: a layer is not known to the converter; prediction then falls back to Keras.
        MissingDependency: Keras, its backend or the package onnx is not installed.
    """
    parts = bundle.form.ends(bundle.network())
    names = [part.file for part in bundle.parts]
    with rewriting(bundle.folder, *names, KNOWN_ANSWER) as new:
        answers = write_onnx([(network, ends, new / name) for (network, ends), name in zip(parts, names, strict=True)])
        write_known_answer(new, answers)
        write_manifest(dataclasses.replace(bundle, folder=new), *names, KNOWN_ANSWER)
    return bundle.onnx_files[0]


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
