"""Features of every resolution with the semantics of the coarsest (Lin et al., "Feature pyramid networks", 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import layers

from hounsfield.models.blocks import convolution, normalised

UP_SAMPLINGS = {2: layers.UpSampling2D, 3: layers.UpSampling3D}
CROPPINGS = {2: layers.Cropping2D, 3: layers.Cropping3D}


def feature_pyramid(stages: Sequence[Any], channels: int, *, num_levels: int) -> list[Any]:
    r"""Top-down path with lateral connections over the stages of a backbone.

    Convolutions are followed by batch normalisation, without which a pyramid trained from scratch learns slowly.

    Args:
        stages: (batch, \*positions, channels), finest first, each of half the resolution of the one before.
        channels: of every level of the pyramid.
        num_levels: how many levels are wanted, from the finest; coarser stages still feed the finer levels.

    Returns:
        The levels, finest first.
    """
    rank = len(stages[0].shape) - 2
    merged = None
    levels = []
    for number in reversed(range(len(stages))):
        lateral = normalised(stages[number], convolution(channels, 1, rank, name=f"lateral{number + 1}"), relu=False)
        merged = lateral if merged is None else _add_upsampled(merged, lateral, name=f"merged{number + 1}")
        if number < num_levels:
            output = convolution(channels, 3, rank, name=f"pyramid{number + 1}")
            levels.append(normalised(merged, output, relu=False))
    return levels[::-1]


def _add_upsampled(coarse: Any, fine: Any, *, name: str) -> Any:
    rank = len(fine.shape) - 2
    doubled = UP_SAMPLINGS[rank](2, name=f"{name}_upsampling")(coarse)
    beyond = [(0, have - want) for have, want in zip(doubled.shape[1:-1], fine.shape[1:-1], strict=True)]
    if any(end for _, end in beyond):
        # A side of odd length was rounded up on the way down.
        doubled = CROPPINGS[rank](beyond, name=f"{name}_cropping")(doubled)
    return layers.Add(name=f"{name}_sum")([fine, doubled])
