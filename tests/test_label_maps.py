"""Label maps in files: the same voxels in the same place with the same names, whatever the format and the grid."""

from __future__ import annotations

import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import cv2
import imagecodecs
import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
import pytest

from hounsfield.cohorts.mask_files import read_label_maps
from hounsfield.cohorts.mask_grids import on_grid
from hounsfield.errors import ImageError
from hounsfield.images import Image, read_image, read_series, write_image
from hounsfield.images.dicom_writer import write_series
from hounsfield.images.image import Metadata
from hounsfield.images.label_names import COLOURS
from hounsfield.images.orientation import reorient
from hounsfield.images.png_palette import read_palette
from test_masks import oblique

# DICOM3tools' checker of objects against the standard.
DCIODVFY = shutil.which("dciodvfy") or "dciodvfy"
LABELS = ((1, "Liver & bile"), (2, "Tumeur < 3 cm"), (5, "肝"))


def label_map(affine: npt.NDArray[np.float64], shape: tuple[int, int, int] = (7, 12, 10)) -> Image:
    mask = np.random.default_rng(0).choice([0, 0, 0, 1, 2, 5], (*shape, 1)).astype(np.uint8)
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    return Image(mask, spacing, affine, "SEG", Metadata(labels=LABELS))


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_mask_as_nifti_comes_back_in_its_place_with_its_names(
    flips: tuple[int, int, int], suffix: str, tmp_path: Path
) -> None:
    mask = label_map(oblique(flips))
    write_image(mask, tmp_path / f"mask{suffix}")
    back = read_image(tmp_path / f"mask{suffix}")
    assert back.pixels.dtype == np.uint8
    np.testing.assert_array_equal(back.pixels, mask.pixels)
    assert back.affine is not None
    assert mask.affine is not None
    np.testing.assert_allclose(back.affine, mask.affine, atol=1e-4)
    assert back.metadata.labels == LABELS
    np.testing.assert_array_equal(on_grid(back, mask).mask, mask.pixels[..., 0])
    # An independent reader agrees on voxels, place and extension.
    other = nibabel.load(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(np.asarray(other.dataobj).T, mask.pixels[..., 0])
    (extension,) = other.header.extensions
    assert extension.get_code() == 30
    table = ET.fromstring(bytes(extension.content).rstrip(b"\0"))  # noqa: S314 - written a moment ago
    assert [(int(item.get("Key", "")), item.text) for item in table.iter("Label")] == list(LABELS)


def test_a_turned_mask_is_brought_back_exactly(tmp_path: Path) -> None:
    image = label_map(oblique((1, -1, 1)))
    for orientation in ("SPL", "RAI", "LSP", "PRI"):
        turned = reorient(image, orientation)
        write_image(turned, tmp_path / "turned.nii.gz")
        np.testing.assert_array_equal(on_grid(read_image(tmp_path / "turned.nii.gz"), image).mask, image.pixels[..., 0])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_a_mask_as_dicom_segmentation_comes_back_on_the_grid_of_the_series(
    flips: tuple[int, int, int], tmp_path: Path
) -> None:
    mask = label_map(oblique(flips))
    (tmp_path / "ct").mkdir()
    values = (mask.pixels.astype(np.int16) * 40).astype(np.int16)
    write_series(mask.replace(pixels=values, modality="CT", metadata=Metadata()), tmp_path / "ct")
    series = read_series(tmp_path / "ct")
    sources = sorted((tmp_path / "ct").iterdir())
    for number, given in enumerate((mask, reorient(mask, "RAI"))):
        path = tmp_path / f"seg{number}.dcm"
        write_image(given, path, sources=sources[::-1])
        ((back, names, _),) = read_label_maps(path)
        assert names == {number: name for number, (_, name) in enumerate(LABELS, start=1)}
        # Segments are numbered from 1; the series is read along its normal.
        expected = np.searchsorted([0, 1, 2, 5], series.pixels[..., 0] // 40)
        np.testing.assert_array_equal(on_grid(back, series).mask, expected)
        in_original = on_grid(back, mask).mask
        np.testing.assert_array_equal(np.array([0, 1, 2, 5])[in_original], mask.pixels[..., 0])
        dataset = pydicom.dcmread(path)
        assert dataset.StudyInstanceUID == pydicom.dcmread(sources[0]).StudyInstanceUID
        said = subprocess.run([DCIODVFY, str(path)], capture_output=True, text=True, check=False).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said


def test_a_mask_beside_the_pixels_of_the_series_is_refused(tmp_path: Path) -> None:
    mask = label_map(oblique())
    (tmp_path / "ct").mkdir()
    write_series(mask.replace(pixels=mask.pixels.astype(np.int16), modality="CT", metadata=Metadata()), tmp_path / "ct")
    assert mask.affine is not None
    shifted = mask.affine.copy()
    shifted[:3, 3] += 0.4 * shifted[:3, 1]
    with pytest.raises(ImageError, match="does not lie on the pixels of the series"):
        write_image(mask.replace(affine=shifted), tmp_path / "s.dcm", sources=sorted((tmp_path / "ct").iterdir()))


def test_a_mask_as_png_has_indices_colours_and_names(tmp_path: Path) -> None:
    flat = label_map(oblique()).pixels[0]
    write_image(Image(flat, modality="SEG", metadata=Metadata(labels=LABELS)), tmp_path / "mask.png")
    ((back, names, _),) = read_label_maps(tmp_path / "mask.png")
    np.testing.assert_array_equal(back.pixels, flat)
    assert names == dict(LABELS)
    # Any other reader sees the colours.
    colours = imagecodecs.png_decode((tmp_path / "mask.png").read_bytes())
    expected = np.array([(0, 0, 0), *(COLOURS[(value - 1) % len(COLOURS)] for value in range(1, 256))], np.uint8)
    np.testing.assert_array_equal(colours[..., :3], expected[flat[..., 0]])
    np.testing.assert_array_equal(read_image(tmp_path / "mask.png").pixels, expected[flat[..., 0]])


@pytest.mark.parametrize("filtering", range(5))
@pytest.mark.parametrize("mode", ["P8", "P4", "P2", "P1"])
def test_palettes_are_read_whatever_filter_and_depth(filtering: int, mode: str, tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    depth = int(mode[1])
    indices = np.random.default_rng(depth).integers(0, 2**depth, (9, 13), np.uint8)
    picture = image_module.fromarray(indices, "P")
    # Two entries of one colour: only the indices tell them apart.
    picture.putpalette([0, 0, 0, 200, 0, 0, 200, 0, 0, *(number % 256 for number in range(9, 768))])
    picture.save(tmp_path / "p.png", bits=depth)
    content = bytearray((tmp_path / "p.png").read_bytes())
    if depth == 8:
        content = refiltered(indices, content, filtering)
        (tmp_path / "p.png").write_bytes(content)
        # OpenCV reads the file, so that it is a whole one.
        assert cv2.imread(str(tmp_path / "p.png")) is not None
    found = read_palette(tmp_path / "p.png", 10**6)
    assert found is not None
    np.testing.assert_array_equal(found.indices, indices)


def refiltered(indices: npt.NDArray[np.uint8], content: bytearray, kind: int) -> bytearray:
    """The same PNG with one filter on every line."""
    rows = []
    above = np.zeros(indices.shape[1], int)
    for line in indices.astype(int):
        left = np.concatenate([[0], line[:-1]])
        corner = np.concatenate([[0], above[:-1]])
        guess = left + above - corner
        away = np.stack([abs(guess - left), abs(guess - above), abs(guess - corner)])
        paeth = np.choose(away.argmin(axis=0), [left, above, corner])
        predicted = [0 * line, left, above, (left + above) // 2, paeth][kind]
        rows.append(bytes([kind]) + ((line - predicted) % 256).astype(np.uint8).tobytes())
        above = line
    packed = zlib.compress(b"".join(rows))
    start = content.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", content, start)
    chunk = struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed))
    return content[:start] + chunk + content[start + length + 12 :]


def test_a_damaged_palette_is_named(tmp_path: Path) -> None:
    write_image(Image(np.ones((9, 13, 1), np.uint8), metadata=Metadata(labels=LABELS)), tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()
    (tmp_path / "short.png").write_bytes(content[: content.index(b"IDAT") + 9])
    with pytest.raises(ImageError, match=r"ends too early|cannot be decoded"):
        read_label_maps(tmp_path / "short.png")
    with pytest.raises(ImageError, match="too large"):
        read_palette(tmp_path / "p.png", 10)
