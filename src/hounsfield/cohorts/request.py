"""What the user said about the data: kept in a run, so that it can be found again."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class DataRequest:
    """DATA and the options that say how to read it.

    Attributes:
        data: a path or a name, as ``load_cohort`` takes it.
        kind: forces the kind of source.
        images: folder of the images, where a table lies elsewhere.
        label_columns: the label columns of a table.
        allow_outside: whether paths of a table may lead out of its folder.
        drop_leaks: leave out the training side of a leak into test.
        allow_leaks: train all the same.
    """

    data: str
    kind: str | None = None
    images: str | None = None
    label_columns: tuple[str, ...] = ()
    allow_outside: bool = False
    drop_leaks: bool = False
    allow_leaks: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a path is made absolute, so that a run can be continued from anywhere."""
        values = asdict(self)
        values["data"] = ",".join(_absolute(part) for part in _parts(self.data))
        values["images"] = _absolute(self.images) if self.images else None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataRequest:
        """The inverse of :meth:`to_dict`."""
        return cls(**(values | {"label_columns": tuple(values["label_columns"])}))

    def command_line(self) -> str:
        """DATA and its options as a shell takes them."""
        options = {"--kind": self.kind, "--images": self.images}
        words = [self.data, *(word for name, value in options.items() if value for word in (name, value))]
        words += [word for column in self.label_columns for word in ("--label-column", column)]
        switches = {"--allow-outside": self.allow_outside, "--drop-leaks": self.drop_leaks}
        switches["--allow-leaks"] = self.allow_leaks
        return shlex.join([*words, *(name for name, wanted in switches.items() if wanted)])


def _parts(data: str) -> list[str]:
    """The two paths of ``IMAGES.npy,LABELS.npy``; DATA itself otherwise."""
    parts = data.split(",")
    return parts if not Path(data).exists() and all(Path(part).exists() for part in parts) else [data]


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path
