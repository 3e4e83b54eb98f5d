"""The part of ``hounsfield predict`` on detectors: tables of boxes, counts, and pictures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hounsfield.cli.console import check_folder, picture_name, print_json, progress_bars, say
from hounsfield.cli.results import conclude, good_results, reasons
from hounsfield.progress import silent

if TYPE_CHECKING:
    from hounsfield.bundle import Bundle
    from hounsfield.images import Image
    from hounsfield.inference import BadImage, DetectionPrediction, Detector
    from hounsfield.inference.detection_tables import CountTable

LONGEST_TITLE = 110  # characters


@dataclass(frozen=True)
class DetectionOutputs:
    """What is wanted: a table of findings, a folder of pictures, a table of counts, JSON on standard output."""

    table: Path | None
    pictures: Path | None
    counts: Path | None
    as_json: bool


@dataclass
class Tally:
    """What went through: images, findings, rows of counts where they are wanted, and bad images."""

    table: CountTable
    keeps_counts: bool
    images: int = 0
    findings: int = 0
    counts: list[dict[str, Any]] = field(default_factory=list)
    bad: list[BadImage] = field(default_factory=list)

    def counted(self, predictions: Iterator[DetectionPrediction]) -> Iterator[DetectionPrediction]:
        """The same predictions, taken note of."""
        for prediction in predictions:
            self.images += 1
            self.findings += len(prediction.labels)
            if self.keeps_counts:
                self.counts.append(self.table.row(prediction))
            yield prediction


def detect(
    bundle: Bundle, inputs: list[str], outputs: DetectionOutputs, *, threshold: float | None, engine: str
) -> None:
    """Find objects in images, and write what is wanted.

    Raises:
        UsageError: an output could not be written.
        ImageError: there was a bad image.
    """
    from hounsfield.inference import Detector
    from hounsfield.inference.detection_tables import CountTable
    from hounsfield.inference.tables import write_table

    _check(outputs)
    detector = Detector(bundle, engine, threshold=threshold)
    say(f"Engine: {detector.engine.description}")
    prints_json = outputs.as_json and outputs.table is None
    tally = Tally(CountTable(bundle, detector.threshold), keeps_counts=prints_json or outputs.counts is not None)
    if outputs.counts is not None and not tally.table.has_intervals:
        say("The counts have no intervals: these need the bundle's own threshold, and counts of validation images.")
    pictures = Pictures(outputs.pictures, bundle.labels) if outputs.pictures is not None else None
    if outputs.table is None:
        stream = good_results(detector.stream(inputs, progress=silent, viewer=pictures), tally.bad)
        _print(detector, tally, stream, as_json=outputs.as_json)
    else:
        with progress_bars() as bars:
            stream = good_results(detector.stream(inputs, progress=bars, viewer=pictures), tally.bad)
            _write(detector, tally.counted(stream), outputs.table)
        if outputs.as_json:
            print_json(_summary(detector, tally) | {"file": str(outputs.table)})
    if outputs.counts is not None:
        write_table(outputs.counts, tally.table.columns, tally.counts)
    say(f"{tally.findings:,} findings with a score of {detector.threshold:g} or more in {tally.images:,} images")
    conclude(tally.images, tally.bad, None)


def _check(outputs: DetectionOutputs) -> None:
    from hounsfield.inference.tables import check_table_path

    if outputs.counts is not None:
        check_table_path(outputs.counts, (".csv", ".parquet"))
    check_folder(outputs.pictures)


class Pictures:
    """Draws each image with what was found in it into a folder."""

    def __init__(self, folder: Path, labels: tuple[str, ...]) -> None:
        self._folder, self._labels = folder, labels
        self._taken: set[str] = set()
        # Matplotlib draws one picture at a time.
        self._lock = threading.Lock()

    def __call__(self, image: Image, prediction: DetectionPrediction) -> None:
        """Draw one image."""
        import numpy as np

        from hounsfield.reports.figures import save_figure
        from hounsfield.reports.findings import Findings, findings_figure

        classes = np.array([self._labels.index(label) for label in prediction.labels], np.int64)
        found = Findings(prediction.boxes, classes, prediction.scores)
        with self._lock:
            path = self._folder / f"{picture_name(prediction.image, self._taken)}.png"
            figure = findings_figure(image, found, labels=self._labels, title=_short(prediction.image))
            save_figure(figure, path)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_TITLE else f"…{name[-LONGEST_TITLE:]}"


def _print(detector: Detector, tally: Tally, stream: Iterator[DetectionPrediction], *, as_json: bool) -> None:
    from hounsfield.inference.detection_tables import finding_columns, finding_rows
    from hounsfield.inference.tables import write_csv

    rows = (row for prediction in tally.counted(stream) for row in finding_rows(prediction))
    if as_json:
        findings = list(rows)
        print_json(_summary(detector, tally) | {"detections": findings, "counts": tally.counts})
    else:
        write_csv(sys.stdout, finding_columns(len(detector.bundle.input_shape) - 1), rows)


def _write(detector: Detector, stream: Iterator[DetectionPrediction], path: Path) -> None:
    from hounsfield.atomic import write_json
    from hounsfield.inference.detection_tables import coco, finding_columns, finding_rows
    from hounsfield.inference.tables import write_table

    if path.suffix.lower() == ".json":
        write_json(path, coco(stream, detector.bundle.labels))
        return
    rows = (row for prediction in stream for row in finding_rows(prediction))
    write_table(path, finding_columns(len(detector.bundle.input_shape) - 1), rows)


def _summary(detector: Detector, tally: Tally) -> dict[str, Any]:
    return {
        "engine": detector.engine.description,
        "count": tally.images,
        "findings": tally.findings,
        "bad": reasons(tally.bad),
    }
