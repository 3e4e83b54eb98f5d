"""Parametric maps: where in the image the evidence for the predicted label lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset

from hounsfield.dicom_results.base import MANUFACTURER, SERIES_NUMBERS, Author
from hounsfield.dicom_results.codes import concept
from hounsfield.dicom_results.frames import Planes, by_series, key_of, placed, stacked
from hounsfield.dicom_results.sources import Source
from hounsfield.errors import ImageError
from hounsfield.inference import BadImage

# Of the greatest evidence; slices with less than this share of it are left out.
SMALLEST_SHARE = 0.05


def maps(author: Author, sources: Sequence[Source]) -> list[Dataset]:
    """One map for each series and label, or each file of several frames; see ``dicom_results.OBJECTS``."""
    made = []
    for group in by_series(sources):
        found: dict[str, tuple[list[Source], Planes]] = {}
        for source in group:
            label, planes = _explained(author, source)
            members, heat = found.setdefault(label, ([], {}))
            members.append(source)
            heat.update(planes)
        made += [_map(author, label, members, heat) for label, (members, heat) in found.items() if _peak(heat) > 0]
    return made


def _explained(author: Author, source: Source) -> tuple[str, Planes]:
    explanation = author.explainer.explain_image(source.image(), source.prediction.reference)
    if isinstance(explanation, BadImage):
        raise ImageError(str(explanation))
    return explanation.label, placed(explanation.heat, source, order=1)


def _peak(heat: Planes) -> float:
    return max(float(np.abs(plane).max()) for plane in heat.values())


def _map(author: Author, label: str, sources: Sequence[Source], heat: Planes) -> Dataset:
    peak, key = _peak(heat), key_of(sources)
    kept = {frame: plane for frame, plane in heat.items() if np.abs(plane).max() >= SMALLEST_SHARE * peak}
    images, planes = stacked(kept, sources[0])
    told = f"Evidence for {label}"[:64]
    mapping = RealWorldValueMapping(
        "EVIDENCE",
        told,
        concept("no units"),
        (-peak, peak),
        slope=1.0,
        intercept=0.0,
        quantity_definition=concept("evidence"),
    )
    return ParametricMap(
        source_images=images,
        pixel_array=planes,
        series_instance_uid=author.uid("series", "map", label, *key),
        series_number=SERIES_NUMBERS["map"],
        sop_instance_uid=author.uid("map", label, *key),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=author.name,
        software_versions=author.version,
        device_serial_number=author.bundle.identity[:12],
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation(0.0, 2 * peak, voi_lut_function="LINEAR_EXACT")],
        content_label="EVIDENCE",
        content_description=told,
        series_description=author.description[:64],
        contributing_equipment=[author.equipment()],
    )
