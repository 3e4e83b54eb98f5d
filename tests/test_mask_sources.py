"""Masks from DICOM segmentations and structure sets, from COCO's shapes and from tables."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import highdicom
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydicom
import pytest
from faster_coco_eval.core import mask as coco_mask
from highdicom.seg import SegmentDescription
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage

from dicom_samples import make_series
from hounsfield.cohorts import load_cohort, read_mask
from hounsfield.cohorts.coco_shapes import shape_mask
from hounsfield.errors import CohortError, ImageError
from hounsfield.images import Image, read_series
from hounsfield.images.dicom_contours import RegionOfInterest, enclosed
from hounsfield.masks import filled_polygons
from test_mask_cohorts import masks_of, notes, picture
from test_masks import oblique

DEPTHS = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
TURNED = (0.96, 0.28, 0.0, -0.2688, 0.9216, 0.28)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUNSFIELD_CACHE", str(tmp_path_factory.mktemp("cache")))


def series(folder: Path, number: int, **elements: Any) -> list[pydicom.Dataset]:
    """An oblique CT series of its own patient, its slices by depth."""
    folder.mkdir(parents=True)
    paths = make_series(
        folder / "ct",
        DEPTHS,
        orientation=TURNED,
        **{
            "PatientID": f"P{number}",
            "StudyInstanceUID": f"1.2.{number}",
            "SeriesInstanceUID": f"1.2.{number}.1",
            "FrameOfReferenceUID": f"1.2.{number}.9",
            "StudyID": "1",
            "StudyDate": "20200101",
            "StudyTime": "100000",
            "AccessionNumber": "",
            "PatientBirthDate": "",
            "PatientSex": "O",
            "SpacingBetweenSlices": "2",
            **elements,
        },
    )
    normal = np.cross(TURNED[:3], TURNED[3:])
    found = [pydicom.dcmread(path) for path in paths]
    return sorted(found, key=lambda dataset: float(normal @ np.array(dataset.ImagePositionPatient, float)))


def segmentation(path: Path, sources: list[pydicom.Dataset], pixels: npt.NDArray[Any], labels: Sequence[str]) -> None:
    descriptions = [
        SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="MANUAL",
        )
        for number, label in enumerate(labels, start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type="BINARY",
            segment_descriptions=descriptions,
            series_instance_uid=f"{sources[0].SeriesInstanceUID}.7",
            series_number=2,
            sop_instance_uid=f"{sources[0].SeriesInstanceUID}.8",
            instance_number=1,
            manufacturer="nobody",
            manufacturer_model_name="none",
            software_versions="1",
            device_serial_number="1",
        ).save_as(path)


def structure_set(path: Path, uid: str, regions: dict[str, Sequence[npt.NDArray[np.float64]]]) -> None:
    """Regions with contours in LPS mm, of the series ``uid``."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{uid}.5"
    dataset.Modality, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "RTSTRUCT", "1.2.999", f"{uid}.6"
    dataset.PatientID = "P"
    reference = Dataset()
    reference.SeriesInstanceUID = uid
    study = Dataset()
    study.RTReferencedSeriesSequence = [reference]
    frame = Dataset()
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = "1.2.3", [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region = Dataset()
        region.ROINumber, region.ROIName = number, name
        dataset.StructureSetROISequence.append(region)
        listed = Dataset()
        listed.ReferencedROINumber, listed.ContourSequence = number, []
        for points in contours:
            one = Dataset()
            one.ContourGeometricType = "CLOSED_PLANAR"
            one.NumberOfContourPoints = len(points)
            one.ContourData = [f"{value:.5f}" for value in np.asarray(points).ravel()]
            listed.ContourSequence.append(one)
        dataset.ROIContourSequence.append(listed)
    dataset.save_as(path, enforce_file_format=True)


def square(
    image: Image, slice_index: float, low: tuple[float, float], high: tuple[float, float]
) -> npt.NDArray[np.float64]:
    """A rectangle in a slice, from indices to LPS mm."""
    assert image.affine is not None
    corners = [(low[0], low[1]), (low[0], high[1]), (high[0], high[1]), (high[0], low[1])]
    indices = np.array([(slice_index, *corner, 1) for corner in corners])
    return np.asarray((indices @ image.affine.T)[:, :3])


def test_segmentations_beside_their_series_become_masks(tmp_path: Path) -> None:
    truth = np.zeros((4, 6, 6, 5), np.uint8)
    for number in range(4):
        sources = series(tmp_path / f"p{number}", number)
        truth[number, 1:3, 1:4, 1:3], truth[number, 2:5, 4:, 2 + number % 2 :] = 1, 2
        (tmp_path / f"p{number}" / "seg").mkdir()
        segmentation(tmp_path / f"p{number}" / "seg" / "s.dcm", sources, truth[number], ["liver", "left kidney"])
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.task, cohort.labels) == ("dicom masks", "segmentation", ("left kidney", "liver"))
    assert cohort.table["patient"].tolist() == ["P0", "P1", "P2", "P3"]
    codes_of = np.array([0, 2, 1])
    for number, mask in enumerate(masks_of(cohort)):
        # The volume is read along its normal, as the sources were sorted.
        np.testing.assert_array_equal(mask[..., 0], codes_of[truth[number]])


