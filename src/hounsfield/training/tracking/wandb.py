"""Weights & Biases: settings and figures; no model, no code, nothing of this machine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hounsfield.errors import RunError, require
from hounsfield.training.tracking.base import Ending, Setting
from hounsfield.training.tracking.memory import Memory

PROJECT = "hounsfield"
# Seconds for the first answer of the server.
TIMEOUT = 30


class WandbTracker:
    """Logs into a project, or into files where WANDB_MODE is "offline"; see ``Tracker``.

    Args:
        project: "PROJECT" or "ENTITY/PROJECT"; where empty, "hounsfield".
        memory: of the run's id, so that a training that is resumed goes on in the same run.
        folder: for the files that the package writes.
    """

    def __init__(self, project: str, memory: Memory, folder: Path) -> None:
        self._entity, _, self._project = (project or PROJECT).rpartition("/")
        self._memory, self._folder = memory, folder
        self._settings: Mapping[str, Setting] = {}
        self._run: Any = None

    def begin(self, settings: Mapping[str, Setting]) -> None:
        """Begin a run; see ``Tracker``."""
        self._settings = settings
        self._open()

    def log(self, network: str, record: Mapping[str, Any]) -> None:
        """Log one epoch; the figures of a network have its epoch as their axis; see ``Tracker``."""
        self._open()
        self._run.define_metric(f"{network}/epoch")
        self._run.define_metric(f"{network}/*", step_metric=f"{network}/epoch")
        self._run.log({f"{network}/{name}": value for name, value in record.items()})

    def end(self, ending: Ending) -> None:
        """Write the metrics into the summary; see ``Tracker``."""
        self._open()
        self._run.summary.update(dict(ending.metrics))

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))

    def _open(self) -> None:
        if self._run is not None:
            return
        wandb = wandb_package()
        offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
        if not offline and not wandb.api.api_key:
            # The package would ask for it on the terminal, in the midst of the training.
            raise RunError(
                "no key of Weights & Biases was found: log in once with 'wandb login', set WANDB_API_KEY, or "
                "WANDB_MODE=offline"
            )
        self._folder.mkdir(exist_ok=True)
        identity = self._memory.recall() or uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=self._project,
            entity=self._entity or None,
            id=identity,
            resume="allow",
            dir=str(self._folder),
            config=dict(self._settings),
            settings=_private(wandb),
        )
        self._memory.keep(identity)


def wandb_package() -> Any:
    """The package, which sends no reports of errors to its makers unless the user has set so.

    Raises:
        MissingDependency: it is not installed.
    """
    # Such a report would hold the error's text and values of its frames. Read when the package is imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    return require("wandb", "--track wandb")


def _private(wandb: Any) -> Any:
    """Settings under which nothing is sent but what is logged: no command, path, console, code, host or load."""
    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        init_timeout=TIMEOUT,
        program="hounsfield",
        save_code=False,
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
