"""What is no file, and files that grow when they are read: refused before they block, are inflated or take memory."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
import tifffile

from hounsfield.errors import ImageError
from hounsfield.images import image_files, read_image
from hounsfield.images.reading import READERS

MEBIBYTE = 2**20
# Reads a file in a process of its own and prints by how many bytes its memory grew.
PROBE = """
import resource, sys
from hounsfield.errors import ImageError
from hounsfield.images import read_image
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
try:
    read_image(sys.argv[2])  # loads what the reader loads
except ImageError:
    pass
before = peak()
try:
    read_image(sys.argv[1])
    print("read", peak() - before)
except ImageError as error:
    print("refused", peak() - before)
"""


@pytest.mark.parametrize("suffix", [*READERS, "", ".unknown"])
def test_pipes_sockets_and_devices_are_refused_also_behind_links(suffix, tmp_path) -> None:
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"link{suffix}").symlink_to(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"random{suffix}").symlink_to("/dev/urandom")
    for name, kind in {"pipe": "pipe", "link": "pipe", "zero": "device", "random": "device"}.items():
        with pytest.raises(ImageError, match=f"is a {kind}"):
            read_image(tmp_path / f"{name}{suffix}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / f"socket{suffix}"))
        with pytest.raises(ImageError, match="is a socket"):
            read_image(tmp_path / f"socket{suffix}")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / f"absent{suffix}")
    assert image_files(tmp_path) == []


@pytest.mark.parametrize("header", ["a.mhd", "a.nhdr", "a.hdr"])
def test_a_pipe_is_no_data_file(header, tmp_path) -> None:
    nibabel.save(nibabel.Nifti1Pair(np.zeros((4, 3, 2), np.int16), np.eye(4)), tmp_path / "a.img")
    (tmp_path / "a.img").unlink()
    text = "NRRD0004\ntype: uint8\ndimension: 2\nsizes: 4 3\nencoding: raw\ndata file: a.img\n"
    (tmp_path / "a.nhdr").write_text(text)
    text = "ObjectType = Image\nNDims = 2\nDimSize = 4 3\nElementType = MET_UCHAR\nElementDataFile = a.img\n"
    (tmp_path / "a.mhd").write_text(text)
    os.mkfifo(tmp_path / "a.img")
    with pytest.raises(ImageError, match="is a pipe"):
        read_image(tmp_path / header)


def nifti(num_bytes: int, shape: tuple[int, ...]) -> bytes:
    image = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
    content = bytearray(image.to_bytes()[:352])
    struct.pack_into("<8h", content, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    return gzip.compress(bytes(content) + bytes(num_bytes), 9)


def nrrd(num_bytes: int) -> bytes:
    header = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 8 8 8\nencoding: gzip\n\n"
    return header + gzip.compress(bytes(num_bytes), 9)


def metaimage(num_bytes: int) -> bytes:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\nCompressedData = True\n"
    return f"{header}ElementDataFile = LOCAL\n".encode() + zlib.compress(bytes(num_bytes), 9)


def mgz(num_bytes: int) -> bytes:
    stream = io.BytesIO()
    nibabel.MGHImage(np.zeros((8, 8, 8), np.uint8), np.eye(4)).to_stream(stream)
    return gzip.compress(stream.getvalue() + bytes(num_bytes), 9)


def npz(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", content)
    return stream.getvalue()


def npy(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def tiff(num_bytes: int) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((8, 8), np.uint8), compression="zlib", rowsperstrip=8, metadata=None)
    content = bytearray(stream.getvalue())
    page = tifffile.TiffFile(io.BytesIO(content)).pages.first
    deflated = zlib.compress(bytes(num_bytes), 9)
    for tag, value in (("StripOffsets", len(content)), ("StripByteCounts", len(deflated))):
        form = {3: "<H", 4: "<I"}[int(page.tags[tag].dtype)]
        content[page.tags[tag].valueoffset :][:0] = b""
        struct.pack_into("<HHI", content, page.tags[tag].offset + 2, 4, 1, value) if form == "<H" else struct.pack_into(
            form, content, page.tags[tag].valueoffset, value
        )
    return bytes(content) + deflated


LARGE = 2**30
BOMBS = {
    "a.nii.gz": lambda: nifti(LARGE, (8, 8, 8)),
    "b.nii.gz": lambda: nifti(2**20, (600, 600, 600)),
    "a.nrrd": lambda: nrrd(LARGE),
    "a.mha": lambda: metaimage(LARGE),
    "a.mgz": lambda: mgz(LARGE),
    "a.npz": lambda: npz(npy((8, 8)) + bytes(LARGE)),
    "b.npz": lambda: npz(b"\x93NUMPY\x02\x00" + struct.pack("<I", LARGE) + bytes(LARGE)),
    "a.tif": lambda: tiff(LARGE),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_more_is_inflated_than_the_header_explains(name, tmp_path) -> None:
    (tmp_path / name).write_bytes(BOMBS[name]())
    assert (tmp_path / name).stat().st_size < 4 * MEBIBYTE
    small = f"small.{name.partition('.')[2]}"
    (tmp_path / small).write_bytes((tmp_path / name).read_bytes()[:100])
    done = subprocess.run(
        [sys.executable, "-c", PROBE, tmp_path / name, tmp_path / small], capture_output=True, text=True, check=True
    )
    outcome, grown = done.stdout.split()
    # The voxels that are declared are there; what follows a gzipped NIfTI or FreeSurfer volume may be anything.
    assert outcome == ("read" if name in {"a.nii.gz", "a.mgz"} else "refused")
    assert int(grown) < 64 * MEBIBYTE


def test_a_huge_file_is_not_read_whole(tmp_path) -> None:
    for name in ("a.png", "a.jpg", "a.jp2", "a.bmp"):
        with (tmp_path / name).open("wb") as file:
            file.write(
                {"a.png": b"\x89PNG\r\n\x1a\n", "a.jpg": b"\xff\xd8\xff", "a.jp2": b"\xff\x4f\xff\x51"}.get(name, b"BM")
            )
            file.truncate(2**42)
        with pytest.raises(ImageError, match="more than an image"):
            read_image(tmp_path / name)


def test_a_damaged_member_of_an_archive_is_refused(tmp_path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    np.savez(tmp_path / "a.npz", values)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(values.tobytes()) + 100] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ImageError, match="CRC"):
        read_image(tmp_path / "a.npz")
    with (tmp_path / "b.npy").open("wb") as file:
        np.save(file, values)
        np.save(file, values)
    with pytest.raises(ImageError, match="more than the one array"):
        read_image(tmp_path / "b.npy")
