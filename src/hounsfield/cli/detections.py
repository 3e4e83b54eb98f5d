"""The part of ``hounsfield evaluate`` on detection: anyone's findings against the truth, and how it is printed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hounsfield.cli.backend import announce_backend
from hounsfield.cli.console import out, print_json, say
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.evaluation.classification import Estimate
    from hounsfield.evaluation.detection import DetectionAssessment
    from hounsfield.testing.findings import TableTest


def evaluate_detection_run(run: Path, data: str | None, test: TableTest, *, output: Path | None, as_json: bool) -> None:
    """Test the bundle of a detector on its own test images or on other data, and print what that says."""
    from hounsfield.cli.console import progress_bars
    from hounsfield.reports.assessment import write_assessment

    announce_backend()
    from hounsfield.testing import evaluate_run

    with progress_bars() as progress:
        tested = evaluate_run(
            run,
            data,
            progress=progress,
            threshold=test.threshold,
            criterion=test.criterion,
            overlap=test.overlap,
            num_replicates=test.num_replicates,
            seed=test.seed,
            confidence=test.confidence,
        )
    assessment = tested.assessment
    report_detections(assessment, test.confidence, as_json=as_json)
    if output is not None:
        write_assessment(assessment, output, read=tested.read)
        say(f"Metrics and figures: {output}")


def report_detections(assessment: DetectionAssessment, confidence: float, *, as_json: bool = False) -> None:
    """Print what a test of detection says: notes to standard error, figures to standard output."""
    for note in assessment.notes:
        say(note)
    if as_json:
        print_json(assessment.to_dict())
        return
    from rich.table import Table

    from hounsfield.evaluation.detection_titles import detection_title

    table = Table("", "value", f"{confidence:.0%} interval", "n")
    for name, estimate in assessment.estimates.items():
        title = detection_title(name, assessment.detections.labels)
        table.add_row(title, *_cells(estimate), f"{estimate.n:,}")
    out.print(table)


def _cells(estimate: Estimate) -> tuple[str, str]:
    value = f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "–"
    return value, f"{estimate.low:.3f} to {estimate.high:.3f}" if math.isfinite(estimate.low) else "–"


def evaluate_table(found: Path, truth: Path, test: TableTest, *, output: Path | None, as_json: bool) -> None:
    """Judge a list of findings, print the figures, and write them with their pictures where a folder is named.

    Raises:
        UsageError: what is to be judged is a run.
    """
    if found.is_dir():
        raise UsageError(
            f"{found} is a folder, and --truth is for a table of findings. A run knows the truth of its data: "
            "leave the option out, or give the table."
        )
    from hounsfield.testing.findings import evaluate_findings

    assessment = evaluate_findings(found, truth, test)
    report_detections(assessment, test.confidence, as_json=as_json)
    if output is not None:
        from hounsfield.reports.assessment import write_assessment

        for path in write_assessment(assessment, output):
            say(f"wrote {path}")
