"""A finished run of a detector, as a training writes it, from made-up findings; no network is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.boxes import COLUMNS
from hounsfield.bundle import Bundle, SourceRange
from hounsfield.bundle.bundle import write_manifest
from hounsfield.evaluation import assess_detections, detections_from_tables
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.images import write_image
from hounsfield.images.image import Image
from hounsfield.preprocessing import Pipeline

LABELS = ("cell", "virus")
THRESHOLD = 0.4
STEPS = {2: [{"name": "to_channels", "channels": 1}, {"name": "zoom", "factor": 1.0}, {"name": "min_max"}]}
STEPS[3] = [{"name": "to_channels", "channels": 1}, {"name": "min_max"}]
SHAPES = {2: (64, 80), 3: (12, 24, 32)}
ANCHORS: dict[int, list[list[list[float]]]] = {2: [[[10.0, 10.0]], [[22.0, 20.0]]], 3: [[[4.0, 8.0, 8.0]]]}
PLAN = """# A plan of Hounsfield. Edit it, then: hounsfield train DATA --plan THIS_FILE

version: 1
# asked for: the dial from which the rest follows
effort: quick
seed: 0
task: detection
labels: {labels}
# nine tenths of the objects are longer than 9 pixels; whole images fit
input_shape: {shape}
pipeline: {{steps: {steps}}}
network: resnet10
width: 8
pretrained: false
batch_size: 4
epochs: 3
patience: 3
learning_rate: 0.001
warmup: 0.05
weight_decay: 0.05
average_decay: 0.7
precision: float32
stem: large
# fitted to the 90 training boxes: 1 a position on
# 2 levels, which cover 97% of them with an IoU of .6 or more
anchors: {anchors}
pyramid_channels: 16
head_units: 32
roi_bins: 5
max_objects: 8
max_detections: 50
num_proposals: 128
num_candidates: 256
augmentation: {{}}
intensities: {{}}
expected_seconds: 30.0
expected_memory_mb: 900.0
expected_disk_mb: 1.0
"""


def make_detection_run(folder: Path, *, rank: int = 2, labels: tuple[str, ...] = LABELS, share: float = 0.85) -> Path:
    """A run on images of patients with tell-tale names; findings are true boxes moved, about ``share`` of them."""
    count = 36
    data, run = folder / "data", folder / "run"
    data.mkdir(parents=True)
    (run / "bundle").mkdir(parents=True)
    generator = np.random.default_rng(rank)
    names = [f"scan-{number:03}.{'png' if rank == 2 else 'nii.gz'}" for number in range(count)]
    boxes = pd.concat([_write_scene(data / name, name, rank, labels, generator) for name in names], ignore_index=True)
    table = pd.DataFrame(
        {
            "image": names,
            "label": [
                ";".join(lab for lab in labels if lab in set(boxes["label"][boxes["image"] == n])) for n in names
            ],
            "patient": [f"MUSTERMANN-{number // 2}" for number in range(count)],
            "split": np.repeat(["train", "validation", "test"], count // 3),
            "microscope": generator.choice(["Ardent", "Balder"], count),
        }
    )
    table.to_parquet(run / "cohort.parquet")
    boxes.to_parquet(run / "boxes.parquet")
    rows = boxes.merge(table.drop(columns="label"), on="image", how="right")
    rows[["image", "label", *COLUMNS[rank], "patient", "split"]].to_csv(data / "boxes.csv", index=False)
    found = _findings(boxes, table, share, generator)
    found.to_csv(run / "predictions.csv", index=False)
    metrics = {split: _measured(boxes, found, table, split, labels) for split in ("validation", "test")}
    (run / "metrics.json").write_text(json.dumps(metrics))
    _write_bundle(run / "bundle", rank, labels, generator)
    write_rest(run, data / "boxes.csv", rank, labels)
    return run


def _write_scene(
    path: Path, name: str, rank: int, labels: tuple[str, ...], generator: np.random.Generator
) -> pd.DataFrame:
    """An image with bright blocks, none in one image of eight; its boxes."""
    shape = np.array(SHAPES[rank])
    pixels = generator.normal(70, 12, shape)
    boxes = []
    for _ in range(int(generator.integers(1, 6)) if generator.random() > 0.125 else 0):
        sides = np.minimum(generator.integers(4, 14, rank), shape // 2)
        start = generator.integers(0, shape - sides)
        label = labels[int(generator.integers(len(labels)))]
        pixels[tuple(slice(low, low + side) for low, side in zip(start, sides, strict=True))] += 60
        boxes.append((name, label, *start.astype(float), *(start + sides).astype(float)))
    write_image(Image(pixels.clip(0, 255).astype(np.uint8 if rank == 2 else np.float32)[..., None]), path)
    return pd.DataFrame(boxes, columns=["image", "label", *COLUMNS[rank]])


def _findings(boxes: pd.DataFrame, table: pd.DataFrame, share: float, generator: np.random.Generator) -> pd.DataFrame:
    columns = list(boxes.columns[2:])
    split = table.set_index("image")["split"]
    kept = boxes[(generator.random(len(boxes)) < share) & (boxes["image"].map(split) != "train").to_numpy()].copy()
    kept[columns] += generator.integers(-1, 2, kept[columns].shape)
    kept["score"] = generator.uniform(0.3, 1, len(kept))
    wrong = kept.sample(frac=0.3, random_state=0).copy()
    wrong[columns] += 9
    wrong["score"] = generator.uniform(0.02, 0.7, len(wrong))
    found = pd.concat([kept, wrong], ignore_index=True)
    return found.assign(split=found["image"].map(split))[["image", "label", "score", *columns, "split"]]


def _measured(
    boxes: pd.DataFrame, found: pd.DataFrame, table: pd.DataFrame, split: str, labels: tuple[str, ...]
) -> dict[str, Any]:
    rows = table[table["split"] == split]
    images = list(rows["image"])
    detections = detections_from_tables(
        boxes[boxes["image"].isin(images)], found[found["split"] == split], images=images, labels=labels
    )
    groups = rows["patient"].to_numpy()
    outcome = assess_detections(detections, threshold=THRESHOLD, groups=groups, num_replicates=100)
    figures: dict[str, Any] = outcome.to_dict()["test"]
    return figures


def _write_bundle(folder: Path, rank: int, labels: tuple[str, ...], generator: np.random.Generator) -> None:
    pipeline = Pipeline.from_dict({"steps": STEPS[rank]})
    pipeline.to_json(folder / "pipeline.json")
    shape = SHAPES[rank]
    bundle = Bundle(
        folder=folder,
        pipeline=pipeline,
        labels=labels,
        task="detection",
        threshold=THRESHOLD,
        input_shape=(*shape, 1),
        source_range=SourceRange(smallest=shape, largest=shape, channels=(1,)),
        versions={"hounsfield": "0.1.0"},
        settings={"anchors": ANCHORS[rank], "strides": [4, 8], "max_detections": 50, "window_overlap": 0.25},
    )
    write_manifest(bundle)
    true = generator.integers(0, 5, (12, len(labels)))
    found = np.maximum(true + generator.integers(-1, 2, true.shape), 0)
    bundle.with_uncertainty(DetectionUncertainty(true, found), threshold=THRESHOLD)


def write_rest(run: Path, data: Path, rank: int, labels: tuple[str, ...]) -> None:
    """The files that say how it was trained."""
    shape = [*SHAPES[rank], 1]
    text = PLAN.format(labels=list(labels), shape=shape, steps=json.dumps(STEPS[rank]), anchors=ANCHORS[rank])
    (run / "plan.yaml").write_text(text)
    history = {"epoch": [1, 2, 3], "loss": [2.0, 1.2, 0.9], "objectness": [0.5, 0.3, 0.2]}
    history |= {"anchor_boxes": [0.5, 0.3, 0.3], "classes": [0.5, 0.3, 0.2], "region_boxes": [0.5, 0.3, 0.2]}
    history |= {"val_ap50": [0.2, 0.7, 0.6], "seconds": [3.0, 2.0, 2.0]}
    pd.DataFrame(history).to_csv(run / "history.csv", index=False)
    origin = {"data": str(data), "kind": "box table", "images": None, "label_columns": [], "allow_outside": False}
    environment = {"data": {**origin, "drop_leaks": False, "allow_leaks": False}, "hounsfield": "0.1.0", "cores": 2}
    environment |= {"python": "3.11.7", "platform": "Linux", "backend": "tensorflow", "packages": {"numpy": "2.4"}}
    environment |= {"memory_bytes": 2**34, "accelerators": [], "command": ["hounsfield", "train"]}
    (run / "environment.json").write_text(json.dumps(environment))
    events: list[dict[str, Any]] = [
        {"event": "note", "text": "1 of 90 boxes is invalid and was left out: scan-007.png."},
        {"event": "diagnosis", "lines": ["Overfitting: gap +0.2.", "  Try: more images: hounsfield train /data/x"]},
        {"event": "finished", "seconds": 90.0, "peak_memory_mb": 800.0, "time": "2026-11-22T20:00:00+0000"},
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
