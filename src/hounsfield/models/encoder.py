"""Residual networks in the form in which others publish their weights, as maps of falling resolution.

He et al., "Deep residual learning for image recognition", 2016 (arXiv:1512.03385), with the stride in the convolution
of 3×3 as PyTorch has it, and its paddings: as much before as behind.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from hounsfield.plans.encoder import Encoder

__all__ = ["EPSILON", "Encoder", "encoder_stages"]

EPSILON = 1e-5


def encoder_stages(image: Any, encoder: Encoder, *, normalised: bool = False, first_stride: int = 1) -> list[Any]:
    """The maps of the stem, at a half, and of each stage, at a quarter, an eighth, … of the image.

    Args:
        image: the symbolic image (batch, rows, columns, 3).
        encoder: what the network is made of.
        normalised: whether convolutions are followed by batch normalisation. Without it they have a bias instead: the
            normalisation by known statistics is folded into them, so that small batches do no harm.
        first_stride: of the first stage.
    """
    network = _Residual(encoder, normalised)
    maps = [network.convolution(image, encoder.stem, 7, 2, "stem")]
    hidden = layers.ZeroPadding2D(1, name="pooling_padding")(maps[0])
    hidden = layers.MaxPooling2D(3, 2, name="pooling")(hidden)
    for stage, (width, depth) in enumerate(zip(encoder.widths, encoder.depths, strict=True)):
        for block in range(depth):
            stride = 1 if block else first_stride if stage == 0 else 2
            hidden = network.block(hidden, width, stride, f"stage{stage}_block{block}")
        maps.append(hidden)
    return maps


class _Residual:
    def __init__(self, encoder: Encoder, normalised: bool) -> None:
        self.encoder, self.normalised = encoder, normalised

    def block(self, hidden: Any, width: int, stride: int, name: str) -> Any:
        beside = hidden
        if hidden.shape[-1] != width or stride > 1:
            if stride > 1:
                # Then a convolution of stride 1, see ``models.resnet``: the gradient of a strided one may crash.
                beside = layers.AveragePooling2D(1, strides=stride, padding="same", name=f"{name}_thinning")(beside)
            beside = self.convolution(beside, width, 1, 1, f"{name}_shortcut", relu=False)
        if self.encoder.bottleneck:
            inner = self.convolution(hidden, width // 4, 1, 1, f"{name}_conv0")
            inner = self.convolution(inner, width // 4, 3, stride, f"{name}_conv1")
            inner = self.convolution(inner, width, 1, 1, f"{name}_conv2", relu=False)
        else:
            inner = self.convolution(hidden, width, 3, stride, f"{name}_conv0")
            inner = self.convolution(inner, width, 3, 1, f"{name}_conv1", relu=False)
        return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_added")([inner, beside]))

    def convolution(self, hidden: Any, filters: int, kernel: int, stride: int, name: str, *, relu: bool = True) -> Any:
        if kernel > 1:
            hidden = layers.ZeroPadding2D(kernel // 2, name=f"{name}_padding")(hidden)
        hidden = layers.Conv2D(filters, kernel, strides=stride, use_bias=not self.normalised, name=name)(hidden)
        if self.normalised:
            hidden = layers.BatchNormalization(momentum=0.9, epsilon=EPSILON, name=f"{name}_normalisation")(hidden)
        return layers.ReLU(name=f"{name}_relu")(hidden) if relu else hidden
