"""Segmentation objects as highdicom writes them, read back as the label maps that they were made of."""

from __future__ import annotations

import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import SegmentDescription
from pydicom.sr.codedict import codes

from dicom_samples import make_series
from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import read_image, read_series

DEPTHS = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
SHAPE = (6, 6, 5)


@pytest.fixture
def sources(tmp_path: Path) -> list[pydicom.Dataset]:
    paths = make_series(
        tmp_path / "ct",
        DEPTHS,
        StudyID="1",
        StudyDate="20200101",
        StudyTime="100000",
        AccessionNumber="",
        PatientBirthDate="",
        PatientSex="O",
        FrameOfReferenceUID="1.2.3.9",
        SpacingBetweenSlices="2",
    )
    found = [pydicom.dcmread(path) for path in paths]
    return sorted(found, key=lambda dataset: dataset.ImagePositionPatient[2])


def description(number: int) -> SegmentDescription:
    return SegmentDescription(
        segment_number=number,
        segment_label=f"organ {number}",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type="MANUAL",
    )


def written(
    path: Path, sources: list[pydicom.Dataset], pixels: np.ndarray, kind: str, segments: int, **options
) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=kind,
            segment_descriptions=[description(number + 1) for number in range(segments)],
            series_instance_uid="1.2.3.7",
            series_number=2,
            sop_instance_uid="1.2.3.8",
            instance_number=1,
            manufacturer="nobody",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
            **options,
        ).save_as(path)
    return path


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("omit", [True, False])
def test_a_label_map_comes_back(kind, omit, sources, tmp_path) -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[1:3, 1:4, 1:3] = 1
    truth[2:5, 4:, 3:] = 2
    truth[3, 0, 0] = 3
    path = written(tmp_path / "a.dcm", sources, truth, kind, 3, omit_empty_frames=omit)
    image = read_image(path)
    first = 1 if omit else 0
    np.testing.assert_array_equal(image.pixels[..., 0], truth[1:5] if omit else truth)
    scan = read_series(tmp_path / "ct")
    # The slices that were left out at the ends are those without any segment.
    np.testing.assert_allclose(image.affine @ [0, 2, 3, 1], scan.affine @ [first, 2, 3, 1], atol=1e-6)
    assert image.spacing == pytest.approx(scan.spacing)
    assert image.metadata.labels[-3:] == ((1, "organ 1"), (2, "organ 2"), (3, "organ 3"))
    assert (image.modality, image.pixels.dtype.kind) == ("SEG", "u")


def test_slices_without_a_frame_are_empty(sources, tmp_path) -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[0, 1, 1] = truth[4, 2, 2] = 1
    truth[5, 3, 3] = 2
    image = read_image(written(tmp_path / "a.dcm", sources, truth, "BINARY", 2, omit_empty_frames=True))
    np.testing.assert_array_equal(image.pixels[..., 0], truth)
    assert image.spacing[0] == pytest.approx(2)


def test_segments_that_overlap_are_volumes_of_their_own(sources, tmp_path) -> None:
    masks = np.zeros((*SHAPE, 2), np.uint8)
    masks[1:4, 1:4, 1:4, 0] = 1
    masks[2:5, 3:, 3:, 1] = 1
    path = written(tmp_path / "a.dcm", sources, masks, "BINARY", 2, omit_empty_frames=False)
    with pytest.raises(SeveralVolumes, match=r"0: segment 1; 1: segment 2"):
        read_image(path)
    for number in range(2):
        image = read_image(path, volume=number)
        np.testing.assert_array_equal(image.pixels[..., 0], masks[..., number] * (number + 1))
        np.testing.assert_array_equal(read_series([path], volume=number).pixels, image.pixels)


