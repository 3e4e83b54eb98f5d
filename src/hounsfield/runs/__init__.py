"""What a training wrote: its folder, and the record that reports read."""

from hounsfield.runs.base import RunRecord
from hounsfield.runs.boxes import BoxRun
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.labels import LabelRun
from hounsfield.runs.record import RUNS, read_addition, read_run

__all__ = ["RUNS", "BoxRun", "LabelRun", "RunFolder", "RunRecord", "read_addition", "read_run"]
