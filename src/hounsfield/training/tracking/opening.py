"""From what the user asks for to the trackers of a run."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from hounsfield.errors import UsageError
from hounsfield.runs.folder import RunFolder
from hounsfield.training.tracking.background import InBackground
from hounsfield.training.tracking.base import Ending, Setting, Tracker
from hounsfield.training.tracking.memory import Memory
from hounsfield.training.tracking.mlflow import MLflowTracker, mlflow_package
from hounsfield.training.tracking.tensorboard import TensorBoardTracker
from hounsfield.training.tracking.wandb import WandbTracker, wandb_package

logger = logging.getLogger(__name__)

# A password in an address: it would be kept in the run folder, and shown by every list of processes.
_PASSWORD = re.compile(r"^[^/]*//[^/@]*@")
_MODEL = re.compile(r"[^@:/]+(@[\w.-]+)?")


class Kind(NamedTuple):
    """A kind of tracker: what needs its package, and what opens it from WHERE, a memory, the run and --register."""

    package: Callable[[], Any]
    open: Callable[[str, Memory, RunFolder, str], Tracker]


TRACKERS: dict[str, Kind] = {
    "mlflow": Kind(mlflow_package, lambda where, memory, _, register: MLflowTracker(where, memory, register)),
    "wandb": Kind(wandb_package, lambda where, memory, folder, _: WandbTracker(where, memory, folder.wandb)),
}


def check_tracking(tracks: Sequence[str], register: str | None) -> None:
    """Refuse trackers that cannot be meant, or whose package is missing, before any work is done.

    Args:
        tracks: each "KIND" or "KIND:WHERE".
        register: "NAME" or "NAME@ALIAS" of a model in MLflow's registry.

    Raises:
        UsageError: a tracker is unknown, its address holds a password, or a model is registered without MLflow.
        MissingDependency: a package is not installed.
    """
    kinds = [track.partition(":")[0] for track in tracks]
    for track, kind in zip(tracks, kinds, strict=True):
        if kind not in TRACKERS:
            raise UsageError(
                f"No tracker is called '{kind}'. Expected mlflow:URI, such as mlflow:http://localhost:5000, or "
                "wandb:PROJECT; TensorBoard's files are always written where it is installed."
            )
        if _PASSWORD.match(track.partition(":")[2].partition(":")[2]):
            raise UsageError(
                f"The address of --track {kind} holds a name or a password, which would be kept in the run folder. Set "
                "it as MLFLOW_TRACKING_URI, or as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and give the "
                "address without it, or --track mlflow alone."
            )
    if register is not None and (kinds.count("mlflow") != 1 or not _MODEL.fullmatch(register)):
        raise UsageError(
            f"--register {register} does not name a model of MLflow's registry. Expected NAME or NAME@ALIAS, without "
            "further '@', ':' and '/', and one --track mlflow:URI beside it."
        )
    for kind in dict.fromkeys(kinds):
        TRACKERS[kind].package()


@contextmanager
def tracking(folder: RunFolder, tracks: Sequence[str], register: str | None) -> Iterator[Tracker]:
    """Every tracker of a run as one, closed at the end of the block.

    Args:
        folder: of the run.
        tracks: as checked by :func:`check_tracking`.
        register: likewise.
    """
    trackers: list[Tracker] = []
    if importlib.util.find_spec("tensorboard") is None:
        logger.info("TensorBoard is not installed: history.csv holds the learning curves.")
    else:
        trackers.append(TensorBoardTracker(folder.tensorboard))
    for track in tracks:
        kind, _, where = track.partition(":")
        memory = Memory(folder.tracking, track)
        trackers.append(InBackground(kind, TRACKERS[kind].open(where, memory, folder, register or "")))
    every = Together(trackers)
    try:
        yield every
    except BaseException:
        every.close(failed=True)
        raise
    every.close(failed=False)


class Together:
    """Tells several trackers; see ``Tracker``."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.begin(settings)

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.log(network, record)

    def end(self, ending: Ending) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.end(ending)

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
        for tracker in self._trackers:
            tracker.close(failed=failed)
