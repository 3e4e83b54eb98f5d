"""What is deployed, as it is read and kept up to date."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import is_temporary, replacing_folder, write_text
from hounsfield.bundle.base import Form, Kept, Part
from hounsfield.bundle.keras_file import require_plain_network
from hounsfield.bundle.manifest import (
    COPY_AGAIN,
    FORMAT_VERSION,
    MANIFEST,
    NETWORK,
    OLD_UNCERTAINTY,
    PIPELINE,
    QUALITY,
    READ,
    SIGNATURE,
    UNCERTAINTY,
    Manifest,
    SourceRange,
    file_faults,
    may_be_absent,
    read_manifest,
)
from hounsfield.bundle.table import FORMS
from hounsfield.containers import read_arrays
from hounsfield.errors import BundleError, EvaluationError, PreprocessingError, require
from hounsfield.evaluation.novelty import Novelty
from hounsfield.evaluation.scaling import Scaling, Unscaled, scaling_from_dict, scaling_to_dict
from hounsfield.integrity import digests, sealed
from hounsfield.preprocessing import Pipeline
from hounsfield.quality import QualityReference
from hounsfield.signing import demand_signature, renew, withdraw
from hounsfield.tasks import MODEL_NAMES, Family, LabelTask, Task, Threshold, family_of, num_outputs

Known = TypeVar("Known")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Bundle:
    """What is deployed.

    Attributes:
        folder: where it lies.
        pipeline: the preprocessing, fitted.
        labels: the labels in the order of the network's outputs; binary: (negative, positive).
        task: "binary", "multi-class", "multi-label" or "detection".
        threshold: a label is predicted when its calibrated probability is above this (binary and multi-label tasks),
            one for all or one for each; in detection, the lowest score of a finding that is reported.
        scaling: what makes calibrated probabilities of the network's own.
        calibration: how the scaling was chosen, and what it changed.
        input_shape: what the network takes: (rows, columns, channels) or (slices, rows, columns, channels).
        modality: the DICOM modality of the training images, where they had one and the same.
        source_range: what the training images were like before preprocessing.
        versions: of the packages that made it.
        engine_checks: what was found when engines were compared on the validation images.
        settings: what prediction has to know of the network beside its labels; see the ``settings`` of each form. Of
            a detector the fields of its ``DetectorSettings``, ``strides`` and ``window_overlap``.
    """

    folder: Path
    pipeline: Pipeline
    labels: tuple[str, ...]
    task: Task
    threshold: Threshold
    input_shape: tuple[int, ...]
    modality: str | None = None
    source_range: SourceRange = field(default_factory=SourceRange)
    scaling: Scaling = field(default_factory=Unscaled)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    engine_checks: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The kind of truth that it predicts."""
        return family_of(self.task)

    @property
    def form(self) -> Form:
        """What bundles of this family hold."""
        return FORMS[self.family]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its networks, in the order in which they run."""
        return _parts(self.task, self.settings)

    @property
    def onnx_files(self) -> tuple[Path, ...]:
        """Where the ONNX form of each of its networks is, if it was made."""
        return tuple(self.folder / part.file for part in self.parts)

    @property
    def has_onnx(self) -> bool:
        """Whether the ONNX form of every network was made."""
        return all(path.is_file() for path in self.onnx_files)

    @cached_property
    def identity(self) -> str:
        """What tells this bundle from every other: the SHA-256 of its manifest, which holds that of every file."""
        return hashlib.sha256((self.folder / MANIFEST).read_bytes()).hexdigest()

    @property
    def classifier_task(self) -> LabelTask:
        """The task, of a bundle that labels whole images.

        Raises:
            BundleError: this is another kind of model.
        """
        self.require("labels")
        return cast("LabelTask", self.task)

    def require(self, family: Family) -> None:
        """Refuse a bundle of another family.

        Raises:
            BundleError: it is one.
        """
        if FORMS[self.family] is not FORMS[family]:
            raise BundleError(
                f"The bundle in {self.folder} is a {MODEL_NAMES[self.family]}: expected a {MODEL_NAMES[family]}. Give "
                "the run of one, or open bundles of any kind with hounsfield.inference.open_predictor."
            )

    @property
    def num_outputs(self) -> int:
        """How many probabilities the network gives: one for a binary task, else one a label."""
        return num_outputs(len(self.labels), self.task)

    @cached_property
    def uncertainty(self) -> Kept | None:
        """What is known of validation images, in the class of the family's form; ``None`` where nothing was kept.

        Raises:
            BundleError: the file is damaged.
        """
        names = [name for name in (UNCERTAINTY, OLD_UNCERTAINTY) if (self.folder / name).is_file()]
        if not names:
            return None
        path = self.folder / names[0]
        try:
            return self.form.KEPT.from_arrays(read_arrays(path))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise BundleError(f"{path} is damaged ({error}). Copy the bundle again from where it was made.") from error

    def kept(self, kind: type[Known]) -> Known | None:
        """What is known of validation images, where it is of this class."""
        return self.uncertainty if isinstance(self.uncertainty, kind) else None

    @property
    def novelty(self) -> Novelty | None:
        """What tells images that are out of distribution; ``None`` where it was not fitted."""
        return self.uncertainty.novelty if self.uncertainty else None

    @cached_property
    def quality(self) -> QualityReference | None:
        """What faulty images are told by; ``None`` where it was not kept.

        Raises:
            BundleError: the file is damaged.
        """
        path = self.folder / QUALITY
        if not path.is_file():
            return None
        try:
            return QualityReference.from_arrays(read_arrays(path))
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise BundleError(f"{path} is damaged ({error}). {COPY_AGAIN}") from error

    def calibrated(self, probabilities: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The probabilities that are predicted, from the network's own: (n, 1) or (n, labels)."""
        return self.scaling.apply(probabilities, self.classifier_task)

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """Read the bundle of a run, or a bundle's own folder.

        Raises:
            BundleError: no bundle is there, a file is missing or damaged, or a newer version wrote it.
            SignatureError: a signature is demanded (HOUNSFIELD_VERIFY_KEY) that it does not have.
        """
        folder = _bundle_folder(Path(folder))
        manifest = read_manifest(folder / MANIFEST)
        for fault in file_faults(folder, manifest, _forms(manifest)):
            raise BundleError(fault)
        if manifest.hashes is None:
            logger.warning(
                "The bundle in %s is of an earlier version, without hashes: only the sizes of some files could be "
                "checked. 'hounsfield export RUN --to onnx' adds them.",
                folder,
            )
        demand_signature(folder / MANIFEST, folder / SIGNATURE)
        try:
            pipeline = Pipeline.from_json(folder / PIPELINE)
        except PreprocessingError as error:
            raise BundleError(f"The preprocessing of the bundle in {folder} cannot be read. {error}") from error
        try:
            scaling = scaling_from_dict(manifest.scaling)
        except EvaluationError as error:
            raise BundleError(f"{folder / MANIFEST} is damaged or was edited. {error}") from error
        apart = ("format_version", "sizes", "hashes", "seal", "scaling")
        facts = {name: getattr(manifest, name) for name in Manifest.model_fields if name not in apart}
        return cls(folder=folder, pipeline=pipeline, scaling=scaling, **facts)

    def network(self) -> Any:
        """Load the ``keras.Model``, uncompiled and in float32; needs Keras and a backend.

        Raises:
            MissingDependency: Keras or its backend is not installed.
            BundleError: the file is missing or damaged, or would run code.
        """
        keras = require("keras", "loading the bundle's Keras network")
        if self.form.LAYERS is not None:
            # Keras knows a class by its name once this is imported.
            importlib.import_module(self.form.LAYERS)
        path = self.folder / NETWORK
        require_plain_network(path)
        try:
            return keras.saving.load_model(path, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
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

    def with_quality(self, reference: QualityReference | None) -> Bundle:
        """Keep what tells faulty images, where there is such a reference, and return the bundle that knows it."""
        if reference is None:
            return self
        with rewriting(self.folder, QUALITY) as new:
            np.savez(new / QUALITY, **reference.to_arrays())  # type: ignore[arg-type]  # taken for allow_pickle
            write_manifest(dataclasses.replace(self, folder=new), QUALITY)
        return dataclasses.replace(self)

    def with_uncertainty(
        self,
        uncertainty: Kept,
        *,
        threshold: Threshold,
        scaling: Scaling | None = None,
        calibration: Mapping[str, Any] | None = None,
    ) -> Bundle:
        """Record what validation images taught, and return the bundle that knows it.

        Args:
            uncertainty: written as ``uncertainty.npz``.
            threshold: of the calibrated probabilities, or of scores.
            scaling: of the network's own probabilities.
            calibration: how the scaling was chosen, as plain values.
        """
        known = dataclasses.replace(
            self, scaling=scaling or self.scaling, threshold=threshold, calibration=dict(calibration or {})
        )
        with rewriting(self.folder, UNCERTAINTY, OLD_UNCERTAINTY) as new:
            np.savez(new / UNCERTAINTY, **uncertainty.to_arrays())  # type: ignore[arg-type]  # taken for allow_pickle
            write_manifest(dataclasses.replace(known, folder=new), UNCERTAINTY)
        return known


@contextmanager
def rewriting(folder: Path, *changed: str, target: Path | None = None) -> Iterator[Path]:
    """Give a copy of a bundle's folder, to write some files anew; at the end it takes the folder's place in one step.

    Args:
        folder: of the bundle.
        changed: names of files that are left out of the copy, as the signature is.
        target: the place that the copy takes instead, so that the bundle stays as it is.
    """
    with replacing_folder(target or folder) as new:
        for path in folder.iterdir():
            if path.name not in {*changed, SIGNATURE} and not is_temporary(path):
                _link(path, new / path.name)
        yield new


def _link(path: Path, target: Path) -> None:
    """Give a file, or those of a folder, a second name; a copy where the file system has no links."""
    if path.is_dir():
        shutil.copytree(path, target)
        return
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)


