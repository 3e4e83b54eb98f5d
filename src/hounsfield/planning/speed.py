"""Which precision pays on this machine and how fast it trains, by a short measurement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import keras
import numpy as np
from keras import layers

from hounsfield.models.blocks import GLOBAL_AVERAGE_POOLINGS, convolution, normalised
from hounsfield.models.resnet import fitting_stem
from hounsfield.models.training_model import Precision, jit_compilation, training_model
from hounsfield.plans.architecture import STEM_REDUCTION
from hounsfield.pretrained.slices import slices_of

PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16")
# A lower precision has to be worth its rounding.
WORTHWHILE = 1.1
PROBE_BLOCKS = 3
PROBE_STEPS = 8
# What the measurement takes on two free cores of a server.
USUAL_SECONDS = 4.0
PROBE_VALUES = 2**22  # activations a probed layer holds at most: enough to fill the cores, little enough to be quick


@dataclass(frozen=True)
class Speed:
    """How fast this machine trains.

    Attributes:
        precision: that pays.
        rates: multiply-adds per second in training that each precision usually reached, beside whatever else runs.
        seconds: that the measurement took, most of it for building and compiling.
    """

    precision: Precision
    rates: dict[str, float]
    seconds: float = USUAL_SECONDS

    @property
    def slowness(self) -> float:
        """By which factor building and compiling take longer here than usual, at least 1."""
        return max(1.0, self.seconds / USUAL_SECONDS)

    def rate(self, precision: str) -> float:
        """Multiply-adds per second in a precision; those of float32 where it was not measured."""
        return self.rates.get(precision, self.rates["float32"])

    def describe(self) -> str:
        """One line for the plan."""
        measured = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in self.rates.items())
        told = f"measured here with {keras.backend.backend()}, in 10⁹ multiply-adds/s of training: {measured}"
        return (
            told
            if len(self.rates) > 1
            else f"{told}; bfloat16 is not used for volumes, whose gradients it spoils there"
        )


@cache
def measure_speed(input_shape: tuple[int, ...], width: int, batch_size: int) -> Speed:
    """Train a few convolutions of the network's first stage in each precision, for a second or two each.

    A process measures once for the same arguments.

    Args:
        input_shape: of the network: spatial axes, channels.
        width: channels of the network's first stage.
        batch_size: of the training.
    """
    began = time.perf_counter()
    rank = len(input_shape) - 1
    reduction = STEM_REDUCTION[fitting_stem(input_shape[:-1])]
    spatial = tuple(max(1, size // reduction) for size in input_shape[:-1])
    batch_size = int(np.clip(PROBE_VALUES // (int(np.prod(spatial)) * width), 1, batch_size))
    precisions = PRECISIONS if is_bfloat16_sound(rank) else PRECISIONS[:1]
    steps = {precision: _probe(spatial, width, rank, batch_size, precision) for precision in precisions}
    durations: dict[str, list[float]] = {precision: [] for precision in precisions}
    for _ in range(PROBE_STEPS):
        # In turn, so that other work on the machine disturbs both alike.
        for precision, step in steps.items():
            started = time.perf_counter()
            step()
            durations[precision].append(time.perf_counter() - started)
    work = batch_size * PROBE_BLOCKS * int(np.prod(spatial)) * 3**rank * width**2
    # The fastest step is the least disturbed, and tells which precision pays; the training gets what is left to it.
    best = {precision: work / min(taken) for precision, taken in durations.items()}
    rates = {precision: work / float(np.median(taken)) for precision, taken in durations.items()}
    pays = best.get("mixed_bfloat16", 0) > WORTHWHILE * best["float32"]
    faster: Precision = "mixed_bfloat16" if pays else "float32"
    return Speed(faster, rates, time.perf_counter() - began)


def is_bfloat16_sound(rank: int) -> bool:
    """Whether gradients in bfloat16 can be relied on.

    On a CPU, PyTorch's gradient of a 3D convolution's kernel is now and then infinite or NaN in bfloat16 where the
    volume has 2 voxels a side (seen with 2.13), as it has in the last stage of many networks.
    """
    return keras.backend.backend() != "torch" or rank < 3


def _probe(
    spatial: tuple[int, ...], width: int, rank: int, batch_size: int, precision: Precision
) -> Callable[[], float]:
    """A training step of a few convolutions that has been run once."""
    inputs = keras.Input((*spatial, width))
    hidden = inputs
    for number in range(PROBE_BLOCKS):
        hidden = normalised(hidden, convolution(width, 3, rank, name=f"probe{number}"))
    outputs = layers.Dense(1, name="probabilities")(GLOBAL_AVERAGE_POOLINGS[rank]()(hidden))
    twin = training_model(keras.Model(inputs, outputs), precision, [])
    twin.compile("sgd", "mean_squared_error", jit_compile=jit_compilation())
    images = np.random.default_rng(0).normal(size=(batch_size, *spatial, width)).astype(np.float32)
    targets = np.zeros((batch_size, 1), np.float32)

    def step() -> float:
        return float(twin.train_on_batch(images, targets))

    step()
    return step


def multiply_adds(network: keras.Model) -> int:
    """Multiply-adds of one image's forward pass through the convolutions and dense layers of a plain network."""
    total = 0
    for layer in network.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        # Each weight of a transposed convolution is used once for each pixel that it takes, not that it gives.
        maps = layer.input if "Transpose" in type(layer).__name__ else layer.output
        positions = int(np.prod(maps.shape[1:-1])) if len(maps.shape) > 2 else 1
        total += positions * int(np.prod(kernel.shape))
    return total * slices_of(network)
