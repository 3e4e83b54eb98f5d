"""``tracking.json`` of a run: under which id each tracker knows it, so that a resumed training goes on there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hounsfield.atomic import write_json
from hounsfield.textfiles import parse_json, read_text


class Memory:
    """The id of one tracker's run.

    Args:
        path: of the file.
        name: of the tracker, as the user gave it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name

    def recall(self) -> str:
        """The id, or an empty text."""
        return str(self._known().get(self._name, ""))

    def keep(self, identity: str) -> None:
        """Write the id down."""
        if identity != self.recall():
            write_json(self._path, self._known() | {self._name: identity})

    def _known(self) -> dict[str, Any]:
        return dict(parse_json(read_text(self._path))) if self._path.is_file() else {}
