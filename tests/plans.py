"""A small plan made by hand, a small cohort that it fits, and a fingerprint, for tests of planning and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.cohorts.distribution import Distribution
from hounsfield.cohorts.fingerprint import Fingerprint
from hounsfield.plans.augmentation import Augmentation, PatchAugmentation
from hounsfield.plans.labels import Plan
from hounsfield.plans.masks import MaskPlan
from hounsfield.preprocessing import Pipeline


def hand_made_plan(**changes: Any) -> Plan:
    """A plan for the pair of ``write_pair``: a tiny residual network, three epochs."""
    pipeline = Pipeline.from_dict({"steps": [{"name": "to_channels", "channels": 1}, {"name": "dataset_z_score"}]})
    usual: dict[str, Any] = {
        "effort": "quick",
        "seed": 0,
        "task": "binary",
        "labels": ("0", "1"),
        "input_shape": (16, 16, 1),
        "pipeline": pipeline,
        "network": "resnet10",
        "width": 8,
        "dropout": 0.1,
        "augmentation": Augmentation(flip_axes=(1,), translation=0.05, noise=0.1),
        "batch_size": 8,
        "epochs": 3,
        "patience": 5,
        "learning_rate": 0.003,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "label_smoothing": 0.05,
        "balance_classes": True,
        "average_decay": 0.5,
        "precision": "float32",
    }
    return Plan(**usual | changes)


def hand_made_mask_plan(**changes: Any) -> MaskPlan:
    """A plan of a tiny U-Net on patches of 16×16."""
    usual: dict[str, Any] = {
        "effort": "quick",
        "seed": 0,
        "labels": ("large", "small"),
        "input_shape": (16, 16, 1),
        "pipeline": Pipeline.from_dict({"steps": [{"name": "z_score"}]}),
        "width": 2,
        "spacing": (1.0, 1.0),
        "strides": ((2, 2),),
        "kernels": ((3, 3), (3, 3)),
        "augmentation": PatchAugmentation(),
        "intensities": Augmentation(),
        "batch_size": 4,
        "epochs": 1,
        "patience": 1,
        "learning_rate": 1e-3,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "average_decay": 0.5,
        "precision": "float32",
    }
    return MaskPlan(**usual | changes)


def seen(**changes: Any) -> Fingerprint:
    """The fingerprint of 1,000 grey radiographs of 400×320 of 500 patients."""
    values = Distribution.of([0.0, 100.0, 200.0])
    usual: dict[str, Any] = dict.fromkeys(("constant", "clipped", "not_finite", "bad"), ())
    usual |= dict.fromkeys(("minimum", "maximum", "mean", "deviation", "low", "high"), values)
    usual |= {
        "name": "cohort",
        "kind": "table",
        "task": "binary",
        "labels": ("normal", "opacity"),
        "num_images": 1000,
        "num_readable": 1000,
        "num_patients": 500,
        "num_studies": None,
        "splits": {"train": 1000},
        "balance": {"train": {"normal": 500, "opacity": 500}},
        "rank": 2,
        "ranks": {2: 1000},
        "shapes": {(400, 320): 1000},
        "min_shape": (400, 320),
        "median_shape": (400, 320),
        "max_shape": (400, 320),
        "spacing": None,
        "num_spacing": 0,
        "orientations": {},
        "modality": "DX",
        "modalities": {"DX": 1000},
        "channels": 1,
        "channel_counts": {1: 1000},
        "num_grey": 1000,
        "dtypes": {"uint8": 1000},
        "bits": {8: 1000},
    }
    return Fingerprint(**usual | changes)


# Compiles in a moment, for tests that are not about the network.
PLAIN: dict[str, Any] = {"network": "simple_cnn", "width": None}


def small_plan(**changes: Any) -> Plan:
    """The same of a quarter of its size, by which the shared classifier is trained."""
    return hand_made_plan(**{"width": 4} | changes)


def write_pair(folder: Path, count: int = 60, labels: int = 2) -> str:
    """Images with a bright patch that grows with the label; returns DATA."""
    generator = np.random.default_rng(1)
    classes = np.arange(count) % labels
    images = generator.normal(100, 15, size=(count, 16, 16))
    for number, label in enumerate(classes):
        images[number, 3 : 3 + 3 * label, 3:9] += 60
    np.save(folder / "images.npy", images.clip(0, 255).astype(np.uint8))
    np.save(folder / "labels.npy", classes)
    return f"{folder / 'images.npy'},{folder / 'labels.npy'}"


def write_table(folder: Path, table: dict[str, list[Any]]) -> None:
    """``index.csv`` with these columns, and noise for each image that it names."""
    generator = np.random.default_rng(0)
    for name in table["image"]:
        np.save(folder / name, generator.normal(size=(16, 16)).astype(np.float32))
    pd.DataFrame(table).to_csv(folder / "index.csv", index=False)
