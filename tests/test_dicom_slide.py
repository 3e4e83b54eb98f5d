"""Whole slides in tiles, put together as pictures."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.uid import VLWholeSlideMicroscopyImageStorage, generate_uid

from dicom_samples import make_dicom
from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.headers import read_header
from hounsfield.cohorts.stacks import stack_series
from hounsfield.errors import CohortError, ImageError, SeveralVolumes
from hounsfield.images import read_image, read_series
from hounsfield.images.conversion import convert
from hounsfield.inference.sources import sources
from test_dicom import item

TILE = (16, 24)
SIZE = (40, 60)


def tiles_of(picture: np.ndarray) -> np.ndarray:
    """Tiles in rows, those at the edges filled up with zeros."""
    down, across = (-(-length // tile) for length, tile in zip(picture.shape[:2], TILE, strict=True))
    padded = np.zeros((down * TILE[0], across * TILE[1], 3), np.uint8)
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return padded.reshape(down, TILE[0], across, TILE[1], 3).swapaxes(1, 2).reshape(-1, *TILE, 3)


def slide(path: Path, picture: np.ndarray, kind: str = "TILED_FULL", image_type: str = "VOLUME", **elements) -> Path:
    tiles = tiles_of(picture)
    across = -(-picture.shape[1] // TILE[1])
    values = {
        "SOPClassUID": VLWholeSlideMicroscopyImageStorage,
        "SamplesPerPixel": 3,
        "Modality": "SM",
        "ImageType": ["ORIGINAL", "PRIMARY", image_type, "NONE"],
        "TotalPixelMatrixRows": picture.shape[0],
        "TotalPixelMatrixColumns": picture.shape[1],
        "DimensionOrganizationType": kind,
        "SharedFunctionalGroupsSequence": [item(PixelMeasuresSequence=[item(PixelSpacing=[0.001, 0.002])])],
        **elements,
    }
    if kind == "TILED_SPARSE":
        values["PerFrameFunctionalGroupsSequence"] = [
            item(
                PlanePositionSlideSequence=[
                    item(
                        RowPositionInTotalImagePixelMatrix=1 + TILE[0] * (index // across),
                        ColumnPositionInTotalImagePixelMatrix=1 + TILE[1] * (index % across),
                    )
                ]
            )
            for index in range(len(tiles))
        ]
    return make_dicom(path, tiles, **values)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 255, (*SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["TILED_FULL", "TILED_SPARSE"])
def test_tiles_are_put_together(kind, picture, tmp_path) -> None:
    image = read_image(slide(tmp_path / "a.dcm", picture, kind))
    np.testing.assert_array_equal(image.pixels, picture)
    assert (image.spacing, image.affine, image.modality) == ((0.001, 0.002), None, "SM")


def test_missing_tiles_are_empty_glass(picture, tmp_path, caplog) -> None:
    path = slide(tmp_path / "a.dcm", picture, "TILED_SPARSE")
    dataset = pydicom.dcmread(path)
    size = TILE[0] * TILE[1] * 3
    dataset.PixelData = dataset.PixelData[size:]
    del dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.NumberOfFrames -= 1
    dataset.save_as(path)
    with caplog.at_level(logging.WARNING):
        image = read_image(path)
    assert "1 of its 9 tiles are missing" in caplog.text
    assert set(image.pixels[: TILE[0], : TILE[1]].ravel()) == {255}
    np.testing.assert_array_equal(image.pixels[TILE[0] :], picture[TILE[0] :])


def test_focal_planes_are_pictures_of_their_own(picture, tmp_path) -> None:
    both = np.concatenate([tiles_of(picture), tiles_of(255 - picture)])
    path = slide(tmp_path / "a.dcm", picture)
    dataset = pydicom.dcmread(path)
    dataset.PixelData, dataset.NumberOfFrames = both.tobytes(), len(both)
    dataset.save_as(path)
    with pytest.raises(SeveralVolumes, match="holds 2 volumes"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, volume=1).pixels, 255 - picture)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"TotalPixelMatrixRows": 2**20, "TotalPixelMatrixColumns": 2**20}, "more than the limit"),
        ({"TotalPixelMatrixRows": 100}, "7 × 3 tiles"),
    ],
)
def test_what_does_not_fit_is_refused(elements, message, picture, tmp_path) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(slide(tmp_path / "a.dcm", picture, **elements))


def test_a_tile_outside_the_picture_is_refused(picture, tmp_path) -> None:
    with pytest.raises(ImageError, match="outside it"):
        read_image(slide(tmp_path / "a.dcm", picture, "TILED_SPARSE", TotalPixelMatrixRows=20))


def test_the_largest_level_that_fits_is_read_and_any_can_be_chosen(picture, tmp_path) -> None:
    folder = tmp_path / "slide"
    folder.mkdir()
    small = picture[::2, ::2]
    slide(folder / "a.dcm", small, SOPInstanceUID=generate_uid())
    slide(folder / "b.dcm", picture, SOPInstanceUID=generate_uid())
    slide(folder / "c.dcm", picture[:, ::-1], image_type="LABEL", SOPInstanceUID=generate_uid())
    np.testing.assert_array_equal(read_series(folder).pixels, picture)
    np.testing.assert_array_equal(read_series(folder, level=1).pixels, small)
    limit = tiles_of(small).size
    np.testing.assert_array_equal(read_series(folder, max_pixels=limit).pixels, small)
    with pytest.raises(ImageError, match=r"0: 40 × 60 pixels; 1: 20 × 30 pixels"):
        read_series(folder, level=2)
    with pytest.raises(ImageError, match="exceed the limit"):
        read_series(folder, max_pixels=100)
    convert(folder, tmp_path / "a.png", level=1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, small)


@pytest.fixture
def pyramid(picture: np.ndarray, tmp_path: Path) -> Path:
    """A slide in two levels, with the picture of its label."""
    folder = tmp_path / "slide"
    folder.mkdir()
    slide(folder / "a.dcm", np.ascontiguousarray(picture[::2, ::2]), SOPInstanceUID=generate_uid())
    slide(folder / "b.dcm", picture, SOPInstanceUID=generate_uid())
    slide(folder / "c.dcm", picture, image_type="LABEL", SOPInstanceUID=generate_uid())
    return folder


def test_a_folder_with_a_slide_is_one_image_to_predict(
    pyramid: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Pillow.new("L", (4, 5)).save(pyramid / "d.png")
    found = [source.reference.path for source in sources(pyramid, 2)]
    assert found == [str(pyramid / "b.dcm"), str(pyramid / "d.png")]
    assert "2 levels (0: 40 × 60 pixels; 1: 20 × 30 pixels)" in caplog.text
    assert "1 labels and overviews" in caplog.text
    monkeypatch.setenv("HOUNSFIELD_LEVEL", "1")
    assert next(source.reference.path for source in sources(pyramid, 2)) == str(pyramid / "a.dcm")
    monkeypatch.setenv("HOUNSFIELD_LEVEL", "2")
    (refused,) = sources(pyramid, 2)
    with pytest.raises(ImageError, match="number 2 was asked for"):
        refused.load()


def test_a_slide_is_one_sample_of_a_cohort(pyramid: Path) -> None:
    stacks = stack_series([(str(path), read_header(str(path))) for path in sorted(pyramid.iterdir())])
    assert [path for path, _ in stacks.samples] == [str(pyramid / "b.dcm")]
    assert "2 levels" in stacks.notes[0]
    assert stacks.notes[1:] == ["1 localisers were left out."]


def test_levels_of_a_slide_are_no_samples_of_a_class(pyramid: Path, tmp_path: Path) -> None:
    (tmp_path / "classes").mkdir()
    shutil.copytree(pyramid, tmp_path / "classes" / "tumour")
    (tmp_path / "classes" / "normal").mkdir()
    for number in range(3):
        Pillow.new("RGB", (60, 40)).save(tmp_path / "classes" / "normal" / f"{number}.png")
    with pytest.raises(CohortError, match="3 images are levels of one whole slide, its label or an overview"):
        load_cohort(tmp_path / "classes")