def test_contours_are_filled_in_the_patient_with_their_holes(tmp_path: Path) -> None:
    sources = series(tmp_path / "p", 0)
    image = read_series(tmp_path / "p" / "ct")
    outer = [square(image, number, (0.6, 0.6), (4.6, 3.6)) for number in (1, 2, 3)]
    hole = [square(image, 2, (1.6, 1.6), (2.6, 2.6))]
    spot = [square(image, 4.1, (-0.4, -0.4), (0.4, 0.4))]
    structure_set(tmp_path / "p" / "rs.dcm", sources[0].SeriesInstanceUID, {"GTV-1": outer + hole, "spot": spot})
    cohort = load_cohort(tmp_path)
    assert cohort.labels == ("GTV-1", "spot")
    expected = np.zeros((6, 6, 5), np.uint8)
    expected[1:4, 1:5, 1:4] = 1
    expected[2, 2, 2] = 0
    expected[4, 0, 0] = 2
    np.testing.assert_array_equal(masks_of(cohort)[0][..., 0], expected)


def test_contours_of_another_series_are_refused(tmp_path: Path) -> None:
    sources = series(tmp_path / "p", 0)
    image = read_series(tmp_path / "p" / "ct")
    tilted = square(image, 2, (1, 1), (4, 3)) + np.array([[0, 0, 0], [0, 0, 0], [0, 0, 4], [0, 0, 4]])
    structure_set(tmp_path / "p" / "rs.dcm", sources[0].SeriesInstanceUID, {"GTV": [tilted]})
    with pytest.raises(CohortError, match="not parallel to the slices of the image"):
        load_cohort(tmp_path)
    structure_set(tmp_path / "p" / "rs.dcm", sources[0].SeriesInstanceUID, {"GTV": [square(image, 40, (1, 1), (4, 3))]})
    with pytest.raises(CohortError, match="1 of 1 contours of 'GTV' lie outside the image"):
        load_cohort(tmp_path)
    structure_set(tmp_path / "p" / "rs.dcm", "9.9.9", {"GTV": [square(image, 1, (1, 1), (4, 3))]})
    with pytest.raises(CohortError, match="no series that one of them is of"):
        load_cohort(tmp_path)


