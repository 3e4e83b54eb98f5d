"""How a DICOM pixel element is laid out: what its header declares, checked before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hounsfield.errors import ImageError
from hounsfield.images.dicom_header import Header

GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
# Photometric interpretations and how many samples a pixel has in each (PS3.3 C.7.6.3.1.2).
SAMPLES = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_RCT": 3,
    "YBR_ICT": 3,
}
# Colour models of the standard without a reader (PS3.3 C.7.6.3.1.2). Any other text is not repeated in errors: it may
# be a patient's name that a damaged file has there.
UNREAD = frozenset({"ARGB", "CMYK", "HSV", "XYB", "YBR_PARTIAL_420", "YBR_PARTIAL_422"})
BITS_ALLOCATED = (1, 8, 16, 32, 64)
MAX_SIDE = 2**16 - 1


@dataclass(frozen=True)
class Layout:
    """How a pixel element is laid out, as its header declares it and as its limits have been checked."""

    rows: int
    columns: int
    frames: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def count(self) -> int:
        """The number of values."""
        return self.rows * self.columns * self.frames * self.samples

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(frames, rows, columns, samples)."""
        return self.frames, self.rows, self.columns, self.samples

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest value that the stored bits can hold."""
        if self.signed:
            return -(2 ** (self.bits_stored - 1)), 2 ** (self.bits_stored - 1) - 1
        return 0, 2**self.bits_stored - 1


def read_layout(header: Header, path: Path, max_pixels: int) -> Layout:
    """Read and check how the pixels are laid out, before anything is allocated.

    Raises:
        ImageError: an element is missing or impossible, or the header declares more than ``max_pixels`` values.
    """
    integer = header.integer
    rows, columns, allocated = integer("Rows"), integer("Columns"), integer("BitsAllocated")
    if not rows or not columns or not allocated or rows > MAX_SIDE or columns > MAX_SIDE:
        raise ImageError(
            f"{path} declares {rows} rows, {columns} columns and {allocated} bits per sample, which is no image: each "
            "must be a positive number. Export it again from its source."
        )
    layout = Layout(
        rows=rows,
        columns=columns,
        frames=_number_of_frames(header, path),
        samples=integer("SamplesPerPixel") or 1,
        bits_allocated=allocated,
        bits_stored=_or_default(integer("BitsStored"), allocated),
        high_bit=_or_default(integer("HighBit"), _or_default(integer("BitsStored"), allocated) - 1),
        signed=integer("PixelRepresentation") == 1,
        photometric=header.text("PhotometricInterpretation") or "",
        planar=integer("PlanarConfiguration") == 1,
    )
    check_layout(layout, path, max_pixels)
    return layout


def _number_of_frames(header: Header, path: Path) -> int:
    if "NumberOfFrames" not in header or header.text("NumberOfFrames") is None:
        return 1
    frames = header.integer("NumberOfFrames")
    if frames is None or frames < 1:
        raise ImageError(f"{path} declares {frames} frames: expected one or more. Export it again from its source.")
    return frames


def _or_default(value: int | None, default: int) -> int:
    return default if value is None else value


def check_layout(layout: Layout, path: Path, max_pixels: int) -> None:
    """Refuse a layout that is impossible, or of more than ``max_pixels`` values."""
    if layout.count > max_pixels:
        raise ImageError(
            f"{path} declares {layout.frames} × {layout.rows} × {layout.columns} × {layout.samples} values, more than "
            f"the limit of {max_pixels}. Raise the limit with --max-pixels if the memory is there."
        )
    if SAMPLES.get(layout.photometric) != layout.samples:
        known = layout.photometric in SAMPLES or layout.photometric in UNREAD
        named = f"the colour model {layout.photometric}" if known else "no colour model of the standard"
        raise ImageError(
            f"{path} declares {named} with {layout.samples} samples a pixel: expected one of {', '.join(SAMPLES)}, "
            "with one sample for grey and palettes and three for colour. Convert it with the tool that wrote it."
        )
    if layout.bits_allocated not in BITS_ALLOCATED or not 1 <= layout.bits_stored <= layout.bits_allocated:
        raise ImageError(
            f"{path} declares {layout.bits_stored} bits stored in {layout.bits_allocated} allocated: expected 1, 8, "
            "16, 32 or 64 allocated and no more stored. Export it again from its source."
        )
    if not layout.bits_stored - 1 <= layout.high_bit < layout.bits_allocated:
        raise ImageError(
            f"{path} declares {layout.bits_stored} bits stored below the high bit {layout.high_bit} of "
            f"{layout.bits_allocated} allocated, which do not fit. Export it again from its source."
        )