def bundle_faults(folder: Path) -> tuple[list[str], list[str]]:
    """What is not whole in a bundle, and what may be so and is worth knowing, a sentence each.

    Raises:
        BundleError: its manifest cannot be read.
    """
    folder = _bundle_folder(folder)
    manifest = read_manifest(folder / MANIFEST)
    forms = _forms(manifest)
    faults = list(file_faults(folder, manifest, forms))
    if manifest.hashes is None:
        faults.append(f"{folder} is of an earlier version, without hashes: whether its files are whole cannot be told.")
    absent = [name for name in manifest.sizes if not (folder / name).is_file()]
    notes = [
        f"{folder / name} was left out, which is allowed." for name in absent if may_be_absent(folder, name, forms)
    ]
    return faults, notes


def _parts(task: Task, settings: Mapping[str, Any]) -> tuple[Part, ...]:
    """The networks of a bundle with these settings; all that its family has where the settings are damaged."""
    form = FORMS[family_of(task)]
    try:
        return form.PARTS[: len(form.outputs(settings))]
    except (KeyError, TypeError):
        return form.PARTS


def _forms(manifest: Manifest) -> dict[str, bool]:
    """The names of ONNX files in bundles of any family, and whether this bundle has them."""
    own = {part.file for part in _parts(manifest.task, manifest.settings)}
    return {part.file: part.file in own for form in FORMS.values() for part in form.PARTS}


