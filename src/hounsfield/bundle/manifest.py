"""``bundle.json``: what it holds, how it is read, and which files belong to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from hounsfield.errors import BundleError
from hounsfield.integrity import digests, seal_holds
from hounsfield.tasks import Task, Threshold, check_labels, check_shape, known_task
from hounsfield.textfiles import parse_json, read_text
from hounsfield.version import __version__

# Since 2 a bundle has a hash of every file.
FORMAT_VERSION = 2
MANIFEST = "bundle.json"
PIPELINE = "pipeline.json"
NETWORK = "model.keras"
UNCERTAINTY = "uncertainty.npz"
# What the file was called until format 1 of version 0.1; such bundles stay readable.
OLD_UNCERTAINTY = "doubt.npz"
KNOWN_ANSWER = "known_answer.npz"
# What faulty images are told by; bundles of less than fifty training images have none.
QUALITY = "quality.npz"
SIGNATURE = "bundle.sig"
# What a bundle's files are read from, so that none of them may come from elsewhere.
READ = (NETWORK, PIPELINE, UNCERTAINTY, OLD_UNCERTAINTY, KNOWN_ANSWER, QUALITY)
COPY_AGAIN = "Copy the bundle again from where it was made."


# A file beside the manifest, and a SHA-256.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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

    format_version: Literal[1, 2]
    task: Annotated[Task, PlainValidator(known_task)]
    labels: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(check_labels)]
    threshold: Threshold
    scaling: dict[str, Any]
    calibration: dict[str, Any]
    input_shape: Annotated[tuple[int, ...], Field(min_length=3, max_length=4), AfterValidator(check_shape)]
    modality: str | None
    source_range: SourceRange
    versions: dict[str, str]
    engine_checks: dict[str, Any]
    settings: dict[str, Any] = Field(default_factory=dict)
    sizes: dict[Name, Annotated[int, Field(ge=0)]]
    hashes: dict[Name, Hash] | None = None
    seal: str | None = None

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
        content = read_text(path).encode()
        values = parse_json(content)
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
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in error.errors()
        )
        raise BundleError(
            f"{path} is damaged or was edited: {faults}. Copy the bundle again from where it was made."
        ) from error
    is_sealed = manifest.format_version > 1 or manifest.hashes is not None
    if is_sealed and (manifest.hashes is None or not seal_holds(content)):
        raise BundleError(
            f"{path} is not as it was written: the hash in it is not that of its content, so it is damaged or was "
            f"edited. {COPY_AGAIN} Another threshold is given when predicting, with --threshold."
        )
    return manifest


def file_faults(folder: Path, manifest: Manifest, forms: Mapping[str, bool]) -> Iterator[str]:
    """A sentence for each file of a bundle that is missing or is another than was written.

    Args:
        folder: of the bundle.
        manifest: its content.
        forms: names of ONNX files that bundles of any family have, and whether this family has them.
    """
    damaged = set()
    for name, expected in manifest.sizes.items():
        path = folder / name
        if not path.is_file():
            if not may_be_absent(folder, name, forms):
                yield f"The bundle in {folder} lacks {name}. Copy the whole folder again from where it was made."
        elif (size := path.stat().st_size) != expected:
            damaged.add(name)
            yield f"{path} is damaged: it has {size:,} bytes, and {expected:,} were written. {COPY_AGAIN}"
    if manifest.hashes is None:
        return
    for name in (*READ, *forms):
        if name not in manifest.hashes and (folder / name).exists():
            yield (
                f"{folder / name} is not a file of this bundle: {MANIFEST} does not list it. Remove it, or copy the "
                "bundle again from where it was made."
            )
    present = [name for name in manifest.hashes if name not in damaged and (folder / name).is_file()]
    for name, found in digests(folder, present).items():
        if found != manifest.hashes[name]:
            yield (
                f"{folder / name} is damaged or was exchanged: its SHA-256 is {found[:12]}…, and that of what was "
                f"written is {manifest.hashes[name][:12]}…. {COPY_AGAIN}"
            )


def may_be_absent(folder: Path, name: str, forms: Mapping[str, bool]) -> bool:
    """A deployment may leave at home what it does not run: the Keras network beside ONNX, or ONNX beside Keras."""
    if name == NETWORK:
        own = [form for form, is_own in forms.items() if is_own]
        return all((folder / form).is_file() for form in own)
    return name not in (PIPELINE, UNCERTAINTY, OLD_UNCERTAINTY, KNOWN_ANSWER, QUALITY)