def test_volumes_of_contours_are_those_of_the_shapes() -> None:
    affine = oblique()
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    image = Image(np.zeros((30, 200, 180, 1), np.int16), spacing, affine)
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    contours, radius = [], 25.0
    for number in range(30):
        height = (number - 14.5) * spacing[0]
        if abs(height) >= radius:
            continue
        inner = np.sqrt(radius**2 - height**2)
        rows, columns = 99.3 + inner * np.sin(angles) / spacing[1], 88.7 + inner * np.cos(angles) / spacing[2]
        indices = np.stack([np.full_like(rows, number), rows, columns, np.ones_like(rows)], axis=1)
        contours.append((indices @ affine.T)[:, :3])
    mask = enclosed(RegionOfInterest("ball", tuple(contours)), image)
    volume = mask.pixels.sum() * np.prod(spacing)
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.01)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), points=st.integers(3, 12))
def test_polygons_enclose_what_matplotlib_says(seed: int, points: int) -> None:
    generator = np.random.default_rng(seed)
    contours = [generator.uniform(-3, 23, (points, 2)) for _ in range(generator.integers(1, 4))]
    found = filled_polygons(contours, (20, 22))
    centres = np.stack(np.meshgrid(np.arange(20), np.arange(22), indexing="ij"), -1).reshape(-1, 2)
    # Even-odd over the angles that each contour turns around a centre, an independent count.
    inside = np.zeros(len(centres), int)
    for contour in contours:
        inside += np.rint(np.abs(_turns(contour, centres))).astype(int)
    np.testing.assert_array_equal(found.ravel(), inside % 2 == 1)
    convex = contours[0][np.argsort(np.arctan2(*(contours[0] - contours[0].mean(axis=0)).T))]
    np.testing.assert_array_equal(filled_polygons([convex], (20, 22)).ravel(), Outline(convex).contains_points(centres))


