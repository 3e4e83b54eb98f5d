"""The form of a reading, as the page sends it and the log keeps it: bounded and strict."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hounsfield.errors import HounsfieldError

Name = Annotated[str, Field(max_length=200)]
# Model, stack and frame of an answer; the last two are empty where it is of none, or of all frames.
Key = Annotated[str, Field(max_length=220, pattern=r"^[^|]*\|[0-9]{0,9}\|[0-9]{0,9}$")]
Index = Annotated[int, Field(ge=0, lt=2**31)]
Coordinate = Annotated[float, Field(ge=0, lt=1e9)]
Point = tuple[Coordinate, Coordinate]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class Opinion(_Part):
    """What is said of one model's answer.

    Attributes:
        verdict: "" where nothing was said yet.
        labels: label → whether it is there.
        grade: a grade, or a value as it was typed.
    """

    verdict: Literal["", "accepted", "rejected", "corrected"] = ""
    labels: dict[Name, bool] = Field(default_factory=dict, max_length=1000)
    grade: Name = ""


class Mark(_Part):
    """A length, a measured rectangle, or a box around a finding.

    Attributes:
        id: of the mark within its reading.
        kind: of the mark.
        stack: of the case, from 0.
        frame: of the stack, from 0.
        start: (column, row) in pixels; pixel i covers [i, i + 1).
        end: likewise; of a rectangle the corner across.
        label: of a box.
        model: whose answer a box corrects; "" for none.
        slices: of a box in a volume, half-open.
    """

    id: Name
    kind: Literal["length", "region", "box"]
    stack: Index
    frame: Index
    start: Point = Field(alias="from")
    end: Point = Field(alias="to")
    label: Name = ""
    model: Name = ""
    slices: tuple[Index, Index] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.kind != "length" and not (self.start[0] < self.end[0] and self.start[1] < self.end[1]):
            raise ValueError("a rectangle has its upper left corner first")
        if self.slices is not None and self.slices[0] >= self.slices[1]:
            raise ValueError("a box has its first slice first")
        return self


class Region(_Part):
    """The pixels of a label in a frame.

    Attributes:
        stack: of the case, from 0.
        frame: of the stack, from 0.
        label: of the pixels.
        model: whose mask is corrected; "" for none.
        runs: lengths of runs, row by row: of pixels outside, then inside, and so on.
    """

    stack: Index
    frame: Index
    label: Name
    model: Name
    runs: tuple[Index, ...] = Field(max_length=2_000_000)


class Content(_Part):
    """A reading.

    Attributes:
        opinions: model, stack and frame, with | between them → what is said of the answer.
        marks: measurements and boxes.
        regions: masks, frame by frame.
        comment: free text.
    """

    opinions: dict[Key, Opinion] = Field(default_factory=dict, max_length=100)
    marks: tuple[Mark, ...] = Field(default=(), max_length=10_000)
    regions: tuple[Region, ...] = Field(default=(), max_length=10_000)
    comment: str = Field(default="", max_length=20_000)

    def json(self) -> dict[str, Any]:  # type: ignore[override]  # that of pydantic is deprecated
        """Plain values, in the names of the page."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def read_content(values: Any) -> Content:
    """A reading from plain values.

    Raises:
        HounsfieldError: it has another form; the message names the first fault, and no content.
    """
    try:
        return Content.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_context=False, include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the reading"
        raise HounsfieldError(f"The reading cannot be kept: {place}: {fault['msg']}.") from error
