"""One way to read a file: a table of suffixes, the file's first bytes where the suffix says nothing, one error."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

from hounsfield.errors import ImageError, SeveralVolumes, UsageError
from hounsfield.images.channels import read_channels
from hounsfield.images.files import is_run, open_file, refuse_unlisted
from hounsfield.images.formats import SNIFFED_BYTES, sniffed_suffix
from hounsfield.images.image import Image
from hounsfield.images.limits import pixel_limit
from hounsfield.images.reference import Reference
from hounsfield.images.settings import LEVEL_VARIABLE, VOLUME_VARIABLE, number_setting

# Suffix -> module and function that read it, as (path, max_pixels); one that raises SeveralVolumes takes the number of
# the volume as well. Named, not imported: whoever reads PNG files need not wait for pydicom to load.
READERS: dict[str, tuple[str, str]] = {
    ".dcm": ("hounsfield.images.dicom", "read_dicom"),
    ".dicom": ("hounsfield.images.dicom", "read_dicom"),
    ".ima": ("hounsfield.images.dicom", "read_dicom"),
    ".dcm.gz": ("hounsfield.images.dicom", "read_dicom"),
    ".png": ("hounsfield.images.raster", "read_raster"),
    ".jpg": ("hounsfield.images.raster", "read_raster"),
    ".jpeg": ("hounsfield.images.raster", "read_raster"),
    ".tif": ("hounsfield.images.raster", "read_raster"),
    ".tiff": ("hounsfield.images.raster", "read_raster"),
    ".bmp": ("hounsfield.images.raster", "read_raster"),
    ".webp": ("hounsfield.images.raster", "read_raster"),
    ".jp2": ("hounsfield.images.raster", "read_raster"),
    ".j2k": ("hounsfield.images.raster", "read_raster"),
    ".svs": ("hounsfield.images.raster", "read_raster"),
    ".npy": ("hounsfield.images.arrays", "read_array"),
    ".npz": ("hounsfield.images.arrays", "read_array"),
    ".nii": ("hounsfield.images.nifti", "read_nifti"),
    ".nii.gz": ("hounsfield.images.nifti", "read_nifti"),
    ".hdr": ("hounsfield.images.nifti", "read_nifti"),
    ".hdr.gz": ("hounsfield.images.nifti", "read_nifti"),
    ".img": ("hounsfield.images.nifti", "read_nifti"),
    ".img.gz": ("hounsfield.images.nifti", "read_nifti"),
    ".mgh": ("hounsfield.images.freesurfer", "read_mgh"),
    ".mgz": ("hounsfield.images.freesurfer", "read_mgh"),
    ".nrrd": ("hounsfield.images.nrrd", "read_nrrd"),
    ".nhdr": ("hounsfield.images.nrrd", "read_nrrd"),
    ".mha": ("hounsfield.images.metaimage", "read_metaimage"),
    ".mhd": ("hounsfield.images.metaimage", "read_metaimage"),
}

VOXELS_OF_PAIRS = (".img", ".img.gz")
DOUBLE_SUFFIXES = tuple(suffix for suffix in READERS if suffix.count(".") > 1)
# Those of READERS that take the level of a pyramid.
LEVELLED = frozenset({READERS[".tif"]})

# A directory of DICOM files is no image, though it is a DICOM file.
DIRECTORIES = frozenset({"DICOMDIR", "DIRFILE"})


def read_image(
    source: str | Path | Reference,
    *,
    volume: int | None = None,
    level: int | None = None,
    max_pixels: int | None = None,
) -> Image:
    """Read any single image file, or one volume or one frame of it.

    The suffix decides the format; where it is none of ``READERS``, the file's first bytes do.

    Args:
        source: the file; as a ``Reference``, also the volume or the frame to read.
        volume: which volume of a file that holds several, from 0.
        level: which level of a pyramid, such as a whole slide, from 0, the full size; by default the command line's
            --level, and without it the largest that ``max_pixels`` allows.
        max_pixels: the most values (pixels × channels) that a file may declare, by default ``limits.pixel_limit``; more
            is refused before it is allocated.

    Returns:
        The image. Its reference names the file as it was given, what was chosen of it, and the identifiers found.

    Raises:
        SeveralVolumes: the file holds several volumes, and none was chosen.
        ImageError: the file is missing, damaged, too large, or of a kind that cannot be read; or it has no volume or
            frame of that number.
    """
    reference = source if isinstance(source, Reference) else Reference(str(source), volume)
    path = source if isinstance(source, Path) else Path(reference.path)
    try:
        suffix = format_suffix(path)
        if suffix is not None:
            read = _reader(suffix) if level is None else _reader_of_level(suffix, level, path)
            if level is None and READERS[suffix] in LEVELLED:
                read = functools.partial(read, level=level_setting())
            return _chosen(read, path, reference, pixel_limit(max_pixels))
    except ImageError:
        if not path.is_dir():
            raise
        raise ImageError(
            f"{path} is a folder: expected one image file. A folder that holds one DICOM series is read by read_series."
        ) from None
    raise ImageError(
        f"{path} is of no known format, neither by its suffix nor by its first bytes: expected one of "
        f"{', '.join(READERS)}. Convert it, or give it the suffix of its format."
    )


def _chosen(read: Callable[..., Image], path: Path, reference: Reference, max_pixels: int) -> Image:
    """The part of a file that a reference names; what the file holds decides what a single number counts."""
    try:
        image = read(path, max_pixels)
    except SeveralVolumes:
        if reference.volume is None and reference.frame is not None:
            reference = reference.replace(volume=reference.frame, frame=None)
        if reference.volume is None:
            reference = reference.replace(volume=volume_setting())
        if reference.volume is None:
            raise
        image = read(path, max_pixels, reference.volume)
    else:
        if reference.volume:
            raise ImageError(
                f"{path} holds one volume, and volume {reference.volume} was asked for: they count from 0. Leave the "
                "number out, or check which file is meant."
            ) from None
    return identified(image, reference)


def volume_setting() -> int | None:
    """Which volume is read of what holds several and is named without a number: the command line's --volume.

    Raises:
        UsageError: the setting is no number.
    """
    return number_setting(VOLUME_VARIABLE)


def level_setting() -> int | None:
    """Which level is read of what has several and is named without one: the command line's --level.

    Raises:
        UsageError: the setting is no number.
    """
    return number_setting(LEVEL_VARIABLE)


def identified(image: Image, reference: Reference) -> Image:
    """The frame of an image that a reference names, or all of it; with the reference and the identifiers found.

    Raises:
        ImageError: the image has no frame of that number.
    """
    facts = image.metadata
    found = Reference(reference.path, reference.volume, reference.frame, facts.study, facts.series, facts.instance)
    if reference.frame is None:
        return image.replace(reference=found)
    number = len(image.pixels) if image.rank == 3 else 1
    if reference.frame >= number:
        raise ImageError(
            f"{reference.path} holds {number} frames or slices, and number {reference.frame} was asked for: they count "
            "from 0."
        )
    return (slice_of(image, reference.frame) if image.rank == 3 else image).replace(reference=found)


def slice_of(volume: Image, index: int) -> Image:
    """One slice or frame of a 3D image as a 2D image in the same place."""
    affine = volume.affine
    if affine is not None:
        affine = affine.copy()
        affine[:, 3] += index * affine[:, 0]
    spacing = volume.spacing[1:] if volume.spacing else None
    return volume.replace(pixels=volume.pixels[index], spacing=spacing, affine=affine)


def read_reference(
    reference: Reference, *, files: Sequence[Path] | None = None, max_pixels: int | None = None
) -> Image:
    """As ``read_image``; of a folder, the volume of the DICOM series in it; of several files, one of their channels.

    Args:
        reference: the file or the folder, and what to read of it.
        files: those of the series, where the path alone does not tell them.
        max_pixels: as for ``read_image``.
    """
    if reference.several:
        return read_channels(reference, lambda part: read_reference(part, max_pixels=max_pixels))
    path = Path(reference.path)
    if files is None and not path.is_dir():
        return read_image(reference, max_pixels=max_pixels)
    read_series = importlib.import_module("hounsfield.images.series").read_series

    def read(folder: Path, limit: int, volume: int | None = None) -> Image:
        return cast("Image", read_series(files or folder, volume=volume, max_pixels=limit))

    return _chosen(read, path, reference, pixel_limit(max_pixels))


def input_path(name: str) -> Path:
    """The path of a file or folder that was named as an input.

    Raises:
        UsageError: the name is empty, which a path would take for the current folder.
    """
    if not name.strip():
        raise UsageError("An input has an empty name: expected a file or a folder. The current folder is called '.'.")
    return Path(name)


def image_files(folder: str | Path) -> list[Path]:
    """The files below a folder that look like images, sorted; hidden files and folders are skipped.

    Links to folders are followed, each folder once.

    Raises:
        ImageError: the folder does not exist or cannot be listed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder: expected one with images in it. Check the path.")
    return sorted(find_images(folder))


