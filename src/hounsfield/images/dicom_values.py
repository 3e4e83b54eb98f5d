"""From stored values to real ones: modality transforms, inversion, palettes; and the windows in the same units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.pixels import apply_color_lut

from hounsfield.errors import ImageError
from hounsfield.images.dicom_frames import functional_group
from hounsfield.images.dicom_header import Header
from hounsfield.images.dicom_layout import Layout

Array = npt.NDArray[Any]

PALETTE_COLOURS = ("Red", "Green", "Blue")
# A look-up table has at most this many entries; it declares this number as 0 (PS3.3 C.11.1.1).
MAX_ENTRIES = 2**16


@dataclass(frozen=True, eq=False)
class LookUpTable:
    """A table of PS3.3 C.11.1.1: stored values below ``first`` take the first entry, those above the last."""

    first: int
    entries: Array

    def __call__(self, values: Array) -> Array:
        """Look every value up."""
        indices = values.astype(np.int64) - self.first
        return self.entries[np.clip(indices, 0, len(self.entries) - 1, out=indices)]


def real_values(
    header: Header, stored: Array, layout: Layout, frames: Sequence[int]
) -> tuple[Array, tuple[float, float], tuple[float, float] | None]:
    """Apply the modality transform and turn MONOCHROME1 round.

    Slope and intercept come from the image or from the functional groups of each frame; a dose grid's scaling counts as
    slope. Values become float32 unless nothing changes. MONOCHROME1, whose low values are bright, is mirrored within
    the range that its bits can hold, so that one exposure gives one value in every image of a detector.

    Args:
        header: of the image.
        stored: (frames, rows, columns, 1), of the frames chosen.
        layout: of the image.
        frames: which frames these are.

    Returns:
        The values, the (lowest, highest) that the stored bits could become, and slope and intercept where those of all
        frames are the same and not 1 and 0.
    """
    inverted = layout.photometric == "MONOCHROME1"
    table = _modality_table(header, layout)
    if table is not None:
        values = table(stored).astype(np.float32)
        low, high = float(table.entries.min()), float(table.entries.max())
        return (np.float32(low + high) - values if inverted else values), (low, high), None
    slopes, intercepts = _rescaling(header, frames)
    ends = [slopes[0] * end + intercepts[0] for end in layout.stored_range]
    # Mirrored before the rescaling, which is linear: no digit is lost on the way.
    values = _rescaled(_mirrored(stored, layout) if inverted else stored, slopes, intercepts)
    is_one = values is not stored and len(set(slopes)) == len(set(intercepts)) == 1
    rescale = (slopes[0], intercepts[0]) if is_one and stored.dtype.kind in "iu" else None
    return values, (min(ends), max(ends)), rescale


def _rescaling(header: Header, chosen: Sequence[int]) -> tuple[list[float], list[float]]:
    """Slope and intercept of each chosen frame, from its own group, the shared one or the image; or one for all."""
    frames = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    places = [
        functional_group(frames[index] if index < len(frames) else None, shared, "PixelValueTransformationSequence")
        or header
        for index in (chosen if frames else (0,))
    ]
    slopes = [1.0 if (slope := place.decimal("RescaleSlope")) is None else slope for place in places]
    intercepts = [place.decimal("RescaleIntercept") or 0.0 for place in places]
    dose = header.decimal("DoseGridScaling")
    if dose is not None:
        slopes = [slope * dose for slope in slopes]
    if 0.0 in slopes:
        raise ImageError(
            "The image declares a rescale slope of 0, which would make every value the same: expected another number. "
            "Export it again from its source."
        )
    return slopes, intercepts


def _rescaled(stored: Array, slopes: list[float], intercepts: list[float]) -> Array:
    """The values in single precision, computed in double where that makes a difference."""
    slope, intercept = np.float64(slopes[0]), np.float64(intercepts[0])
    if len(set(slopes)) > 1 or len(set(intercepts)) > 1:
        scaled = stored * np.reshape(slopes, (-1, 1, 1, 1)) + np.reshape(intercepts, (-1, 1, 1, 1))
        return np.asarray(scaled, dtype=np.float32)
    if (slope, intercept) == (1.0, 0.0):
        return stored
    if stored.dtype.itemsize > 2 or not intercept.is_integer() or slope != 1:
        return np.asarray(stored * slope + intercept, dtype=np.float32)
    # Exact in single precision, and four times as fast as by way of doubles.
    return np.add(stored, np.float32(intercept), dtype=np.float32)


def _mirrored(stored: Array, layout: Layout) -> Array:
    if stored.dtype.kind == "f":
        return np.asarray(-stored)
    # The sum of the ends is −1 for signed values and 2ⁿ − 1 for unsigned ones: no difference leaves the type.
    return np.asarray(stored.dtype.type(sum(layout.stored_range)) - stored)


def _modality_table(header: Header, layout: Layout) -> LookUpTable | None:
    item = header.item("ModalityLUTSequence")
    return read_table(item, layout.signed) if item else None


def read_table(item: Header, signed: bool) -> LookUpTable | None:
    """Read a modality or VOI look-up table (PS3.3 C.11.1.1.1); an empty one is none."""
    descriptor, data = item.value("LUTDescriptor"), item.value("LUTData")
    if descriptor is None and data is None:
        return None
    num_entries, first, bits = (int(number) for number in descriptor)
    if isinstance(data, bytes):
        order = "<" if item.dataset.get_item("LUTData").VR != "OW" or _is_little_endian(item) else ">"
        values = np.frombuffer(data, np.dtype(f"{order}u{1 if bits <= 8 and len(data) <= num_entries + 1 else 2}"))
    else:
        values = np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF
    return LookUpTable(_first_entry(first, signed), _all_entries(values, num_entries))


def _is_little_endian(item: Header) -> bool:
    return bool(item.dataset.original_encoding[1] is not False)


def _first_entry(first: int, signed: bool) -> int:
    """The descriptor's second value has the sign of the pixels, whatever the file's value representation says."""
    first &= 0xFFFF
    return first - 2**16 if signed and first >= 2**15 else first


def _all_entries(values: Array, num_entries: int) -> Array:
    num_entries = num_entries % MAX_ENTRIES or MAX_ENTRIES
    if len(values) < num_entries:
        raise ImageError(
            f"A look-up table of the image declares {num_entries} entries and has {len(values)}: it is damaged. Export "
            "the image again from its source."
        )
    return values[:num_entries]


def palette_to_rgb(header: Header, stored: Array, layout: Layout) -> npt.NDArray[np.uint8]:
    """Replace palette indices (frames, rows, columns, 1) by uint8 colours (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6)."""
    if "SegmentedRedPaletteColorLookupTableData" in header:
        colours = apply_color_lut(stored[..., 0], header.dataset)[..., :3]
        return _to_bytes(colours, int(colours.max()) > 255)
    tables = [_palette_table(header, colour, layout) for colour in PALETTE_COLOURS]
    wide = any(int(table.entries.max()) > 255 for table in tables)
    return np.stack([_to_bytes(table.entries, wide)[_indices(table, stored)] for table in tables], axis=-1)


def _indices(table: LookUpTable, stored: Array) -> Array:
    indices = stored[..., 0].astype(np.int64) - table.first
    return np.clip(indices, 0, len(table.entries) - 1, out=indices)


def _to_bytes(entries: Array, wide: bool) -> npt.NDArray[np.uint8]:
    return (entries >> 8 if wide else entries).astype(np.uint8)


def _palette_table(header: Header, colour: str, layout: Layout) -> LookUpTable:
    descriptor = header.value(f"{colour}PaletteColorLookupTableDescriptor")
    data = header.value(f"{colour}PaletteColorLookupTableData")
    num_entries, first, _ = (int(number) for number in descriptor)
    order = "<" if _is_little_endian(header) else ">"
    declared = num_entries % MAX_ENTRIES or MAX_ENTRIES
    # Some files keep one entry a byte, padded to an even length; others one entry in two bytes.
    dtype = np.dtype(np.uint8) if len(data) < 2 * declared else np.dtype(f"{order}u2")
    values = np.frombuffer(data, dtype)
    return LookUpTable(_first_entry(first, layout.signed), _all_entries(values, num_entries))


def read_windows(
    header: Header, layout: Layout, value_range: tuple[float, float], frame: int = 0
) -> tuple[tuple[float, float], ...]:
    """The windows of a grey image in the units of its values: explicit ones, else what a VOI table spreads out.

    Of a multi-frame image, those of one frame. A mirrored image's windows are mirrored with it.
    """
    source = header
    frames = header.items("PerFrameFunctionalGroupsSequence")
    if frame < len(frames):
        shared = header.item("SharedFunctionalGroupsSequence")
        source = functional_group(frames[frame], shared, "FrameVOILUTSequence") or header
    pairs = zip(source.decimals("WindowCenter"), source.decimals("WindowWidth"), strict=False)
    windows = tuple(dict.fromkeys((center, width) for center, width in pairs if width >= 1))
    if not windows and (item := source.item("VOILUTSequence")):
        windows = _table_window(read_table(item, layout.signed and "ModalityLUTSequence" not in header))
    if layout.photometric == "MONOCHROME1":
        # The window of PS3.3 C.11.2.1.2 is symmetric about center − 0.5.
        windows = tuple((value_range[0] + value_range[1] - center + 1, width) for center, width in windows)
    return windows


def _table_window(table: LookUpTable | None) -> tuple[tuple[float, float], ...]:
    """The window over the values that a VOI table tells apart."""
    changes = np.flatnonzero(np.diff(table.entries.astype(np.int64))) if table else np.array([])
    if table is None or not len(changes):
        return ()
    low, high = table.first + int(changes[0]), table.first + int(changes[-1]) + 1
    return (((low + high + 1) / 2, float(high - low + 1)),)
