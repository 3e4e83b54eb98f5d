"""Seeded mutations of small true files: an image or an ImageError comes out, nothing else (bench/fuzz.py does more)."""

from __future__ import annotations

import gzip
import struct
import time
import zlib
from contextlib import suppress

import cv2
import nibabel
import numpy as np

from dicom_samples import PATIENT_NAME, make_dicom
from hounsfield.errors import ImageError
from hounsfield.images import read_image
from hounsfield.images.deidentify import deidentify_file

MUTANTS = 500


def outcomes(tmp_path, suffix, mutants) -> set[str]:
    """Read every mutant; what came of them."""
    found = set()
    path = tmp_path / f"mutant{suffix}"
    for content in mutants:
        path.write_bytes(content)
        start = time.monotonic()
        try:
            image = read_image(path)
            assert image.pixels.nbytes <= 2000 * len(content)
            found.add("read")
        except ImageError:
            found.add("refused")
        assert time.monotonic() - start < 5
    return found


def mutated(content: bytes, header: range, random: np.random.Generator) -> bytearray:
    result = bytearray(content)
    for _ in range(random.integers(1, 5)):
        result[random.integers(header.start, header.stop)] = random.choice([0, 1, 127, 128, 255, random.integers(256)])
    return result


def test_nifti_headers(tmp_path):
    random = np.random.default_rng(7)
    values = random.integers(0, 100, (4, 3, 2)).astype(np.int16)
    for kind, size in ((nibabel.Nifti1Image, 352), (nibabel.Nifti2Image, 544)):
        content = kind(values, np.diag([2.0, 2, 3, 1])).to_bytes()
        mutants = [mutated(content, range(size), random) for _ in range(MUTANTS)]
        assert outcomes(tmp_path, ".nii", mutants) == {"read", "refused"}
        packed = [gzip.compress(mutant, 1) for mutant in mutants[:200]]
        assert outcomes(tmp_path, ".nii.gz", packed) == {"read", "refused"}


def test_png_headers_with_right_checksums(tmp_path):
    random = np.random.default_rng(7)
    content = cv2.imencode(".png", random.integers(0, 255, (9, 11, 3)).astype(np.uint8))[1].tobytes()
    mutants = []
    for number in range(MUTANTS):
        mutant = mutated(content, range(16, 29) if number % 2 else range(29, len(content)), random)
        struct.pack_into(">I", mutant, 29, zlib.crc32(mutant[12:29]))
        mutants.append(mutant)
    assert outcomes(tmp_path, ".png", mutants) == {"read", "refused"}
    mutants = [mutated(content, range(8), random) for _ in range(50)]
    assert outcomes(tmp_path, ".png", mutants) <= {"read", "refused"}


def test_huge_png_is_refused_before_it_is_decoded(tmp_path):
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 6, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")):
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    assert outcomes(tmp_path, ".png", [content]) == {"refused"}


def damaged_dicom(tmp_path, count: int) -> list[bytearray]:
    """A slice of CT, with some bytes of what comes before its pixels changed."""
    random = np.random.default_rng(7)
    pixels = random.integers(0, 2000, (12, 10)).astype(np.int16)
    content = make_dicom(tmp_path / "true.dcm", pixels, PatientComments=f"Seen: {PATIENT_NAME}").read_bytes()
    return [mutated(content, range(132, len(content) - pixels.nbytes), random) for _ in range(count)]


def test_dicom_headers(tmp_path):
    assert outcomes(tmp_path, ".dcm", damaged_dicom(tmp_path, MUTANTS)) == {"read", "refused"}


def test_damaged_headers_are_de_identified_or_refused(tmp_path):
    written = 0
    path, target = tmp_path / "mutant.dcm", tmp_path / "clean.dcm"
    for mutant in damaged_dicom(tmp_path, MUTANTS // 2):
        path.write_bytes(mutant)
        target.unlink(missing_ok=True)
        with suppress(ImageError):
            deidentify_file(path, target, b"a key of this test", keep_pixels=True)
        if target.exists():
            written += 1
            assert PATIENT_NAME.encode() not in target.read_bytes()
        assert {file.name for file in tmp_path.iterdir()} <= {"true.dcm", "mutant.dcm", "clean.dcm"}
    assert 0 < written < MUTANTS // 2
