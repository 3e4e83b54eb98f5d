"""How a cohort is loaded: the options of the user, and where a table comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hounsfield.cohorts.cohort import ImageSource
from hounsfield.images import Reference
from hounsfield.progress import Progress, silent
from hounsfield.tasks import Task

# At most this share of the images may be absent or unreadable; they are left out.
MAX_BAD_FRACTION = 0.05
# The word for --sample-column that means the folder of each image.
FOLDER = "folder"
# So many examples are named in a message.
NUM_NAMED = 5


@dataclass(frozen=True)
class Options:
    """What the user chose about the data, beside where it is.

    Attributes:
        images: the folder that holds the images, when it is not the table's own.
        label_columns: the column, or columns, that hold the labels.
        allow_outside: whether paths of a table may lead out of the folder of images.
        exclude: names of folders or files, or patterns, that are left out.
        label_level: which folder of a path is the class, counted from 1.
        image_column: the column of a table that names the images.
        patient_column: the column of a table that names the patients.
        channels: names of the channels of an image, as the names of their files end or as columns of a table hold them.
        sample_column: the column that says which images are judged together; ``folder`` for the folder of an image.
        patient_pattern: a regular expression that finds the patient in the path of an image: its first group, or all.
        positive: the positive one of two labels.
        class_names: a file with the name of each label as the data has it.
        join: further tables, ``FILE`` or ``FILE:KEY``, joined to a table by their keys.
        test_on: ``COLUMN=VALUE``: the rows of a table that are the test split.
        uncertain: what a label of −1 counts as; see ``uncertain.Policy``.
        missing: what an empty label counts as, likewise.
        readers: whose boxes count where several readers marked an image: ``half``, ``all``, or a name.
        labels: the labels that are expected, in class order, for example those of a trained network.
        task: the task that is expected.
        progress: receives reports on headers and downloads.
    """

    images: Path | None = None
    label_columns: tuple[str, ...] = ()
    allow_outside: bool = False
    exclude: tuple[str, ...] = ()
    label_level: int | None = None
    image_column: str | None = None
    patient_column: str | None = None
    channels: tuple[str, ...] = ()
    sample_column: str | None = None
    patient_pattern: str | None = None
    positive: str | None = None
    class_names: Path | None = None
    join: tuple[str, ...] = ()
    test_on: str | None = None
    uncertain: str | None = None
    missing: str | None = None
    readers: str | None = None
    labels: tuple[str, ...] = ()
    task: Task | None = None
    progress: Progress = silent

    @property
    def every_label(self) -> bool:
        """Whether an image takes the labels of all its rows."""
        return self.task == "multi-label"


@dataclass(frozen=True)
class Origin:
    """Where a table comes from.

    Attributes:
        source: reads its references.
        kind: the kind of data.
        name: a short name.
        where: the same for messages, for example ``the table index.csv``.
        places: text → reference of images that are not whole files.
    """

    source: ImageSource
    kind: str
    name: str
    where: str
    places: Mapping[str, Reference] = field(default_factory=dict)
