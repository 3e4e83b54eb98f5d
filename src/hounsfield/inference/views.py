"""The images of a sample joined to one answer: what the layers of ``models.views`` do, on the outputs of any engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hounsfield.bundle import Bundle
from hounsfield.errors import BundleError, UsageError
from hounsfield.inference.engines import Engine
from hounsfield.inference.onnx_networks import Floats


class Outputs(NamedTuple):
    """What the network gives for a batch.

    Attributes:
        probabilities: (n, 1) for a binary task, else (n, labels), float32; the network's own, before any scaling.
        features: the pooled vectors, (n, features), float32.
        attention: (n, 1) the score of each image, where the images of a sample are joined by attention.
    """

    probabilities: Floats
    features: Floats
    attention: Floats | None = None


def run(engine: Engine, batch: Floats, *, alone: bool = True) -> Outputs:
    """The outputs of an engine of a bundle that judges whole images, the caller's own."""
    # Outputs may be views of the engine's memory, which the next call overwrites.
    return Outputs(*map(np.array, engine.run(batch, alone=alone)))


def together(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of several batches as those of one."""
    return Outputs(*(np.concatenate(each) for each in zip(*(_given(part) for part in parts), strict=True)))


def _given(outputs: Outputs) -> list[Floats]:
    return [each for each in outputs if each is not None]


class Joined(NamedTuple):
    """One sample.

    Attributes:
        probabilities: (1, outputs), as of a single image.
        features: (1, features), likewise.
        weights: (n,) how much each image counts; they sum to one.
    """

    probabilities: Floats
    features: Floats
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Views:
    """How a bundle joins the images of a sample.

    Attributes:
        pooling: "attention", "mean" or "max".
        kernel: (features, outputs) of the last layer.
        bias: (outputs,).
        activation: of the last layer.
    """

    pooling: str
    kernel: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    activation: str

    @classmethod
    def of(cls, bundle: Bundle) -> Self | None:
        """How a bundle does it; ``None`` where it judges single images.

        Raises:
            BundleError: its settings are damaged.
        """
        pooling = bundle.settings.get("view_pooling")
        if pooling is None:
            return None
        try:
            head = bundle.settings["head"]
            kernel, bias = (np.asarray(head[name], np.float64) for name in ("kernel", "bias"))
            found = cls(str(pooling), kernel, bias, str(head["activation"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(bundle) from error
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:] or found.activation not in ACTIVATIONS:
            raise _damaged(bundle)
        return found

    def join(self, outputs: Outputs) -> Joined:
        """One sample of the network's outputs for its images, of which there is at least one."""
        features = outputs.features.astype(np.float64)
        if self.pooling == "max":
            joined = features.max(axis=0)
            # Where several images share the greatest value, as zeros behind a ReLU, each has its part.
            greatest = features == joined
            weights = (greatest / greatest.sum(axis=0)).mean(axis=1)
        else:
            weights = self._weights(outputs, len(features))
            joined = weights @ features
        logits = joined @ self.kernel + self.bias
        probabilities = ACTIVATIONS[self.activation](logits)
        return Joined(probabilities[np.newaxis].astype(np.float32), joined[np.newaxis].astype(np.float32), weights)

    def _weights(self, outputs: Outputs, count: int) -> npt.NDArray[np.float64]:
        if self.pooling == "mean" or outputs.attention is None:
            return np.full(count, 1 / count)
        return _softmax(outputs.attention.reshape(-1).astype(np.float64))


def _damaged(bundle: Bundle) -> BundleError:
    return BundleError(
        f"The settings of the bundle in {bundle.folder} do not say how the images of a sample are joined. Copy the "
        "bundle again from where it was made."
    )


def require_single_images(bundle: Bundle, what: str) -> None:
    """Refuse a bundle that judges samples of several images where images are taken one by one.

    Raises:
        UsageError: it does.
    """
    if "view_pooling" in bundle.settings:
        raise UsageError(
            f"{what} takes images one by one, and the bundle in {bundle.folder} judges several together. Give a run "
            "that was trained on single images."
        )


def _softmax(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(values - values.max())
    return np.asarray(raised / raised.sum())


def _sigmoid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # In this form no exponential is too large.
    return np.asarray((1 + np.tanh(values / 2)) / 2)


ACTIVATIONS: dict[str, Any] = {"sigmoid": _sigmoid, "softmax": _softmax, "linear": np.asarray}
