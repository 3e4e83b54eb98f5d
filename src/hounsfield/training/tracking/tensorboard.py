"""TensorBoard: the figures of each epoch as scalars in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import require
from hounsfield.training.tracking.base import Ending, Setting


class TensorBoardTracker:
    """Writes the figures of each epoch as scalars, into one folder per network.

    Args:
        folder: of the event files, made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """Nothing is kept of the settings, which are in the plan beside; see ``Tracker``."""

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """Write one epoch's figures; see ``Tracker``."""
        writers = require("tensorboard.summary.writer.event_file_writer", "the TensorBoard log")
        summary = require("tensorboard.compat.proto.summary_pb2", "the TensorBoard log")
        event = require("tensorboard.compat.proto.event_pb2", "the TensorBoard log")
        writer = writers.EventFileWriter(str(self._folder / network))
        values = [
            summary.Summary.Value(tag=name, simple_value=value) for name, value in record.items() if name != "epoch"
        ]
        writer.add_event(event.Event(step=record["epoch"], summary=summary.Summary(value=values)))
        writer.close()

    def end(self, ending: Ending) -> None:
        """Nothing is kept of the metrics, which are in the report beside; see ``Tracker``."""

    def close(self, *, failed: bool) -> None:
        """Every record is on the disk already; see ``Tracker``."""
