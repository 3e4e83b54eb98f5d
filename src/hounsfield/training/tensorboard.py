"""Learning curves for TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

from hounsfield.errors import require

logger = logging.getLogger(__name__)


class ScalarLog:
    """Writes the numbers of each epoch as scalars, one sub-folder a network.

    Args:
        folder: of the event files; not made where TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._available = importlib.util.find_spec("tensorboard") is not None
        if not self._available:
            logger.info("TensorBoard is not installed: history.csv holds the learning curves.")

    def write(self, member: int, record: dict[str, Any]) -> None:
        """Write one epoch's record."""
        if not self._available:
            return
        writers = require("tensorboard.summary.writer.event_file_writer", "the TensorBoard log")
        summary = require("tensorboard.compat.proto.summary_pb2", "the TensorBoard log")
        event = require("tensorboard.compat.proto.event_pb2", "the TensorBoard log")
        writer = writers.EventFileWriter(str(self._folder / f"member{member}"))
        values = [
            summary.Summary.Value(tag=name, simple_value=value) for name, value in record.items() if name != "epoch"
        ]
        writer.add_event(event.Event(step=record["epoch"], summary=summary.Summary(value=values)))
        writer.close()
