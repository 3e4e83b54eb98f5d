"""What every reader returns: pixels with their geometry and the facts about where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import ImageError
from hounsfield.images.reference import Reference


@dataclass(frozen=True, eq=False)
class Metadata:
    """Facts about an image that its pixels do not hold; ``None`` where unknown, and never a patient's name.

    Attributes:
        patient: PatientID as the file gives it.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID; of a volume made of several files, that of its first slice.
        sex: ``"M"``, ``"F"`` or ``"O"``.
        age: years at the time of the study.
        view: ViewPosition, for example ``"PA"`` or ``"MLO"``.
        laterality: ``"L"``, ``"R"`` or ``"B"``.
        site: InstitutionName.
        manufacturer: Manufacturer.
        scanner: ManufacturerModelName.
        body_part: BodyPartExamined.
        date: StudyDate in ISO form.
        windows: (center, width) pairs in the units of the pixels.
        bits: how many bits of each stored sample carry the image.
        units: of the pixels, where the file says so: ``"HU"``, ``"Gy"``, ``"g/ml"`` (SUV by body weight), ``"Bq/ml"``.
        rescale: slope and intercept that made the pixels of the file's integers, where they are the same everywhere in
            the file; what came after may have changed the pixels.
        labels: of a segmentation, the number and the label of each segment.
        resampled: whether channels from several files were brought onto the grid of the first.
    """

    patient: str | None = None
    study: str | None = None
    series: str | None = None
    instance: str | None = None
    sex: str | None = None
    age: float | None = None
    view: str | None = None
    laterality: str | None = None
    site: str | None = None
    manufacturer: str | None = None
    scanner: str | None = None
    body_part: str | None = None
    date: str | None = None
    windows: tuple[tuple[float, float], ...] = ()
    bits: int | None = None
    units: str | None = None
    rescale: tuple[float, float] | None = None
    labels: tuple[tuple[int, str], ...] = ()
    resampled: bool = False


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with geometry; immutable, so that no step can change what another one sees.

    Attributes:
        pixels: real values, never windowed, channels last: (rows, columns, channels) or
            (slices, rows, columns, channels). Read-only.
        spacing: millimetres from one sample to the next along each spatial axis, in the order of the axes.
        affine: 4×4 float64; takes (slice, row, column, 1) indices to patient coordinates in millimetres, x to the
            patient's left, y to the back, z to the head (DICOM PS3.3 C.7.6.2.1.1). A 2D image has slice index 0.
        modality: DICOM's code (CR, DX, CT, MR, US, …).
        metadata: what is known of the patient, the study and the scanner.
        reference: where the image comes from; ``None`` for one that was never in a file.

    Raises:
        ImageError: the parts do not fit each other.
    """

    pixels: npt.NDArray[Any]
    spacing: tuple[float, ...] | None = None
    affine: npt.NDArray[np.float64] | None = None
    modality: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    reference: Reference | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim not in (3, 4) or 0 in self.pixels.shape:
            raise ImageError(
                f"Pixels of shape {self.pixels.shape} make no image: expected (rows, columns, channels) or "
                "(slices, rows, columns, channels), none of them zero. Add the missing axis, as in pixels[..., None]."
            )
        object.__setattr__(self, "pixels", _read_only(self.pixels))
        if self.spacing is not None and len(self.spacing) != self.rank:
            raise ImageError(
                f"The spacing {self.spacing} has {len(self.spacing)} values, but the image has {self.rank} spatial "
                "axes: give one value in millimetres for each, in their order."
            )
        if self.affine is not None:
            if self.affine.shape != (4, 4):
                raise ImageError(f"The affine has shape {self.affine.shape}: expected a 4×4 matrix.")
            object.__setattr__(self, "affine", _read_only(self.affine))

    @property
    def rank(self) -> int:
        """The number of spatial axes, 2 or 3."""
        return self.pixels.ndim - 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape: (rows, columns) or (slices, rows, columns)."""
        return self.pixels.shape[:-1]

    @property
    def channels(self) -> int:
        """The number of channels: 1 for grey, 3 for red, green and blue."""
        return int(self.pixels.shape[-1])

    def replace(self, **changes: Any) -> Image:
        """A copy in which the named attributes have other values."""
        # What dataclasses.replace does, in a third of its time; every image of a cohort passes here a few times.
        return Image(**{**vars(self), **changes})


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same memory seen read-only; the caller's own array keeps its flags."""
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view
