"""NRRD volumes: ``.nrrd``, and ``.nhdr`` with its data file beside it.

The format is that of teem's "Definition of NRRD File Format". Its axes are listed from the fastest, (column, row,
slice); RAS and LAS coordinates become LPS, those of an ``Image``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hounsfield.images.image import Image, Metadata
from hounsfield.images.limits import MAX_PIXELS
from hounsfield.images.orientation import Affine, is_usable
from hounsfield.images.text_volumes import (
    Voxels,
    beside,
    decode,
    header_lines,
    header_start,
    known_lengths,
    numbers,
    positive_integers,
    refuse,
)
from hounsfield.images.volumes import alike, chosen_volume

MAGIC = "NRRD000"
# type -> NumPy type.
TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), "i8"),
    **dict.fromkeys(("int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
GZIPPED, TEXT = frozenset({"gzip", "gz"}), frozenset({"text", "txt", "ascii"})

# The micro sign as it is, and as UTF-8 that is read as Latin-1.
MICROMETRES = ("um", "\u00b5m", "\u00c2\u00b5m", "micron", "microns")
# Units of length -> millimetres.
LENGTHS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6} | dict.fromkeys(MICROMETRES, 0.001)

# Spaces that are those of a patient -> the signs that make them LPS; a name may end in "-time".
SPACES = {
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
}

# Kinds of axes along which samples lie in space, or that say nothing ("???" and "none").
SPATIAL_KINDS = frozenset({"domain", "space", "???", "none"})
COLOURS = {"rgb-color": 3, "3-color": 3, "rgba-color": 4, "4-color": 4}
# Of these the last value is transparency.
TRANSPARENT = frozenset({"rgba-color"})

Fields = dict[str, str]


@dataclass(frozen=True)
class _Axes:
    """What the axes of a file are.

    Attributes:
        sizes: of all of them, the fastest first.
        values: the axis along which a voxel's values or the volumes lie, if there is one.
        kind: of that axis, in lower case.
        directions: (3 coordinates, axis) of the spatial axes, where they are given.
    """

    sizes: tuple[int, ...]
    values: int | None
    kind: str
    directions: NDArray[np.float64] | None

    @property
    def spatial(self) -> list[int]:
        return [axis for axis in range(len(self.sizes)) if axis != self.values]


def read_nrrd(path: Path, max_pixels: int = MAX_PIXELS, volume: int | None = None) -> Image:
    """Read an NRRD volume. Values keep their stored type.

    An axis that holds three or four values a voxel holds its channels, of "RGBA-color" without transparency; any other
    count is a list of volumes. A spacing that is missing or not a number is unknown, and so is a position without
    ``space directions`` in a space of the patient.

    Args:
        path: the file.
        max_pixels: the largest number of values accepted, all volumes together; checked before memory is taken.
        volume: which volume of a 4D file, from 0; required where there are several.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large, a vector field, or holds several volumes
            of which none was chosen.
    """
    fields, end = _header(path)
    axes = _axes(fields, path)
    voxels = _voxels(fields, axes.sizes, end, path)
    several = _are_channels(axes, voxels.dtype, path)
    count = 1 if axes.values is None else axes.sizes[axes.values]
    shape = [axes.sizes[axis] for axis in reversed(axes.spatial)]
    chosen = chosen_volume(alike(shape, 1 if several else count), volume, path)
    spacing, affine = _geometry(fields, axes, path)
    values = decode(voxels, path, max_pixels)
    if axes.values is None:
        values = values[..., np.newaxis]
    else:
        values = np.moveaxis(values, len(axes.sizes) - 1 - axes.values, -1)
    pixels = (values[..., :3] if axes.kind in TRANSPARENT else values) if several else values[..., chosen, np.newaxis]
    bits = pixels.dtype.itemsize * 8 if pixels.dtype.kind in "iu" else None
    return Image(pixels=pixels, spacing=spacing, affine=affine, metadata=Metadata(bits=bits))


def _header(path: Path) -> tuple[Fields, int]:
    """The fields, names in lower case, and the byte after the header, which an empty line or a detached file ends."""
    fields: Fields = {}
    lines = header_lines(header_start(path))
    if not lines or not lines[0][0].startswith(MAGIC):
        return refuse(path, "has no complete header", "Expected the text header of an NRRD file.")
    for line, position in lines[1:]:
        if not line:
            return fields, position
        name, found, value = line.partition(":")
        # "name:=value" are remarks of whoever wrote the file.
        if found and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    if "data file" in fields or "datafile" in fields:
        return fields, lines[-1][1]
    return refuse(path, "has no complete header", "Expected the text header of an NRRD file.")


def _voxels(fields: Fields, sizes: tuple[int, ...], end: int, path: Path) -> Voxels:
    encoding = fields.get("encoding", "").lower()
    if encoding not in {"raw"} | GZIPPED | TEXT:
        refuse(path, f"is encoded as '{encoding}'", "Expected raw, gzip or text; save it again in one of these.")
    name = TYPES.get(fields.get("type", "").lower())
    if name is None:
        refuse(
            path, f"stores values of the type '{fields.get('type', '')}'", "Expected plain integers or floats; "
            "convert it first."
        )  # fmt: skip
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "").lower())
    if order is None and name[1] != "1" and encoding not in TEXT:
        refuse(path, "does not say in which order its bytes stand", "Expected 'endian: little' or 'endian: big'.")
    skips = [fields.get(f"{unit} skip", fields.get(f"{unit}skip", "0")) for unit in ("line", "byte")]
    whole = [word.isdecimal() and len(word) < 19 for word in skips]
    if not whole[0] or not (whole[1] or (skips[1] == "-1" and encoding == "raw")):
        refuse(path, f"leaves out '{skips[0]}' lines and '{skips[1]}' bytes", "Expected numbers; correct the header.")
    detached = fields.get("data file", fields.get("datafile"))
    return Voxels(
        sizes=sizes,
        dtype=np.dtype(f"{order or '<'}{name}"),
        path=beside(path, detached) if detached else path,
        offset=0 if detached else end,
        lines=int(skips[0]),
        compressed=encoding in GZIPPED,
        skip=None if skips[1] == "-1" else int(skips[1]),
        text=encoding in TEXT,
    )


def _axes(fields: Fields, path: Path) -> _Axes:
    sizes = positive_integers(fields.get("sizes", ""), path)
    if fields.get("dimension", "") != str(len(sizes)):
        refuse(path, f"declares {fields.get('dimension')} dimensions and the sizes {sizes}", "The header is damaged.")
    kinds = fields.get("kinds", "").lower().split() or ["???"] * len(sizes)
    vectors = _directions(fields, len(sizes), path)
    if len(kinds) != len(sizes):
        refuse(path, f"gives the kinds {kinds} for {len(sizes)} axes", "Expected one for each; correct the header.")
    others = [axis for axis, kind in enumerate(kinds) if kind not in SPATIAL_KINDS or (vectors and not vectors[axis])]
    if len(sizes) == 4 and not others:
        others = [3]
    spatial = [axis for axis in range(len(sizes)) if axis not in others]
    if len(others) > 1 or len(spatial) not in {2, 3}:
        refuse(path, f"has axes of the sizes {sizes} and the kinds {kinds}", "Expected one volume.")
    found = [vectors[axis] for axis in spatial] if vectors else []
    directions = np.array(found, dtype=np.float64).T if found and all(found) else None
    values = others[0] if others else None
    return _Axes(sizes, values, kinds[values] if values is not None else "", directions)


def _directions(fields: Fields, rank: int, path: Path) -> list[tuple[float, ...]]:
    """Three coordinates of each axis' step in space, empty for one that has none; nothing where none are given."""
    text = fields.get("space directions", "")
    words = re.findall(r"none|\([^()]*\)", text)
    if not text:
        return []
    vectors = [() if word == "none" else tuple(_vector(word, path)[:3]) for word in words]
    if len(vectors) != rank or len({len(vector) for vector in vectors if vector}) > 1:
        refuse(path, f"gives '{text}' as space directions", "Expected a vector for each axis; correct the header.")
    # A step in time alone, of a space with time, and one that is no number are none in space.
    return [vector if np.any(vector) and not np.isnan(vector).all() else () for vector in vectors]


