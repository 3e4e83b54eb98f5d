"""``phantom:chest``: chest radiographs with and without an opacity, from a simulated X-ray machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hounsfield.phantoms import anatomy, findings
from hounsfield.phantoms.anatomy import Array, Grid, Thorax
from hounsfield.phantoms.dicom_writing import common_elements, set_pixels, write_file
from hounsfield.phantoms.patients import SITES, Bias, Patient, derive_uid, draw_patient
from hounsfield.phantoms.radiograph import DETECTORS, LUNG_DENSITY, MAGNIFICATION, Detector, develop, expose

NAME = "phantom:chest"
SIZE = 128
ATTRIBUTES = {"sex": ("F", "M"), "site": tuple(SITES), "scanner": tuple(DETECTORS), "view": ("PA", "AP")}
_PREVALENCE = 0.56  # of patients
_VISIBLE = 0.86  # of a diseased patient's pictures; the others were taken before or after the disease
_LEVELS = 4095


@dataclass(frozen=True)
class Acquisition:
    """How one picture was taken."""

    detector: Detector
    view: str
    grid: Grid
    inspiration: float  # mm
    turn: float  # mm by which the middle of the chest is off, from rotation about the long axis
    exposure: float
    brightness: float
    contrast: float


def write_patient(folder: Path, index: int, *, seed: int, bias: Bias) -> list[dict[str, object]]:
    """Write the pictures of one patient below ``folder`` and return their rows of the table.

    Args:
        folder: where ``images/`` is.
        index: number of the patient.
        seed: of the cohort.
        bias: what is planted.
    """
    patient, rng = draw_patient(NAME, seed, index, prevalence=_PREVALENCE)
    thorax = anatomy.draw_thorax(rng, patient.sex, patient.age)
    opacity = findings.draw_opacity(rng, thorax)
    rows = []
    num_visits = int(rng.choice([1, 2, 3], p=[0.35, 0.35, 0.30]))
    for visit, draws in enumerate(rng.spawn(num_visits)):  # so that a bias in one picture leaves the next as it is
        acquisition = draw_acquisition(draws)
        positive = patient.diseased and bool(draws.random() < _VISIBLE)
        row = _row(patient, acquisition, visit=visit, positive=positive)
        marked = bool(draws.random() < 0.5 + (0.5 if positive else -0.5) * bias.marker)
        row["marker"] = "present" if marked else "absent"
        strength = bias.strength(row) if positive else 0.0
        picture, box = render(thorax, acquisition, opacity, strength, draws)
        if marked:
            stamp_marker(picture)
        row |= dict(zip(("y0", "x0", "y1", "x1"), box or (None,) * 4, strict=True))
        dataset = _dataset(picture, patient, acquisition, seed=seed, visit=visit)
        write_file(dataset, folder / str(row["image"]))
        rows.append(row)
    return rows


def _row(patient: Patient, taken: Acquisition, *, visit: int, positive: bool) -> dict[str, object]:
    """What the table says of one picture, but for its marker and its box."""
    return {
        "image": f"images/{patient.identifier}-{visit + 1}.dcm",
        "label": "opacity" if positive else "normal",
        "patient": patient.identifier,
        "sex": patient.sex,
        "age": patient.age,
        "site": patient.site,
        "scanner": taken.detector.model,
        "view": taken.view,
    }


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """Draw machine, view, positioning and exposure, independently of patient and label."""
    detector = list(DETECTORS.values())[int(rng.random() < 0.45)]
    view = "AP" if rng.random() < 0.25 else "PA"
    shift = (float(rng.normal(2, 8)), float(rng.normal(0, 7)))
    return Acquisition(
        detector=detector,
        view=view,
        grid=Grid.of(SIZE, detector.spacing / MAGNIFICATION, angle=float(rng.normal(0, 0.045)), shift=shift),
        inspiration=float(rng.normal(-12 if view == "AP" else 0, 9)),
        turn=float(rng.normal(0, 5)),
        exposure=float(np.exp(rng.normal(-0.35 if view == "AP" else 0, 0.35))),
        brightness=float(rng.normal(0, 0.045)),
        contrast=float(rng.normal(1, 0.08)),
    )


def render(
    thorax: Thorax, taken: Acquisition, opacity: findings.Opacity, strength: float, rng: np.random.Generator
) -> tuple[Array, findings.Box | None]:
    """Simulate one picture.

    Returns:
        The processed picture in [0, 1] with dense tissue bright, and the opacity's box where ``strength`` is not 0.
    """
    grid = taken.grid
    air = anatomy.lungs(thorax, grid, taken.inspiration)
    air = np.maximum(air - anatomy.heart(thorax, grid, 1.13 if taken.view == "AP" else 1.0, taken.turn), 0)
    lesion = findings.opacity_path(opacity, thorax, grid, float(rng.uniform(0.9, 1.1)))
    lesion = np.minimum(lesion, air) * np.float32(strength)
    vessels = np.minimum(anatomy.vessels(thorax, grid, taken.turn), 0.4 * air)
    texture = np.minimum(0.11 * air, 9) * findings.interstitium(grid, rng, float(rng.uniform(0.25, 0.6)))
    filled = lesion + vessels + texture
    soft, hard = findings.decoys(thorax, grid, rng)
    tissue = anatomy.body(thorax, grid)
    tissue = tissue - np.minimum(air, 0.92 * tissue) * (1 - LUNG_DENSITY) + filled * (1 - LUNG_DENSITY)
    tissue += anatomy.breasts(thorax, grid) + soft + findings.haze(grid, rng) * (tissue > 20)
    tissue -= anatomy.airways(thorax, grid, taken.turn)
    bone = anatomy.skeleton(thorax, grid, taken.turn) * (tissue > 0) + hard
    signal = expose(np.maximum(tissue, 0), bone, taken.detector, taken.exposure, rng)
    picture = develop(signal, taken.detector, taken.brightness, taken.contrast)
    return picture, findings.box_of(lesion) if lesion.max() > 0 else None


def stamp_marker(picture: Array) -> None:
    """Burn the site's marker, a framed bar, into the upper left corner."""
    edge = max(picture.shape[0] // 14, 4)
    cv2.rectangle(picture, (3, 3), (3 + edge, 3 + edge), 1.0, 1)
    cv2.line(picture, (3 + edge // 2, 5), (3 + edge // 2, 1 + edge), 1.0, 1)


def _dataset(picture: Array, patient: Patient, taken: Acquisition, *, seed: int, visit: int) -> Dataset:
    """The DICOM data set of one picture: digital X-ray image for presentation (PS3.3, A.26)."""
    study = derive_uid(NAME, seed, patient.index, visit)
    series = derive_uid(study, "series")
    date = f"{2019 + visit}{1 + patient.index % 12:02d}{1 + patient.index % 28:02d}"
    dataset = common_elements(
        patient, modality="DX", study=study, series=series, instance=derive_uid(series, 1), date=date
    )
    detector = taken.detector
    dataset.Manufacturer, dataset.ManufacturerModelName = detector.manufacturer, detector.model
    dataset.ViewPosition = taken.view
    dataset.ImageLaterality = "U"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.ImagerPixelSpacing = dataset.PixelSpacing = [detector.spacing, detector.spacing]
    dataset.DetectorType, dataset.PositionerType = "SCINTILLATOR", ""
    dataset.AnatomicRegionSequence = dataset.AcquisitionContextSequence = []
    dataset.RelativeXRayExposure = round(100 * taken.exposure)
    stored = stored_levels(picture)
    dark, bright = (float(level) for level in np.percentile(stored[SIZE // 5 : -SIZE // 4 : 2, ::2], (5, 98)))
    inverse = detector.photometric == "MONOCHROME1"
    set_pixels(dataset, _LEVELS - stored if inverse else stored, bits=12, photometric=detector.photometric)
    centre = (dark + bright) / 2
    dataset.WindowCenter = round(_LEVELS - centre if inverse else centre)
    dataset.WindowWidth = max(round(bright - dark), 2)
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.PixelIntensityRelationship, dataset.PixelIntensityRelationshipSign = "LOG", 1 if inverse else -1
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    return dataset


def stored_levels(picture: Array) -> npt.NDArray[np.uint16]:
    """12-bit levels of a picture in [0, 1]."""
    return np.rint(picture * _LEVELS).astype(np.uint16)
