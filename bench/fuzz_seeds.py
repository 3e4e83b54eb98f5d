"""True files for ``fuzz.py``, small and of every kind that is read: made here, and from the data folder where it is."""

from __future__ import annotations

import gzip
import io
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pydicom
import SimpleITK
import tifffile
from PIL import Image as Pillow
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    SegmentationStorage,
    VLWholeSlideMicroscopyImageStorage,
)

from hounsfield.images import Image
from hounsfield.images.dicom_writer import write_multiframe

LARGEST_SEED = 40_000
RANDOM = np.random.default_rng(0)
VOLUME = RANDOM.integers(0, 100, (5, 6, 7))
COLOUR = RANDOM.integers(0, 255, (12, 10, 3)).astype(np.uint8)


@dataclass(frozen=True)
class Seed:
    """A true file, how much of it is header, its suffix, and a second file that belongs to it."""

    content: bytes
    header: int
    suffix: str
    second: tuple[str, bytes] | None = None


def dicom_seeds(data: Path) -> list[Seed]:
    pixels = RANDOM.integers(-1000, 1000, (3, 12, 10, 1)).astype(np.int16)
    affine = np.diag([3.0, 0.7, 0.7, 1.0])[[2, 1, 0, 3]]
    images = [
        Image(pixels=pixels[0]),
        Image(pixels=pixels, affine=affine, spacing=(3.0, 0.7, 0.7)),
        Image(pixels=COLOUR),
    ]
    contents = []
    for image in images:
        content = written(image)
        syntaxes = (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)
        contents += [content, *(transcoded(content, syntax) for syntax in syntaxes)]
    contents += [path.read_bytes() for path in small_files(data / "dicom-zoo")]
    return [dicom_seed(content) for content in contents]


def volume_dicom_seeds(data: Path) -> list[Seed]:
    """Mosaics, segmentations, tiles of slides, and frames of several volumes."""
    made = [mosaic(), *segmentations(), slide(), several_volumes(), real_world_values()]
    contents = [encoded(dataset) for dataset in made]
    contents += [transcoded(content, DeflatedExplicitVRLittleEndian) for content in contents]
    series = (data / "vendor-series").glob("*") if (data / "vendor-series").is_dir() else []
    contents += [path.read_bytes() for folder in series for path in small_files(folder)[:2]]
    return [dicom_seed(content) for content in contents]


def dicom_seed(content: bytes) -> Seed:
    return Seed(content, max(200, content.rfind(b"\xe0\x7f\x10\x00")), ".dcm")


def small_files(folder: Path) -> list[Path]:
    paths = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [path for path in paths if path.is_file() and path.stat().st_size <= LARGEST_SEED]


def written(image: Image) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")
        write_multiframe(image, path)
        return path.read_bytes()


def encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def transcoded(content: bytes, syntax: str) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def dicom(pixels: np.ndarray, kind: str, modality: str, **values: Any) -> Dataset:
    """An object of grey frames, as ``write_multiframe`` makes it, turned into another kind."""
    made = pydicom.dcmread(io.BytesIO(written(Image(pixels=pixels[..., np.newaxis]))))
    made.SOPClassUID, made.Modality = kind, modality
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        made.pop(keyword, None)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def mosaic() -> Dataset:
    pixels = RANDOM.integers(0, 900, (32, 32)).astype(np.uint16)
    made = dicom(pixels, MRImageStorage, "MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], **place())
    made.Manufacturer = "SIEMENS"
    made.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    made.add_new(0x0019100A, "US", 14)
    made.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    made.add_new(0x00291010, "OB", csa_header())
    return made


def csa_header() -> bytes:
    """Siemens's own header with the normal of the slices, as dcm2niix and nibabel read it."""
    values = b"".join(struct.pack("<4i", 8, 8, 77, 8) + text.encode().ljust(8, b"\0") for text in ("0.0", "0.0", "1.0"))
    tag = b"SliceNormalVector".ljust(64, b"\0") + struct.pack("<i4sIII", 3, b"FD\0\0", 4, 3, 77)
    return b"SV10\4\3\2\1" + struct.pack("<II", 1, 77) + tag + values


def place() -> dict[str, Any]:
    return {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 2]}


