"""KerasHub's RetinaNet, trained from scratch: a peer of bench/detection.py, in a process of its own.

    python retinanet_detector.py speed ARRAYS.npz --precision bfloat16 --steps 12
    python retinanet_detector.py train ARRAYS.npz FINDINGS.npz --precision bfloat16 --seconds 952

Its defaults on KerasHub's own ResNet-18, levels 3 to 7, but for what they cannot be:

- anchors start at the size of the training boxes where 32 pixels are too many;
- the prior of .01 is that of the classes, as the paper has it; KerasHub 0.32 gives it to the head of the boxes;
- findings are kept from a score of .05, and as many as images may hold;
- the rate is one for training from scratch, where KerasHub's Adam of 5e-5 is for fine-tuning: AdamW, or gradient
  descent with momentum for ``--optimizer sgd``; both warm up and fall as a cosine of the time.

Horizontal flips. ARRAYS.npz and FINDINGS.npz are described in bench/detection.py.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator

import keras
import keras_hub
import numpy as np
import tensorflow as tf

MIN_LEVEL, MAX_LEVEL = 3, 7
# Sides of the network's input are multiples of the stride of the backbone's last level.
MULTIPLE = 32
DEFAULT_ANCHOR = 4.0
SCORE, FINDINGS = 0.05, 100
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PRIOR = 0.01
WARM_UP, WARM_STEPS, ENDLESS = 0.05, 2, 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=("speed", "train"))
    parser.add_argument("arrays")
    parser.add_argument("findings", nargs="?")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", choices=("adamw", "sgd"), default="adamw")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    with np.load(arguments.arrays) as file:
        arrays = {name: file[name] for name in file.files}
    network = make_network(arrays, arguments.precision)
    training = Training(network, arrays, arguments.batch, arguments.optimizer, arguments.seed)
    if arguments.question == "speed":
        print(training.speed(arguments.steps))
        return
    training.run(arguments.seconds)
    exact = make_network(arrays, "float32")
    exact.set_weights(network.get_weights())
    found: dict[str, np.ndarray] = {}
    for split in ("validation", "test"):
        found |= findings(exact, arrays[f"{split}_images"], split, arguments.batch)
    np.savez(arguments.findings, seconds=training.seconds, images=training.images, **found)


def make_network(arrays: dict[str, np.ndarray], precision: str) -> keras.Model:
    dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    shape = padded(arrays["train_images"][:1]).shape[1:]
    encoder = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=shape,
        dtype=dtype,
    )
    backbone = keras_hub.models.RetinaNetBackbone(
        encoder, min_level=MIN_LEVEL, max_level=MAX_LEVEL, use_p5=False, image_shape=shape, dtype=dtype
    )
    # Only the network computes in bfloat16: coordinates of boxes above 256 would lose their last pixels in it.
    network = keras_hub.models.RetinaNetObjectDetector(
        backbone,
        num_classes=int(arrays["num_labels"]),
        anchor_generator=keras_hub.layers.AnchorGenerator(
            "yxyx",
            min_level=MIN_LEVEL,
            max_level=MAX_LEVEL,
            num_scales=3,
            aspect_ratios=[0.5, 1.0, 2.0],
            anchor_size=fitting_anchor(arrays),
        ),
        prediction_decoder=keras_hub.layers.NonMaxSuppression(
            "yxyx",
            from_logits=True,
            confidence_threshold=SCORE,
            max_detections=max(FINDINGS, int(arrays["max_found"])),
        ),
    )
    for head, value in ((network.classification_head, -math.log(1 / PRIOR - 1)), (network.box_head, 0.0)):
        bias = head.prediction_layer.bias
        bias.assign(np.full(bias.shape, value, np.float32))
    return network


def fitting_anchor(arrays: dict[str, np.ndarray]) -> float:
    """KerasHub's size of anchors in strides, halved until nine tenths of the boxes are not smaller; at least 1."""
    boxes = arrays["train_boxes"][arrays["train_classes"] >= 0]
    small = float(np.percentile(np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)), 10))
    size = DEFAULT_ANCHOR
    while size > 1 and size * 2**MIN_LEVEL > small:
        size /= 2
    return size


