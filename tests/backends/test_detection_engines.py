"""Detection without Keras against ``FasterRCNN.predict``, step by step and whole, on every engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from keras import ops

from detectors import noise, tiny_detector, tiny_detector_bundle
from hounsfield.bundle import Bundle
from hounsfield.detection import anchors, suppression
from hounsfield.detection import faster_rcnn as reference
from hounsfield.detection.roi_align import POSITIONS_A_BIN, roi_align
from hounsfield.errors import BundleError, UsageError
from hounsfield.inference import ENGINES, Detector, check_bfloat16, onnx_networks, open_engine, two_stage
from hounsfield.inference.boxes import Finder
from hounsfield.inference.engines import OpenVINOEngine
from hounsfield.inference.two_stage import TwoStage
from networks import tiny_bundle

RANKS = pytest.mark.parametrize("rank", [2, 3])


class Case(NamedTuple):
    """A bundle, images, and what the network finds in them."""

    bundle: Bundle
    images: npt.NDArray[np.float32]
    expected: dict[str, npt.NDArray[Any]]


@pytest.fixture(scope="module", params=[2, 3])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    masks = 4 if request.param == 2 else 0
    bundle = tiny_detector_bundle(tmp_path_factory.mktemp("detector") / "bundle", request.param, mask_bins=masks)
    images = noise(bundle.input_shape, 3)
    return Case(bundle, images, bundle.network().predict_on_batch(images))


def stages_of(network: Any) -> TwoStage:
    return TwoStage.from_dict(network.settings.to_dict() | {"strides": list(network.strides)})


def assert_same_findings(found: dict[str, npt.NDArray[Any]], expected: dict[str, npt.NDArray[Any]]) -> None:
    np.testing.assert_array_equal(found["count"], expected["count"])
    assert expected["count"].max() > 5
    np.testing.assert_array_equal(found["classes"], expected["classes"])
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=2e-3)
    if "masks" in expected:
        assert expected["masks"][0, 0].std() > 0.01
        np.testing.assert_allclose(found["masks"], expected["masks"], atol=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_finds_what_the_network_finds(case: Case, name: str) -> None:
    finder = Finder(case.bundle, open_engine(case.bundle, name))
    for alone in (True, False):
        found = finder.run(case.images, alone=alone)
        assert_same_findings(found, case.expected)
        for key, values in case.expected.items():
            assert found[key].shape == values.shape
            assert found[key].dtype == values.dtype
    one = finder.run(case.images[1:2])
    np.testing.assert_allclose(one["scores"][0], case.expected["scores"][1], atol=1e-4)
    assert one["features"].shape == (1, 2 * 12)
    np.testing.assert_allclose(one["features"][0], found["features"][1], atol=1e-3, rtol=1e-4)


def test_numbers_are_those_of_the_network() -> None:
    assert two_stage.REFINEMENT_SCALE == reference.REFINEMENT_SCALE
    assert two_stage.LARGEST_LOG_RATIO == anchors.LARGEST_LOG_RATIO
    assert two_stage.SMALLEST_SIDE == anchors.SMALLEST_SIDE
    assert two_stage.POSITIONS_A_BIN == POSITIONS_A_BIN


@RANKS
def test_anchors_are_those_of_the_network(rank: int) -> None:
    network = tiny_detector(rank)
    np.testing.assert_array_equal(stages_of(network).anchor_grid, network.anchors)


def random_boxes(shape: tuple[int, ...], count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Boxes of every size from a fraction of a pixel to the whole image."""
    generator = np.random.default_rng(seed)
    limits = np.array(shape)
    sides = np.exp(generator.uniform(np.log(0.5), np.log(limits), (count, len(shape))))
    start = generator.uniform(0, 1, (count, len(shape))) * (limits - sides)
    return np.concatenate([start, start + sides], axis=1).astype(np.float32)


@RANKS
def test_regions_are_read_as_the_network_reads_them(rank: int) -> None:
    network = tiny_detector(rank)
    stages = stages_of(network)
    images = noise(network.settings.input_shape, 1)
    levels = [np.asarray(level) for level in network.trunk.predict_on_batch(images)[: stages.num_levels]]
    boxes = random_boxes(stages.input_shape[:-1], 200)
    expected = roi_align(
        [ops.convert_to_tensor(level) for level in levels], boxes[np.newaxis], network.strides, bins=3, points=2
    )
    found = stages.roi_align([level[0] for level in levels], boxes)
    np.testing.assert_allclose(found, ops.convert_to_numpy(expected)[0], rtol=1e-5, atol=1e-4)


