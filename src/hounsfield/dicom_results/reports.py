"""Structured reports by TID 1500: what is found with its region, or what holds of a whole image without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    ImageContentItem,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from hounsfield.dicom_results.base import MANUFACTURER, SERIES_NUMBERS, Author
from hounsfield.dicom_results.codes import concept
from hounsfield.dicom_results.sources import Source, frame_numbers
from hounsfield.images.stored import Stored

Box = tuple[float, float, float, float]


def report(
    author: Author,
    sources: Sequence[Source],
    regions: Sequence[PlanarROIMeasurementsAndQualitativeEvaluations],
    evaluations: Iterable[Dataset],
) -> Dataset:
    """A report on images of one study.

    Regions go into a Comprehensive SR, which viewers show; what holds of whole images stands in the container of
    qualitative evaluations (TID 1500, row 12), outside any measurement group, since a group without a region makes
    viewers fail; such a report is a Comprehensive 3D SR, as IHE's profile AI Results asks for.

    Args:
        author: the model.
        sources: what it looked at, of one study.
        regions: measurement groups, each with its region.
        evaluations: content items of whole images.
    """
    device = DeviceObserverIdentifyingAttributes(
        uid=author.device, name=author.name, manufacturer_name=MANUFACTURER, model_name=author.name
    )
    context = ObservationContext(
        observer_device_context=ObserverContext(observer_type=concept("device"), observer_identifying_attributes=device)
    )
    items = list(evaluations)
    # highdicom builds no report without a group; where there is none, one stands in for the container of row 12.
    content = MeasurementReport(
        observation_context=context,
        procedure_reported=concept("procedure"),
        imaging_measurements=list(regions) or [MeasurementsAndQualitativeEvaluations(_PLACEHOLDER)],
        title=concept("report"),
    )
    if not regions:
        content[0].ContentSequence.pop()
    if items:
        container = ContainerContentItem(name=concept("evaluations"), relationship_type=RelationshipTypeValues.CONTAINS)
        container.ContentSequence = DicomSequence(items)
        content[0].ContentSequence.append(container)
    evidence = {str(each.SOPInstanceUID): each for source in sources for each in source.datasets}
    key = sorted(part for source in sources for part in source.key)
    kind = Comprehensive3DSR if items and not regions else ComprehensiveSR
    return kind(
        evidence=list(evidence.values()),
        content=content[0],
        series_instance_uid=author.uid("series", "report", *key),
        series_number=SERIES_NUMBERS["report"],
        sop_instance_uid=author.uid("report", *key),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description=author.description,
        contributing_equipment=[author.equipment()],
    )


def region(
    author: Author,
    source: Source,
    stored: Stored,
    box: Box,
    *,
    finding: CodedConcept,
    name: str,
    measurements: Sequence[Measurement],
    evaluations: Sequence[QualitativeEvaluation] = (),
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """One measurement group with a rectangle (TID 1410).

    Args:
        author: the model.
        source: the image and what was said of it.
        stored: the image, or the slice, in which the rectangle lies.
        box: (row, column, row, column) from corner to corner in pixels of the image as read, 0 being the edge of the
            first one, as SCOORD counts (PS3.3, C.18.6.1.2).
        finding: what is there.
        name: of the group, that no other of this report has.
        measurements: with their units.
        evaluations: in words.
    """
    dataset = source.headers[stored.path]
    (top, left), (bottom, right) = (_inside(dataset, stored, *corner) for corner in (box[:2], box[2:]))
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], np.float64)
    image = SourceImageForRegion(*_reference(dataset), frame_numbers(stored))
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=author.uid("region", str(dataset.SOPInstanceUID), name), identifier=name
        ),
        referenced_region=ImageRegion(GraphicTypeValues.POLYLINE, corners, image),
        finding_type=finding,
        algorithm_id=author.algorithm(),
        measurements=list(measurements),
        qualitative_evaluations=list(evaluations),
    )


def probability(author: Author, value: float, name: CodedConcept | None = None) -> Measurement:
    """A calibrated probability as a measurement of a group; ``name`` where there are several."""
    name = name or concept("probability")
    return Measurement(name, _rounded(value), concept("no units"), algorithm_id=author.algorithm())


def _inside(dataset: Dataset, stored: Stored, row: float, column: float) -> tuple[float, float]:
    """A corner in pixels of the frame, no farther than its edge."""
    down, along = stored.offset
    return min(max(row + down, 0.0), float(dataset.Rows)), min(max(column + along, 0.0), float(dataset.Columns))


def _reference(dataset: Dataset) -> tuple[str, str]:
    return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)


def found(name: CodedConcept, value: CodedConcept, details: Sequence[Dataset]) -> CodeContentItem:
    """What was found in a whole image, with its numbers and words below it."""
    item = CodeContentItem(name=name, value=value, relationship_type=RelationshipTypeValues.CONTAINS)
    item.ContentSequence = DicomSequence(details)
    return item


def measured(name: CodedConcept, value: float, details: Sequence[Dataset], unit: str = "no units") -> NumContentItem:
    """A value of a whole image, with its numbers and words below it."""
    item = NumContentItem(
        name=name,
        value=_rounded(value),
        unit=concept(unit),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    item.ContentSequence = DicomSequence(details)
    return item


def about(source: Source) -> list[Dataset]:
    """What is said of every image: which one it is, and how unlike those of training."""
    prediction, stored = source.prediction, source.slices[0]
    items: list[Dataset] = [
        ImageContentItem(
            concept("source"),
            *_reference(source.headers[stored.path]),
            frame_numbers(stored) if len(source.slices) == 1 else None,
            relationship_type=RelationshipTypeValues.INFERRED_FROM,
        )
    ]
    if len(source.datasets) > 1:
        # A volume: its first slice, and the series that it is.
        uid = str(source.datasets[0].SeriesInstanceUID)
        items.append(UIDRefContentItem(concept("series"), uid, relationship_type=PROPERTY))
    if prediction.ood_score is not None:
        items.append(number(concept("out of distribution"), prediction.ood_score))
    if prediction.flags:
        items.append(text(concept("flags"), ", ".join(prediction.flags)))
    return items


def number(name: CodedConcept, value: float, unit: str = "no units") -> NumContentItem:
    """A number below a finding."""
    return NumContentItem(name=name, value=_rounded(value), unit=concept(unit), relationship_type=PROPERTY)


def _rounded(value: float) -> float:
    """What float32 holds, which fits into the 16 characters of a decimal string."""
    return float(f"{value:.8g}")


def text(name: CodedConcept, value: str) -> TextContentItem:
    """Words below a finding."""
    return TextContentItem(name=name, value=value, relationship_type=PROPERTY)


PROPERTY = RelationshipTypeValues.HAS_PROPERTIES
_PLACEHOLDER = TrackingIdentifier(uid="2.25.1", identifier="placeholder")