@pytest.mark.parametrize("segments", [1, 2])
def test_fractions_are_shares_of_one(segments, sources, tmp_path) -> None:
    random = np.random.default_rng(1)
    shares = (random.integers(0, 256, (*SHAPE, segments)) / 255).astype(np.float32)
    path = written(
        tmp_path / "a.dcm",
        sources,
        shares,
        "FRACTIONAL",
        segments,
        fractional_type="PROBABILITY",
        max_fractional_value=255,
        omit_empty_frames=False,
    )
    for number in range(segments):
        image = read_image(path, volume=number if segments > 1 else None)
        np.testing.assert_allclose(image.pixels[..., 0], shares[..., number], atol=1e-6)
    if segments > 1:
        with pytest.raises(SeveralVolumes):
            read_image(path)


def test_a_frame_without_a_segment_is_refused(sources, tmp_path) -> None:
    truth = np.ones(SHAPE, np.uint8)
    path = written(tmp_path / "a.dcm", sources, truth, "BINARY", 1, omit_empty_frames=False)
    dataset = pydicom.dcmread(path)
    for group in [*dataset.PerFrameFunctionalGroupsSequence, *dataset.SharedFunctionalGroupsSequence]:
        if "SegmentIdentificationSequence" in group:
            del group.SegmentIdentificationSequence
    dataset.save_as(path)
    with pytest.raises(ImageError, match="does not state its segment"):
        read_image(path)


@pytest.mark.parametrize(("numbers", "words"), [((1, 1), "two segments by one number"), ((0, 2), "segment number 0")])
def test_segments_whose_pixels_would_be_lost_are_refused(numbers, words, sources, tmp_path) -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[:, :2], truth[:, 2:] = 1, 2
    path = written(tmp_path / "a.dcm", sources, truth, "BINARY", 2)
    dataset = pydicom.dcmread(path)
    for item, number in zip(dataset.SegmentSequence, numbers, strict=True):
        item.SegmentNumber = number
    for group in dataset.PerFrameFunctionalGroupsSequence:
        found = group.SegmentIdentificationSequence[0]
        found.ReferencedSegmentNumber = numbers[found.ReferencedSegmentNumber - 1]
    dataset.save_as(path)
    with pytest.raises(ImageError, match=words):
        read_image(path)


def test_frames_that_state_another_segment_or_are_not_declared_are_refused(sources, tmp_path, caplog) -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[:, :2], truth[:, 2:] = 1, 2
    path = written(tmp_path / "a.dcm", sources, truth, "BINARY", 2)
    merged, fewer = pydicom.dcmread(path), pydicom.dcmread(path)
    for group in merged.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    merged.save_as(path)
    with pytest.raises(
        ImageError, match="several frames of its segment 1 in one place, and without any of its segment 2"
    ):
        read_image(path)
    fewer.NumberOfFrames -= 2
    fewer.save_as(path)
    with pytest.raises(ImageError, match=r"declares 10 frames and describes 12"):
        read_image(path)
    frames = truth.reshape(len(truth), -1)
    bits = np.concatenate([frames == 1, frames == 2]).reshape(12, -1)
    fewer.PixelData = np.packbits(bits[:10].ravel(), bitorder="little").tobytes()
    fewer.PixelData += b"\0" * (len(fewer.PixelData) % 2)
    fewer.save_as(path)
    assert read_image(path).pixels.any()
    assert "describes 12 frames, of which it holds the first 10 only" in caplog.text


def test_uneven_slices_are_refused(sources, tmp_path) -> None:
    truth = np.ones(SHAPE, np.uint8)
    path = written(tmp_path / "a.dcm", sources, truth, "BINARY", 1, omit_empty_frames=False)
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] += 0.7
    dataset.save_as(path)
    with pytest.raises(ImageError, match="unevenly spaced"):
        read_image(path)


def test_the_thickness_of_slices_is_no_distance_between_them(sources, tmp_path) -> None:
    truth = np.ones(SHAPE, np.uint8)
    path = written(tmp_path / "a.dcm", sources, truth, "BINARY", 1, omit_empty_frames=False)
    dataset = pydicom.dcmread(path)
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for thickness in ("1", None):
        measures.pop("SpacingBetweenSlices", None)
        measures.pop("SliceThickness", None)
        if thickness:
            measures.SliceThickness = thickness
        dataset.save_as(path)
        image = read_image(path)
        assert (image.shape, image.spacing[0]) == (SHAPE, pytest.approx(2))
