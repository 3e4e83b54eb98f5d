"""Masks in files: label maps, one file for each label, colours, and DICOM segmentations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hounsfield.cohorts.arrays import file_identity
from hounsfield.cohorts.masks import Layer
from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import read_image
from hounsfield.images.image import Image
from hounsfield.images.limits import pixel_limit
from hounsfield.images.png_palette import read_palette
from hounsfield.images.raster import JPEG_MAGIC
from hounsfield.masks import MAX_LABELS

# A mask of more values than this, nearly all of it black or white, has smoothed edges.
MOST_SHARP, MOST_GREY = 12, 0.25
# Grey values of a lossy mask that can only be black, and only be white.
DARK, BRIGHT = 48, 207


@dataclass(frozen=True)
class MaskFile:
    """One file that marks something.

    Attributes:
        path: relative to the root.
        label: what every value other than 0 marks, where the file is of one label.
    """

    path: str
    label: str = ""


class FileMasks:
    """Masks in files below one folder; see ``MaskSource``.

    Args:
        root: the folder that paths are relative to.
        files: sample → its files.
        names: value of a label map → label, where the data names them; then a value without a name is no class.
        regions: label → its values, where labels share values.
    """

    def __init__(
        self,
        root: Path,
        files: Mapping[str, Sequence[MaskFile]],
        names: Mapping[int, str] | None = None,
        regions: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.root = Path(root)
        self.files = dict(files)
        self.names = dict(names or {})
        self.regions = {label: tuple(values) for label, values in (regions or {}).items()}

    def layers(self, sample: str, image: Image) -> Iterator[Layer]:
        """See ``MaskSource.layers``."""
        del image  # files do not depend on it
        for file in self.files[sample]:
            for mask, names, blurred in read_label_maps(self.root / file.path):
                if self.regions:
                    yield from self._of_regions(mask, file)
                    continue
                known = {} if file.label else names or self.names
                yield Layer(mask, known, file.label, file.path, bool(known), blurred)

    def _of_regions(self, mask: Image, file: MaskFile) -> Iterator[Layer]:
        values = {value: label for label, each in self.regions.items() for value in each}
        for number, (label, each) in enumerate(self.regions.items()):
            # Values of no region stay in the first layer, where they are refused.
            strange = ~np.isin(mask.pixels, [0, *values]) if number == 0 else False
            marked = np.where(strange, mask.pixels, np.isin(mask.pixels, each) * each[0])
            yield Layer(mask.replace(pixels=marked), {each[0]: label}, place=file.path, strict=True)

    def digest(self, samples: Sequence[str]) -> str:
        """See ``MaskSource.digest``; a file is identified by its path, size and time of change."""
        names = f"{self.root.resolve()} {sorted(self.names.items())} {sorted(self.regions.items())}\n"
        digest = hashlib.blake2b(names.encode(), digest_size=16)
        for sample in samples:
            for file in self.files[sample]:
                identity = file_identity(os.path.join(self.root, file.path))  # noqa: PTH118 - called for each image
                digest.update(f"{file.path}|{file.label}|{identity}\n".encode())
        return digest.hexdigest()


class ReadMask(NamedTuple):
    """One label map of a file, the names of its values where the file has them, and whether its edges were blurred."""

    mask: Image
    names: dict[int, str]
    blurred: bool = False


def read_label_maps(path: Path) -> list[ReadMask]:
    """The label maps of one file.

    A colour counts as a value, the indices of a palette are values; a DICOM segmentation whose segments overlap gives
    one map for each.

    Raises:
        ImageError: the file cannot be read as a mask.
    """
    picture = read_palette(path, pixel_limit())
    if picture is not None:
        return [ReadMask(Image(picture.indices[..., np.newaxis], modality="SEG"), dict(picture.labels))]
    try:
        masks = [read_image(path)]
    except SeveralVolumes as error:
        first = read_image(path, volume=0)
        if first.modality != "SEG":
            raise ImageError(
                f"it is 4D: {len(error.volumes)} volumes ({error.volumes[0]}), where one label map is expected"
            ) from error
        masks = [first, *(read_image(path, volume=number) for number in range(1, len(error.volumes)))]
    return [_as_label_map(mask, path) for mask in masks]


def _as_label_map(mask: Image, path: Path) -> ReadMask:
    if mask.channels in {3, 4}:
        mask, colours = _of_colours(mask)
        if colours:
            return ReadMask(mask, colours)
    names = {number: name or str(number) for number, name in mask.metadata.labels if number}
    if mask.channels == 1 and mask.pixels.dtype == np.uint8 and not names:
        lossy = _is_jpeg(path)
        if lossy or _is_blurred(mask):
            return ReadMask(_of_two_tones(mask, lossy=lossy), {}, blurred=True)
    return ReadMask(mask, names)


def _is_blurred(mask: Image) -> bool:
    """Whether a mask is black and white but for the many greys of smoothed edges."""
    counts = np.bincount(mask.pixels.ravel(), minlength=256)
    greys = np.flatnonzero(counts[1:255]) + 1
    # Numbers of classes lie close together, greys of edges anywhere.
    spread = len(greys) > MOST_SHARP and greys[-1] - greys[0] > 128
    return bool(spread and counts[0] and counts[255] and counts[greys].sum() <= MOST_GREY * counts.sum())


def _of_colours(mask: Image) -> tuple[Image, dict[int, str]]:
    """Grey saved as colour is grey again; otherwise each colour is a class with its hexadecimal name, black none."""
    pixels = mask.pixels[..., :3]
    if (pixels == pixels[..., :1]).all():
        return mask.replace(pixels=pixels[..., :1]), {}
    if pixels.dtype != np.uint8:
        raise ImageError(f"it has {mask.channels} channels of {pixels.dtype}, where one is expected")
    codes = (pixels.astype(np.int32) * (1 << 16, 1 << 8, 1)).sum(axis=-1, dtype=np.int32)
    colours = np.unique(codes)
    if len(colours) > MAX_LABELS + 1:
        raise ImageError(f"it has {len(colours):,} colours, more than a mask can have classes")
    return mask.replace(pixels=codes[..., np.newaxis]), {int(code): f"#{code:06x}" for code in colours if code}


def _is_jpeg(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(JPEG_MAGIC)) == JPEG_MAGIC


def _of_two_tones(mask: Image, *, lossy: bool) -> Image:
    """A black and white mask that compression or resizing has blurred, cut at half of its range."""
    pixels = mask.pixels
    between = (pixels > DARK) & (pixels < BRIGHT)
    if lossy and (pixels.max() <= DARK or between.mean() > 0.05):
        raise ImageError(
            "it is a JPEG, whose compression changes values, and it is not black and white alone: save it as PNG from "
            "its source"
        )
    return mask.replace(pixels=np.where(pixels > 127, 255, 0).astype(np.uint8))
