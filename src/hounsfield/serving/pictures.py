"""What a page shows of files: the stacks among them, and their slices or frames as the readers give them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import Image, Reference, group_series, read_image
from hounsfield.images.reading import slice_of

# Values of a level of a whole slide that is shown: a screen has fewer pixels.
SLIDE_VALUES = 2**25
# Bytes of images that are kept for the next frame of the same file.
KEPT_BYTES = 2**29
# Lists of stacks that are kept.
KEPT_LISTS = 256
# The type in which pixels are sent; a page has typed arrays of these alone.
SENT = {"b": "u1", "u1": "u1", "i1": "i1", "u2": "<u2", "i2": "<i2", "u4": "<u4", "i4": "<i4", "f4": "<f4"}
_ALIGNMENT = 8
_TAGS = ["PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PatientOrientation"]


@dataclass(frozen=True)
class Stack:
    """Slices or frames that are scrolled through.

    Attributes:
        paths: a file for each slice; a single file may hold several frames.
        volume: which volume of its one file, where that holds several.
        series: SeriesInstanceUID, where it has one.
        modality: DICOM's code.
        words: what tells it from the others.
        note: what a person should know of it, such as uneven distances.
        is_resampled: whether predictors see slices other than these, as of a tilted gantry.
        is_slide: whether it is a level of a whole slide.
    """

    paths: tuple[Path, ...]
    volume: int | None = None
    series: str | None = None
    modality: str | None = None
    words: str = ""
    note: str = ""
    is_resampled: bool = False
    is_slide: bool = False


def list_stacks(paths: Sequence[Path]) -> list[Stack]:
    """The stacks among files, those of DICOM first; what cannot be read is left out.

    Args:
        paths: of files of any format that is read.
    """
    grouping = group_series(list(paths))
    stacks = [
        Stack(
            each.paths,
            each.volume,
            each.uid or None,
            each.modality,
            each.words,
            "; ".join((*each.problems, *each.notes)),
            is_resampled=each.is_tilted or bool(each.problems),
            is_slide=each.slide is not None,
        )
        for each in grouping.series
    ]
    refused = {path for path, _ in grouping.refused}
    return stacks + [stack for path in paths if path in refused for stack in _others(path)]


def _others(path: Path) -> Iterator[Stack]:
    """The stacks of a file that is not DICOM."""
    try:
        read_image(path)
    except SeveralVolumes as error:
        for number, words in enumerate(error.volumes):
            yield Stack((path,), number, words=words)
    except ImageError:
        return
    else:
        yield Stack((path,))


@dataclass(frozen=True)
class Frame:
    """One slice or frame: facts as plain values, and its pixels."""

    facts: dict[str, Any]
    pixels: bytes

    def content(self) -> bytes:
        """The length of the facts (uint32, little endian), the facts as JSON, padding, the pixels."""
        facts = json.dumps(self.facts, allow_nan=False).encode()
        facts += b" " * (-(len(facts) + 4) % _ALIGNMENT)
        return len(facts).to_bytes(4, "little") + facts + self.pixels


@dataclass
class Pictures:
    """Reads what pages show, each file once for all its frames.

    Attributes:
        max_pixels: values of one image.
        kept_bytes: of images that stay in memory.
    """

    max_pixels: int
    kept_bytes: int = KEPT_BYTES
    _images: OrderedDict[tuple[Path, int | None], Image] = field(default_factory=OrderedDict)
    _lists: OrderedDict[tuple[Path, ...], list[Stack]] = field(default_factory=OrderedDict)
    _locks: dict[Any, threading.Lock] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stacks(self, paths: Sequence[Path]) -> list[Stack]:
        """As ``list_stacks``; the same files are looked at once."""
        key = tuple(paths)
        with self._alone(key):
            found = self._lists.get(key)
            if found is None:
                found = list_stacks(paths)
                with self._lock:
                    self._lists[key] = found
                    while len(self._lists) > KEPT_LISTS:
                        self._lists.popitem(last=False)
        return found

    def count(self, stack: Stack) -> int:
        """How many slices or frames a stack has; a single file has to be read for this.

        Raises:
            ImageError: it cannot be read.
        """
        if len(stack.paths) > 1:
            return len(stack.paths)
        image = self._image(stack, 0)
        return len(image.pixels) if image.rank == 3 else 1

    def frame(self, stack: Stack, number: int) -> Frame:
        """One slice or frame of a stack.

        Raises:
            ImageError: it cannot be read, or there is no such frame.
        """
        several = len(stack.paths) > 1
        image = self._image(stack, number if several else 0)
        if not several and number >= (len(image.pixels) if image.rank == 3 else 1):
            raise ImageError(f"There is no frame {number}.")
        if image.rank == 3:
            image = slice_of(image, 0 if several else number)
        return Frame(_facts(image, stack.paths[number if several else 0]), _bytes(image.pixels))

    def _image(self, stack: Stack, number: int) -> Image:
        if number >= len(stack.paths):
            raise ImageError(f"There is no slice {number}.")
        key = stack.paths[number], stack.volume
        with self._alone(key):
            with self._lock:
                if key in self._images:
                    self._images.move_to_end(key)
                    return self._images[key]
            limit = min(self.max_pixels, SLIDE_VALUES) if stack.is_slide else self.max_pixels
            image = read_image(Reference(str(key[0]), key[1]), max_pixels=limit)
            self._keep(key, image)
        return image

    def _keep(self, key: tuple[Path, int | None], image: Image) -> None:
        with self._lock:
            self._images[key] = image
            size = sum(each.pixels.nbytes for each in self._images.values())
            while size > self.kept_bytes and len(self._images) > 1:
                _, oldest = self._images.popitem(last=False)
                size -= oldest.pixels.nbytes

    @contextlib.contextmanager
    def _alone(self, key: Any) -> Iterator[None]:
        """Who asks for the same at the same time waits for the first."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._locks.pop(key, None)


