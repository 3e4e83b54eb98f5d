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
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from hounsfield.dicom_results.base import MANUFACTURER, Author, Source
from hounsfield.dicom_results.codes import concept

# Of the series that results make in a study; no device counts so far.
SERIES_NUMBER = 9100

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
        uid=author.uid("device"), name=author.name, manufacturer_name=MANUFACTURER, model_name=author.name
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
    evidence = [dataset for source in sources for dataset in source.datasets]
    instances = sorted({str(dataset.SOPInstanceUID) for dataset in evidence})
    frames = [f"{source.frame}" for source in sources]
    kind = Comprehensive3DSR if items and not regions else ComprehensiveSR
    return kind(
        evidence=list({str(each.SOPInstanceUID): each for each in evidence}.values()),
        content=content[0],
        series_instance_uid=author.uid("series", "report", author.quirk or "", *instances),
        series_number=SERIES_NUMBER,
        sop_instance_uid=author.uid("report", author.quirk or "", *instances, *frames),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description=f"{author.name} (not for diagnosis)",
        contributing_equipment=[author.equipment()],
    )


def region(
    author: Author,
    source: Source,
    dataset: Dataset,
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
        dataset: of the image, or of the slice, in which the rectangle lies.
        box: (row, column, row, column) from corner to corner, 0 being the edge of the first pixel, as SCOORD counts.
        finding: what is there.
        name: of the group, that no other of this report has.
        measurements: with their units.
        evaluations: in words.
    """
    top, left, bottom, right = box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], np.float64)
    frames = [source.frame + 1] if source.frame is not None and int(dataset.get("NumberOfFrames") or 1) > 1 else None
    image = SourceImageForRegion(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), frames)
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


def probability(author: Author, value: float) -> Measurement:
    """A calibrated probability as a measurement of a group."""
    return Measurement(concept("probability"), round(value, 6), concept("no units"), algorithm_id=author.algorithm())


def found(name: CodedConcept, value: CodedConcept, details: Sequence[Dataset]) -> CodeContentItem:
    """A finding of a whole image, with its numbers and words below it."""
    item = CodeContentItem(name=name, value=value, relationship_type=RelationshipTypeValues.CONTAINS)
    if details:
        item.ContentSequence = DicomSequence(details)
    return item


def number(name: CodedConcept, value: float, unit: CodedConcept) -> NumContentItem:
    """A number below a finding."""
    return NumContentItem(name=name, value=round(value, 6), unit=unit, relationship_type=PROPERTY)


def text(name: CodedConcept, value: str) -> TextContentItem:
    """Words below a finding."""
    return TextContentItem(name=name, value=value, relationship_type=PROPERTY)


PROPERTY = RelationshipTypeValues.HAS_PROPERTIES
_PLACEHOLDER = TrackingIdentifier(uid="2.25.1", identifier="placeholder")
