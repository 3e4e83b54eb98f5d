"""Running Keras networks forwards and backwards: the one file that knows TensorFlow, JAX and PyTorch apart.

Keras has no gradient that serves every backend, so each has its branch here, and nothing else differs between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import require

Floats = npt.NDArray[np.float32]
# (images, targets) -> gradient of the shape of the images.
Gradient = Callable[[Floats, Floats], Floats]


def run(network: Any, batch: Floats) -> Floats:
    """What a ``keras.Model`` makes of a batch, as in inference.

    JAX compiles: operation by operation it takes minutes. For the others compiling takes longer than the few calls that
    an explanation makes of each part of a network.
    """
    keras = require("keras", "explanations by feature maps")
    batch = np.ascontiguousarray(batch)
    outputs = network.predict_on_batch(batch) if keras.backend.backend() == "jax" else network(batch, training=False)
    return np.asarray(keras.ops.convert_to_numpy(outputs))


def input_gradient(network: Any) -> Gradient:
    r"""What tells how each input value moves a weighted sum of the network's outputs.

    Args:
        network: a ``keras.Model`` from (n, \*shape) to (n, outputs), run as in inference.

    Returns:
        A function of images (n, \*shape) and targets (n, outputs) that gives the gradient, by each image, of
        Σ targets · network(images): (n, \*shape), float32.
    """
    keras = require("keras", "explanations by gradients")
    return BRANCHES[keras.backend.backend()](network)


def _tensorflow(network: Any) -> Gradient:
    tensorflow = require("tensorflow", "gradients on the TensorFlow backend")

    # An image takes one call, and a folder of them many: compiling pays from some ten images on.
    @tensorflow.function(reduce_retracing=True)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def compiled(images: Any, targets: Any) -> Any:
        with tensorflow.GradientTape() as tape:
            tape.watch(images)
            total = tensorflow.reduce_sum(network(images, training=False) * targets)
        return tape.gradient(total, images)

    def gradient(images: Floats, targets: Floats) -> Floats:
        return np.asarray(compiled(tensorflow.constant(images), tensorflow.constant(targets)))

    return gradient


def _jax(network: Any) -> Gradient:
    jax = require("jax", "gradients on the JAX backend")

    def total(images: Any, targets: Any) -> Any:
        return (network(images, training=False) * targets).sum()

    compiled = jax.jit(jax.grad(total))

    def gradient(images: Floats, targets: Floats) -> Floats:
        return np.array(compiled(images, targets))

    return gradient


def _torch(network: Any) -> Gradient:
    torch = require("torch", "gradients on the PyTorch backend")
    keras = require("keras", "gradients on the PyTorch backend")

    def gradient(images: Floats, targets: Floats) -> Floats:
        watched = keras.ops.convert_to_tensor(images).clone().requires_grad_()
        total = (network(watched, training=False) * keras.ops.convert_to_tensor(targets)).sum()
        (found,) = torch.autograd.grad(total, watched)
        return np.array(found.detach().cpu().numpy())

    return gradient


# Keras backend -> its branch.
BRANCHES: dict[str, Callable[[Any], Gradient]] = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
