"""Volumes other than NIfTI: NRRD and MetaImage through SimpleITK, and ``.npz`` archives with their geometry.

SimpleITK decodes, but it believes the header: it allocates what is declared, follows the name of a detached data file
anywhere, and takes compressed MetaImage voxels whose checksum is wrong. So the text header is read here first, and
what it declares is held against the file's size before SimpleITK sees it.

SimpleITK's (x, y, z) index is (column, row, slice), and its coordinates are LPS, as an ``Image``'s are. An NRRD file
without a ``space`` field of the patient, and a MetaImage without any of offset and matrix, give no affine.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images.arrays import read_array
from hounsfield.images.image import Image, Metadata
from hounsfield.images.nifti import DEFLATE_LIMIT
from hounsfield.images.orientation import affine_from_directions, is_usable

# Type names of both formats (teem's nrrd format page; MetaIO's metaTypes.h) -> bytes a value.
VALUE_SIZES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "signed long long int"), 8),
    **dict.fromkeys(("int64", "int64_t", "ulonglong", "unsigned long long", "unsigned long long int"), 8),
    **dict.fromkeys(("uint64", "uint64_t", "double"), 8),
    "float": 4,
    **dict.fromkeys(("met_char", "met_uchar"), 1),
    **dict.fromkeys(("met_short", "met_ushort"), 2),
    **dict.fromkeys(("met_int", "met_uint", "met_long", "met_ulong", "met_float"), 4),
    **dict.fromkeys(("met_long_long", "met_ulong_long", "met_double"), 8),
}

# The micro sign as it is, and as UTF-8 that is read as Latin-1.
MICROMETRES = ("um", "\u00b5m", "\u00c2\u00b5m", "micron", "microns")
# Units of length in an NRRD header -> millimetres.
NRRD_LENGTHS = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6} | dict.fromkeys(MICROMETRES, 0.001)

# NRRD spaces that are those of a patient; a name may end in "-time".
PATIENT_SPACES = frozenset(
    {"right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps"}
)

NRRD_MAGIC = b"NRRD000"
_HEADER_LIMIT = 2**18
_CHUNK = 2**20

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)


@dataclass(frozen=True)
class _Declared:
    """What a text header says, before anything is decoded."""

    sizes: tuple[int, ...]
    value_size: int
    compressed: bool
    data: Path
    offset: int
    placed: bool
    text: bool = False


def read_nrrd(path: Path, max_pixels: int = 2**28, frame: int | None = None) -> Image:
    """Read an NRRD volume (``.nrrd``, or ``.nhdr`` with its data file in the same folder).

    Values keep their stored type. The axis that holds several values a voxel must be red, green and blue; any other
    count is a list of frames.

    Args:
        path: the file.
        max_pixels: the largest number of values accepted, all frames together; checked before memory is taken.
        frame: which frame of a 4D file, from 0; required where there are several.

    Raises:
        ImageError: the file is missing, damaged, truncated, too large, a vector field, or holds several frames of
            which none was chosen.
    """
    fields, end = _text_header(path, ":", NRRD_MAGIC)
    encoding = fields.get("encoding", "").lower()
    if encoding not in {"raw", "gzip", "gz", "text", "txt", "ascii"}:
        _refuse(path, f"is encoded as '{encoding}'", "Expected raw, gzip or text; save it again in one of these.")
    detached = fields.get("data file", fields.get("datafile"))
    declared = _Declared(
        sizes=_integers(fields.get("sizes", ""), path),
        value_size=_value_size(fields.get("type", ""), path),
        compressed=encoding in {"gzip", "gz"},
        data=_beside(path, detached) if detached else path,
        offset=0 if detached else end,
        placed=fields.get("space", "").lower().removesuffix("-time") in PATIENT_SPACES,
        text=encoding in {"text", "txt", "ascii"},
    )
    _check_capacity(declared, path, max_pixels)
    return _in_millimetres(_decode(path, "NrrdImageIO", declared, frame), fields, path)


def _in_millimetres(image: Image, fields: dict[str, str], path: Path) -> Image:
    """The image with the lengths of an NRRD file in millimetres, which an unknown unit is taken for."""
    units = re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", "")))
    found = {NRRD_LENGTHS[unit] for unit in units if unit in NRRD_LENGTHS}
    if len(found) > 1:
        _refuse(
            path, f"measures its axes in several units ({', '.join(units)})", "Expected one; save it in millimetres."
        )
    factor = found.pop() if found else 1.0
    spacing = image.spacing and tuple(length * factor for length in image.spacing)
    affine = None if image.affine is None else np.diag([factor, factor, factor, 1.0]) @ image.affine
    return image.replace(spacing=spacing, affine=affine) if factor != 1 else image


def read_metaimage(path: Path, max_pixels: int = 2**28, frame: int | None = None) -> Image:
    """Read a MetaImage volume (``.mha``, or ``.mhd`` with its data file in the same folder).

    The arguments, what is returned and what is raised are those of ``read_nrrd``.
    """
    fields, end = _text_header(path, "=", b"")
    detached = fields.get("elementdatafile", "")
    local = detached.upper() == "LOCAL"
    declared = _Declared(
        sizes=_integers(f"{fields.get('dimsize', '')} {fields.get('elementnumberofchannels', '1')}", path),
        value_size=_value_size(fields.get("elementtype", ""), path),
        compressed=fields.get("compresseddata", "").lower() in {"true", "t", "1", "y", "yes"},
        data=path if local else _beside(path, detached),
        offset=end if local else 0,
        placed=not fields.keys().isdisjoint(
            {"offset", "position", "origin", "transformmatrix", "rotation", "orientation"}
        ),
        text=fields.get("binarydata", "true").lower() in {"false", "f", "0", "n", "no"},
    )
    _check_capacity(declared, path, max_pixels)
    return _decode(path, "MetaImageIO", declared, frame)


def read_npz(path: Path, max_pixels: int = 2**28) -> Image:
    """Read an ``.npz`` archive: ``pixels`` with the optional ``spacing`` and ``affine`` beside it, or a single array.

    ``pixels`` has its channels last; a single array has any of the shapes that ``.npy`` files have.

    Raises:
        ImageError: the archive is damaged, holds other arrays as well, or its geometry does not fit its pixels.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
        if "pixels.npy" not in sizes or len(sizes) == 1:
            return read_array(path, max_pixels)
        if not sizes.keys() <= {"pixels.npy", "spacing.npy", "affine.npy"}:
            _refuse(
                path, f"holds the arrays {sorted(sizes)}", "Expected 'pixels', with 'spacing' and 'affine' or none."
            )
        if max(size for name, size in sizes.items() if name != "pixels.npy") > 4096:
            _refuse(path, "holds a geometry of more than 4,096 bytes", "Expected 2 or 3 spacings and a 4×4 matrix.")
        return _read_archive(path, sizes["pixels.npy"], max_pixels)
    # NumPy's header parser raises SyntaxError and its kin for damaged headers.
    except (OSError, EOFError, ValueError, SyntaxError, KeyError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path, error) from error
    except (zipfile.BadZipFile, zlib.error, OverflowError, TypeError) as error:
        raise _damaged(path, error) from error


