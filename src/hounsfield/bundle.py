"""The deployable part of a run: a folder with the network, its preprocessing, its labels and its threshold.

    bundle.json     labels, task, threshold, input shape, what the training images were like, versions, checks
    pipeline.json   the preprocessing, with what it learned
    model.keras     the network, float32, loadable with plain Keras on any backend
    model.onnx      the same network for OpenVINO and ONNX Runtime, with the outputs "probabilities" and "features"

Reading a bundle imports no Keras.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hounsfield.errors import BundleError, PreprocessingError, require
from hounsfield.images.image import Image
from hounsfield.onnx_export import write_onnx
from hounsfield.preprocessing import Pipeline
from hounsfield.version import __version__

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
PIPELINE = "pipeline.json"
NETWORK = "model.keras"
ONNX = "model.onnx"

Task = Literal["binary", "multi-class", "multi-label"]


class SourceRange(BaseModel):
    """What the training images were like before preprocessing, so that unlike ones can be told.

    Attributes:
        smallest: the shortest length along each spatial axis, in pixels; ``None`` where not recorded.
        largest: the longest.
        channels: every number of channels that occurred.
        modalities: every DICOM modality that occurred.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: tuple[int, ...] | None = None
    largest: tuple[int, ...] | None = None
    channels: tuple[int, ...] = ()
    modalities: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Iterable[Image]) -> SourceRange:
        """Collect the range of a stream of images of one rank."""
        shapes, channels, modalities = set(), set(), set()
        for image in images:
            shapes.add(image.shape)
            channels.add(image.channels)
            modalities.add(image.modality)
        axes = list(zip(*shapes, strict=True))
        return cls(
            smallest=tuple(map(min, axes)) or None,
            largest=tuple(map(max, axes)) or None,
            channels=tuple(sorted(channels)),
            modalities=tuple(sorted(modality for modality in modalities if modality)),
        )