def padded(images: np.ndarray) -> np.ndarray:
    """Values as the backbone takes them, and zeros up to multiples of its stride."""
    values = (images.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(DEVIATION)
    rows, columns = (-length % MULTIPLE for length in images.shape[1:3])
    return np.pad(values, ((0, 0), (0, rows), (0, columns), (0, 0)))


class Training:
    """Batches and steps, until the time is over."""

    def __init__(
        self, network: keras.Model, arrays: dict[str, np.ndarray], batch: int, optimizer: str, seed: int
    ) -> None:
        self.network, self.arrays, self.batch = network, arrays, batch
        if optimizer == "adamw":
            self.peak = 5e-4
            made = keras.optimizers.AdamW(self.peak, weight_decay=0.05, global_clipnorm=10.0)
        else:
            self.peak = 0.005
            made = keras.optimizers.SGD(self.peak, momentum=0.9, global_clipnorm=10.0)
        network.compile(optimizer=made, jit_compile=False)
        self.generator = np.random.default_rng(seed)
        self.images, self.seconds = 0, 0.0

    def dataset(self) -> tf.data.Dataset:
        """Endless shuffled batches, made while the network computes."""
        (_, *sides, _), (_, most, _) = self.arrays["train_images"].shape, self.arrays["train_boxes"].shape
        sides = [side + -side % MULTIPLE for side in sides]
        targets = {
            "boxes": tf.TensorSpec((self.batch, most, 4), tf.float32),
            "labels": tf.TensorSpec((self.batch, most), tf.float32),
        }
        kinds = (tf.TensorSpec((self.batch, *sides, 3), tf.float32), targets)
        return tf.data.Dataset.from_generator(self.batches, output_signature=kinds).prefetch(2)

    def batches(self) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        while True:
            order = self.generator.permutation(len(self.arrays["train_images"]))
            for start in range(0, len(order) - self.batch + 1, self.batch):
                yield self.make(order[start : start + self.batch])

    def make(self, rows: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        images = self.arrays["train_images"][rows].copy()
        boxes, classes = self.arrays["train_boxes"][rows].copy(), self.arrays["train_classes"][rows]
        for number in np.flatnonzero(self.generator.random(len(rows)) < 0.5):
            images[number] = images[number, :, ::-1]
            boxes[number][:, [1, 3]] = images.shape[2] - boxes[number][:, [3, 1]]
        boxes[classes < 0] = -1
        return padded(images), {"boxes": boxes, "labels": classes.astype(np.float32)}

    def speed(self, steps: int) -> float:
        ends: list[float] = []
        watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_, **__: ends.append(time.perf_counter()))
        self.network.fit(
            self.dataset(), steps_per_epoch=WARM_STEPS + steps, shuffle=False, verbose=0, callbacks=[watch]
        )
        return steps * self.batch / (ends[-1] - ends[WARM_STEPS - 1])

    def run(self, seconds: float) -> None:
        print(f"smallest anchors of {2**MIN_LEVEL * fitting_anchor(self.arrays):g} pixels", file=sys.stderr)
        clock = Clock(seconds, self.peak, self.batch)
        self.network.fit(self.dataset(), steps_per_epoch=ENDLESS, shuffle=False, verbose=0, callbacks=[clock])
        self.seconds, self.images = clock.seconds, clock.images


class Clock(keras.callbacks.Callback):
    """Sets the rate by the share of the time that has gone, and stops when it is over."""

    def __init__(self, limit: float, peak: float, batch: int) -> None:
        super().__init__()
        self.limit, self.peak, self.batch = limit, peak, batch
        self.started, self.told, self.seconds, self.images = time.perf_counter(), 0.0, 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras's
        self.model.optimizer.learning_rate = self.peak * rate_at(min(1.0, self.seconds / self.limit))

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002 - Keras's
        self.seconds, self.images = time.perf_counter() - self.started, self.images + self.batch
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            sys.exit("The loss of KerasHub's detector is no number any more: the training diverged.")
        if self.seconds - self.told > 30:
            self.told = self.seconds
            print(f"{self.told:.0f} s, {self.images} images, mean loss {loss:.3f}", file=sys.stderr, flush=True)
        self.model.stop_training = self.seconds >= self.limit


def rate_at(share: float) -> float:
    """A rise from a hundredth over the first twentieth of the time, then a cosine."""
    if share < WARM_UP:
        return 0.01 + 0.99 * share / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def findings(network: keras.Model, images: np.ndarray, split: str, batch: int) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {"images": [], "boxes": [], "classes": [], "scores": []}
    find = tf.function(lambda values: network.decode_predictions(network(values, training=False), values))
    for start in range(0, len(images), batch):
        chosen = images[start : start + batch]
        # A smaller last batch is filled up: suppression takes the size of a batch from its first one.
        filled = np.concatenate([chosen, np.zeros((batch - len(chosen), *chosen.shape[1:]), chosen.dtype)])
        found = find(tf.constant(padded(filled)))
        for number in range(len(chosen)):
            kept = np.arange(int(found["num_detections"][number]))
            parts["images"].append(np.full(len(kept), start + number))
            parts["boxes"].append(np.asarray(found["boxes"])[number, kept])
            parts["classes"].append(np.asarray(found["labels"])[number, kept])
            parts["scores"].append(np.asarray(found["confidence"])[number, kept])
    return {f"{split}_{name}": np.concatenate(values) for name, values in parts.items()}


if __name__ == "__main__":
    main()
