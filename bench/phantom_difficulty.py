"""How hard is phantom:chest? Test AUC of a linear model on pixels against a small CNN, on several seeds of the cohort.

    KERAS_BACKEND=tensorflow python bench/phantom_difficulty.py --seeds 3

Wanted: the CNN between .90 and .99, the linear model clearly below. Patients are split 70/10/20. The linear model's C
and the size of its picture, and the CNN's epoch, are chosen on validation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import keras
import numpy as np
import pandas as pd
import pydicom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hounsfield.phantoms import make_phantom


def load(table: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures in [0, 1] with dense tissue bright, 0/1 targets, and the split of each row by patient."""
    rows = pd.read_csv(table)
    pictures = []
    for name in rows["image"]:
        dataset = pydicom.dcmread(table.parent / name)
        pixels = dataset.pixel_array.astype(np.float32) / 4095
        pictures.append(1 - pixels if dataset.PhotometricInterpretation == "MONOCHROME1" else pixels)
    patients = np.random.default_rng(0).permutation(rows["patient"].unique().astype(str))
    part = np.digitize(np.arange(len(patients)) / len(patients), (0.7, 0.8))
    split = rows["patient"].map(dict(zip(patients, part, strict=True))).to_numpy()
    return np.stack(pictures), (rows["label"] == "opacity").to_numpy(np.float32), split


def linear_auc(pictures: np.ndarray, y: np.ndarray, split: np.ndarray) -> float:
    best = (0.0, 0.0)
    for size in (16, 32):
        x = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA).ravel() for p in pictures])
        for c in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300))
            model.fit(x[split == 0], y[split == 0])
            score = model.decision_function(x)
            best = max(
                best, (roc_auc_score(y[split == 1], score[split == 1]), roc_auc_score(y[split == 2], score[split == 2]))
            )
    return best[1]


def build_cnn(size: int) -> keras.Model:
    layers = keras.layers
    inputs = x = keras.Input((size, size, 1))
    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomTranslation(0.08, 0.08, fill_mode="nearest")(x)
    x = layers.Conv2D(16, 5, strides=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for width in (24, 48, 96):
        y = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(width, 3, padding="same", use_bias=False)(y))
        x = layers.ReLU()(layers.Add()([y, layers.Conv2D(width, 1, strides=2, use_bias=False)(x)]))
    pooled = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.3)(pooled)))


def cnn_auc(pictures: np.ndarray, y: np.ndarray, split: np.ndarray, seconds: float, epochs: int) -> float:
    """Test AUC after at most ``seconds`` of training, at the epoch that is best on validation."""
    keras.utils.set_random_seed(0)
    x = (pictures[..., None] - 0.4) / 0.25
    model = build_cnn(x.shape[1])
    steps = epochs * int(np.ceil((split == 0).sum() / 16))
    rate = keras.optimizers.schedules.CosineDecay(1e-4, steps, warmup_target=2e-3, warmup_steps=steps // 8)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), "binary_crossentropy")
    start, best = time.perf_counter(), (0.0, 0.0)
    for _ in range(epochs):
        model.fit(x[split == 0], y[split == 0], batch_size=16, verbose=0)
        valid, test = (
            roc_auc_score(y[split == part], model.predict(x[split == part], verbose=0)[:, 0]) for part in (1, 2)
        )
        best = max(best, (valid, test))
        if time.perf_counter() - start > seconds:
            break
    return best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    results = []
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            table = make_phantom("phantom:chest", Path(folder) / "chest", seed=seed)
            made = time.perf_counter() - start
            data = load(table)
        linear = linear_auc(*data)
        start = time.perf_counter()
        cnn = cnn_auc(*data, arguments.seconds, arguments.epochs)
        trained = time.perf_counter() - start
        results.append((linear, cnn))
        print(
            f"seed {seed}: {len(data[1])} images made in {made:.1f} s; "
            f"linear {linear:.3f}; CNN {cnn:.3f} in {trained:.0f} s",
            flush=True,
        )
    linear, cnn = np.mean(results, axis=0)
    print(f"mean test AUC: linear {linear:.3f}, CNN {cnn:.3f}; difference {cnn - linear:.3f}")


if __name__ == "__main__":
    main()
