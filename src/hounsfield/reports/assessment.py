"""Writes the outcome of a test: ``metrics.json`` and its figures."""

from __future__ import annotations

from pathlib import Path

from hounsfield.atomic import write_json
from hounsfield.evaluation.assessment import Assessment
from hounsfield.evaluation.detection import DetectionAssessment
from hounsfield.reports.base import Read
from hounsfield.reports.figures import save_figure
from hounsfield.reports.table import PAGES


def write_assessment(
    assessment: Assessment | DetectionAssessment, folder: Path | str, *, read: Read | None = None
) -> list[Path]:
    """Write ``metrics.json`` and the figures as PNG into a folder, and return what was written.

    Args:
        assessment: the test.
        folder: made when it is not there.
        read: gives the image of a number, for figures of the worst images; without it there are none.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "metrics.json"]
    write_json(written[0], assessment.to_dict())
    for name, figure in PAGES[assessment.family].figures(assessment, read).items():
        written.append(folder / f"{name}.png")
        save_figure(figure, written[-1])
    return written
