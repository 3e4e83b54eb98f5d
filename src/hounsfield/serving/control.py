"""How a terminal reaches a service that runs, and which runs it serves after a swap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hounsfield.atomic import write_json
from hounsfield.errors import RunError, ServingError
from hounsfield.folder_lock import locked
from hounsfield.serving.calls import Caller
from hounsfield.serving.settings import ServeSettings
from hounsfield.textfiles import parse_json, read_text

CONTROL = "control.json"
SWAPPED = "swapped.json"


class ServedRuns:
    """The run of each model: that of the settings, or the one that it was swapped for since.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._path = settings.folder / SWAPPED
        self._configured = {model.name: model.run for model in settings.models}
        self._saved: dict[str, dict[str, str]] = parse_json(read_text(self._path)) if self._path.exists() else {}
        self._current = dict(self._configured)
        for name, saved in self._saved.items():
            # A run that was changed in the settings since is what is meant.
            if name in self._configured and saved["configured"] == str(self._configured[name]):
                self._current[name] = Path(saved["run"])

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models."""
        return tuple(self._configured)

    def current(self, name: str) -> Path:
        """The run of a model."""
        return self._current[name]

    def previous(self, name: str) -> Path:
        """The run that a model was swapped from.

        Raises:
            ServingError: it was never swapped.
        """
        if name not in self._saved:
            raise ServingError(f"The model '{name}' was never swapped, so there is no run to return to.")
        return Path(self._saved[name]["previous"])

    def set(self, name: str, run: Path) -> None:
        """Let a model have another run, in this process alone."""
        self._current[name] = run

    def save(self, name: str, *, previous: Path) -> None:
        """Keep the run of a model, and the one before it, for the next start."""
        self._saved[name] = {
            "configured": str(self._configured[name]),
            "run": str(self._current[name]),
            "previous": str(previous),
        }
        write_json(self._path, self._saved)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder of a service for the length of a ``with`` block, so that one process writes its records.

    Raises:
        ServingError: another process holds it.
    """
    try:
        with locked(folder):
            yield
    except RunError as error:
        raise ServingError(
            f"Another process writes into {folder}, and two services cannot share it. Stop that one, or choose another "
            "folder with --folder."
        ) from error


def write_control(folder: Path, address: str, secret: bytes) -> None:
    """Leave word of how the service can be reached, for its own user alone."""
    write_json(folder / CONTROL, {"address": address, "secret": secret.hex()})
    (folder / CONTROL).chmod(0o600)


def remove_control(folder: Path) -> None:
    """Take it away again; twice does no harm."""
    (folder / CONTROL).unlink(missing_ok=True)


def find_control(folder: Path) -> Caller | None:
    """Calls the service that runs in a folder; ``None`` where none left word."""
    path = folder / CONTROL
    if not path.exists():
        return None
    found = parse_json(read_text(path))
    return Caller(found["address"], bytes.fromhex(found["secret"]), "The service")
