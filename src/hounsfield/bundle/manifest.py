"""``bundle.json``: what it holds, how it is read, and which files belong to it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator, model_validator

from hounsfield.errors import BundleError
from hounsfield.tasks import Task, Threshold, known_task
from hounsfield.version import __version__

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
PIPELINE = "pipeline.json"
NETWORK = "model.keras"
UNCERTAINTY = "uncertainty.npz"
# What the file was called until format 1 of version 0.1; such bundles stay readable.
OLD_UNCERTAINTY = "doubt.npz"


class SourceRange(BaseModel):
    """What the training images were like before preprocessing, so that unlike ones can be told.

    Attributes:
        smallest: the shortest length along each spatial axis, in pixels; ``None`` where not recorded.
        largest: the longest.
        channels: every number of channels that occurred.
        modalities: every DICOM modality that occurred.
        colour: whether the channels of any image differed; ``None`` where not recorded.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smallest: tuple[int, ...] | None = None
    largest: tuple[int, ...] | None = None
    channels: tuple[int, ...] = ()
    modalities: tuple[str, ...] = ()
    colour: bool | None = None


class Manifest(BaseModel):
    """The content of ``bundle.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1]
    task: Annotated[Task, PlainValidator(known_task)]
    labels: tuple[str, ...] = Field(min_length=1)
    threshold: Threshold
    scaling: dict[str, Any]
    calibration: dict[str, Any]
    input_shape: tuple[int, ...] = Field(min_length=3, max_length=4)
    modality: str | None
    source_range: SourceRange
    versions: dict[str, str]
    engine_checks: dict[str, Any]
    settings: dict[str, Any] = Field(default_factory=dict)
    sizes: dict[str, int]

    @field_validator("threshold")
    @classmethod
    def _within(cls, threshold: Threshold) -> Threshold:
        values = threshold if isinstance(threshold, tuple) else (threshold,)
        if not values or not all(0 <= value <= 1 for value in values):
            raise ValueError(f"{threshold} is not between 0 and 1")
        return threshold

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        """The settings of a detector were called so in bundles of version 0.1's first step."""
        if isinstance(values, dict) and "detector" in values:
            values = {**values, "settings": values["detector"] or {}}
            del values["detector"]
        return values


def read_manifest(path: Path) -> Manifest:
    """Read ``bundle.json``.

    Raises:
        BundleError: it is damaged, was edited, or is of a newer format.
    """
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
        return Manifest.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()
        )
        raise BundleError(
            f"{path} is damaged or was edited: {faults}. Copy the bundle again from where it was made."
        ) from error


def check_files(folder: Path, sizes: Mapping[str, int], forms: Collection[str]) -> None:
    """Compare the files of a bundle with the sizes that its manifest names.

    Args:
        folder: of the bundle.
        sizes: by file name.
        forms: names of ONNX files, with any of which the Keras network may be absent.

    Raises:
        BundleError: a file is missing or has another size.
    """
    for name, expected in sizes.items():
        path = folder / name
        # A deployment that runs on ONNX alone may leave the Keras network at home.
        if not path.is_file() and not (name == NETWORK and any((folder / form).is_file() for form in forms)):
            raise BundleError(
                f"The bundle in {folder} lacks {name}. Copy the whole folder again from where it was made."
            )
        if path.is_file() and path.stat().st_size != expected:
            raise BundleError(
                f"{path} is damaged: it has {path.stat().st_size:,} bytes, and {expected:,} were written. Copy the "
                "bundle again from where it was made."
            )