def _facts(image: Image, path: Path) -> dict[str, Any]:
    facts = image.metadata
    affine = image.affine
    sent = _sent(image.pixels)
    header = _header(image, path)
    return {
        "rows": image.shape[0],
        "columns": image.shape[1],
        "channels": image.channels,
        "type": sent.str.lstrip("<|"),
        "spacing": image.spacing,
        "affine": None if affine is None or not np.isfinite(affine).all() else affine.tolist(),
        "windows": [list(window) for window in facts.windows],
        "units": facts.units,
        "bits": facts.bits,
        "modality": image.modality,
        "instance": facts.instance,
        "mirror": _mirror(image, header),
        "sides": _sides(header),
    }


def _header(image: Image, path: Path) -> pydicom.Dataset:
    """What the image itself does not keep of a DICOM file's header; nothing of other files."""
    if image.metadata.bits is None and image.metadata.instance is None:
        return pydicom.Dataset()
    try:
        return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    except Exception:  # noqa: BLE001 - pydicom raises many kinds for what is no plain DICOM file
        return pydicom.Dataset()


def _mirror(image: Image, header: pydicom.Dataset) -> float | None:
    """What a value and the one in the file add up to where the reader turned MONOCHROME1 round; else ``None``."""
    bits, signed = header.get("BitsStored"), header.get("PixelRepresentation")
    if header.get("PhotometricInterpretation") != "MONOCHROME1" or not bits:
        return None
    if image.metadata.rescale is None and image.pixels.dtype.kind not in "iu":
        return None
    slope, intercept = image.metadata.rescale or (1.0, 0.0)
    ends = -1 if signed else 2 ** int(bits) - 1
    return slope * ends + 2 * intercept


def _sides(header: pydicom.Dataset) -> list[str] | None:
    """The sides of the patient to which the rows, and the columns, run (PS3.3, C.7.6.1.1.1)."""
    found = header.get("PatientOrientation")
    sides = [str(each) for each in found] if isinstance(found, Sequence) and not isinstance(found, str) else []
    return sides if len(sides) == 2 and all(each and set(each) <= set("LRAPHF") for each in sides) else None


def _sent(pixels: np.ndarray[Any, Any]) -> np.dtype[Any]:
    kind = pixels.dtype.kind + str(pixels.dtype.itemsize)
    return np.dtype("u1") if pixels.dtype.kind == "b" else np.dtype(SENT.get(kind, "<f8"))


def _bytes(pixels: np.ndarray[Any, Any]) -> bytes:
    return np.ascontiguousarray(pixels, _sent(pixels)).tobytes()


def stack_facts(stack: Stack) -> dict[str, Any]:
    """What a list of stacks says of one."""
    return {
        "modality": stack.modality,
        "words": stack.words,
        "note": stack.note,
        "files": len(stack.paths),
        "resampled": stack.is_resampled,
    }


def renamed(stack: Stack, names: dict[Path, str]) -> Stack:
    """A stack with the client's name of its one file, where nothing else tells it from the others."""
    name = names.get(stack.paths[0])
    return (
        stack
        if name is None or len(stack.paths) > 1
        else replace(stack, words=" ".join(filter(None, (name, stack.words))))
    )