def _read_archive(path: Path, size: int, max_pixels: int) -> Image:
    with zipfile.ZipFile(path) as archive, archive.open("pixels.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in "biuf" or math.prod(shape) > max_pixels or math.prod(shape) * dtype.itemsize > size:
            _refuse(
                path,
                f"declares pixels of shape {shape} and type {dtype} in {size:,} bytes",
                f"Expected numbers, at most {max_pixels:,} of them, and all of them there.",
            )
    if size > path.stat().st_size * DEFLATE_LIMIT:
        _refuse(path, f"declares {size:,} bytes of pixels", "That is more than an archive of its size can hold.")
    with np.load(path, allow_pickle=False) as arrays:
        spacing = tuple(float(value) for value in arrays["spacing"]) if "spacing" in arrays else None
        affine = arrays["affine"].astype(np.float64) if "affine" in arrays else None
        pixels = arrays["pixels"]
    if affine is not None and not (affine.shape == (4, 4) and is_usable(affine)):
        _refuse(path, f"holds the affine {affine.tolist()}", "Expected an invertible 4×4 matrix.")
    if spacing is not None and not all(math.isfinite(length) and length > 0 for length in spacing):
        _refuse(path, f"holds the spacing {spacing}", "Expected a positive number of millimetres for each axis.")
    return Image(pixels=pixels, spacing=spacing, affine=affine)


def _refuse(path: Path, found: str, remedy: str) -> NoReturn:
    raise ImageError(f"'{path}' {found}. {remedy}")


def _damaged(path: Path, error: Exception) -> ImageError:
    reason = " ".join(str(error).split())[-200:]
    return ImageError(
        f"'{path}' cannot be read: {reason}. Expected an undamaged volume; copy it again from its source."
    )


def _text_header(path: Path, separator: str, magic: bytes) -> tuple[dict[str, str], int]:
    """The fields, names in lower case, and the byte after the header."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_LIMIT)
    except OSError as error:
        raise ImageError(f"'{path}' cannot be opened: {error.strerror}. Check the path.") from error
    fields: dict[str, str] = {}
    position = 0
    while start.startswith(magic) and (stop := start.find(b"\n", position)) >= 0:
        line = start[position:stop].decode("latin-1").rstrip("\r")
        position = stop + 1
        if separator == ":" and not line:
            return fields, position
        name, found, value = line.partition(separator)
        if found and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == "elementdatafile":
            return fields, position
    if start.startswith(magic) and len(start) < _HEADER_LIMIT and ("data file" in fields or "datafile" in fields):
        return fields, len(start)
    _refuse(path, "has no complete header", "Expected the text header of an NRRD or MetaImage file.")


def _integers(text: str, path: Path) -> tuple[int, ...]:
    words = text.split()
    if not words or not all(word.isdecimal() and len(word) < 19 and int(word) > 0 for word in words):
        _refuse(path, f"declares the sizes '{text}'", "Expected positive whole numbers; the header is damaged.")
    return tuple(int(word) for word in words)


def _value_size(name: str, path: Path) -> int:
    size = VALUE_SIZES.get(name.lower())
    if size is None:
        _refuse(path, f"stores values of the type '{name}'", "Expected plain integers or floats; convert it first.")
    return size


def _beside(path: Path, name: str) -> Path:
    """A detached data file; one that lies elsewhere, or a list of them, is refused."""
    if not name or "%" in name or name.upper().startswith("LIST") or Path(name).name != name:
        _refuse(
            path,
            f"points to the data file '{name}'",
            "Expected the name of one file in the same folder; save the volume as one file (.nrrd or .mha).",
        )
    return path.with_name(name)


def _check_capacity(declared: _Declared, path: Path, max_pixels: int) -> None:
    count = math.prod(declared.sizes)
    if count > max_pixels:
        _refuse(
            path,
            f"declares {' × '.join(map(str, declared.sizes))} = {count:,} values, more than the {max_pixels:,} allowed",
            "If the file is what it says, raise max_pixels; else its header is damaged.",
        )
    if not declared.data.is_file():
        _refuse(path, f"keeps its voxels in '{declared.data.name}', which is not there", "Put the two files together.")
    available = declared.data.stat().st_size - declared.offset
    capacity = available * DEFLATE_LIMIT if declared.compressed else available
    needed = count if declared.text else count * declared.value_size
    if needed > capacity:
        _refuse(
            path,
            f"declares {needed:,} bytes of voxels, more than its {available:,} bytes can hold",
            "The file is truncated, or its header is damaged; copy it again from its source.",
        )
    if declared.compressed:
        _check_deflated(declared, path)


def _check_deflated(declared: _Declared, path: Path) -> None:
    """Run through the compressed voxels once: their length and checksum must be right."""
    inflate = zlib.decompressobj(47)
    missing = math.prod(declared.sizes) * declared.value_size
    try:
        with declared.data.open("rb") as file:
            file.seek(declared.offset)
            while not inflate.eof and missing >= 0 and (piece := inflate.unconsumed_tail or file.read(_CHUNK)):
                missing -= len(inflate.decompress(piece, _CHUNK))
    except (OSError, zlib.error) as error:
        raise _damaged(path, error) from error
    if not inflate.eof or missing != 0:
        _refuse(path, "holds compressed voxels of another length than declared", "Copy it again from its source.")


def _decode(path: Path, reader_name: str, declared: _Declared, frame: int | None) -> Image:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(reader_name)
    try:
        reader.ReadImageInformation()
        size, components = list(reader.GetSize()), reader.GetNumberOfComponents()
        if math.prod(size) * components != math.prod(declared.sizes):
            _refuse(path, f"declares the sizes {declared.sizes}, understood as {size}", "The header is damaged.")
        floating = "float" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
        frames = _num_frames(size, components, floating=floating, path=path)
        chosen = _frame(frames, frame, size[2::-1], path)
        if len(size) == 4:
            reader.SetExtractSize([*size[:3], 0])
            reader.SetExtractIndex([0, 0, 0, chosen])
        decoded = reader.Execute()
        pixels: NDArray[Any] = SimpleITK.GetArrayFromImage(decoded)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise _damaged(path, error) from error
    if components == 1:
        pixels = pixels[..., np.newaxis]
    elif components in {3, 4}:
        pixels = pixels[..., :3]
    else:
        pixels = pixels[..., chosen, np.newaxis]
    return _placed(pixels, reader, declared.placed, path)


def _num_frames(size: list[int], components: int, *, floating: bool, path: Path) -> int:
    if components == 3 and floating:
        _refuse(path, "holds three real numbers a voxel: a vector field", "Expected an image; a deformation is none.")
    if len(size) not in {2, 3, 4} or (len(size) == 4 and components > 1):
        _refuse(path, f"has {len(size)} axes of sizes {size} and {components} values a voxel", "Expected one volume.")
    if len(size) == 4:
        return size[3]
    return 1 if components in {1, 3, 4} else components


def _frame(frames: int, frame: int | None, shape: list[int], path: Path) -> int:
    if frame is None and frames > 1:
        raise SeveralVolumes(path, [f"{'×'.join(map(str, shape))} voxels"] * frames)
    if frame is not None and not 0 <= frame < frames:
        _refuse(path, f"holds {frames} volume(s), and number {frame} was asked for", "They count from 0.")
    return frame or 0


def _placed(pixels: NDArray[Any], reader: SimpleITK.ImageFileReader, placed: bool, path: Path) -> Image:
    """Add the geometry; a 2D image lies in the plane z = 0 where the header says no more."""
    rank, dimension = pixels.ndim - 1, reader.GetDimension()
    bits = pixels.dtype.itemsize * 8 if pixels.dtype.kind in "iu" else None
    origin, spacing, directions = np.zeros(3), np.ones(3), np.eye(3)
    given = min(dimension, 3)
    origin[:given] = reader.GetOrigin()[:given]
    spacing[:given] = reader.GetSpacing()[:given]
    directions[:given, :given] = np.reshape(reader.GetDirection(), (dimension, dimension))[:given, :given]
    affine = affine_from_directions(origin, spacing, directions)
    if not is_usable(affine):
        _refuse(path, f"gives the geometry {affine.tolist()}", "Expected an invertible matrix; correct the header.")
    return Image(
        pixels=pixels,
        spacing=tuple(float(length) for length in spacing[:rank][::-1]),
        affine=affine if placed and rank == 3 else None,
        metadata=Metadata(bits=bits),
    )
