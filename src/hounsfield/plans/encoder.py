"""The residual network that a detector or a segmenter starts from, known without any framework."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Lengths = Annotated[tuple[Annotated[int, Field(gt=0, le=8192)], ...], Field(min_length=1, max_length=8)]


class Encoder(BaseModel):
    """A residual network for images of three channels, whose first stage has a stride of 4, the next one of 8 etc.

    Attributes:
        stem: channels of the first convolution, of stride 2.
        widths: channels of each stage.
        depths: blocks of each stage.
        bottleneck: whether blocks have three convolutions, or two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stem: int = Field(gt=0, le=8192)
    widths: Lengths
    depths: Lengths
    bottleneck: bool

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.widths) != len(self.depths):
            raise ValueError(f"an encoder has {len(self.widths)} widths and {len(self.depths)} depths of its stages")
        return self
