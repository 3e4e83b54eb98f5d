"""DICOM sources of many kinds with known pixels, and what stands in a structured report, read without our own code."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from dicom_samples import make_dicom
from hounsfield.evaluation.mask_uncertainty import Predicted
from hounsfield.images import Image, Reference
from hounsfield.inference.mask_prediction import MaskPrediction
from peers import peer

# Row and column directions: straight, flipped both ways, oblique.
ORIENTATIONS = {
    "straight": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "flipped": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "oblique": (0.8, 0.6, 0.0, -0.36, 0.48, 0.8),
}


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def flat(path: Path, seed: int = 1, shape: tuple[int, int] = (45, 52), **elements: Any) -> Path:
    """A radiograph that states no place in the patient."""
    elements = {"SOPClassUID": DigitalXRayImageStorageForPresentation, "Modality": "DX"} | elements
    return renamed(make_dicom(path, noise(seed, *shape), **elements))


def series(
    folder: Path, orientation: str = "straight", shape: tuple[int, int, int] = (18, 20, 17), **elements: Any
) -> list[Path]:
    """A CT series; names and numbers of the files are in another order than the slices."""
    folder.mkdir()
    directions = ORIENTATIONS[orientation]
    normal = np.cross(directions[:3], directions[3:])
    order = np.random.default_rng(7).permutation(shape[0])
    paths = []
    for index in range(shape[0]):
        places: dict[str, Any] = {
            "ImageOrientationPatient": list(directions),
            "ImagePositionPatient": [f"{value:.6f}" for value in np.array([-10.0, 20.0, 30.0]) + normal * index * 2],
            "PixelSpacing": [0.7, 0.9],
            "SliceThickness": 2.0,
            "FrameOfReferenceUID": "1.2.3.4.5",
            "InstanceNumber": int(order[index]) + 1,
        }
        path = folder / f"{order[-1 - index]:03d}.dcm"
        paths.append(renamed(make_dicom(path, noise(index, *shape[1:]), **places | elements)))
    return paths


def film(path: Path, frames: int = 3, shape: tuple[int, int] = (45, 52)) -> Path:
    """Frames over time, without a place."""
    return renamed(
        make_dicom(
            path, noise(3, frames, *shape), SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US", FrameTime=40
        )
    )


def stack(path: Path, shape: tuple[int, int, int] = (18, 20, 17)) -> Path:
    """An enhanced CT whose frames are stored in another order than they lie."""
    order = np.random.default_rng(3).permutation(shape[0])
    pixels = np.stack([noise(int(place), *shape[1:]) for place in order])
    frames = []
    for place in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [0.0, 0.0, 2.0 * int(place)]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(ORIENTATIONS["straight"])
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.9], 2.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    return renamed(
        make_dicom(
            path,
            pixels,
            SOPClassUID=EnhancedCTImageStorage,
            FrameOfReferenceUID="1.2.3.4.5",
            PerFrameFunctionalGroupsSequence=frames,
            SharedFunctionalGroupsSequence=[shared],
        )
    )


def renamed(path: Path) -> Path:
    """An identifier of its own in the data set and in the file's meta information."""
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.save_as(path)
    return path


def check_conformance(path: Path) -> None:
    """What dciodvfy and dsrdump say; errors of either fail."""
    told = subprocess.run([peer("dciodvfy", "dicom3tools"), str(path)], capture_output=True, text=True, check=False)
    errors = [line for line in told.stderr.splitlines() if line.startswith("Error")]
    assert not errors, errors
    if pydicom.dcmread(path, stop_before_pixels=True).Modality == "SR":
        read = subprocess.run([peer("dsrdump", "dcmtk"), str(path)], capture_output=True, text=True, check=False)
        assert read.returncode == 0, read.stderr
        assert "E:" not in read.stderr, read.stderr


def items(dataset: Dataset) -> list[Dataset]:
    """Every content item of a report, parents before children."""
    found = []
    for item in dataset.get("ContentSequence", []):
        found += [item, *items(item)]
    return found


def named(found: list[Dataset], meaning: str) -> list[Dataset]:
    return [
        item
        for item in found
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def groups(report: Dataset) -> list[dict[str, Any]]:
    """The measurement groups with their rectangle (rows, columns), image, frame and numbers."""
    made = []
    for group in named(items(report), "Measurement Group"):
        inside = items(group)
        (area,) = [item for item in inside if item.ValueType == "SCOORD"]
        (image,) = [item for item in inside if item.ValueType == "IMAGE"]
        points = np.array(area.GraphicData).reshape(-1, 2)
        referred = image.ReferencedSOPSequence[0]
        made.append(
            {
                "box": (*points.min(axis=0)[::-1], *points.max(axis=0)[::-1]),
                "instance": referred.ReferencedSOPInstanceUID,
                "frame": referred.get("ReferencedFrameNumber"),
                "finding": named(inside, "Finding")[0].ConceptCodeSequence[0],
                "numbers": {
                    item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
                    for item in inside
                    if item.ValueType == "NUM"
                },
            }
        )
    return made


def mask_prediction(image: Image, path: Path, regions: np.ndarray, *, overlapping: bool) -> MaskPrediction:
    """What a segmenter says of an image in which these regions (..., 2) are an organ and a lesion."""
    facts, labels = image.metadata, ("organ", "lesion")
    mask = regions if overlapping else (regions * [1, 2]).sum(axis=-1, keepdims=True)
    return MaskPrediction(
        reference=Reference(str(path), study=facts.study, series=facts.series, instance=facts.instance),
        features=np.zeros(0, np.float32), mask=image.replace(pixels=mask.astype(np.uint8)), labels=labels,
        pixels=dict.fromkeys(labels, 5), unit="ml", sizes=dict.fromkeys(labels, Predicted(5.5, 4.0, float("inf"))),
        dice={"organ": Predicted(0.9, 0.8, 0.95), "lesion": None}, uncertainty=dict.fromkeys(labels, 0.1),
    )  # fmt: skip
