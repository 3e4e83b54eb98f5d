"""Predict with a bundle's network in plain Keras.

    python examples/keras_in_ten_lines.py RUN/bundle

Reads test_images.npy in the current folder: images (n, rows, columns, channels) float32 of the network's input shape,
preprocessed as the bundle's pipeline.json says. `hounsfield predict` does that by itself, and many times faster.
"""

import sys
from pathlib import Path

import keras
import numpy as np

images = np.load("test_images.npy")
model = keras.models.load_model(Path(sys.argv[1]) / "model.keras")
predictions = model.predict(images)
labels = (predictions > 0.5).astype(int)
for number, (label, probability) in enumerate(zip(labels.ravel(), predictions.ravel(), strict=True)):
    print(f"image {number}: class {label}, probability {probability:.3f}")
