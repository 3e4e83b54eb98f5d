"""From the limits of a plan to the layers that change images."""

from __future__ import annotations

import keras

from hounsfield.augmentation.layers import RandomErase, RandomIntensity, RandomlyUnchanged, RandomSpatial
from hounsfield.plans.augmentation import Augmentation


def build_layers(limits: Augmentation, seed: int) -> list[keras.Layer]:
    """The layers that these limits call for, in the order in which they are applied."""
    spatial = RandomSpatial(
        flip_axes=limits.flip_axes,
        rotation=limits.rotation,
        scale=limits.scale,
        stretch=limits.stretch,
        shear=limits.shear,
        translation=limits.translation,
        elastic=limits.elastic,
        seed=seed,
    )
    intensity = RandomIntensity(
        brightness=limits.brightness,
        contrast=limits.contrast,
        gamma=limits.gamma,
        sharpness=limits.sharpness,
        noise=limits.noise,
        seed=seed + 1,
    )
    moves = limits.flip_axes or any(
        (limits.rotation, limits.scale, limits.stretch, limits.shear, limits.translation, limits.elastic)
    )
    changes = any((limits.brightness, limits.contrast, limits.gamma, limits.sharpness, limits.noise))
    chosen = [(moves, spatial), (changes, intensity), (limits.erase, RandomErase(size=limits.erase, seed=seed + 2))]
    layers = [layer for wanted, layer in chosen if wanted]
    return (
        [RandomlyUnchanged(layers, share=limits.unchanged_share, seed=seed + 3)]
        if layers and limits.unchanged_share
        else layers
    )
