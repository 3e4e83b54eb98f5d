"""The step that reorients volumes to the patient's axes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from hounsfield.errors import PreprocessingError
from hounsfield.images.image import Image
from hounsfield.images.orientation import CANONICAL, SIDES, reorient
from hounsfield.preprocessing.step import Step


def _three_sides(value: str) -> str:
    if len(value) != 3 or {SIDES[letter][0] for letter in value if letter in SIDES} != {0, 1, 2}:
        raise ValueError("an orientation is one letter each of L or R, P or A, S or I, such as 'SPL'")
    return value


class Reorient(Step):
    """Swap and flip the axes of a volume so that they point towards the sides named by ``orientation``.

    The three letters are for slices, rows and columns. ``"SPL"``: slices from feet to head, rows from front to back,
    columns from the patient's right to the left. Nothing is interpolated, so an oblique volume gets the nearest
    orientation.
    """

    ranks: ClassVar[tuple[int, ...]] = (3,)
    name: Literal["reorient"] = "reorient"
    orientation: Annotated[str, AfterValidator(_three_sides)] = CANONICAL

    def _apply(self, image: Image) -> Image:
        if image.affine is None:
            raise PreprocessingError(
                "The step 'reorient' needs the orientation of the volume in the patient, but this image has no affine. "
                "Leave the step out, or use a file format that has one (DICOM, NIfTI)."
            )
        return reorient(image, self.orientation)
