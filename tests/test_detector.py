"""Detections in files and arrays of any size, told in pixels of the images as they were read."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from detectors import LABELS, tiny_detector_bundle
from hounsfield.bundle import Bundle, SourceRange
from hounsfield.errors import BundleError, ImageError
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.evaluation.novelty import Novelty
from hounsfield.images import Image
from hounsfield.inference import BadImage, DetectionPrediction, Detector, Predictor
from hounsfield.preprocessing import MinMax, Pipeline, Resize, ToChannels
from networks import tiny_bundle


@pytest.fixture(scope="module", params=[2, 3])
def detector(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Detector:
    return Detector(tiny_detector_bundle(tmp_path_factory.mktemp("detector") / "bundle", request.param))


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return tiny_detector_bundle(tmp_path_factory.mktemp("flat") / "bundle")


def pixels_of(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def scaled_bundle(flat: Bundle, size: tuple[int, int]) -> Bundle:
    """The same network behind a pipeline that resizes."""
    pipeline = Pipeline(steps=(ToChannels(channels=1), Resize(size=size), MinMax()))
    return dataclasses.replace(flat, pipeline=pipeline)


def test_an_image_of_the_canvas_s_size_is_found_as_the_engine_finds_it(detector: Detector) -> None:
    shape = detector.bundle.input_shape
    image = pixels_of(shape[:-1])
    (prediction,) = detector.predict(image)
    values = (image / np.float32(255))[..., np.newaxis]
    values = (values - values.min()) / (values.max() - values.min())
    outcome = detector.run(values[np.newaxis].astype(np.float32))
    said = outcome["scores"][0] >= detector.threshold
    assert 0 < said.sum() < outcome["count"][0]
    np.testing.assert_allclose(prediction.boxes, outcome["boxes"][0][said], atol=1e-3)
    np.testing.assert_allclose(prediction.scores, outcome["scores"][0][said], atol=1e-5)
    assert prediction.labels == tuple(LABELS[number] for number in outcome["classes"][0][said])
    assert prediction.counts == {label: prediction.labels.count(label) for label in LABELS}
    assert (prediction.image, prediction.shape) == ("array", shape[:-1])


def test_images_smaller_and_larger_than_the_canvas_keep_boxes_inside(detector: Detector) -> None:
    canvas = detector.bundle.input_shape[:-1]
    for factor in (0.5, 1.6):
        shape = tuple(int(length * factor) for length in canvas)
        (prediction,) = detector.predict(pixels_of(shape))
        assert len(prediction.boxes)
        assert (prediction.boxes >= 0).all()
        assert (prediction.boxes[:, len(shape) :] <= np.array(shape)).all()
        assert (np.diff(prediction.scores) <= 0).all()


def test_boxes_are_in_pixels_of_the_image_as_read(flat: Bundle) -> None:
    canvas = flat.input_shape[:-1]
    image = pixels_of(canvas)
    (plain,) = Detector(flat).predict(image)
    doubled = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    (prediction,) = Detector(scaled_bundle(flat, (canvas[0], canvas[1]))).predict(doubled)
    assert prediction.shape == tuple(2 * length for length in canvas)
    np.testing.assert_allclose(prediction.scores, plain.scores, atol=1e-4)
    np.testing.assert_allclose(prediction.boxes, 2 * plain.boxes, atol=0.02)


def test_findings_go_down_to_the_floor_and_predictions_to_the_threshold(flat: Bundle) -> None:
    image = pixels_of(flat.input_shape[:-1])
    detector = Detector(flat, threshold=0.15)
    found = detector.look((image / np.float32(255))[..., np.newaxis]).found
    assert found.scores.min() < 0.1
    (prediction,) = detector.predict(image)
    (more,) = Detector(flat).predict(image)
    assert prediction.scores.min() >= 0.15 > more.scores.min() >= flat.threshold == 0.1


def test_files_folders_and_bad_images_come_in_order(flat: Bundle, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels_of((50, 60), number))
    (tmp_path / "1.png").write_bytes(b"no picture")
    seen: list[str] = []
    counts: list[int] = []
    results = list(
        Detector(flat).stream(
            tmp_path,
            progress=lambda _name, done, _total: counts.append(done),
            viewer=lambda image, prediction: seen.append(f"{image.shape} {Path(prediction.image).name}"),
        )
    )
    assert [Path(result.image).name for result in results] == ["0.png", "1.png", "2.png"]
    assert [type(result) for result in results] == [DetectionPrediction, BadImage, DetectionPrediction]
    assert sorted(seen) == ["(50, 60) 0.png", "(50, 60) 2.png"]
    assert counts[-1] == 3
    with pytest.raises(ImageError, match=r"1 of 3 images could not be predicted\. .*1\.png"):
        Detector(flat).predict(tmp_path)


def test_slices_of_a_volume_are_named_for_a_network_of_images(flat: Bundle) -> None:
    predictions = Detector(flat).predict(pixels_of((2, 45, 52)))
    assert [prediction.image for prediction in predictions] == ["array[0]", "array[1]"]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image(pixels=np.full((45, 52, 1), np.nan, np.float32)), "NaN"),
        (Image(pixels=pixels_of((45, 52, 1)), modality="CT"), "Hounsfield units"),
    ],
)
def test_what_cannot_be_judged_is_a_bad_image(flat: Bundle, image: Image, reason: str) -> None:
    (result,) = Detector(dataclasses.replace(flat, modality="MR")).stream(image)
    assert isinstance(result, BadImage)
    assert reason in result.reason


def test_other_channels_than_those_of_training_are_refused(flat: Bundle) -> None:
    bare = dataclasses.replace(flat, pipeline=Pipeline(steps=(MinMax(),)))
    (result,) = Detector(bare).stream(pixels_of((45, 52, 3)))
    assert isinstance(result, BadImage)
    assert "the network takes 45×52×1" in result.reason


def test_an_unlike_size_is_warned_of_once(flat: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    seen = SourceRange(smallest=(45, 52), largest=(45, 52), channels=(1,))
    assert flat.source_range == seen
    with caplog.at_level(logging.WARNING):
        predictions = Detector(flat).predict([pixels_of((10, 12)), pixels_of((11, 12))])
    assert all("size" in prediction.flags for prediction in predictions)
    assert len([record for record in caplog.records if "far from those of training" in record.message]) == 1
    assert "2 images differ" in caplog.text


def test_unlike_images_are_told_by_the_features_of_the_pyramid(tmp_path: Path) -> None:
    bundle = tiny_detector_bundle(tmp_path / "bundle")
    detector = Detector(bundle)
    images = [pixels_of((45, 52), seed) for seed in range(24)]
    features = np.stack([prediction.features for prediction in detector.predict(images)])
    assert features.shape == (24, 2 * 12)
    novelty = Novelty.fit({"features": features[:16]}, {"features": features[16:]})
    counts = np.ones((24, 2), np.int64)
    known = Detector(bundle.with_uncertainty(DetectionUncertainty(counts, counts, novelty), threshold=0.1))
    like, blank = known.predict([images[3], np.zeros((45, 52), np.uint8)])
    assert like.ood_score is not None
    assert like.ood_score <= 1
    assert like.flags == ()
    assert blank.ood_score is not None
    assert blank.ood_score > 1
    assert blank.flags == ("blank", "features")
    far = dataclasses.replace(novelty, limits={"features": 1e6})
    lenient = Detector(bundle.with_uncertainty(DetectionUncertainty(counts, counts, far), threshold=0.1))
    (within,) = lenient.predict(np.zeros((45, 52), np.uint8))
    assert within.ood_score is not None
    assert within.ood_score < 1
    assert within.flags == ("blank",)


def test_each_kind_of_bundle_has_its_own_door(flat: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is a classifier"):
        Detector(tiny_bundle(tmp_path / "classifier"))
    with pytest.raises(BundleError, match="is a detector"):
        Predictor(flat)
