"""What a training wrote: its folder, and the record that reports read."""

from hounsfield.runs.base import RunRecord
from hounsfield.runs.boxes import BoxRun
from hounsfield.runs.folder import RunFolder
from hounsfield.runs.labels import LabelRun
from hounsfield.runs.masks import MaskRun
from hounsfield.runs.record import RUNS, read_addition, read_run
from hounsfield.runs.values import ValueRun

__all__ = ["RUNS", "BoxRun", "LabelRun", "MaskRun", "RunFolder", "RunRecord", "ValueRun", "read_addition", "read_run"]
