"""What is deployed, as it is read and kept up to date."""

from __future__ import annotations

import dataclasses
import importlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import replacing, write_text
from hounsfield.bundle.manifest import (
    FORMAT_VERSION,
    HEAD,
    MANIFEST,
    NETWORK,
    OLD_UNCERTAINTY,
    ONNX,
    PIPELINE,
    TRUNK,
    UNCERTAINTY,
    Manifest,
    SourceRange,
    check_files,
    read_manifest,
)
from hounsfield.errors import BundleError, EvaluationError, PreprocessingError, require
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.evaluation.scaling import Scaling, Unscaled, scaling_from_dict, scaling_to_dict
from hounsfield.evaluation.uncertainty import Uncertainty
from hounsfield.preprocessing import Pipeline
from hounsfield.tasks import LabelTask, Task, num_outputs

Kept = TypeVar("Kept", Uncertainty, DetectionUncertainty)


@dataclass(frozen=True, eq=False)
class Bundle:
    """What is deployed.

    Attributes:
        folder: where it lies.
        pipeline: the preprocessing, fitted.
        labels: the labels in the order of the network's outputs; binary: (negative, positive).
        task: "binary", "multi-class", "multi-label" or "detection".
        threshold: a calibrated probability above it is a positive, for binary and multi-label tasks; in detection the
            score from which a finding is said.
        scaling: what makes calibrated probabilities of the network's own.
        calibration: how the scaling was chosen, and what it changed.
        input_shape: what the network takes: (rows, columns, channels) or (slices, rows, columns, channels).
        modality: the DICOM modality of the training images, where they had one and the same.
        source_range: what the training images were like before preprocessing.
        versions: of the packages that made it.
        engine_checks: what was found when engines were compared on the validation images.
        detector: of a detector, the fields of its ``DetectorSettings``, the ``strides`` of its levels and
            ``window_overlap``, the share of a window that neighbours share in images larger than the network's input.
    """

    folder: Path
    pipeline: Pipeline
    labels: tuple[str, ...]
    task: Task
    threshold: float
    input_shape: tuple[int, ...]
    modality: str | None = None
    source_range: SourceRange = field(default_factory=SourceRange)
    scaling: Scaling = field(default_factory=Unscaled)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    engine_checks: Mapping[str, Any] = field(default_factory=dict)
    detector: Mapping[str, Any] | None = None

    @property
    def onnx(self) -> Path:
        """Where the ONNX form of the network is, if it was made."""
        return self.folder / ONNX

    @property
    def onnx_parts(self) -> tuple[Path, Path]:
        """Where the ONNX forms of a detector's trunk and head are, if they were made."""
        return self.folder / TRUNK, self.folder / HEAD

    @property
    def classifier_task(self) -> LabelTask:
        """The task, of a bundle that labels whole images.

        Raises:
            BundleError: this is a detector.
        """
        if self.task == "detection":
            raise BundleError(
                f"The bundle in {self.folder} is a detector: it finds boxes. Expected a classifier, which gives each "
                "image probabilities of labels. Use hounsfield predict, evaluate and report on a detector."
            )
        return self.task

    @property
    def num_outputs(self) -> int:
        """How many probabilities the network gives: one for a binary task, else one a label."""
        return num_outputs(len(self.labels), self.task)

    @cached_property
    def uncertainty(self) -> Uncertainty | None:
        """What is known of validation images; ``None`` where nothing was kept, and of a detector.

        Raises:
            BundleError: the file is damaged.
        """
        return None if self.task == "detection" else self._read_uncertainty(Uncertainty)

    @cached_property
    def counting(self) -> DetectionUncertainty | None:
        """What is known of a detector's counts in validation images; ``None`` where nothing was kept.

        Raises:
            BundleError: the file is damaged.
        """
        return self._read_uncertainty(DetectionUncertainty) if self.task == "detection" else None

    def _read_uncertainty(self, kind: type[Kept]) -> Kept | None:
        names = [name for name in (UNCERTAINTY, OLD_UNCERTAINTY) if (self.folder / name).is_file()]
        if not names:
            return None
        path = self.folder / names[0]
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return kind.from_arrays(dict(arrays))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BundleError(f"{path} is damaged ({error}). Copy the bundle again from where it was made.") from error

    def calibrated(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The probabilities that are predicted, from the network's own: (n, 1) or (n, labels)."""
        return self.scaling.apply(probabilities, self.classifier_task)

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read the bundle of a run, or a bundle's own folder.

        Raises:
            BundleError: no bundle is there, a file is missing or damaged, or a newer version wrote it.
        """
        folder = _bundle_folder(Path(folder))
        manifest = read_manifest(folder / MANIFEST)
        check_files(folder, manifest.sizes)
        try:
            pipeline = Pipeline.from_json(folder / PIPELINE)
        except PreprocessingError as error:
            raise BundleError(f"The preprocessing of the bundle in {folder} cannot be read. {error}") from error
        try:
            scaling = scaling_from_dict(manifest.scaling)
        except EvaluationError as error:
            raise BundleError(f"{folder / MANIFEST} is damaged or was edited. {error}") from error
        apart = ("format_version", "sizes", "scaling")
        facts = {name: getattr(manifest, name) for name in Manifest.model_fields if name not in apart}
        return cls(folder=folder, pipeline=pipeline, scaling=scaling, **facts)

    def network(self) -> Any:
        """Load the ``keras.Model``, uncompiled and in float32; needs Keras and a backend.

        Raises:
            MissingDependency: Keras or its backend is not installed.
            BundleError: the file is missing or damaged, or would run code.
        """
        keras = require("keras", "loading the bundle's Keras network")
        if self.task == "detection":
            # Keras knows the class by its name once this is imported.
            importlib.import_module("hounsfield.detection")
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
        write_manifest(checked)
        return checked

    def with_uncertainty(
        self,
        uncertainty: Uncertainty,
        *,
        scaling: Scaling,
        threshold: float,
        calibration: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Record what validation images taught, and return the bundle that knows it.

        Args:
            uncertainty: written as ``uncertainty.npz``.
            scaling: of the network's own probabilities.
            threshold: of the calibrated ones.
            calibration: how the scaling was chosen, as plain values.
        """
        self._write_uncertainty(uncertainty)
        known = dataclasses.replace(self, scaling=scaling, threshold=threshold, calibration=dict(calibration or {}))
        write_manifest(known)
        return known

    def with_counting(self, uncertainty: DetectionUncertainty, *, threshold: float) -> Bundle:
        """Record what validation images taught of a detector, and the score from which a finding is said."""
        self._write_uncertainty(uncertainty)
        known = dataclasses.replace(self, threshold=threshold)
        write_manifest(known)
        return known

    def _write_uncertainty(self, uncertainty: Uncertainty | DetectionUncertainty) -> None:
        with replacing(self.folder / UNCERTAINTY) as temporary, temporary.open("wb") as file:
            np.savez(file, **uncertainty.to_arrays())  # type: ignore[arg-type]  # the stub takes them for allow_pickle


def _bundle_folder(folder: Path) -> Path:
    for candidate in (folder / "bundle", folder):
        if (candidate / MANIFEST).is_file():
            return candidate
    found = "is a file" if folder.is_file() else "has no bundle" if folder.is_dir() else "does not exist"
    raise BundleError(
        f"{folder} {found}: expected a run folder with bundle/{MANIFEST} in it, or a bundle's own folder. "
        "Give the folder that `hounsfield train` wrote; a training that was stopped early is finished with --resume."
    )


def write_manifest(bundle: Bundle) -> None:
    """Write ``bundle.json`` with the sizes of the files that lie beside it; never half a file."""
    values = {name: getattr(bundle, name) for name in Manifest.model_fields if hasattr(bundle, name)}
    values["scaling"] = scaling_to_dict(bundle.scaling)
    names = [name for name in (NETWORK, PIPELINE, UNCERTAINTY, OLD_UNCERTAINTY) if (bundle.folder / name).is_file()]
    sizes = {name: (bundle.folder / name).stat().st_size for name in names}
    manifest = Manifest(format_version=FORMAT_VERSION, sizes=sizes, **values)
    write_text(bundle.folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
