"""What the user chose about the data: kept in a run, so that it can be found again."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hounsfield.tasks import Task


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
        exclude: names of folders or files, or patterns, that are left out.
        label_level: which folder of a path is the class, counted from 1.
        image_column: the column of a table that names the images.
        patient_column: the column of a table that names the patients.
        patient_pattern: a regular expression that finds the patient in the path of an image.
        positive: the positive one of two labels.
        class_names: a file with a name for each label.
        join: further tables, ``FILE`` or ``FILE:KEY``, joined to a table by their keys.
        test_on: ``COLUMN=VALUE``: the rows of a table that are the test split.
        uncertain: what a label of −1 counts as: ignore, positive, negative or class.
        missing: what an empty label counts as: ignore or negative.
        readers: whose boxes count: half, all, or the name of one reader.
        task: what a column of numbers holds, where it could be several things.
    """

    data: str
    kind: str | None = None
    images: str | None = None
    label_columns: tuple[str, ...] = ()
    allow_outside: bool = False
    drop_leaks: bool = False
    allow_leaks: bool = False
    exclude: tuple[str, ...] = ()
    label_level: int | None = None
    image_column: str | None = None
    patient_column: str | None = None
    patient_pattern: str | None = None
    positive: str | None = None
    class_names: str | None = None
    join: tuple[str, ...] = ()
    test_on: str | None = None
    uncertain: str | None = None
    missing: str | None = None
    readers: str | None = None
    task: Task | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a path is made absolute, so that a run can be continued from anywhere."""
        values = asdict(self)
        values["data"] = ",".join(_absolute(part) for part in _parts(self.data))
        values["join"] = [_absolute_table(one) for one in self.join]
        for name in PATHS:
            values[name] = _absolute(values[name]) if values[name] else None
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataRequest:
        """The inverse of :meth:`to_dict`; runs of earlier versions lack the options that came later."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)

    def command_line(self) -> str:
        """DATA and its options as a shell takes them."""
        words = [self.data]
        for name, value in list(asdict(self).items())[1:]:
            option = "--" + OPTION_NAMES.get(name, name).replace("_", "-")
            values = value if isinstance(value, tuple) else (value,) if value else ()
            words += [option] if value is True else [word for one in values for word in (option, str(one))]
        return shlex.join(words)


# Attributes that are paths, and options that are called otherwise than their attributes.
PATHS = ("images", "class_names")
OPTION_NAMES = {"label_columns": "label_column"}
READING = tuple(
    field.name
    for field in fields(DataRequest)
    if field.name not in {"data", "images", "drop_leaks", "allow_leaks", "class_names", "task"}
)


def _parts(data: str) -> list[str]:
    """The two paths of ``IMAGES.npy,LABELS.npy``; DATA itself otherwise."""
    parts = data.split(",")
    return parts if not Path(data).exists() and all(Path(part).exists() for part in parts) else [data]


def _absolute_table(text: str) -> str:
    """``FILE`` or ``FILE:KEY`` with the absolute path of a file that is found from here."""
    path, colon, key = text.rpartition(":")
    return _absolute(text) if Path(text).exists() or not colon else f"{_absolute(path)}:{key}"


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path
