"""A trial of Ray Tune in the process of its actor; nothing of a backend is imported before its settings are there."""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hounsfield.distributed.worker import THREADS
from hounsfield.errors import require


class TrialCall(NamedTuple):
    """What every trial calls.

    Attributes:
        function: ``module:name``; it is given the argument, the values of the trial, and what its figures are told.
        environment: variables that are set before its module is imported.
        folder: from which relative paths count, where the machine has it.
        cores: that a trial may use.
    """

    function: str
    environment: Mapping[str, str]
    folder: str
    cores: int = 1


def run_trial(values: dict[str, Any], call: TrialCall, argument: bytes) -> None:
    """Run one trial, as Ray Tune calls it.

    Args:
        values: of the trial.
        call: what is called.
        argument: packed, the same for all trials.
    """
    os.environ.update(dict.fromkeys(THREADS, str(call.cores)) | dict(call.environment))
    if Path(call.folder).is_dir():
        os.chdir(call.folder)
    report: Callable[[dict[str, Any]], None] = require("ray.tune", "tuning on a Ray cluster").report
    module, _, name = call.function.partition(":")
    # Packed by the command, and sent over the cluster that it trusts.
    getattr(importlib.import_module(module), name)(pickle.loads(argument), values, report)  # noqa: S301
