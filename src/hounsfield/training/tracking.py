"""Where the figures of each epoch go beside the run folder: TensorBoard, where it is installed."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any, Protocol

from hounsfield.errors import require

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """Follows a training from outside."""

    def log(self, network: str, record: dict[str, Any]) -> None:
        """Take the figures of one epoch.

        Args:
            network: such as "member1".
            record: figure → value, and "epoch", from 1.
        """


class TensorBoardTracker:
    """Writes the figures of each epoch as scalars, into one folder per network.

    Args:
        folder: of the event files, made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, network: str, record: dict[str, Any]) -> None:
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


class NoTracker:
    """Follows nothing."""

    def log(self, network: str, record: dict[str, Any]) -> None:
        """Drop the figures; see ``Tracker``."""


def open_tracker(folder: Path) -> Tracker:
    """The tracker of a run.

    Args:
        folder: for its files.
    """
    if importlib.util.find_spec("tensorboard") is None:
        logger.info("TensorBoard is not installed: history.csv holds the learning curves.")
        return NoTracker()
    return TensorBoardTracker(folder)
