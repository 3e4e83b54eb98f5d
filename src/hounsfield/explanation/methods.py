"""The methods: each tells, at every place of the network's input, what speaks for a label there.

All values are in logits or proportional to them, and signed where the method knows a sign: above 0 what speaks for the
label, below 0 what speaks against it. Three of them measure against the same image without its detail (``hiding``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hounsfield.errors import BundleError, MissingDependency, UsageError
from hounsfield.explanation.gradients import Gradient, input_gradient, run
from hounsfield.explanation.occlusion import lost_by_hiding, without_detail
from hounsfield.explanation.projection import summed
from hounsfield.explanation.receptive_field import cell_shift
from hounsfield.explanation.structure import Layer, Part, logits, parts, require_sum
from hounsfield.inference import Engine
from hounsfield.inference.labels import log_odds
from hounsfield.inference.views import run as run_engine

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]
# From a network's outputs (n, outputs) to what they were before its last activation.
Logits = Callable[[Floats], npt.NDArray[np.floating]]
# Steps that a window of feature maps is wide: features of neighbours tell the same thing, and hide each other's loss.
WIDE = 3
# Points on the way from the image without detail to the image, at which gradients are taken.
STEPS = 16


class Method(Protocol):
    """What finds evidence."""

    description: str

    def evidence(self, pixels: Floats, target: Floats) -> Floats:
        r"""The evidence in one image.

        Args:
            pixels: (\*spatial, channels), the network's input.
            target: (outputs,) weights of the logits whose sum is explained.

        Returns:
            (\*grid): values over the whole input, on a grid that may be coarser.
        """


class ActivationMap:
    """Without gradients. "last": the class activation map; "fine": what is lost when the features of a place go.

    The class activation map weights the last feature maps as the last layer weights their means (Zhou et al., CVPR
    2016); its mean over the places, and the bias, is the logit. The fine map puts in place of the features in a window
    of an earlier, finer layer those of the image without its detail, and sees what that takes from the logit. Done with
    zeros to one place at a time of the last maps, that would be the class activation map again.
    """

    def __init__(self, network: Any, layer: Layer = "fine") -> None:
        found = parts(network)
        if layer == "last" and not all(part.pooled for part in found):
            raise BundleError(
                f"The network '{network.name}' does not end in global average pooling of feature maps and one dense "
                "layer, so it has no class activation map. Use --layer fine, or another method."
            )
        self._layer = layer
        self._parts = [(part, *part.cut(layer)) for part in found]
        require_sum(network, self._parts)
        self.description = {
            "last": "class activation map: the last feature maps, weighted as the last layer weights them",
            "fine": "activation map: what the decision loses without the features of a place",
        }[layer]

    def evidence(self, pixels: Floats, target: Floats) -> Floats:
        """See :meth:`Method.evidence`."""
        kind = self._class_activation if self._layer == "last" else self._loss
        found = [kind(part, maps, head, pixels, target) for part, maps, head in self._parts]
        # What the mean of a class activation map is to the logit, the sum of other maps is.
        return summed(found, keep="mean" if self._layer == "last" else "sum")

    @staticmethod
    def _class_activation(part: Part, maps: Any, _head: Any, pixels: Floats, target: Floats) -> Floats:
        return part.together(run(maps, part.seen(pixels)) @ (part.kernel @ target), cell_shift(maps))

    @staticmethod
    def _loss(part: Part, maps: Any, head: Any, pixels: Floats, target: Floats) -> Floats:
        def score(batch: Floats) -> Floats:
            return np.asarray(run(head, batch) @ target)

        whole, hidden = (run(maps, part.seen(image)) for image in (pixels, without_detail(pixels)))
        lost = [lost_by_hiding(score, *view, span=WIDE) for view in zip(whole, hidden, strict=True)]
        return part.together(np.stack(lost), cell_shift(maps))


class GradCAM:
    """Feature maps times the gradient of the logit. "last": as published; "fine": place by place in finer maps.

    "last" is Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2): the last maps through which everything passes,
    each weighted by the mean of its gradient, without what is negative. "fine" keeps the gradient of each place (Jiang
    et al., "LayerCAM", 2021) and takes its mean on the way from the image without detail (Sattarzadeh et al.,
    "Integrated Grad-CAM", 2021): the sum of the map is then the difference of the two logits.
    """

    def __init__(self, network: Any, layer: Layer = "fine") -> None:
        self._layer = layer
        self._parts = [(part, *part.cut(layer)) for part in parts(network)]
        require_sum(network, self._parts)
        self._gradients = [input_gradient(head) for *_, head in self._parts]
        self.description = {
            "last": "Grad-CAM on the last feature maps that the whole decision passes through",
            "fine": "Grad-CAM place by place on fine feature maps, integrated from the blurred image",
        }[layer]

    def evidence(self, pixels: Floats, target: Floats) -> Floats:
        """See :meth:`Method.evidence`."""
        kind = self._published if self._layer == "last" else self._integrated
        both = zip(self._parts, self._gradients, strict=True)
        total = summed([kind(part, maps, gradient, pixels, target) for (part, maps, _), gradient in both])
        return np.maximum(total, 0) if self._layer == "last" else total

    @staticmethod
    def _published(part: Part, maps: Any, gradient: Gradient, pixels: Floats, target: Floats) -> Floats:
        values = run(maps, part.seen(pixels))
        slopes = gradient(values, np.tile(target, (len(values), 1)))
        weights = slopes.mean(axis=tuple(range(1, slopes.ndim - 1)), keepdims=True)
        return part.together((values * weights).sum(axis=-1), cell_shift(maps))

    @staticmethod
    def _integrated(part: Part, maps: Any, gradient: Gradient, pixels: Floats, target: Floats) -> Floats:
        whole, hidden = (run(maps, part.seen(image)) for image in (pixels, without_detail(pixels)))
        views = zip(whole, hidden, strict=True)
        found = np.stack([_along_the_way(gradient, *view, target) for view in views])
        return part.together(found, cell_shift(maps))


class IntegratedGradients:
    """The gradient of the logit by each pixel, averaged on the way from the image without detail (Sundararajan 2017).

    Summed over all pixels it is the difference of the logits of the two images, to the error of ``STEPS`` steps.
    """

    description = "integrated gradients of the logit, from the blurred image"

    def __init__(self, network: Any) -> None:
        self._gradient = input_gradient(logits(network))

    def evidence(self, pixels: Floats, target: Floats) -> Floats:
        """See :meth:`Method.evidence`."""
        return _along_the_way(self._gradient, pixels, without_detail(pixels), target)


def _along_the_way(gradient: Gradient, whole: Floats, hidden: Floats, target: Floats) -> Floats:
    """Σ over channels of (whole − hidden) · mean gradient between them, by the midpoint rule."""
    shares = ((np.arange(STEPS, dtype=np.float32) + 0.5) / STEPS).reshape(-1, *[1] * whole.ndim)
    points = hidden + shares * (whole - hidden)
    slopes = gradient(np.ascontiguousarray(points, np.float32), np.tile(target, (STEPS, 1)))
    return np.asarray(((whole - hidden) * slopes.mean(axis=0)).sum(axis=-1))


class Occlusion:
    """What the logit loses when a window of the image is blurred (Zeiler, Fergus 2014); runs on any engine."""

    description = "occlusion: what the decision loses when a place of the image is blurred"

    def __init__(self, engine: Engine, logits: Logits = log_odds) -> None:
        self._engine, self._logits = engine, logits

    def evidence(self, pixels: Floats, target: Floats) -> Floats:
        """See :meth:`Method.evidence`."""

        def score(batch: Floats) -> npt.NDArray[np.floating]:
            return self._logits(run_engine(self._engine, batch).probabilities) @ target

        return lost_by_hiding(score, pixels, without_detail(pixels))


# Loads the ``keras.Model``, for the methods that look into it.
Network = Callable[[], Any]
# Name -> what builds the method.
METHODS: dict[str, Callable[[Network, Engine, Layer, Logits], Method]] = {
    "activation": lambda network, _, layer, __: ActivationMap(network(), layer),
    "grad_cam": lambda network, _, layer, __: GradCAM(network(), layer),
    "integrated_gradients": lambda network, *_: IntegratedGradients(network()),
    "occlusion": lambda _, engine, __, logits: Occlusion(engine, logits),
}


def open_method(
    name: str, network: Network, engine: Engine, layer: Layer = "fine", logits: Logits = log_odds
) -> Method:
    """Build a method by name; "auto" takes Grad-CAM, or occlusion where the network or the machine does not allow it.

    Args:
        name: "auto", or a key of ``METHODS``.
        network: loads what is explained, such as ``Bundle.network``.
        engine: that runs the same.
        layer: of the feature maps, for the methods that use them.
        logits: of the engine's outputs; those of a classifier where not given.

    Raises:
        UsageError: no method has this name.
        BundleError: the network's structure does not allow it.
        MissingDependency: Keras or its backend is not installed.
    """
    if name in METHODS:
        return METHODS[name](network, engine, layer, logits)
    if name != "auto":
        raise UsageError(f"No method is called '{name}'. Known are: auto, {', '.join(METHODS)}.")
    try:
        return METHODS["grad_cam"](network, engine, layer, logits)
    except (BundleError, MissingDependency) as error:
        logger.info("Grad-CAM is passed over: %s", error)
        return METHODS["occlusion"](network, engine, layer, logits)
