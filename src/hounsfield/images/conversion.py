"""From any input to any format that can hold it, with the geometry, and with a word where that gets lost."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from hounsfield.atomic import replacing_folder
from hounsfield.errors import UsageError
from hounsfield.images.image import Image
from hounsfield.images.orientation import reorient
from hounsfield.images.reading import format_suffix, identified, read_image
from hounsfield.images.reference import Reference
from hounsfield.images.windows import WINDOW_PRESETS
from hounsfield.images.writers import as_stored, suffix_of, write_image
from hounsfield.progress import Progress, silent

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})

# Formats with no place for where a pixel is in the patient.
WITHOUT_GEOMETRY = frozenset({".png", ".tif", ".tiff", ".npy"})

# Formats that hold any value, so that integers are written as such; pictures and DICOM have rules of their own.
WITHOUT_WINDOWS = frozenset({".nii", ".nii.gz", ".nrrd", ".mha", ".npy", ".npz"})


@dataclass(frozen=True)
class Conversion:
    """What was written, and what the person should know about it."""

    image: Image
    notes: tuple[str, ...]


def convert(
    source: Path | Reference,
    target: Path,
    *,
    level: int | None = None,
    window: str | None = None,
    orientation: str | None = None,
    progress: Progress = silent,
) -> Conversion:
    """Read an image, a volume or the DICOM series of a folder, and write it in the format of ``target``.

    Args:
        source: a file or a folder with one DICOM series; as a ``Reference``, also the volume or the frame of it.
        target: a file with a suffix of ``writers.WRITERS`` or ``.dcm``; without a suffix, a folder for a DICOM series.
        level: which level of a pyramid, from 0, the full size; by default the largest that may be read.
        window: ``"CENTER,WIDTH"`` or the name of a preset, for PNG and TIFF.
        orientation: turn the volume first, for example ``"SPL"``.
        progress: hears of the slices of a series.

    Raises:
        ImageError: the input cannot be read, or the format cannot hold it.
        UsageError: the window is malformed or no picture is written, or the folder to replace holds the input or
            anything but a DICOM series.
        OSError: the output cannot be written.
    """
    reference = source if isinstance(source, Reference) else Reference(str(source))
    suffix = suffix_of(target) if target.suffix else ""
    if window is not None and not suffix:
        raise UsageError(
            f"A window was given for '{target}', and a DICOM series keeps the values themselves. Leave the window out, "
            "or write a PNG or TIFF."
        )
    if not suffix:
        _check_folder(Path(reference.path), target)
    image, sources = _read(reference, level, progress)
    if orientation is not None:
        image = reorient(image, orientation)
    notes = []
    chosen = parse_window(window) if window is not None else None
    if chosen is None and suffix == ".png" and image.metadata.windows and not _fits_png(image):
        chosen = image.metadata.windows[0]
        notes.append(f"A PNG cannot hold these values: the file's own window was applied, center and width {chosen}.")
    image = as_stored(image) if suffix in WITHOUT_WINDOWS else image
    if suffix:
        write_image(image, target, window=chosen, sources=sources if suffix == ".dcm" else (), rescaled=True)
    else:
        _write_folder(image, target, sources)
    if suffix in WITHOUT_GEOMETRY and image.spacing is not None:
        notes.append(f"'{suffix}' has no place for geometry: the spacing of {image.spacing} mm is not in '{target}'.")
    return Conversion(image, tuple(notes))


def parse_window(text: str) -> tuple[float, float]:
    """``"CENTER,WIDTH"`` or the name of a preset, as numbers.

    Raises:
        UsageError: it is neither.
    """
    if text in WINDOW_PRESETS:
        return WINDOW_PRESETS[text]
    try:
        center, width = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"The window '{text}' was given, and expected is CENTER,WIDTH or one of {', '.join(WINDOW_PRESETS)}."
        ) from error
    return center, width


def holds_dicom(source: Path) -> bool:
    """Whether an input is DICOM: a file of that kind, or any folder."""
    return source.is_dir() or format_suffix(source) in DICOM_SUFFIXES


def _read(reference: Reference, level: int | None, progress: Progress) -> tuple[Image, list[Path]]:
    """The image, and the DICOM objects that it comes from and that can be referred to."""
    source = Path(reference.path)
    if not source.is_dir():
        image = read_image(reference, level=level)
        is_whole = (reference.volume, reference.frame) == (None, None)
        return image, [source] if image.metadata.instance and is_whole else []
    # Loaded where it is needed: who converts other files need not wait for pydicom.
    dicom = importlib.import_module("hounsfield.images.series")
    grouping = importlib.import_module("hounsfield.images.series_grouping").group_series(source, progress=progress)
    found = [one for one in grouping.series if one.kind != "localiser"]
    if len(found) > 1 and reference.volume is None and reference.frame is not None:
        reference = reference.replace(volume=reference.frame, frame=None)
    series = dicom.chosen_series(grouping, source, reference.volume, level=level)
    image = identified(dicom.read_series(series, progress=progress), reference)
    return image, list(series.paths) if reference.frame is None else []


def _fits_png(image: Image) -> bool:
    return image.pixels.dtype.kind != "f" and int(image.pixels.min()) >= 0


def _check_folder(source: Path, target: Path) -> None:
    """Refuse to replace a folder that is more than a DICOM series: all of it would be lost."""
    if not target.is_dir():
        return
    if source.resolve().is_relative_to(target.resolve()):
        raise UsageError(
            f"The folder '{target}' holds the input '{source}', and would be replaced with all in it. Name another "
            "output: an input is never replaced."
        )
    others = sorted(path.name for path in target.iterdir() if path.is_dir() or path.suffix.lower() != ".dcm")
    if others:
        raise UsageError(
            f"The folder '{target}' would be replaced, and it holds more than a DICOM series, first '{others[0]}'. "
            "Name another output, or move the rest away."
        )


def _write_folder(image: Image, target: Path, sources: list[Path]) -> None:
    """Write a series into a folder of another name, and switch them when it is complete."""
    # The current folder, '.', has no name of its own.
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(target) as temporary:
        importlib.import_module("hounsfield.images.dicom_writer").write_series(image, temporary, sources)
