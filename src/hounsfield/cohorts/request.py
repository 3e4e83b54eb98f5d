"""What the user chose about the data: kept in a run, so that it can be found again."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import UsageError
from hounsfield.images.settings import (
    LEVEL_VARIABLE,
    MAX_PIXELS_VARIABLE,
    UNEVEN_VARIABLE,
    VOLUME_VARIABLE,
    current_settings,
    setting,
)
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
        channels: names of the channels of an image, as the names of their files end or as columns of a table hold them.
        sample_column: the column that says which images are judged together.
        patient_pattern: a regular expression that finds the patient in the path of an image.
        positive: the positive one of two labels.
        class_names: a file with a name for each label.
        join: further tables, ``FILE`` or ``FILE:KEY``, joined to a table by their keys.
        test_on: ``COLUMN=VALUE``: the rows of a table that are the test split.
        uncertain: what a label of −1 counts as: ignore, positive, negative or class.
        missing: what an empty label counts as: ignore or negative.
        readers: whose boxes count: half, all, or the name of one reader.
        task: what a column of numbers holds, where it could be several things.
        volume: which volume of files that hold several.
        level: which level of whole slides.
        uneven: what is done with unevenly spaced slices.
        max_pixels: the most values of an image, which also decides on the level of a slide where none is chosen.
        extend: the folder of a run, to whose data these are added; see ``cohorts.extension``.
        unlabelled: all images below the folder DATA are taken, and no labels are read.
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
    channels: tuple[str, ...] = ()
    sample_column: str | None = None
    patient_pattern: str | None = None
    positive: str | None = None
    class_names: str | None = None
    join: tuple[str, ...] = ()
    test_on: str | None = None
    uncertain: str | None = None
    missing: str | None = None
    readers: str | None = None
    task: Task | None = None
    volume: int | None = None
    level: int | None = None
    uneven: str | None = None
    max_pixels: int | None = None
    extend: str | None = None
    unlabelled: bool = False

    def with_settings(self) -> DataRequest:
        """The same request, with the settings that hold now for what it leaves open.

        Raises:
            UsageError: one of them is no number.
        """
        known = current_settings()
        open_ones = [name for name, variable in SETTINGS.items() if known[variable] and getattr(self, name) is None]
        texts = {name: known[SETTINGS[name]] for name in open_ones}
        found: dict[str, Any] = {}
        for name, text in texts.items():
            found[name] = text if name == "uneven" else _number(name, text)
        return replace(self, **found)

    def read_as(self, other: DataRequest) -> DataRequest:
        """The same request, with the settings of another one for what it leaves open."""
        return replace(self, **{name: getattr(other, name) for name in SETTINGS if getattr(self, name) is None})

    def settings(self) -> dict[str, str]:
        """Variable of the environment → what the request says instead of it.

        Raises:
            UsageError: both say something, and not the same.
        """
        said = {name: str(value) for name in SETTINGS if (value := getattr(self, name)) is not None}
        for name, text in said.items():
            given = setting(SETTINGS[name])
            if given and given != text:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{option} {given} was given, and the run was trained on its data as read with {option} {text}: "
                    f"other images are not those that it is to be tested on. Leave {option} out."
                )
        return {SETTINGS[name]: text for name, text in said.items()}

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
            values = value if isinstance(value, tuple) else () if value is None or value is False else (value,)
            words += [option] if value is True else [word for one in values for word in (option, str(one))]
        return shlex.join(words)


# Attributes that are paths, and options that are called otherwise than their attributes.
PATHS = ("images", "class_names", "extend")
OPTION_NAMES = {"label_columns": "label_column"}
# Attributes that are settings of reading (``images.settings``), and their variables.
SETTINGS = {
    "volume": VOLUME_VARIABLE,
    "level": LEVEL_VARIABLE,
    "uneven": UNEVEN_VARIABLE,
    "max_pixels": MAX_PIXELS_VARIABLE,
}
READING = tuple(
    field.name
    for field in fields(DataRequest)
    if field.name
    not in {*("data", "images", "drop_leaks", "allow_leaks", "class_names", "task", "extend", "unlabelled"), *SETTINGS}
)


def _number(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"The environment variable {SETTINGS[name]} is '{text}': expected a number.")
    return int(text)


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