def _bundle_folder(folder: Path) -> Path:
    for candidate in (folder / "bundle", folder):
        if (candidate / MANIFEST).is_file():
            return candidate
    found = "is a file" if folder.is_file() else "has no bundle" if folder.is_dir() else "does not exist"
    raise BundleError(
        f"{folder} {found}: expected a run folder with bundle/{MANIFEST} in it, or a bundle's own folder. "
        "Give the folder that `hounsfield train` wrote; a training that was stopped early is finished with --resume."
    )


def write_manifest(bundle: Bundle, *changed: str) -> None:
    """Write ``bundle.json`` with sizes and hashes of the files that lie beside it; never half a file.

    Args:
        bundle: what it says.
        changed: files that were written since the last manifest: of others the hashes that it has are kept, so that
            damage since then is still found.
    """
    values = {name: getattr(bundle, name) for name in Manifest.model_fields if hasattr(bundle, name)}
    values["scaling"] = scaling_to_dict(bundle.scaling)
    path = bundle.folder / MANIFEST
    known = (read_manifest(path).hashes or {}) if path.is_file() else {}
    names = [name for name in (*READ, *(part.file for part in bundle.parts)) if (bundle.folder / name).is_file()]
    sizes = {name: (bundle.folder / name).stat().st_size for name in names}
    fresh = digests(bundle.folder, [name for name in names if name in changed or name not in known])
    hashes = {name: fresh.get(name) or known[name] for name in names}
    manifest = Manifest(format_version=FORMAT_VERSION, sizes=sizes, hashes=hashes, **values)
    was_signed = withdraw(bundle.folder / SIGNATURE)
    write_text(path, sealed(manifest.model_dump(mode="json", exclude={"seal"})))
    renew(path, bundle.folder / SIGNATURE, was_signed=was_signed)