def find_images(folder: Path) -> Iterator[Path]:
    """The files of ``image_files`` as they are come upon, for who needs to know of one only; none of runs below."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=refuse_unlisted, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not is_run(Path(parent, name)))
        for name in files:
            path = Path(parent, name)
            if not name.startswith(".") and name.upper() not in DIRECTORIES and _is_candidate(path):
                yield path


def format_suffix(path: Path) -> str | None:
    """The key of ``READERS`` for a file: its own suffix, or else that of the format its first bytes belong to.

    Raises:
        ImageError: the suffix is unknown and the file cannot be opened.
    """
    return _known_suffix(path) or _suffix_of_content(path)


def _known_suffix(path: Path) -> str | None:
    name = path.name.lower()
    suffix = next((double for double in DOUBLE_SUFFIXES if name.endswith(double)), path.suffix.lower())
    # Many formats call their voxels so: it is NIfTI where the header of a pair is beside it.
    if suffix in VOXELS_OF_PAIRS and not _has_header_beside(path, suffix):
        return None
    return suffix if suffix in READERS else None


def _suffix_of_content(path: Path) -> str | None:
    with open_file(path) as stream:
        return sniffed_suffix(stream.read(SNIFFED_BYTES))


def _is_candidate(path: Path) -> bool:
    try:
        suffix = format_suffix(path) if path.is_file() else None
    except ImageError:
        # Unreadable and of unknown kind: nothing says that it is an image.
        return False
    # The ``.hdr`` of a pair stands for both.
    return suffix is not None and suffix not in VOXELS_OF_PAIRS


def _has_header_beside(path: Path, suffix: str) -> bool:
    stem = path.name[: -len(suffix)]
    return any(path.with_name(stem + header).exists() for header in (".hdr", ".hdr.gz", ".HDR", ".HDR.GZ"))


def _reader(suffix: str) -> Callable[..., Image]:
    module, function = READERS[suffix]
    return cast("Callable[..., Image]", getattr(importlib.import_module(module), function))


def _reader_of_level(suffix: str, level: int, path: Path) -> Callable[..., Image]:
    if READERS[suffix] not in LEVELLED:
        raise ImageError(f"{path} is of a format without levels, and level {level} was asked for. Leave it out.")
    return functools.partial(_reader(suffix), level=level)
