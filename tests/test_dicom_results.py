"""Predictions as DICOM objects: what they say, of which pixels, judged by dciodvfy, dsrdump and pydicom."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

import result_sources as make
from detectors import tiny_detector_bundle
from dicom_samples import PATIENT_NAME
from hounsfield.bundle import Bundle
from hounsfield.cli import main as cli
from hounsfield.dicom_results import OBJECTS, Code, read_codes, write_results
from hounsfield.dicom_results.base import Author, write
from hounsfield.dicom_results.codes import CONCEPTS, concept
from hounsfield.dicom_results.sources import find_sources
from hounsfield.errors import ImageError, RunError
from hounsfield.images import Reference, read_series
from hounsfield.images.reading import read_reference
from hounsfield.images.stored import Finder, Stored, put_back
from hounsfield.inference import BasePrediction, open_predictor
from hounsfield.inference.values import ValuePrediction
from networks import tiny_bundle

WARNED = "Research only, not for diagnosis"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("classifier") / "bundle")


@pytest.fixture(scope="module")
def volume_classifier(tmp_path_factory) -> Bundle:
    return tiny_bundle(tmp_path_factory.mktemp("volumes") / "bundle", "multi-label", (6, 8, 7, 1))


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Bundle:
    return tiny_detector_bundle(tmp_path_factory.mktemp("detector") / "bundle")


@pytest.fixture(scope="module")
def volume_detector(tmp_path_factory) -> Bundle:
    return tiny_detector_bundle(tmp_path_factory.mktemp("volume-detector") / "bundle", rank=3)


def results(bundle: Bundle, folder: Path, inputs: Any, **options: Any) -> tuple[list[BasePrediction], list[Any]]:
    """Predictions, and the objects that are made of them, each of which conforms to the standard."""
    found = open_predictor(bundle).predict(inputs)
    folder.mkdir(exist_ok=True)
    written = write_results(found, bundle, folder, **options)
    for each in written:
        make.check_conformance(each.path)
    return found, [pydicom.dcmread(each.path) for each in written]


def check_boxes(predictions: list[Any], report: pydicom.Dataset) -> None:
    """Each rectangle lies where it was predicted, in the pixels of the frame that it names."""
    groups = make.groups(report)
    assert len(groups) == sum(len(prediction.boxes) for prediction in predictions) > 0
    read = {}
    for prediction in predictions:
        reference = prediction.reference
        image = read_reference(reference) if Path(reference.path).is_file() else read_series(reference.path)
        for box, score in zip(prediction.boxes.tolist(), prediction.scores.tolist(), strict=True):
            group = groups.pop(0)
            flat = box if len(box) == 4 else [*box[1:3], *box[4:6]]
            limits = [*image.shape[-2:]] * 2
            np.testing.assert_allclose(group["box"], np.clip(flat, 0, limits), atol=0.01)
            assert group["numbers"]["Probability"] == pytest.approx(score, abs=1e-6)
            plane = image.pixels[..., 0]
            if len(box) == 6:
                plane = plane[min(int((box[0] + box[3]) / 2), len(plane) - 1)]
                ends = [group["numbers"][name] for name in group["numbers"] if "along the slices" in name]
                np.testing.assert_allclose(sorted(ends), [box[0], box[3]], atol=0.01)
            stored = read.setdefault(group["instance"], stored_frames(reference, group["instance"]))
            assert (group["frame"] is None) == (len(stored) == 1)
            # The pixels under the rectangle are those that were looked at.
            np.testing.assert_array_equal(stored[(group["frame"] or 1) - 1], plane)


def stored_frames(reference: Any, instance: str) -> np.ndarray:
    """All frames of the file of an instance, by pydicom."""
    place = Path(reference.path)
    for path in [place] if place.is_file() else sorted(place.iterdir()):
        dataset = pydicom.dcmread(path)
        if dataset.SOPInstanceUID == instance:
            return dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    raise AssertionError("the instance is not there")


def test_boxes_in_single_images(detector, tmp_path):
    files = [str(make.flat(tmp_path / f"{number}.dcm", number)) for number in range(2)]
    predictions, (report,) = results(detector, tmp_path / "out", files)
    check_boxes(predictions, report)
    assert report.SeriesDescription.endswith(WARNED)
    assert (report.PatientName, report.StudyInstanceUID) == (PATIENT_NAME, "1.2.3")
    (equipment,) = [
        each
        for each in report.ContributingEquipmentSequence
        if each.PurposeOfReferenceCodeSequence[0].CodeMeaning == "Processing Algorithm"
    ]
    assert detector.identity[:12] in equipment.SoftwareVersions


def test_boxes_in_frames_of_a_film(detector, tmp_path):
    predictions, (report,) = results(detector, tmp_path / "out", str(make.film(tmp_path / "film.dcm")))
    assert [prediction.reference.frame for prediction in predictions] == [0, 1, 2]
    check_boxes(predictions, report)
    assert {group["frame"] for group in make.groups(report)} == {1, 2, 3}


@pytest.mark.parametrize("orientation", make.ORIENTATIONS)
def test_boxes_in_volumes_of_series(volume_detector, tmp_path, orientation):
    make.series(tmp_path / "series", orientation)
    predictions, (report,) = results(volume_detector, tmp_path / "out", str(tmp_path / "series"))
    check_boxes(predictions, report)


def test_boxes_in_frames_that_are_stored_in_another_order(volume_detector, tmp_path):
    predictions, (report,) = results(volume_detector, tmp_path / "out", str(make.stack(tmp_path / "stack.dcm")))
    check_boxes(predictions, report)


def test_a_detector_that_finds_nothing_says_so_without_a_region(detector, tmp_path):
    path = str(make.flat(tmp_path / "a.dcm"))
    predictions = open_predictor(detector, threshold=1.0).predict(path)
    (written,) = write_results(predictions, detector, tmp_path, options={"threshold": 1.0})
    make.check_conformance(written.path)
    report = pydicom.dcmread(written.path)
    assert not make.groups(report)
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in make.named(make.items(report), "ring")] == ["Absent"]


def test_labels_state_probability_threshold_and_image_and_no_region(classifier, tmp_path):
    files = [str(make.flat(tmp_path / f"{number}.dcm", number)) for number in range(2)]
    predictions, (report,) = results(classifier, tmp_path / "out", files)
    found = make.items(report)
    assert not [item for item in found if item.ValueType in ("SCOORD", "SCOORD3D")]
    instances = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    for label in ("normal", "opacity"):
        for prediction, instance, item in zip(predictions, instances, make.named(found, label), strict=True):
            inside = make.items(item)
            value = make.named(inside, "Probability")[0].MeasuredValueSequence[0].NumericValue
            assert float(value) == pytest.approx(prediction.probabilities[label], abs=1e-6)
            present = item.ConceptCodeSequence[0].CodeMeaning
            assert present == ("Present" if prediction.label == label else "Absent")
            (source,) = make.named(inside, "Source of Measurement")
            assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance
            thresholds = make.named(inside, "Decision threshold")
            assert [float(each.MeasuredValueSequence[0].NumericValue) for each in thresholds] == (
                [classifier.threshold] if label == "opacity" else []
            )


def test_labels_of_a_volume_name_its_series(volume_classifier, tmp_path):
    make.series(tmp_path / "series", "oblique", (6, 8, 7))
    (prediction,), (report,) = results(volume_classifier, tmp_path / "out", str(tmp_path / "series"))
    uids = {item.UID for item in make.named(make.items(report), "Series Instance UID")}
    assert uids == {"1.2.3.4"}
    present = {
        label: make.named(make.items(report), label)[0].ConceptCodeSequence[0].CodeMeaning for label in ("a", "b", "c")
    }
    assert present == {label: "Present" if label in prediction.label else "Absent" for label in present}


def test_a_label_that_is_not_answered_is_undetermined(classifier, tmp_path):
    predictions = open_predictor(classifier).predict(str(make.flat(tmp_path / "a.dcm")))
    object.__setattr__(predictions[0], "answered", False)
    (written,) = write_results(predictions, classifier, tmp_path)
    found = make.named(make.items(pydicom.dcmread(written.path)), "opacity")
    assert [item.ConceptCodeSequence[0].CodeMeaning for item in found] == ["Undetermined"]


@pytest.mark.parametrize("grade", [None, "moderate"])
def test_values_and_grades_with_their_interval(classifier, tmp_path, grade):
    (plain,) = open_predictor(classifier).predict(str(make.flat(tmp_path / "a.dcm")))
    probabilities = {} if grade is None else {"mild": 0.2, "moderate": 0.7, "severe": 0.1}
    said = ValuePrediction(
        reference=plain.reference, features=plain.features, name="age", value=61.25, grade=grade,
        probabilities=probabilities, low=50.5, high=float("inf"), flags=("blank",),
    )  # fmt: skip
    (report,) = OBJECTS["values"]["report"](Author(classifier), find_sources([said]))
    report.save_as(tmp_path / "report.dcm", enforce_file_format=True)
    make.check_conformance(tmp_path / "report.dcm")
    found = make.items(pydicom.dcmread(tmp_path / "report.dcm"))
    (item,) = make.named(found, "age")
    numbers = {
        each.ConceptNameCodeSequence[0].CodeMeaning: float(each.MeasuredValueSequence[0].NumericValue)
        for each in [item, *make.items(item)]
        if each.ValueType == "NUM"
    }
    if grade is None:
        assert numbers == {"age": 61.25, "Lower end of the prediction interval": 50.5}
    else:
        assert item.ConceptCodeSequence[0].CodeMeaning == "moderate"
        assert numbers == {"Predicted value": 61.25, "Probability": 0.7, "Lower end of the prediction interval": 50.5}
    assert make.named(found, "Differences from the training images")[0].TextValue == "blank"


def test_identifiers_are_those_of_a_retry_and_of_nothing_else(classifier, tmp_path):
    other = tiny_bundle(tmp_path / "other" / "bundle", threshold=0.4)
    files = [str(make.flat(tmp_path / f"{number}.dcm", number)) for number in range(2)]
    code = Code(value="233604007", scheme="SCT", meaning="Pneumonia")

    def uid(bundle: Bundle, inputs: list[str], **options: Any) -> str:
        (written,) = write_results(open_predictor(bundle).predict(inputs), bundle, tmp_path, **options)
        return written.uid

    first = uid(classifier, files)
    assert uid(classifier, files) == first == uid(classifier, files[::-1])
    others = [
        uid(other, files),
        uid(classifier, files[:1]),
        uid(classifier, files, quirk="ohif"),
        uid(classifier, files, codes={"opacity": code}),
        uid(classifier, files, options={"threshold": 0.7}),
    ]
    assert len({first, *others}) == 6


def test_a_study_gets_an_object_of_its_own(classifier, tmp_path):
    files = [str(make.flat(tmp_path / f"{study}.dcm", StudyInstanceUID=f"1.2.{study}")) for study in (5, 6)]
    _, reports = results(classifier, tmp_path / "out", files)
    assert [report.StudyInstanceUID for report in reports] == ["1.2.5", "1.2.6"]


def test_the_workaround_for_ohif_is_named_and_covers_the_image(classifier, tmp_path):
    files = [str(make.flat(tmp_path / f"{number}.dcm", number)) for number in range(2)]
    predictions, (report,) = results(classifier, tmp_path / "out", files, quirk="ohif")
    identifiers = make.named(make.items(report), "Tracking Identifier")
    for prediction, group, identifier in zip(predictions, make.groups(report), identifiers, strict=True):
        assert group["box"] == (0, 0, 45, 52)
        assert group["numbers"] == pytest.approx(prediction.probabilities, abs=1e-6)
        assert group["finding"].CodeMeaning == "Classification of the whole image, no region"
        assert identifier.TextValue == f"{prediction.label} (whole image)"


def test_codes_of_the_run(tmp_path):
    bundle = tiny_bundle(tmp_path / "run" / "bundle")
    assert read_codes(bundle) == {}
    about = tmp_path / "run" / "about.yaml"
    about.write_text(
        "intended_use: anything\ncodes:\n  opacity: {value: '233604007', scheme: SCT, meaning: Pneumonia}\n",
        encoding="utf-8",
    )
    codes = read_codes(bundle)
    assert codes == {"opacity": Code(value="233604007", scheme="SCT", meaning="Pneumonia")}
    _, (report,) = results(bundle, tmp_path / "out", str(make.flat(tmp_path / "a.dcm")), codes=codes)
    names = {
        (code.CodeValue, code.CodingSchemeDesignator)
        for item in make.items(report)
        for code in item.get("ConceptNameCodeSequence", [])
    }
    assert {("233604007", "SCT"), ("normal", "99HOUNSFIELD")} <= names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("codes: {opacity: {value: x}}", "codes.opacity.scheme"),
        ("codes: {lung: {value: x, scheme: SCT, meaning: Lung}}", "codes for lung"),
        ("codes: [", "cannot be read"),
    ],
)
def test_damaged_codes_are_refused(classifier, text, told):
    about = classifier.folder.parent / "about.yaml"
    about.write_text(text)
    with pytest.raises(RunError, match=told):
        read_codes(classifier)
    about.unlink()


def test_sparse_headers_and_names_in_any_script_are_told_to_nobody(tmp_path, caplog, capsys):
    labels = ("نرمال", "结节 with a name longer than sixteen letters")
    bundle = tiny_bundle(tmp_path / "bundle")
    object.__setattr__(bundle, "labels", labels)
    path = make.flat(
        tmp_path / "a.dcm", PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100", PatientSex=None,
        PatientBirthDate=None, StudyID=None, AccessionNumber=None,
    )  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, (report,) = results(bundle, tmp_path / "out", str(path))
    assert str(report.PatientName) == "Müller^Jörg"
    assert {item.ConceptNameCodeSequence[0].CodeMeaning for item in make.items(report) if item.ValueType == "CODE"} >= {
        *labels
    }
    told = caplog.text + "".join(capsys.readouterr()) + "".join(str(each.message) for each in caught)
    assert "ller" not in told


def test_what_a_de_identification_left_in_place_of_values_is_not_copied(classifier, tmp_path):
    odd = {
        "PatientSex": "0",
        "PatientBirthDate": "***",
        "PatientAge": "***",
        "StudyTime": "x",
    }
    path = make.flat(tmp_path / "a.dcm", PatientID="P7", **odd)
    _, (report,) = results(classifier, tmp_path / "out", str(path))
    assert (report.PatientID, report.PatientSex, report.PatientBirthDate, report.StudyTime) == ("P7", "", "", "")
    assert "PatientAge" not in report


def test_a_header_that_breaks_the_standard_ends_in_one_sentence(classifier, tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("the patient's name is unknown^Erika")

    path = make.flat(tmp_path / "a.dcm")
    monkeypatch.setitem(OBJECTS[classifier.family], "map", broken)
    with pytest.raises(ImageError, match="breaks the standard") as refused:
        write_results(open_predictor(classifier).predict(str(path)), classifier, tmp_path, kinds=["capture", "map"])
    assert "Erika" not in str(refused.value)


def test_the_slices_of_a_source_are_those_that_the_reader_read(volume_classifier, tmp_path):
    make.series(tmp_path / "a", "flipped", (6, 8, 7))
    make.series(tmp_path / "b", "oblique", (6, 8, 7), SeriesInstanceUID="1.2.3.9")
    for path in (tmp_path / "b").iterdir():
        path.rename(tmp_path / "a" / f"b{path.name}")
    predictions = open_predictor(volume_classifier).predict(str(tmp_path / "a"))
    assert {prediction.reference.series for prediction in predictions} == {"1.2.3.4", "1.2.3.9"}
    for source in find_sources(predictions):
        image = source.image()
        found = np.stack([pydicom.dcmread(stored.path).pixel_array for stored in source.slices])
        np.testing.assert_array_equal(found, image.pixels[..., 0])


def test_places_in_volumes_that_were_resampled(tmp_path):
    make.series(tmp_path / "tilted", shape=(5, 9, 8))
    for path in (tmp_path / "tilted").iterdir():
        dataset = pydicom.dcmread(path)
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + 0.7 * (z - 30) / 2, z]  # one row for each slice
        dataset.PixelData = np.full((9, 8), 10 * (z - 30) + np.arange(9)[:, None], np.uint8).tobytes()
        dataset.save_as(path)
    image = read_series(tmp_path / "tilted")
    facts = image.metadata
    slices = Finder().find(Reference(str(tmp_path / "tilted"), None, None, facts.study, facts.series, facts.instance))
    frames = put_back(image.pixels[..., 0], slices, lambda _: (9, 8))
    assert len(frames) == 5
    for (path, _), plane in frames.items():
        np.testing.assert_array_equal(plane, pydicom.dcmread(path).pixel_array)


def test_tiles_of_a_mosaic_and_slices_between_two_frames_go_back_to_their_place():
    path, values = Path("a.dcm"), np.arange(3 * 2 * 2).reshape(3, 2, 2) + 1.0
    tiles = [Stored(path, offset=place) for place in ((0.0, 0.0), (0.0, 2.0), (2.0, 0.0))]
    whole = put_back(values, tiles, lambda _: (4, 4))[path, None]
    np.testing.assert_array_equal(whole, np.block([[values[0], values[1]], [values[2], np.zeros((2, 2))]]))
    for order in ([0.4, 0.0, 0.3], [0.0, 0.4, 0.3], [0.4, 0.3, 0.0]):
        nearest = put_back(values, [Stored(path, distance=each) for each in order], lambda _: (2, 2))[path, None]
        np.testing.assert_array_equal(nearest, values[order.index(0.0)])


def test_slices_of_a_series_that_was_made_even_name_the_nearest_file(tmp_path):
    make.series(tmp_path / "a", shape=(8, 4, 4))
    for path in (tmp_path / "a").iterdir():
        dataset = pydicom.dcmread(path)
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y, z if z < 38 else 38 + (z - 38) * 2]  # 2 mm, then 4 mm
        dataset.save_as(path)
    image = read_series(tmp_path / "a")
    facts = image.metadata
    slices = Finder().find(Reference(str(tmp_path / "a"), None, None, facts.study, facts.series, facts.instance))
    assert len(slices) == image.shape[0] == 11
    for stored, plane in zip(slices, image.pixels[..., 0], strict=True):
        if stored.distance == 0:
            np.testing.assert_array_equal(pydicom.dcmread(stored.path).pixel_array, plane)
    assert sorted({round(stored.distance, 6) for stored in slices}) == [0, 2]


@pytest.mark.parametrize("orientation", make.ORIENTATIONS)
def test_evidence_lies_on_the_pixels_of_the_source(volume_classifier, tmp_path, orientation):
    make.series(tmp_path / "series", orientation, (6, 8, 7))
    _, (found,) = results(volume_classifier, tmp_path / "out", str(tmp_path / "series"), kinds=["map"])
    (prediction,) = open_predictor(volume_classifier).predict(str(tmp_path / "series"))
    heat = (
        Author(volume_classifier).explainer.explain_image(read_series(tmp_path / "series"), prediction.reference).heat
    )
    placed = {}
    planes = np.frombuffer(found.FloatPixelData, np.float32).reshape(-1, 8, 7)
    for frame, plane in zip(found.PerFrameFunctionalGroupsSequence, planes, strict=True):
        placed[tuple(np.round(np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float), 3))] = plane
    series = [pydicom.dcmread(path) for path in (tmp_path / "series").iterdir()]
    normal = np.cross(make.ORIENTATIONS[orientation][:3], make.ORIENTATIONS[orientation][3:])
    series.sort(key=lambda each: float(normal @ np.array(each.ImagePositionPatient, float)))
    assert placed
    for dataset, plane in zip(series, heat, strict=True):
        place = tuple(np.round(np.array(dataset.ImagePositionPatient, float), 3))
        if place in placed:
            np.testing.assert_allclose(placed.pop(place), plane, rtol=1e-6)
        else:
            assert np.abs(plane).max() < 0.05 * np.abs(heat).max()
    assert not placed


@pytest.mark.parametrize("kind", [*make.ORIENTATIONS, "stack", "film", "flat"])
@pytest.mark.parametrize("overlapping", [False, True])
def test_masks_come_back_voxel_by_voxel(classifier, tmp_path, kind, overlapping):
    # A header may leave it empty: type 2 of PS3.3, C.8.2.1.
    thickness = {"SliceThickness": None} if overlapping else {}
    path = {
        "stack": lambda: make.stack(tmp_path / "a.dcm", (6, 8, 7)),
        "film": lambda: make.film(tmp_path / "a.dcm", 3, (8, 7)),
        "flat": lambda: make.flat(tmp_path / "a.dcm", 1, (8, 7), **thickness),
    }.get(kind, lambda: make.series(tmp_path / "a", kind, (6, 8, 7), **thickness)[0].parent)()
    image = read_reference(Reference(str(path))) if path.is_file() else read_series(path)
    regions = np.random.default_rng(5).random((*image.shape, 2)) > 0.7
    if image.rank == 3:
        regions[2] = False
    regions[..., 1] &= overlapping | ~regions[..., 0]
    bundle = dataclasses.replace(classifier, labels=("organ", "lesion"))
    said = make.mask_prediction(image, path, regions, overlapping=overlapping)
    author, sources = Author(bundle), find_sources([said])
    for name in ("segmentation", "report"):
        if kind == "film" and name == "segmentation":
            assert not OBJECTS["masks"][name](author, sources)
            continue
        for number, dataset in enumerate(OBJECTS["masks"][name](author, sources)):
            written = write(dataset, name, tmp_path)
            make.check_conformance(written.path)
            assert number == 0
            if name == "segmentation":
                check_masks(highdicom.seg.segread(written.path), sources[0], regions.reshape(-1, 8, 7, 2))


def check_masks(found: Any, source: Any, regions: np.ndarray) -> None:
    """Each frame has the voxels of its source; frames without any are not there."""
    assert [each.SegmentLabel for each in found.SegmentSequence] == ["organ", "lesion"]
    assert all("RecommendedDisplayCIELabValue" in each for each in found.SegmentSequence)
    for stored, expected in zip(source.slices, regions, strict=True):
        uid = source.headers[stored.path].SOPInstanceUID
        options = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
        if stored.frame is None:
            pixels = found.get_pixels_by_source_instance([uid], **options)
        else:
            pixels = found.get_pixels_by_source_frame(uid, [stored.frame + 1], **options)
        np.testing.assert_array_equal(pixels[0], expected)
    assert found.NumberOfFrames == sum(int(plane[..., label].any()) for plane in regions for label in (0, 1))


def test_images_without_a_frame_of_reference_get_no_map_and_say_so(classifier, tmp_path, caplog):
    _, found = results(classifier, tmp_path / "out", str(make.flat(tmp_path / "a.dcm")), kinds=["map"])
    assert not found
    assert "no frame of reference" in caplog.text


def test_a_map_of_a_single_slice(classifier, tmp_path):
    (path, *_) = make.series(tmp_path / "series", "oblique", (1, 45, 52))
    _, (found,) = results(classifier, tmp_path / "out", str(path), kinds=["map"])
    assert (found.Rows, found.Columns, found.NumberOfFrames) == (45, 52, 1)
    assert found.ContentQualification == "RESEARCH"


def test_concepts_are_codes_that_the_standard_allows():
    for name in CONCEPTS:
        assert concept(name).CodeMeaning == CONCEPTS[name][2]


def test_captures_show_the_prediction_under_a_warning(detector, tmp_path, monkeypatch):
    path = make.flat(tmp_path / "Mustermann.dcm")
    predictions, (found,) = results(detector, tmp_path / "out", str(path), kinds=["capture"])
    pixels = found.pixel_array
    assert pixels.shape[2] == 3
    # The banner is red across its middle, and the image is below it.
    banner = pixels[: pixels.shape[0] // 20]
    red = (banner[..., 0] > 100) & (banner[..., 1] < 60) & (banner[..., 2] < 60)
    assert red.mean() > 0.1
    assert len(predictions[0].boxes) > 0
    assert found.SeriesDescription.endswith(WARNED)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
    with pytest.raises(SystemExit) as outcome:
        cli.main()
    return int(outcome.value.code or 0)


def test_predict_writes_results(classifier, tmp_path, monkeypatch, capsys):
    for number in range(2):
        make.flat(tmp_path / f"{number}.dcm", number)
    files = [tmp_path / f"{number}.dcm" for number in range(2)]
    assert command(monkeypatch, "predict", classifier.folder, *files, "--dicom-results", tmp_path / "new" / "out") == 0
    captured = capsys.readouterr()
    assert "1 of kind report" in captured.err
    (written,) = (tmp_path / "new" / "out").iterdir()
    (same,) = write_results(open_predictor(classifier).predict([str(file) for file in files]), classifier, tmp_path)
    assert written.name == same.path.name
    options = ["--dicom-results", tmp_path / "two", "--threshold", "0.9"]
    assert command(monkeypatch, "predict", classifier.folder, *files, *options) == 0
    assert [path.name for path in (tmp_path / "two").iterdir()] != [written.name]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["image.npy", "--dicom-results", "out"], "is no DICOM file"),
        (["a.dcm", "--dicom-results", "out", "--dicom-kind", "segmentation"], "a classifier makes"),
        (["a.dcm", "--dicom-results", "out", "--dicom-kind", "film"], "expected one of"),
        (["a.dcm", "--dicom-kind", "map"], "Give --dicom-results DIR too"),
        (["a.dcm", "--dicom-results", "a.dcm"], "is a file"),
    ],
)
def test_predict_refuses_before_any_work(classifier, tmp_path, monkeypatch, capsys, arguments, told):
    np.save(tmp_path / "image.npy", np.zeros((12, 10)))
    make.flat(tmp_path / "a.dcm")
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "predict", classifier.folder, *arguments) == 2
    captured = capsys.readouterr()
    assert told in " ".join(captured.err.split())
    assert "Engine" not in captured.err
    assert not (tmp_path / "out").exists()
