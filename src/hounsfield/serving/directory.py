"""Which models are served at the moment, and where: a small file that every process reads again when it changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hounsfield.atomic import write_json
from hounsfield.errors import ServingError
from hounsfield.textfiles import parse_json, read_text


@dataclass(frozen=True)
class Served:
    """A model that answers.

    Attributes:
        name: of the model.
        run: folder of its run or bundle.
        address: of its process's socket.
        info: of its predictor, with ``bundle`` (its identity) and ``modality``.
    """

    name: str
    run: str
    address: str
    info: dict[str, Any]


class Directory:
    """The models that are served.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._models: dict[str, Served] = {}

    def publish(self, models: list[Served]) -> None:
        """Replace the whole directory at once."""
        write_json(self._path, [asdict(model) for model in models])

    def all(self) -> dict[str, Served]:
        """Name → model, as it stands now."""
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            values = parse_json(read_text(self._path))
            self._models, self._stamp = {value["name"]: Served(**value) for value in values}, stamp
        return self._models

    def find(self, name: str) -> Served:
        """One model.

        Raises:
            ServingError: no model has this name.
        """
        models = self.all()
        if name not in models:
            raise ServingError(f"There is no model '{name}': expected one of {', '.join(models)}.")
        return models[name]