class _Manifest(BaseModel):
    """The content of ``bundle.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1]
    task: Task
    labels: tuple[str, ...] = Field(min_length=2)
    threshold: float = Field(ge=0, le=1)
    input_shape: tuple[int, ...] = Field(min_length=3, max_length=4)
    modality: str | None
    source_range: SourceRange
    versions: dict[str, str]
    engine_checks: dict[str, Any]
    sizes: dict[str, int]


@dataclass(frozen=True, eq=False)
class Bundle:
    """What is deployed.

    Attributes:
        folder: where it lies.
        pipeline: the preprocessing, fitted.
        labels: the labels in the order of the network's outputs; binary: (negative, positive).
        task: "binary", "multi-class" or "multi-label".
        threshold: a probability above it is a positive; for binary and multi-label tasks.
        input_shape: what the network takes: (rows, columns, channels) or (slices, rows, columns, channels).
        modality: the DICOM modality of the training images, where they had one and the same.
        source_range: what the training images were like before preprocessing.
        versions: of the packages that made it.
        engine_checks: what was found when engines were compared on the validation images.
    """

    folder: Path
    pipeline: Pipeline
    labels: tuple[str, ...]
    task: Task
    threshold: float
    input_shape: tuple[int, ...]
    modality: str | None = None
    source_range: SourceRange = field(default_factory=SourceRange)
    versions: Mapping[str, str] = field(default_factory=dict)
    engine_checks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def onnx(self) -> Path:
        """Where the ONNX form of the network is, if it was made."""
        return self.folder / ONNX

    @property
    def num_outputs(self) -> int:
        """How many probabilities the network gives: one for a binary task, else one a label."""
        return 1 if self.task == "binary" else len(self.labels)

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read the bundle of a run, or a bundle's own folder.

        Raises:
            BundleError: no bundle is there, a file is missing or damaged, or a newer version wrote it.
        """
        folder = _bundle_folder(Path(folder))
        manifest = _read_manifest(folder / MANIFEST)
        _check_files(folder, manifest.sizes)
        try:
            pipeline = Pipeline.from_json(folder / PIPELINE)
        except PreprocessingError as error:
            raise BundleError(f"The preprocessing of the bundle in {folder} cannot be read. {error}") from error
        facts = {
            name: getattr(manifest, name) for name in _Manifest.model_fields if name not in ("format_version", "sizes")
        }
        return cls(folder=folder, pipeline=pipeline, **facts)

    def network(self) -> Any:
        """Load the ``keras.Model``, uncompiled and in float32; needs Keras and a backend.

        Raises:
            MissingDependency: Keras or its backend is not installed.
            BundleError: the file is missing or damaged, or would run code.
        """
        keras = require("keras", "loading the bundle's Keras network")
        path = self.folder / NETWORK
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(
                f"{path} cannot be loaded ({type(error).__name__}: {error}): expected a network that this version of "
                "Keras can read. Copy the bundle again from where it was made, or install the Keras it was made with "
                f"({self.versions.get('keras', 'unknown')})."
            ) from error

    def with_check(self, name: str, outcome: Any) -> Bundle:
        """Record the outcome of an engine check in ``bundle.json``, and return the bundle that knows it."""
        checked = dataclasses.replace(self, engine_checks={**self.engine_checks, name: outcome})
        _write_manifest(checked)
        return checked


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
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise BundleError(
            f"{folder} holds other files and no bundle, so it stays as it is. Give a new or empty folder."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        complete = dataclasses.replace(bundle, folder=Path(temporary) / "new")
        complete.folder.mkdir()
        _in_float32(network).save(complete.folder / NETWORK)
        pipeline.to_json(complete.folder / PIPELINE)
        _write_manifest(complete)
        if folder.exists():
            folder.rename(Path(temporary) / "old")
        complete.folder.rename(folder)
    return bundle


def export_onnx(bundle: Bundle) -> Path:
    """Write the bundle's network as ``model.onnx`` beside it, checked against Keras; see :mod:`hounsfield.onnx_export`.

    Raises:
        BundleError: no road to ONNX works here; prediction then falls back to Keras.
        MissingDependency: Keras, its backend or the package onnx is not installed.
    """
    write_onnx(bundle.network(), bundle.folder / NETWORK, bundle.onnx)
    return bundle.onnx


def _bundle_folder(folder: Path) -> Path:
    for candidate in (folder / "bundle", folder):
        if (candidate / MANIFEST).is_file():
            return candidate
    found = "is a file" if folder.is_file() else "has no bundle" if folder.is_dir() else "does not exist"
    raise BundleError(
        f"{folder} {found}: expected a run folder with bundle/{MANIFEST} in it, or a bundle's own folder. "
        "Give the folder that `hounsfield train` wrote; a training that was stopped early is finished with --resume."
    )


def _read_manifest(path: Path) -> _Manifest:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} is damaged ({error}): expected JSON. Copy the bundle again from where it was made."
        ) from error
    found = values.get("format_version") if isinstance(values, dict) else None
    if isinstance(found, int) and found > FORMAT_VERSION:
        writer = values.get("versions", {}).get("hounsfield", "a newer version")
        raise BundleError(
            f"The bundle in {path.parent} has format {found}, written by Hounsfield {writer}; this is Hounsfield "
            f"{__version__}, which reads formats up to {FORMAT_VERSION}. Upgrade with: pip install --upgrade hounsfield"
        )
    try:
        return _Manifest.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()
        )
        raise BundleError(
            f"{path} is damaged or was edited: {faults}. Copy the bundle again from where it was made."
        ) from error


def _check_files(folder: Path, sizes: Mapping[str, int]) -> None:
    for name, expected in sizes.items():
        path = folder / name
        # A deployment that runs on ONNX alone may leave the Keras network at home.
        if not path.is_file() and not (name == NETWORK and (folder / ONNX).is_file()):
            raise BundleError(
                f"The bundle in {folder} lacks {name}. Copy the whole folder again from where it was made."
            )
        if path.is_file() and path.stat().st_size != expected:
            raise BundleError(
                f"{path} is damaged: it has {path.stat().st_size:,} bytes, and {expected:,} were written. Copy the "
                "bundle again from where it was made."
            )


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
    if bundle.pipeline.needs_fit:
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


def _write_manifest(bundle: Bundle) -> None:
    values = {name: getattr(bundle, name) for name in _Manifest.model_fields if hasattr(bundle, name)}
    names = [name for name in (NETWORK, PIPELINE) if (bundle.folder / name).is_file()]
    sizes = {name: (bundle.folder / name).stat().st_size for name in names}
    manifest = _Manifest(format_version=FORMAT_VERSION, sizes=sizes, **values)
    path = bundle.folder / MANIFEST
    temporary = path.with_name(f".{MANIFEST}.{os.getpid()}.part")
    try:
        temporary.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
