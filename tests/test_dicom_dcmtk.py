"""The pixels of real DICOM files against DCMTK, which decodes with libraries of its own. JPEG 2000 it does not read."""

from __future__ import annotations

import logging
import subprocess
import warnings
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from hounsfield.errors import ImageError
from hounsfield.images import Image, read_image
from hounsfield.images.dicom_encapsulated import JPEG_2000
from peers import peer

# The programs of DCMTK that decompress; dcmconv takes what is not compressed.
DECODERS = {
    **dict.fromkeys((JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1), "dcmdjpeg"),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), "dcmdjpls"),
    RLELossless: "dcmdrle",
}
# What DCMTK refuses and we, as pydicom, read.
REFUSED_BY_DCMTK = {
    "pydicom-data/JLSL_08_07_0_1F.dcm": "7 bits",
    "pydicom-data/liver_deflate.dcm": "one bit",
    "pydicom-data/liver_nonbyte_aligned_deflate.dcm": "one bit",
    "pydicom-data/liver_rle.dcm": "one bit",
    "pydicom-tests/SC_rgb_jpeg.dcm": "no file meta information",
    "pydicom-tests/zipMR.gz": "gzipped",
}
# Where DCMTK and we differ in more than rounding, and why.
EXPLAINED = {
    "pydicom-tests/rtdose_expb.dcm": "DCMTK swaps the bytes of big-endian 32-bit values by twos",
    "pydicom-tests/rtdose_expb_1frame.dcm": "as above",
    "pylibjpeg/JPEGLossless/JPEGLossless_1s_1f_i_16_16_bad.dcm": "an encoder's overflow, which we put right",
}
# Levels by which correct decoders of lossy JPEG differ: one of the inverse DCT (ITU-T T.83), which the conversion from
# YCbCr multiplies by 1.772; that conversion alone rounds in two places.
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit}
ROUNDING, COLOUR_ROUNDING, LOSSY_COLOUR_ROUNDING = 1, 2, 3


def run(program: str, *words: object) -> bool:
    done = subprocess.run([program, *map(str, words)], check=False, capture_output=True, timeout=60)
    return done.returncode == 0


def decompressed(path: Path, syntax: str, target: Path) -> pydicom.Dataset | None:
    """The object as DCMTK decompresses it, colours made RGB."""
    target.unlink(missing_ok=True)
    if not run(peer(DECODERS.get(syntax, "dcmconv"), "dcmtk"), "+te", path, target):
        return None
    return pydicom.dcmread(target)


def stored(dataset: pydicom.Dataset) -> np.ndarray:
    """(frames, rows, columns, samples) of an uncompressed object, unpacked here from its bytes."""
    frames, samples = int(dataset.get("NumberOfFrames") or 1), dataset.SamplesPerPixel
    count = frames * dataset.Rows * dataset.Columns * samples
    bits = dataset.BitsAllocated
    if bits == 1:
        values = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[:count]
    else:
        words = np.frombuffer(dataset.PixelData, f"<u{bits // 8}")[:count].astype(np.int64)
        values = words >> (dataset.HighBit + 1 - dataset.BitsStored) & (2**dataset.BitsStored - 1)
        if dataset.PixelRepresentation:
            values = np.where(values >> (dataset.BitsStored - 1) & 1, values - 2**dataset.BitsStored, values)
    if samples > 1 and dataset.PlanarConfiguration:
        return np.moveaxis(values.reshape(frames, samples, dataset.Rows, dataset.Columns), 1, -1)
    return values.reshape(frames, dataset.Rows, dataset.Columns, samples)


def real(dataset: pydicom.Dataset) -> tuple[np.ndarray, float]:
    """Grey values after slope and intercept, and the size of one stored level in them."""
    values, bits = stored(dataset).astype(np.float64), dataset.BitsStored
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (-1 if dataset.PixelRepresentation else 2**bits - 1) - values
    slope = float(dataset.get("RescaleSlope") or 1) * float(dataset.get("DoseGridScaling") or 1)
    return values * slope + float(dataset.get("RescaleIntercept") or 0), abs(slope)


def coloured(path: Path, frames: int, target: Path) -> np.ndarray | None:
    """RGB of the first frames as DCMTK shows them: palettes and YBR are converted by it."""
    shown = []
    for number in range(1, frames + 1):
        if not run(peer("dcm2pnm", "dcmtk"), "+op", "+F", number, path, target):
            return None
        shown.append(cv2.imread(str(target), cv2.IMREAD_COLOR)[..., ::-1])
    return np.stack(shown)


def difference(image: Image, dataset: pydicom.Dataset, path: Path, lossy: bool) -> float:
    """By how much the greatest difference exceeds what rounding explains."""
    pixels = image.pixels.reshape(-1, *image.pixels.shape[-3:]).astype(np.float64)
    if dataset.SamplesPerPixel == 1 and dataset.PhotometricInterpretation.startswith("MONOCHROME"):
        expected, level = real(dataset)
        single_precision = 2.0**-23 * np.abs(expected).max()
        allowed = ROUNDING * level * lossy + single_precision
    elif dataset.PhotometricInterpretation == "RGB":
        expected, allowed = stored(dataset).astype(np.float64), float(LOSSY_COLOUR_ROUNDING * lossy)
    else:
        frames = coloured(path, len(pixels), path.with_suffix(".ppm"))
        assert frames is not None
        expected = frames.astype(np.float64)
        allowed = float(COLOUR_ROUNDING * dataset.PhotometricInterpretation.startswith("YBR"))
    assert pixels.shape == expected.shape
    excess = np.abs(pixels - expected).max() - allowed
    return max(0.0, float(excess))


@pytest.mark.data
def test_every_file_of_the_zoo_has_the_pixels_that_dcmtk_decodes(data_folder, tmp_path, caplog) -> None:
    zoo = data_folder / "dicom-zoo"
    compared, refused, different = 0, set(), set()
    with caplog.at_level(logging.CRITICAL), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in sorted(path for path in zoo.rglob("*") if path.is_file()):
            name = path.relative_to(zoo).as_posix()
            try:
                image = read_image(path)
            except ImageError:
                continue  # test_dicom says which
            meta = pydicom.dcmread(path, force=True, stop_before_pixels=True).file_meta
            syntax = meta.get("TransferSyntaxUID", "")
            if syntax in JPEG_2000:
                continue
            dataset = decompressed(path, syntax, tmp_path / "a.dcm")
            if dataset is None:
                refused.add(name)
            elif "PixelData" in dataset:
                compared += 1
                if difference(image, dataset, tmp_path / "a.dcm", syntax in LOSSY):
                    different.add(name)
    assert refused == set(REFUSED_BY_DCMTK)
    assert different == set(EXPLAINED)
    assert compared >= 100
