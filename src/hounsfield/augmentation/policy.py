"""How strongly a training varies its images: a declared set of limits, and the layers they make."""

from __future__ import annotations

from typing import Literal

import keras
from pydantic import BaseModel, ConfigDict, Field

from hounsfield.augmentation.layers import RandomErase, RandomIntensity, RandomlySpared, RandomSpatial

Strength = Literal["none", "light", "medium", "strong"]


class Augmentation(BaseModel):
    """Limits of the random changes; each is described in the layer that uses it.

    ``spare`` is the probability that an image is left as it is, not even mirrored.
    ``mixup`` is the parameter α of the Beta distribution from which the share of a second image is drawn
    (Zhang et al., 2017, arXiv:1710.09412); 0 mixes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_axes: tuple[int, ...] = ()
    rotation: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, le=1)
    stretch: float = Field(0.0, ge=0, le=1)
    shear: float = Field(0.0, ge=0, le=1)
    translation: float = Field(0.0, ge=0, le=0.5)
    elastic: float = Field(0.0, ge=0, le=0.5)
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    gamma: float = Field(0.0, ge=0)
    sharpness: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.0, ge=0)
    erase: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0)
    spare: float = Field(0.0, ge=0, lt=1)

    def layers(self, seed: int) -> list[keras.Layer]:
        """The layers that these limits call for, in the order in which they are applied."""
        spatial = RandomSpatial(
            flip_axes=self.flip_axes,
            rotation=self.rotation,
            scale=self.scale,
            stretch=self.stretch,
            shear=self.shear,
            translation=self.translation,
            elastic=self.elastic,
            seed=seed,
        )
        intensity = RandomIntensity(
            brightness=self.brightness,
            contrast=self.contrast,
            gamma=self.gamma,
            sharpness=self.sharpness,
            noise=self.noise,
            seed=seed + 1,
        )
        moves = self.flip_axes or any(
            (self.rotation, self.scale, self.stretch, self.shear, self.translation, self.elastic)
        )
        changes = any((self.brightness, self.contrast, self.gamma, self.sharpness, self.noise))
        chosen = [(moves, spatial), (changes, intensity), (self.erase, RandomErase(size=self.erase, seed=seed + 2))]
        layers = [layer for wanted, layer in chosen if wanted]
        return [RandomlySpared(layers, share=self.spare, seed=seed + 3)] if layers and self.spare else layers

    def changes(self) -> tuple[str, ...]:
        """The names of the changes that these limits allow."""
        return tuple(name for name, limit in self.model_dump(exclude={"spare"}).items() if limit)


# Images left as they are teach what images are like in use, and varied ones are still answered as well
# (docs/results.md).
SPARE = 0.3
# Limits a strength, before the planner adds the axes along which this cohort may be mirrored.
STRENGTHS: dict[Strength, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(rotation=7, scale=0.08, translation=0.04, brightness=0.1, contrast=0.1, spare=SPARE),
    "medium": Augmentation(
        rotation=12,
        scale=0.12,
        stretch=0.06,
        shear=0.06,
        translation=0.07,
        brightness=0.2,
        contrast=0.25,
        gamma=0.25,
        sharpness=0.5,
        noise=0.1,
        erase=0.3,
        spare=SPARE,
    ),
    "strong": Augmentation(
        rotation=18,
        scale=0.18,
        stretch=0.12,
        shear=0.12,
        translation=0.1,
        elastic=0.03,
        brightness=0.3,
        contrast=0.4,
        gamma=0.5,
        sharpness=0.8,
        noise=0.2,
        erase=0.5,
        mixup=0.2,
        spare=SPARE,
    ),
}
