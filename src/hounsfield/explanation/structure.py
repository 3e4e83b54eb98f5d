"""Where in a network the image becomes a vector: the parts that activation maps and Grad-CAM are made from.

An ensemble or a network that looks at mirrored images is a sum of plain networks (see ``models.ensemble``): its logits
are linear in the features of each member on each view. So it is taken apart into those, and every explanation that is
linear in the logits is the sum of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hounsfield.errors import BundleError, require
from hounsfield.explanation.gradients import run
from hounsfield.explanation.receptive_field import moved

Floats = npt.NDArray[np.float32]
Layer = Literal["fine", "last"]
FEATURES, HEAD = "features", "probabilities"
# Fewest positions along the longest axis of fine maps: below, a place is larger than most findings.
FINE_POSITIONS = 24
# The largest difference of logits, relative to their size, at which maps count as adding up to them.
TOLERANCE = 1e-3


# The spatial axes along which an image is mirrored, 0 for the first; none for the image itself.
View = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """One plain network on one view of the image or on several, and what its features add to the logits.

    Attributes:
        backbone: a ``keras.Model`` from the image to the pooled features, with the layer "features".
        kernel: (features, outputs); this part's share of the logits is the sum over views of features · kernel.
        views: what it looks at.
    """

    backbone: Any
    kernel: Floats
    views: tuple[View, ...]

    def seen(self, image: Floats) -> Floats:
        """What this part looks at of an image (spatial, channels): (views, spatial, channels)."""
        return np.stack([np.flip(image, view) for view in self.views])

    def together(self, maps: Floats, shift: npt.NDArray[np.float64]) -> Floats:
        """The sum of maps (views, grid), each moved by ``shift`` cells to what its cells look at, and turned back."""
        views = zip(maps, self.views, strict=True)
        return np.asarray(np.sum([np.flip(moved(one, shift), view) for one, view in views], axis=0))

    @property
    def pooled(self) -> bool:
        """Whether the features are the means of feature maps, so that maps can be read off without gradients."""
        layers = require("keras", "explaining a network").layers
        poolings = (layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)
        return isinstance(self.backbone.get_layer(FEATURES), poolings)

    def cut(self, layer: Layer) -> tuple[Any, Any]:
        r"""The part in two ``keras.Model``s: image → feature maps (n, \*grid, channels), and these → logits.

        Args:
            layer: "last": the deepest maps; "fine": the deepest ones with at least ``FINE_POSITIONS`` places along
                their longest axis, or those with the most places where none has so many.

        Raises:
            BundleError: no layer through which everything passes has an output that lies in space.
        """
        keras = require("keras", "explaining a network")
        image, features = self.backbone.inputs[0], self.backbone.get_layer(FEATURES).output
        last = keras.layers.Dense(self.kernel.shape[1], use_bias=False, dtype="float32")
        for maps in self._candidates(layer):
            try:
                head = keras.Model(maps, last(features))
            except ValueError:
                # A branch leads past these maps, so what follows cannot be computed from them alone.
                continue
            last.set_weights([self.kernel])
            return keras.Model(image, maps), head
        raise BundleError(
            f"The network '{self.backbone.name}' has no layer whose output lies in space, so no place of the image can "
            "be told by its feature maps. Use the method integrated_gradients or occlusion."
        )

    def _candidates(self, layer: Layer) -> list[Any]:
        """Outputs that lie in space, the best one first."""
        inputs = self.backbone.inputs[0]
        outputs = [found.output for found in reversed(self.backbone.layers)]
        in_space = [output for output in outputs if 3 < len(output.shape) == len(inputs.shape)]
        maps = [output for output in in_space if output is not inputs]
        # The sort is stable, so among layers of one resolution the deepest stays first.
        return maps if layer == "last" else sorted(maps, key=_coarseness)


def _coarseness(maps: Any) -> tuple[bool, int]:
    positions = max(maps.shape[1:-1])
    return positions < FINE_POSITIONS, positions if positions >= FINE_POSITIONS else -positions


def parts(network: Any) -> tuple[Part, ...]:
    """Take a network apart into plain ones.

    Raises:
        BundleError: its last layer is not a dense one.
    """
    kernel, _ = _last_layer(network).get_weights()
    return tuple(_parts(network, np.asarray(kernel, np.float32), ((),)))


def _parts(network: Any, kernel: Floats, views: tuple[View, ...]) -> Iterator[Part]:
    keras = require("keras", "explaining a network")
    features = network.get_layer(FEATURES)
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    if nested and isinstance(features, keras.layers.Concatenate):
        ends = np.cumsum([member.output_shape[-1] for member in nested])
        for member, end in zip(nested, ends, strict=True):
            yield from _parts(member, kernel[end - member.output_shape[-1] : end], views)
    elif len(nested) == 1 and isinstance(features, keras.layers.Average):
        flips = [(operation.axis - 1,) for operation in network.operations if type(operation).__name__ == "Flip"]
        mirrored = tuple((*view, *flip) for view in views for flip in ((), *flips))
        yield from _parts(nested[0], kernel / np.float32(len(flips) + 1), mirrored)
    else:
        yield Part(network, kernel, views)


def logits(network: Any) -> Any:
    """The network without its last activation, (n, outputs).

    Raises:
        BundleError: its last layer is not a dense one.
    """
    keras = require("keras", "explaining a network")
    head = _last_layer(network)
    linear = keras.layers.Dense(head.units, dtype="float32", name="logits")
    model = keras.Model(network.inputs[0], linear(head.input))
    linear.set_weights(head.get_weights())
    return model


def _last_layer(network: Any) -> Any:
    keras = require("keras", "explaining a network")
    head = network.get_layer(HEAD)
    if not isinstance(head, keras.layers.Dense) or not head.use_bias:
        raise BundleError(
            f"The last layer of the network '{network.name}' is a {type(head).__name__}, and a dense layer with a bias "
            "was expected, whose logits can be taken apart. Use the method occlusion."
        )
    return head


def require_sum(network: Any, halves: list[tuple[Part, Any, Any]]) -> None:
    """Check by one random image that the parts add up to the network, so that their maps tell what it decides by.

    Args:
        network: whole.
        halves: each part with its two halves, as :meth:`Part.cut` gives them.

    Raises:
        BundleError: they do not.
    """
    image = np.random.default_rng(0).normal(size=network.input_shape[1:]).astype(np.float32)
    shares = [run(head, run(maps, part.seen(image))).sum(axis=0) for part, maps, head in halves]
    summed = np.sum(shares, axis=0) + _last_layer(network).get_weights()[1]
    wanted = run(logits(network), image[np.newaxis])[0]
    if np.abs(summed - wanted).max() > TOLERANCE * (1 + np.abs(wanted).max()):
        raise BundleError(
            f"The logits of the network '{network.name}' are not the sum over its parts, so maps of these would not "
            "show what it decides by. Use the method integrated_gradients or occlusion."
        )
