"""Random layers for 2D and 3D batches, and changes of single images that move their boxes too."""

from hounsfield.augmentation.layers import RandomErase, RandomIntensity, RandomlySpared, RandomSpatial
from hounsfield.augmentation.policy import STRENGTHS, Augmentation, Strength
from hounsfield.augmentation.scenes import (
    SCENE_STRENGTHS,
    Placement,
    Scene,
    SceneAugmentation,
    augmented,
    draw_placement,
    place,
)

__all__ = [
    "SCENE_STRENGTHS",
    "STRENGTHS",
    "Augmentation",
    "Placement",
    "RandomErase",
    "RandomIntensity",
    "RandomSpatial",
    "RandomlySpared",
    "Scene",
    "SceneAugmentation",
    "Strength",
    "augmented",
    "draw_placement",
    "place",
]
