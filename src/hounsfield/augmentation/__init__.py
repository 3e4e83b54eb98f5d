"""Random layers for 2D and 3D batches, and changes of single images that move their boxes or masks too."""

from hounsfield.augmentation.build import build_layers
from hounsfield.augmentation.layers import RandomErase, RandomIntensity, RandomlyUnchanged, RandomSpatial
from hounsfield.augmentation.scenes import Placement, Scene, augmented, draw_placement, place

__all__ = [
    "Placement",
    "RandomErase",
    "RandomIntensity",
    "RandomSpatial",
    "RandomlyUnchanged",
    "Scene",
    "augmented",
    "build_layers",
    "draw_placement",
    "place",
]
