"""The plan of a segmenter: every decision of its training, as one file that a person can read, edit and rerun."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, model_validator

from hounsfield.plans.augmentation import PATCH_STRENGTHS, Augmentation, PatchAugmentation
from hounsfield.plans.base import BasePlan
from hounsfield.plans.encoder import Encoder

# The one network there is.
NETWORK: Literal["residual_unet"] = "residual_unet"
# Changes of values, which leave every pixel in its place.
INTENSITIES = ("brightness", "contrast", "gamma", "sharpness", "noise", "unchanged_share")

Factor = Annotated[int, Field(ge=1, le=4)]
Side = Annotated[int, Field(ge=1, le=7)]


class MaskPlan(BasePlan):
    """Every decision of a segmenter's training, beside those of ``BasePlan``.

    ``input_shape`` is the patch that the network sees: the pipeline brings images to the spacing of training and leaves
    their sizes mixed; of larger ones patches are trained on and overlapping windows predicted, smaller ones are padded.

    Attributes:
        task: "segmentation".
        weights: the folder of a pretraining that the network starts from, or what ``--weights`` takes, which then is of
            ``encoder``; null for random weights.
        encoder: the residual network of these weights, in the place of the U-Net's own encoder.
        licence: of them, as it was found or accepted.
        spacing: mm along each axis of the prepared images; ones where it is not known.
        overlapping: whether a pixel may have several labels, so that each label is an output of its own.
        strides: by stage of the network after the first, and by axis: how much it reduces the resolution.
        kernels: by stage and by axis: the size of its convolutions.
        patches: of each training image in an epoch.
        foreground_share: of the patches, that are drawn around a pixel of some label, each label alike.
        augmentation: limits of the random changes of place and size, which move masks too.
        intensities: limits of the random changes of values.
        validate_every: epochs between two validations.
        judged: validation images by which epochs are compared.
    """

    named_values: ClassVar[Mapping[str, Mapping[Any, BaseModel]]] = {"augmentation": PATCH_STRENGTHS}

    task: Literal["segmentation"] = "segmentation"
    network: Literal["residual_unet"] = NETWORK
    width: int = Field(ge=1, le=512)
    weights: str | None = Field(default=None, max_length=4096)
    encoder: Encoder | None = None
    licence: str = ""
    spacing: tuple[Annotated[float, Field(gt=0)], ...]
    overlapping: bool = False
    strides: tuple[tuple[Factor, ...], ...] = Field(max_length=8)
    kernels: tuple[tuple[Side, ...], ...] = Field(min_length=1, max_length=9)
    patches: int = Field(default=1, ge=1, le=10**4)
    foreground_share: float = Field(default=1 / 3, ge=0, le=1)
    augmentation: PatchAugmentation
    intensities: Augmentation
    validate_every: int = Field(default=1, ge=1)
    judged: int = Field(default=24, ge=1)

    @property
    def rank(self) -> int:
        """2 for images, 3 for volumes."""
        return len(self.input_shape) - 1

    @property
    def num_outputs(self) -> int:
        """Channels of the network's output: one a label, and one for the background where labels do not overlap."""
        return len(self.labels) + (not self.overlapping)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        axes = {len(each) for each in (self.spacing, *self.strides, *self.kernels)}
        if axes != {self.rank}:
            raise ValueError(f"spacing, strides and kernels must have {self.rank} axes each, as input_shape has")
        if len(self.kernels) != len(self.strides) + 1:
            raise ValueError(f"there must be one of kernels for each of {len(self.strides) + 1} stages")
        if self.encoder is not None and (
            self.strides != ((2, 2),) * (len(self.encoder.widths) + 1) or self.input_shape[-1] != 3 or not self.weights
        ):
            raise ValueError(
                "an encoder needs weights, images of three channels, and strides of [2, 2] for its stem and each of "
                "its stages: make a plan with --weights"
            )
        for axis, length in enumerate(self.input_shape[:-1]):
            reduction = 1
            for stride in self.strides:
                reduction *= stride[axis]
            if length % reduction:
                raise ValueError(
                    f"axis {axis} of input_shape is {length}, which the strides divide by {reduction}: it must be a "
                    f"multiple of {reduction}"
                )
        if not set(self.augmentation.flip_axes) <= set(range(self.rank)):
            raise ValueError(f"augmentation.flip_axes must be of the axes 0 to {self.rank - 1}")
        if moving := set(self.intensities.changes()) - set(INTENSITIES):
            raise ValueError(f"intensities must not move or hide pixels, as {', '.join(sorted(moving))} would")
        return self