def frames(made: Dataset, per_frame: list[dict[str, Any]]) -> Dataset:
    """Functional groups: a position for each frame, and what distinguishes it."""
    measures = item(PixelSpacing=[0.7, 0.8], SliceThickness="2")
    orientation = item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    made.SharedFunctionalGroupsSequence = [
        item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation])
    ]
    made.PerFrameFunctionalGroupsSequence = [item(**groups) for groups in per_frame]
    return made


def at(depth: float) -> dict[str, Any]:
    return {"PlanePositionSequence": [item(ImagePositionPatient=[0, 0, depth])]}


def segmentations() -> list[Dataset]:
    """Six frames of two segments: single bits, fractions, and a label map."""
    groups = [
        {**at(2.0 * (index % 3)), "SegmentIdentificationSequence": [item(ReferencedSegmentNumber=1 + index // 3)]}
        for index in range(6)
    ]
    segments = [item(SegmentNumber=number, SegmentLabel=f"part {number}") for number in (1, 2)]
    bits = RANDOM.integers(0, 2, (6, 8, 8)).astype(np.uint8)
    shared = {"SegmentSequence": segments, "NumberOfFrames": 6}
    binary = frames(dicom(bits, SegmentationStorage, "SEG", SegmentationType="BINARY", **shared), groups)
    binary.BitsAllocated = binary.BitsStored = 1
    binary.HighBit, binary.PixelData = 0, np.packbits(bits, bitorder="little").tobytes()
    fractional = dicom(bits * 200, SegmentationStorage, "SEG", SegmentationType="FRACTIONAL", **shared)
    fractional.MaximumFractionalValue = 255
    labels = dicom(bits * 2, SegmentationStorage, "SEG", SegmentationType="LABELMAP", **shared)
    return [binary, frames(fractional, groups), frames(labels, [at(2.0 * index) for index in range(6)])]


def slide() -> Dataset:
    """A whole slide of 20 × 24 pixels in four tiles."""
    tiles = RANDOM.integers(0, 255, (4, 16, 16)).astype(np.uint8)
    made = dicom(tiles, VLWholeSlideMicroscopyImageStorage, "SM", ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    made.TotalPixelMatrixColumns, made.TotalPixelMatrixRows, made.DimensionOrganizationType = 24, 20, "TILED_FULL"
    made.TotalPixelMatrixOriginSequence = [item(XOffsetInSlideCoordinateSystem=1, YOffsetInSlideCoordinateSystem=2)]
    made.ImageOrientationSlide, made.NumberOfOpticalPaths, made.TotalPixelMatrixFocalPlanes = [0, 1, 0, 1, 0, 0], 1, 1
    return made


def several_volumes() -> Dataset:
    """Two b-values at three positions."""
    pixels = RANDOM.integers(0, 900, (6, 8, 8)).astype(np.uint16)
    groups = [
        {
            **at(2.0 * (index // 2)),
            "MRDiffusionSequence": [item(DiffusionBValue=1000.0 * (index % 2))],
            "FrameContentSequence": [item(StackID="1", DimensionIndexValues=[1 + index // 2, 1 + index % 2])],
        }
        for index in range(6)
    ]
    return frames(dicom(pixels, EnhancedMRImageStorage, "MR"), groups)


def real_world_values() -> Dataset:
    pixels = RANDOM.integers(0, 900, (8, 8)).astype(np.uint16)
    unit = item(CodeValue="mm2/s", CodingSchemeDesignator="UCUM", CodeMeaning="mm2/s")
    mapping = item(
        RealWorldValueFirstValueMapped=0,
        RealWorldValueLastValueMapped=900,
        RealWorldValueIntercept=0.0,
        RealWorldValueSlope=0.5,
        MeasurementUnitsCodeSequence=[unit],
    )
    for keyword in ("RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped"):
        mapping[keyword].VR = "US"
    return dicom(pixels, MRImageStorage, "MR", RealWorldValueMappingSequence=[mapping], **place())


def nifti_seeds(data: Path) -> list[Seed]:
    seeds = []
    for dtype in ("int16", "uint8", "float32", "float64"):
        for kind, size in ((nibabel.Nifti1Image, 352), (nibabel.Nifti2Image, 544)):
            image = kind(VOLUME.T.astype(dtype), np.diag([2.0, 2, 3, 1]))
            image.set_qform(image.affine, 1)
            seeds.append(Seed(image.to_bytes(), size, ".nii"))
    values = VOLUME.T.astype("int16")
    big = nibabel.Nifti1Image(values, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    seeds += [
        Seed(big.to_bytes(), 352, ".nii"),
        Seed(nibabel.Nifti1Image(values[..., None], np.eye(4)).to_bytes(), 352, ".nii"),
        Seed(nibabel.Nifti1Image(np.stack([values] * 2, -1), np.eye(4)).to_bytes(), 352, ".nii"),
    ]
    real = [path for path in small_files(data / "nifti") if path.name.endswith(".nii.gz")]
    return seeds + [
        Seed(gzip.decompress(path.read_bytes()), 352, ".nii") for path in real if path.stat().st_size < 8000
    ]


def pair_seeds(_data: Path) -> list[Seed]:
    """Headers with their pixels in a second file: NIfTI, NRRD, MetaImage."""
    seeds = []
    for dtype in ("int16", "float32"):
        image = nibabel.Nifti1Pair(VOLUME.T.astype(dtype), np.diag([2.0, 2, 3, 1]))
        files = {name: nibabel.FileHolder(fileobj=io.BytesIO()) for name in ("header", "image")}
        image.to_file_map(files)
        header, pixels = (files[name].fileobj.getvalue() for name in ("header", "image"))
        seeds += [Seed(header, 348, ".hdr", (".img", pixels)), Seed(pixels, len(pixels), ".img", (".hdr", header))]
    for suffix, second in ((".nhdr", ".raw"), (".mhd", ".raw")):
        header, pixels = by_itk(suffix, compressed=False)
        seeds.append(Seed(header, len(header), suffix, (second, pixels)))
    return seeds


def by_itk(suffix: str, *, compressed: bool, dtype: str = "int16") -> tuple[bytes, bytes]:
    """A volume as SimpleITK writes it: its file, and that of its pixels if there is one."""
    volume = SimpleITK.GetImageFromArray(VOLUME.astype(dtype))
    volume.SetSpacing((2.0, 2.0, 3.0))
    with tempfile.TemporaryDirectory() as folder:
        SimpleITK.WriteImage(volume, f"{folder}/{NAME}{suffix}", compressed)
        second = [path.read_bytes() for path in Path(folder).iterdir() if path.suffix == ".raw"]
        return Path(folder, f"{NAME}{suffix}").read_bytes(), second[0] if second else b""


# What a mutated file is called, so that a header finds its second file.
NAME = "mutant"


def text_header_seeds(_data: Path) -> list[Seed]:
    """NRRD and MetaImage in one file."""
    seeds = []
    for suffix in (".nrrd", ".mha"):
        for compressed in (False, True):
            for dtype in ("int16", "float32"):
                content, _ = by_itk(suffix, compressed=compressed, dtype=dtype)
                seeds.append(Seed(content, content.find(b"\n\n") + 2 or 300, suffix))
    return seeds


def freesurfer_seeds(_data: Path) -> list[Seed]:
    seeds = []
    for dtype in ("uint8", "int16", "int32", "float32"):
        image = nibabel.MGHImage(VOLUME.T.astype(dtype), np.diag([2.0, 2, 3, 1]))
        seeds.append(Seed(image.to_bytes(), 284, ".mgh"))
    return [*seeds, *(Seed(gzip.compress(seed.content, 1, mtime=0), 120, ".mgz") for seed in seeds)]


def png_seeds(data: Path) -> list[Seed]:
    shapes = [((9, 11), "uint8"), ((9, 11), "uint16"), ((9, 11, 3), "uint8"), ((9, 11, 4), "uint8")]
    arrays = [RANDOM.integers(0, 255, shape).astype(dtype) for shape, dtype in [*shapes, ((9, 11, 3), "uint16")]]
    contents = [cv2.imencode(".png", array)[1].tobytes() for array in arrays]
    palette = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)) + chunk(b"PLTE", bytes(range(30)))
    palette += chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    real = sorted(data.glob("chest-xray-subgroups/**/*.png"))[:2] if data.is_dir() else []
    contents += [
        b"\x89PNG\r\n\x1a\n" + palette,
        *(path.read_bytes() for path in real if path.stat().st_size < LARGEST_SEED),
    ]
    return [Seed(content, 41, ".png") for content in contents]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def picture_seeds(_data: Path) -> list[Seed]:
    """JPEG (baseline and progressive), WebP, JPEG 2000 and BMP."""
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    kinds = [(".jpg", []), (".jpg", progressive), (".webp", []), (".jp2", []), (".bmp", [])]
    seeds = []
    for suffix, options in kinds:
        for array in (COLOUR, COLOUR[..., 0]):
            content = cv2.imencode(suffix, np.tile(array, (4, 4, 1)[: array.ndim]), options)[1].tobytes()
            seeds.append(Seed(content, min(700, len(content)), suffix))
    return seeds


def tiff_seeds(_data: Path) -> list[Seed]:
    """TIFF of several kinds: tiles and strips, compressions, pages, OME, ImageJ, palettes, a pyramid, BigTIFF."""
    grey, stack = RANDOM.integers(0, 4000, (24, 20)).astype(np.uint16), VOLUME.astype(np.uint16)
    ome = {"axes": "ZCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    kinds: list[tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = [
        (grey, {}, {}),
        (grey, {}, {"photometric": "miniswhite"}),
        (grey, {}, {"compression": "zlib", "predictor": True}),
        (grey, {}, {"compression": "lzw"}),
        (np.tile(grey, (2, 2)), {}, {"tile": (16, 16), "compression": "jpeg2000"}),
        (np.tile(COLOUR, (3, 3, 1)), {}, {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg"}),
        (COLOUR, {}, {"photometric": "rgb", "planarconfig": "separate"}),
        (np.moveaxis(COLOUR, -1, 0), {}, {"photometric": "minisblack"}),
        (stack, {}, {"photometric": "minisblack", "metadata": None}),
        (stack, {"imagej": True}, {"metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}}),
        (stack[:, np.newaxis], {"ome": True}, {"photometric": "minisblack", "metadata": ome}),
        (grey.astype(np.float32), {"bigtiff": True}, {}),
        (grey, {"byteorder": ">"}, {}),
        (grey // 16 > 100, {}, {"photometric": "minisblack"}),
    ]
    seeds = []
    for array, file_options, options in kinds:
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, **file_options) as writer:
            writer.write(array, **options)
        seeds.append(tiff_seed(buffer))
    pyramid = io.BytesIO()
    with tifffile.TiffWriter(pyramid) as writer:
        large = np.tile(COLOUR, (4, 4, 1))
        writer.write(large, photometric="rgb", tile=(16, 16), subifds=1)
        writer.write(large[::2, ::2], photometric="rgb", tile=(16, 16), subfiletype=1)
    return [*seeds, tiff_seed(pyramid), *map(facsimile, ("group3", "group4", "tiff_ccitt"))]


def facsimile(compression: str) -> Seed:
    """Black and white pixels, which tifffile does not write so."""
    buffer = io.BytesIO()
    Pillow.fromarray(RANDOM.random((24, 200)) > 0.7).save(buffer, "TIFF", compression=compression)
    return tiff_seed(buffer)


def tiff_seed(buffer: io.BytesIO) -> Seed:
    content = buffer.getvalue()
    return Seed(content, min(len(content), 1200), ".tif")


def array_seeds(_data: Path) -> list[Seed]:
    seeds = []
    for array in (VOLUME[..., np.newaxis].astype(np.int16), COLOUR, VOLUME[0, ..., np.newaxis].astype(np.float64)):
        plain, packed = io.BytesIO(), io.BytesIO()
        np.save(plain, array)
        np.savez_compressed(packed, pixels=array, spacing=np.ones(array.ndim - 1))
        seeds += [Seed(plain.getvalue(), 128, ".npy"), Seed(packed.getvalue(), len(packed.getvalue()), ".npz")]
    return seeds


SEEDS = {
    "dicom": dicom_seeds,
    "dicom-volumes": volume_dicom_seeds,
    "deidentify": lambda data: dicom_seeds(data) + volume_dicom_seeds(data),
    "nifti": nifti_seeds,
    "pairs": pair_seeds,
    "nrrd-mha": text_header_seeds,
    "mgz": freesurfer_seeds,
    "tiff": tiff_seeds,
    "png": png_seeds,
    "pictures": picture_seeds,
    "arrays": array_seeds,
}
