"""How strongly a training varies its images: declared limits, for whole images and for images with objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Strength = Literal["none", "light", "medium", "strong"]


def with_new_names(values: Any, renamed: Mapping[str, str]) -> Any:
    """The fields of a plan that an earlier version wrote, under the names that they have now."""
    return {renamed.get(name, name): value for name, value in values.items()} if isinstance(values, dict) else values


class Augmentation(BaseModel):
    """Limits of the random changes; each is described in the layer that uses it.

    ``unchanged_share`` is the probability that an image is left as it is, not even mirrored.
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
    unchanged_share: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        return with_new_names(values, {"spare": "unchanged_share"})

    def changes(self) -> tuple[str, ...]:
        """The names of the changes that these limits allow."""
        return tuple(name for name, limit in self.model_dump(exclude={"unchanged_share"}).items() if limit)


# Images left as they are teach what images are like in use, and varied ones are still answered as well
# (docs/tried.md).
UNCHANGED_SHARE = 0.3
# Limits a strength, before the planner adds the axes along which this cohort may be mirrored.
STRENGTHS: dict[Strength, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(
        rotation=7, scale=0.08, translation=0.04, brightness=0.1, contrast=0.1, unchanged_share=UNCHANGED_SHARE
    ),
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
        unchanged_share=UNCHANGED_SHARE,
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
        unchanged_share=UNCHANGED_SHARE,
    ),
}


class SceneAugmentation(BaseModel):
    """Limits of the random changes.

    Attributes:
        flip_axes: spatial axes that are mirrored with probability one half.
        rotate90: whether images are rotated by right angles in the plane of rows and columns.
        scale: largest relative change of size (0.5: factors from 1/1.5 to 1.5).
        stretch: the same, drawn for each axis on its own.
        mosaic: probability that a canvas is shared by several images, one in each of its quarters (octants in 3D).
        object_share: where an image is larger than the canvas, the probability that the window is drawn around an
            object and not anywhere.
        keep: the part of a box that has to be inside the window for the object to stay; what is left is cut.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_axes: tuple[int, ...] = ()
    rotate90: bool = False
    scale: float = Field(0.0, ge=0, le=3)
    stretch: float = Field(0.0, ge=0, le=1)
    mosaic: float = Field(0.0, ge=0, le=1)
    object_share: float = Field(0.5, ge=0, le=1)
    keep: float = Field(0.25, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, values: Any) -> Any:
        return with_new_names(values, {"turn": "rotate90"})


SCENE_STRENGTHS: dict[Strength, SceneAugmentation] = {
    "none": SceneAugmentation(),
    "light": SceneAugmentation(scale=0.2),
    "medium": SceneAugmentation(scale=0.5, stretch=0.1, mosaic=0.25),
    "strong": SceneAugmentation(scale=1.0, stretch=0.2, mosaic=0.5),
}


class PatchAugmentation(BaseModel):
    """Limits of the random changes of a patch, which move its mask too.

    Attributes:
        flip_axes: spatial axes that are mirrored with probability one half.
        rotation: largest turn in each plane, degrees; a plane in which pixels lie much further apart along one axis is
            not turned.
        scale: largest relative change of size (0.25: factors from 1/1.25 to 1.25), common to all axes.
        stretch: the same, drawn for each axis on its own.
        unchanged_share: probability that a patch is neither turned nor scaled.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip_axes: tuple[int, ...] = ()
    rotation: float = Field(0.0, ge=0, le=180)
    scale: float = Field(0.0, ge=0, le=1)
    stretch: float = Field(0.0, ge=0, le=1)
    unchanged_share: float = Field(0.0, ge=0, lt=1)


PATCH_STRENGTHS: dict[Strength, PatchAugmentation] = {
    "none": PatchAugmentation(),
    "light": PatchAugmentation(rotation=10, scale=0.1, unchanged_share=0.5),
    "medium": PatchAugmentation(rotation=20, scale=0.2, stretch=0.05, unchanged_share=0.4),
    "strong": PatchAugmentation(rotation=30, scale=0.4, stretch=0.1, unchanged_share=0.3),
}
