"""Deflated DICOM files are inflated up to what their header explains, and not one byte further."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_samples import make_dicom
from hounsfield.errors import ImageError
from hounsfield.images import dicom_file, read_image
from hounsfield.images.deidentify import deidentify_file
from hounsfield.images.dicom_file import open_header
from hounsfield.images.limits import SPARE_BYTES
from hounsfield.images.reading import image_files

KEY = b"0123456789abcdef"
PIXELS = np.random.default_rng(0).integers(0, 1000, (3, 40, 48)).astype(np.uint16)


def deflated(path: Path, added: int = 0) -> Path:
    """A deflated file with ``added`` zeros behind its pixels."""
    make_dicom(path, PIXELS)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, wbits=-15)
    body = bytearray(packer.compress(zlib.decompress(content[start:], -15)))
    for _ in range(added // 2**20):
        body += packer.compress(bytes(2**20))
    path.write_bytes(content[:start] + bytes(body) + packer.flush())
    return path


def test_deflated_files_are_read_and_stay_deflated(tmp_path):
    path = deflated(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(path).pixels[..., 0], PIXELS)
    assert open_header(path, 2**20).integer("Rows") == 40
    deidentify_file(path, tmp_path / "b.dcm", KEY)
    assert pydicom.dcmread(tmp_path / "b.dcm").file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(read_image(tmp_path / "b.dcm").pixels[..., 0], PIXELS)


def test_pixels_beyond_the_allowance_are_read_where_the_header_explains_them(tmp_path, monkeypatch):
    path = deflated(tmp_path / "a.dcm")
    for allowance in (2_000, 10_000):
        monkeypatch.setattr(dicom_file, "SPARE_BYTES", allowance)
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], PIXELS)
    monkeypatch.setattr(dicom_file, "SPARE_BYTES", 100)
    with pytest.raises(ImageError, match="before its pixels"):
        read_image(path)
    monkeypatch.setattr(dicom_file, "SPARE_BYTES", 2_000)
    with pytest.raises(ImageError, match="max-pixels"):
        read_image(path, max_pixels=PIXELS.size - 1)
    with pytest.raises(ImageError, match="explains"):
        read_image(deflated(tmp_path / "b.dcm", 2**20))
    cut = path.read_bytes()[:-200]
    path.write_bytes(cut)
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)


@pytest.mark.parametrize("call", ["read_image(path)", "deidentify_file(path, path.with_name('b.dcm'), b'k' * 16)"])
def test_a_bomb_is_refused_within_little_memory(tmp_path, call):
    path = deflated(tmp_path / "a.dcm", 1536 * 2**20)
    assert path.stat().st_size < 2**21
    script = f"""
import pathlib, resource, sys
from hounsfield.errors import ImageError
from hounsfield.images import read_image
from hounsfield.images.deidentify import deidentify_file
path = pathlib.Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
except ImageError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 4 * SPARE_BYTES // 2**20


def test_a_syntax_that_pydicom_alone_would_see_is_not_inflated(tmp_path):
    path = deflated(tmp_path / "a.dcm")
    content = path.read_bytes()
    # The element before the transfer syntax gets a length that only a lenient parser survives.
    path.write_bytes(content.replace(b"\x02\0\x10\0UI\x16\0", b"\x02\0\x10\0UN\x16\0"))
    with pytest.raises(ImageError):
        read_image(path)


@pytest.mark.parametrize("vr", [b"OB", b"OW"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_syntax_behind_much_meta_information_is_seen(tmp_path, vr, packed):
    content = deflated(tmp_path / "a.dcm", 192 * 2**20).read_bytes()
    filling = b"\2\0\1\0" + vr + b"\0\0" + (2**17).to_bytes(4, "little") + bytes(2**17)
    place = content.index(b"\2\0\1\0OB")
    end = place + 14
    crafted = content[:140] + (int.from_bytes(content[140:144], "little") + len(filling) - 14).to_bytes(4, "little")
    crafted += content[144:place] + filling + content[end:]
    path = tmp_path / ("b.dcm.gz" if packed else "b.dcm")
    path.write_bytes(gzip.compress(crafted, 1) if packed else crafted)
    tracemalloc.start()
    with pytest.raises(ImageError):
        read_image(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * SPARE_BYTES


@pytest.mark.parametrize("name", ["a.dcm", "a.nii.gz", "a.png", "noname"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ImageError, match="pipe"):
        read_image(tmp_path / name)
    assert image_files(tmp_path) == []