@RANKS
@pytest.mark.parametrize("with_classes", [False, True])
def test_suppression_keeps_what_the_network_keeps(rank: int, with_classes: bool) -> None:
    boxes = random_boxes((3, 3, 3)[:rank], 150, seed=3)
    classes = np.arange(150) % 3 if with_classes else None
    mask = suppression.keep_mask(
        ops.convert_to_tensor(boxes[np.newaxis]),
        np.ones((1, 150), bool),
        threshold=0.3,
        classes=None if classes is None else ops.convert_to_tensor(classes[np.newaxis]),
    )
    found = two_stage.kept(boxes, threshold=0.3, classes=classes)
    assert 10 < len(found) < 150
    np.testing.assert_array_equal(found, np.flatnonzero(ops.convert_to_numpy(mask)[0]))


@RANKS
def test_features_are_means_of_the_coarsest_and_of_the_finest_level(rank: int) -> None:
    levels = [noise((*[side] * rank, 5), 2, seed=side) for side in (8, 4, 2)]
    axes = tuple(range(1, rank + 1))
    expected = np.concatenate([levels[2].mean(axis=axes), levels[0].mean(axis=axes)], axis=1)
    np.testing.assert_allclose(two_stage.features_of(levels), expected, atol=1e-6)


def test_the_largest_values_come_first_and_of_equal_ones_the_earlier() -> None:
    values = np.array([1, 5, 3, 5, 0, 3], np.float32)
    assert two_stage.top(values, 3).tolist() == [1, 3, 2]
    assert two_stage.top(values, 9).tolist() == [1, 3, 2, 5, 0, 4]


def test_an_image_without_a_finding_is_all_padding() -> None:
    network = tiny_detector(score_floor=0.999999)
    stages = stages_of(network)
    outputs = [np.asarray(each) for each in network.trunk.predict_on_batch(noise(network.settings.input_shape, 2))]
    found = stages.detect(outputs, lambda regions: [np.zeros((len(regions), size), np.float32) for size in (3, 4)])
    assert found["count"].tolist() == [0, 0]
    assert (found["classes"] == -1).all()
    assert not found["boxes"].any()


def test_bfloat16_is_allowed_where_findings_stay(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    bundle, images = case.bundle, list(case.images[:2])
    assert check_bfloat16(bundle, []) is False
    monkeypatch.setattr(onnx_networks, "has_bfloat16", lambda: True)
    assert "bfloat16" in OpenVINOEngine(bundle.with_check("bfloat16", True)).description
    assert "float32" in OpenVINOEngine(bundle.with_check("bfloat16", False)).description
    run = Finder.run

    def shifted(self: Finder, batch: Any, *, alone: bool = True) -> dict[str, npt.NDArray[Any]]:
        found = run(self, batch, alone=alone)
        return found | {"boxes": found["boxes"] + 8 * ("bfloat16" in self._engine.description)}

    monkeypatch.setattr(OpenVINOEngine, "__init__", _float32)
    assert check_bfloat16(bundle, images) is True
    monkeypatch.setattr(Finder, "run", shifted)
    assert check_bfloat16(bundle, images) is False


CONSTRUCT = OpenVINOEngine.__init__


def _float32(engine: OpenVINOEngine, bundle: Bundle, precision: str) -> None:
    """An engine in float32 that calls itself what was asked for: processors differ in what bfloat16 gives."""
    CONSTRUCT(engine, bundle, "f32")
    engine.description = {"f32": "float32", "bf16": "bfloat16"}[precision]


def test_engines_refuse_what_they_cannot_run(tmp_path: Path) -> None:
    plain = tiny_detector_bundle(tmp_path / "plain", onnx=False)
    with pytest.raises(UsageError, match="No engine is called 'tensorrt'"):
        open_engine(plain, "tensorrt")
    with pytest.raises(BundleError, match="is a classifier"):
        Detector(tiny_bundle(tmp_path / "classifier"))
    with pytest.raises(BundleError, match=r"has no trunk\.onnx"):
        open_engine(plain, "onnxruntime")
    assert open_engine(plain).name == "keras"