def _vector(text: str, path: Path) -> list[float]:
    parts = text.strip("()").split(",")
    return [float(number) for number in numbers(" ".join(parts), len(parts), "a vector", path)]


def _are_channels(axes: _Axes, dtype: np.dtype[Any], path: Path) -> bool:
    """Whether a voxel's values are its channels, such as red, green and blue, and not a list of volumes."""
    if axes.values is None:
        return False
    count = axes.sizes[axes.values]
    if axes.kind in COLOURS:
        if count != COLOURS[axes.kind]:
            refuse(path, f"has {count} values of the kind '{axes.kind}'", "The header is damaged.")
        return True
    if axes.values == len(axes.sizes) - 1 or axes.kind in {"list", "time"}:
        return False
    if count == 3 and dtype.kind == "f":
        refuse(path, "holds three real numbers a voxel: a vector field", "Expected an image; a deformation is none.")
    return count in {3, 4}


def _geometry(fields: Fields, axes: _Axes, path: Path) -> tuple[tuple[float, ...] | None, Affine | None]:
    """Spacing and affine in millimetres, which an unknown unit is taken for."""
    spatial = axes.spatial
    if axes.directions is None:
        text = fields.get("spacings")
        if text is None:
            return None, None
        lengths = numbers(text, len(axes.sizes), "spacings", path)[spatial]
    else:
        lengths = np.linalg.norm(axes.directions, axis=0)
    factor = _millimetres(fields, path)
    found = known_lengths(lengths * factor, path)
    if found is None:
        return None, None
    spacing = tuple(float(length) for length in found[::-1])
    signs = SPACES.get(fields.get("space", "").lower().removesuffix("-time"))
    if axes.directions is None or signs is None or axes.directions.shape != (3, 3):
        return spacing, None
    origin = _vector(fields["space origin"], path)[:3] if "space origin" in fields else [0.0] * 3
    affine = np.eye(4)
    affine[:3, :3] = axes.directions[:, ::-1]
    affine[: len(origin), 3] = origin
    affine[:3] *= factor * np.array(signs)[:, np.newaxis]
    affine += 0.0  # a negative zero means nothing and reads badly
    if not is_usable(affine) or len(origin) != 3:
        refuse(path, f"gives the geometry {affine.tolist()}", "Expected an invertible matrix; correct the header.")
    return spacing, affine


def _millimetres(fields: Fields, path: Path) -> float:
    """How many millimetres the file's unit of length is."""
    units = re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", "")))
    found = {LENGTHS[unit] for unit in units if unit in LENGTHS}
    if len(found) > 1:
        refuse(
            path, f"measures its axes in several units ({', '.join(units)})", "Expected one; save it in millimetres."
        )
    return found.pop() if found else 1.0