def _turns(contour: npt.NDArray[np.float64], centres: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The winding number of a contour about each centre."""
    away = contour[np.newaxis] - centres[:, np.newaxis]
    angles = np.arctan2(away[..., 0], away[..., 1])
    steps = np.diff(np.concatenate([angles, angles[:, :1]], axis=1), axis=1)
    return np.asarray(((steps + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi))


def test_contours_that_share_a_side_share_no_pixel() -> None:
    left, right = np.array([[2, 1], [2, 5], [7, 5], [7, 1]]), np.array([[2, 5], [2, 9], [7, 9], [7, 5]])
    one, other = filled_polygons([left], (10, 12)), filled_polygons([right], (10, 12))
    assert not (one & other).any()
    assert one.sum() == other.sum() == 20


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_run_lengths_are_decoded_as_the_coco_tools_do(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(1, 40, 2).tolist()
    mask = generator.random((rows, columns)) < generator.random()
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = packed["counts"].decode() if isinstance(packed["counts"], bytes) else packed["counts"]
    np.testing.assert_array_equal(shape_mask({"size": [rows, columns], "counts": text}, (rows, columns)), mask)
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(np.int8), [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    plain = {"size": [rows, columns], "counts": runs if runs[-1] or len(runs) == 1 else runs[:-1]}
    np.testing.assert_array_equal(shape_mask(plain, (rows, columns)), mask)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"size": [9, 9], "counts": [81]}, r"run lengths for an image of \[9, 9\]"),
        ({"size": [8, 9], "counts": [3, 4]}, "add up to 7 pixels"),
        ({"size": [8, 9], "counts": "\x7f\x01"}, "cannot be read"),
        ({"size": [8, 9], "counts": [90, -18]}, "cannot be read"),
        ([[1, 2, 3]], "neither polygons nor run lengths"),
        ([[1, 2, 3, 4, "x", 6]], "neither polygons nor run lengths"),
        ("circle", "neither polygons nor run lengths"),
    ],
)
def test_shapes_that_cannot_be_read_are_named(shape: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        shape_mask(shape, (8, 9))


def coco_set(folder: Path) -> Path:
    """Four images: a polygon of one class, run lengths of another, a box alone, and nothing."""
    disc = np.zeros((16, 24), np.uint8)
    cv2.circle(disc, (18, 8), 4, 1, -1)
    packed = coco_mask.encode(np.asfortranarray(disc))
    text = packed["counts"].decode() if isinstance(packed["counts"], bytes) else packed["counts"]
    listed = []
    for number in range(3):
        shapes = [
            ([[2, 3, 10, 3, 10, 9, 2, 9]], 1),
            ({"size": [16, 24], "counts": text}, 7),
        ]
        for shape, category in shapes:
            listed.append({"image_id": number, "category_id": category, "bbox": [2, 3, 8, 6], "segmentation": shape})
    listed.append({"image_id": 0, "category_id": 1, "bbox": [2, 3, 8, 6]})
    for number in range(4):
        picture(folder / "images" / f"{number}.png")
    sheet = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 24, "height": 16} for n in range(4)],
        "annotations": [{"id": n, "iscrowd": 0, **item} for n, item in enumerate(listed)],
        "categories": [{"id": 7, "name": "nucleus"}, {"id": 1, "name": "cell"}],
    }
    (folder / "annotations.json").write_text(json.dumps(sheet))
    return folder


def test_shapes_of_coco_are_masks_where_asked_for(tmp_path: Path) -> None:
    folder = coco_set(tmp_path)
    boxes = load_cohort(folder)
    assert boxes.task == "detection"
    assert "it could also be read as coco masks" in notes(boxes)
    for cohort in (load_cohort(folder, kind="coco masks"), load_cohort(folder / "annotations.json", kind="coco masks")):
        assert cohort.labels == ("nucleus", "cell")
        assert "1 annotations have a box alone and were left out." in notes(cohort)
        assert cohort.table["label"].tolist() == ["nucleus;cell"] * 3 + [""]
        expected = np.zeros((16, 24), np.uint8)
        cv2.circle(expected, (18, 8), 4, 1, -1)
        expected[3:9, 2:10] = 2
        np.testing.assert_array_equal(masks_of(cohort)[1][..., 0], expected)
        assert not masks_of(cohort)[3].any()


def test_a_table_with_a_column_of_masks(tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        picture(tmp_path / "pictures" / f"{number}.png")
        picture(tmp_path / "truth" / f"m{number}.png", 3)
        rows.append({"image": f"pictures/{number}.png", "mask": f"truth/m{number}.png", "patient": f"P{number // 2}"})
    rows[5]["mask"] = ""
    pd.DataFrame(rows).to_csv(tmp_path / "cases.csv", index=False)
    cohort = load_cohort(tmp_path)
    assert (cohort.kind, cohort.task, cohort.labels) == ("mask table", "segmentation", ("foreground",))
    assert "1 images have no mask and were left out: pictures/5.png." in notes(cohort)
    assert cohort.table["patient"].tolist() == ["P0", "P0", "P1", "P1", "P2"]
    assert masks_of(cohort)[0].sum() == 85
    pd.DataFrame(rows).assign(label=["a", "b"] * 3).to_csv(tmp_path / "cases.csv", index=False)
    typed = load_cohort(tmp_path)
    assert typed.task == "binary"
    assert "it could also be read as mask table" in notes(typed)
    assert load_cohort(tmp_path / "cases.csv", kind="mask table").table["label"].tolist() == ["foreground"] * 5


def test_a_column_of_masks_for_each_label(tmp_path: Path) -> None:
    rows = []
    for number in range(4):
        picture(tmp_path / "pictures" / f"{number}.png")
        for place, label in enumerate(("liver", "spleen")):
            picture(tmp_path / label / f"{number}_x.png", 1, (1 + 7 * place, 2, 6 + 7 * place, 20))
        rows.append(
            {"file": f"{number}.png", "liver_mask": f"liver/{number}_x.png", "spleen_mask": f"spleen/{number}_x.png"}
        )
    pd.DataFrame(rows).to_csv(tmp_path / "cases.csv", index=False)
    cohort = load_cohort(tmp_path / "cases.csv")
    assert cohort.labels == ("liver", "spleen")
    mask = read_mask(cohort, 2, cohort.read(2)).pixels[..., 0]
    assert [int((mask == value).sum()) for value in (1, 2)] == [90, 90]
    (tmp_path / "liver" / "0_x.png").unlink()
    (tmp_path / "liver" / "1_x.png").unlink()
    with pytest.raises(CohortError, match="Found no file for 2 masks"):
        load_cohort(tmp_path / "cases.csv")
