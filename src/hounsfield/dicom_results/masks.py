"""Results of segmenters: masks as DICOM SEG, and volumes or areas in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset

from hounsfield.dicom_results import reports
from hounsfield.dicom_results.base import MANUFACTURER, SERIES_NUMBERS, Author
from hounsfield.dicom_results.codes import concept, label_concept
from hounsfield.dicom_results.frames import Planes, by_series, key_of, placed, stacked
from hounsfield.dicom_results.sources import Source
from hounsfield.drawing.boxed import class_colour
from hounsfield.inference.mask_prediction import MaskPrediction


def report(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A report with the sizes of masks in the images of one study; see ``dicom_results.OBJECTS``."""
    items = [_size(author, source, label) for source in sources for label in author.bundle.labels]
    return [reports.report(author, sources, (), items)]


def _size(author: Author, source: Source, label: str) -> Dataset:
    prediction = cast("MaskPrediction", source.prediction)
    size, dice = prediction.sizes[label], prediction.dice[label]
    ends = [(concept("lowest"), size.low), (concept("highest"), size.high)]
    details: list[Dataset] = [reports.number(name, at, prediction.unit) for name, at in ends if math.isfinite(at)]
    if dice is not None and math.isfinite(dice.value):
        details.append(reports.number(concept("predicted dice"), dice.value))
    return reports.measured(
        label_concept(label, author.codes), size.value, [*details, *reports.about(source)], prediction.unit
    )


def segmentations(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """A SEG for each series, or each file of several frames; see ``dicom_results.OBJECTS``."""
    return [_segmentation(author, group) for group in by_series(sources, alone_without_place=True)]


def _segmentation(author: Author, sources: Sequence[Source]) -> Dataset:
    labels, key = author.bundle.labels, key_of(sources)
    layers = []
    for label in labels:
        planes: Planes = {}
        for source in sources:
            planes |= placed(cast("MaskPrediction", source.prediction).region(label), source, order=0)
        images, stack = stacked(planes, sources[0])
        layers.append(stack > 0)
    return Segmentation(
        source_images=images,
        pixel_array=_numbered(layers),
        segmentation_type="BINARY",
        segment_descriptions=[_description(author, index, label, key) for index, label in enumerate(labels)],
        series_instance_uid=author.uid("series", "segmentation", *key),
        series_number=SERIES_NUMBERS["segmentation"],
        sop_instance_uid=author.uid("segmentation", *key),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=author.name,
        software_versions=author.version,
        device_serial_number=author.bundle.identity[:12],
        content_label="SEGMENTATION",
        series_description=author.description[:64],
        contributing_equipment=[author.equipment()],
    )


def _numbered(layers: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.unsignedinteger]:
    """Layers (frames, rows, columns) as one with their numbers from 1; where they overlap, as a last axis of 0 and 1.

    The library checks the first form several times as fast.
    """
    numbered = np.zeros(layers[0].shape, np.uint8 if len(layers) < 256 else np.uint16)
    for number, layer in enumerate(layers, start=1):
        if numbered[layer].any():
            return np.stack(layers, axis=-1).astype(np.uint8)
        numbered[layer] = number
    return numbered


def _description(author: Author, index: int, label: str, key: Sequence[str]) -> SegmentDescription:
    return SegmentDescription(
        segment_number=index + 1,
        segment_label=label[:64],
        segmented_property_category=concept("region category"),
        segmented_property_type=label_concept(label, author.codes),
        algorithm_type="AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            author.name, concept("artificial intelligence"), author.version
        ),
        tracking_uid=author.uid("segment", label, *key),
        tracking_id=label[:64],
        display_color=CIELabColor.from_string(class_colour(index)),
    )
