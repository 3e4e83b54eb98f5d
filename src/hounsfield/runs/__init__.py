"""What a training wrote: its folder, and the record that reports read."""

from hounsfield.runs.folder import RunFolder
from hounsfield.runs.record import ClassifierRun, DetectorRun, RunRecord, read_run

__all__ = ["ClassifierRun", "DetectorRun", "RunFolder", "RunRecord", "read_run"]
