"""The folder that one training writes: where each file is, and how it is written without ever being half there."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Self

import pandas as pd

from hounsfield import folder_lock
from hounsfield.atomic import is_temporary, make_private, remove_leftovers, remove_tree, replacing, write_json
from hounsfield.errors import RunError
from hounsfield.hardware import Hardware
from hounsfield.runs import manifest
from hounsfield.runs.log import append_event, readable_lines
from hounsfield.textfiles import parse_json, read_text
from hounsfield.version import __version__

RECORDED_PACKAGES = (
    "jax",
    "keras",
    "nibabel",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pydicom",
    "scikit-learn",
    "scipy",
    "simpleitk",
    "tensorflow",
    "tensorflow-cpu",
    "torch",
)


class RunFolder:
    """Paths and writers of a run folder; see design "A run folder".

    Args:
        path: of the folder.
        made: the folders that were made for this run, innermost first.
    """

    def __init__(self, path: Path, *, made: Sequence[Path] = ()) -> None:
        self.path = path
        self._made = made
        self.plan = path / "plan.yaml"
        self.cohort = path / "cohort.parquet"
        self.boxes = path / "boxes.parquet"
        self.history = path / "history.csv"
        self.log = path / "log.jsonl"
        self.environment = path / "environment.json"
        self.bundle = path / "bundle"
        self.metrics = path / "metrics.json"
        self.predictions = path / "predictions.csv"
        self.figures = path / "figures"
        self.tensorboard = path / "tensorboard"
        self.wandb = path / "wandb"
        self.tracking = path / "tracking.json"
        self.checkpoints = path / "checkpoints"

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new run folder.

        Raises:
            RunError: the folder exists and is not empty.
        """
        folder = cls(path, made=[place for place in (path, *path.parents) if not place.exists()])
        if path.exists() and not (path / folder_lock.NAME).exists():
            folder.require_new()
        # A run holds identifiers of patients: see docs/privacy.md.
        with folder.removed_if_empty():
            make_private(path)
        return folder

    def require_new(self) -> None:
        """Refuse a folder that holds anything but its lock.

        Raises:
            RunError: it does, or is no folder.
        """
        if not self.path.is_dir() or any(path.name != folder_lock.NAME for path in self.path.iterdir()):
            raise RunError(
                f"The run folder {self.path} exists already and is not empty; nothing in it was changed. Choose "
                f"another with --out, or continue an unfinished run with --resume {self.path}."
            )

    @contextmanager
    def removed_if_empty(self) -> Iterator[None]:
        """Where a block fails, remove the folders that were made for this run, as far as nothing is in them."""
        try:
            yield
        except BaseException:
            with suppress(OSError):
                for place in filter(Path.exists, self._made):
                    place.rmdir()
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process from writing into this run, and remove what one that died left half-written.

        Raises:
            RunError: another process holds the lock; see ``folder_lock.locked``.
        """
        with folder_lock.locked(self.path):
            remove_leftovers(self.path)
            yield

    def reopen(self) -> None:
        """Make a run that was killed ready to be continued: what is half-written goes."""
        for place in (self.checkpoints, self.figures):
            remove_leftovers(place)
        # It is written anew at the end; until then files change.
        (self.path / manifest.NAME).unlink(missing_ok=True)
        content = self.log.read_bytes() if self.log.is_file() else b""
        if (kept := readable_lines(content)) != content:
            with replacing(self.log) as temporary:
                temporary.write_bytes(kept)

    @property
    def finished(self) -> bool:
        """Whether the training came to its end, and all was written."""
        return self.metrics.is_file() and not self.checkpoints.is_dir()

    def seconds_in_epochs(self) -> float:
        """What the epochs took so far: of a run that is resumed, those before."""
        return float(pd.read_csv(self.history)["seconds"].sum()) if self.history.is_file() else 0.0

    def discard(self) -> None:
        """Remove what a new run folder holds: nothing was trained in it."""
        for path in self.path.iterdir():
            remove_tree(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Find an existing run folder.

        Raises:
            RunError: it is not there, or holds no plan.
        """
        folder = cls(path)
        if path.is_dir() and not folder.environment.is_file() and (names := _begun(path)):
            raise RunError(
                f"The run {path} was killed before its training began: it holds nothing but {', '.join(names)}, so "
                "there is nothing to continue. Remove the folder, and begin anew with 'hounsfield train DATA --out "
                f"{path}'."
            )
        if not folder.plan.is_file() or not folder.environment.is_file():
            raise RunError(
                f"{path} is no run folder: plan.yaml and environment.json were expected in it. Give the folder that "
                "'hounsfield train' wrote."
            )
        return folder

    def record(self, event: str, **facts: Any) -> None:
        """Append one line to the log."""
        append_event(self.log, event, **facts)

    def record_data(self, notes: Iterable[str], left_out: Sequence[str]) -> None:
        """Log what was decided about the data, and the images that could not be read and were left out."""
        for note in notes:
            self.record("note", text=note)
        if left_out:
            self.record("left out", images=list(left_out))

    def write_cohort(self, table: pd.DataFrame, boxes: pd.DataFrame | None) -> None:
        """Write the table of samples and, of a cohort with boxes, the table of boxes."""
        for path, content in ((self.cohort, table), (self.boxes, boxes)):
            if content is not None:
                with replacing(path) as temporary:
                    content.to_parquet(temporary)

    def write_environment(
        self,
        data: dict[str, Any],
        *,
        backend: str,
        hardware: Hardware,
        tracking: dict[str, Any] | None = None,
        sealed: bool = False,
    ) -> None:
        """Write where the data came from, on what the training runs, who follows it, and whether its test is sealed."""
        packages = {
            name: found.version
            for found in distributions()
            if (name := (found.name or "").lower()) in RECORDED_PACKAGES
        }
        facts = {
            "data": data,
            "hounsfield": __version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "backend": backend,
            "packages": dict(sorted(packages.items())),
            "cores": hardware.cores,
            "memory_bytes": hardware.memory,
            "accelerators": hardware.accelerators,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "tracking": tracking or {},
            "sealed": sealed,
        }
        write_json(self.environment, facts)

    def read_environment(self) -> dict[str, Any]:
        """What :meth:`write_environment` wrote.

        Raises:
            RunError: the file is damaged.
        """
        try:
            environment: dict[str, Any] = parse_json(read_text(self.environment))
        except ValueError as error:
            raise RunError(
                f"{self.environment} is damaged ({error}): it was expected to say which data the run is trained on. "
                "Restore it, or begin a new run."
            ) from error
        return environment

    def write_history(self, records: list[dict[str, Any]]) -> None:
        """Write one row an epoch and member."""
        with replacing(self.history) as temporary:
            pd.DataFrame(records).to_csv(temporary, index=False)


def run_of(path: Path) -> Path:
    """The run that a bundle lies in, where it is named by its ``bundle`` folder; any other path as it is."""
    real = path.resolve()
    return real.parent if real.name == "bundle" and (real.parent / "environment.json").is_file() else path


def _begun(path: Path) -> list[str]:
    """The files of a run that was killed before ``environment.json``, the last that it needs to be continued."""
    names = sorted(found.name for found in path.iterdir() if not is_temporary(found) and found.name != folder_lock.NAME)
    return names if set(names) <= {"plan.yaml", "cohort.parquet", "boxes.parquet"} else []
