"""Tiny detectors with random weights and their bundles, for tests of everything that comes after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle, SourceRange, export_onnx, save_bundle
from hounsfield.detection import FasterRCNN
from hounsfield.plans.detector_settings import DetectorSettings
from hounsfield.preprocessing import MinMax, Pipeline, ToChannels

LABELS = ("ring", "rod")
SHAPES: dict[int, dict[str, Any]] = {
    # Sides that no stride divides; a level without anchors between two that have some.
    2: {"input_shape": (45, 52, 1), "stem": "large", "anchors": (((9, 9), (14, 8)), (), ((24, 24), (16, 30)))},
    3: {"input_shape": (18, 20, 17, 1), "stem": "medium", "anchors": (((6, 6, 6),), ((10, 10, 10),))},
}
# How large the weights of a layer are; large offsets would lead all boxes out of the image.
SCALES = {"anchor_offsets": 0.05, "objectness": 0.3, "region_offsets": 1.0, "class_logits": 2.0}
TINY: dict[str, Any] = {
    "num_labels": len(LABELS),
    "backbone": "resnet10",
    "width": 4,
    "pyramid_channels": 12,
    "head_units": 16,
    "roi_bins": 3,
    "num_candidates": 60,
    "num_proposals": 30,
    "max_detections": 20,
}


def tiny_detector(rank: int = 2, *, seed: int = 0, **changes: Any) -> FasterRCNN:
    """Every weight is random, and so large that scores and offsets differ."""
    network = FasterRCNN(DetectorSettings(**TINY | SHAPES[rank] | changes))
    generator = np.random.default_rng(seed)
    for part in network.parts:
        for layer in part.layers:
            scale = SCALES.get(layer.name, 1.5)
            layer.set_weights([_random(generator, weight, scale) for weight in layer.get_weights()])
    network.head.get_layer("class_logits").bias.assign([-1.0, 0.0, 0.0])
    return network


def tiny_detector_bundle(folder: Path, rank: int = 2, *, onnx: bool = True, mask_bins: int = 0, **facts: Any) -> Bundle:
    """A saved bundle; its pipeline keeps the size of images."""
    shape = SHAPES[rank]["input_shape"]
    seen = SourceRange(smallest=shape[:-1], largest=shape[:-1], channels=(1,))
    pipeline = Pipeline(steps=(ToChannels(channels=1), MinMax()))
    options = {"pipeline": pipeline, "labels": LABELS, "task": "detection", "source_range": seen}
    options |= {"settings": {"window_overlap": 0.25}, "threshold": 0.1}
    bundle = save_bundle(folder, tiny_detector(rank, mask_bins=mask_bins), **options | facts)
    if onnx:
        export_onnx(bundle)
    return bundle


def noise(shape: tuple[int, ...], count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Random images (count, *shape)."""
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def _random(generator: np.random.Generator, weight: npt.NDArray[Any], scale: float) -> npt.NDArray[Any]:
    if weight.ndim == 1:
        # Of normalisations: around 1, so that variances stay positive; of biases with the others of their layer.
        return scale * generator.uniform(0.3, 1.0, weight.shape)
    return generator.normal(0, scale / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)
