"""``hounsfield predict --dicom-results``: predictions as DICOM objects."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hounsfield.bundle import Bundle
from hounsfield.cli.console import say
from hounsfield.dicom_results import KINDS, OBJECTS, USUAL, Code, read_codes, write_results
from hounsfield.errors import UsageError
from hounsfield.images import Reference, image_files
from hounsfield.images.reading import READERS, format_suffix
from hounsfield.inference import BasePrediction
from hounsfield.tasks import MODEL_NAMES

_NO_FEATURES = np.empty(0, np.float32)


def check_kinds(asked: Sequence[str] | None, bundle: Bundle) -> tuple[str, ...]:
    """The kinds of objects to make.

    Raises:
        UsageError: there is no such kind, or the bundle's family has no such objects.
    """
    made = tuple(OBJECTS[bundle.family])
    for kind in asked or ():
        if kind not in KINDS:
            raise UsageError(f"--dicom-kind is '{kind}': expected one of {', '.join(KINDS)}.")
        if kind not in made:
            raise UsageError(
                f"--dicom-kind is '{kind}', and a {MODEL_NAMES[bundle.family]} makes: {', '.join(made)}. "
                "Choose of these."
            )
    return tuple(asked or USUAL)


def check_sources(inputs: Iterable[str]) -> None:
    """Refuse inputs that are not in DICOM form.

    Raises:
        UsageError: a file is of another format.
    """
    for name in inputs:
        path = Path(Reference.parse(name).path)
        files = image_files(path) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and READERS.get(format_suffix(file) or "") != READERS[".dcm"]:
                raise UsageError(
                    f"{file} is no DICOM file, and DICOM results refer to the DICOM images they were made of. Give "
                    "DICOM files alone, or leave out --dicom-results."
                )


@dataclass
class Objects:
    """Takes note of predictions, and writes objects of them at the end.

    Attributes:
        bundle: that predicts.
        folder: for the objects; made where it is not there.
        kinds: of objects.
        codes: of the labels.
        options: of the predictor.
        predictions: so far, without their features.
    """

    bundle: Bundle
    folder: Path
    kinds: tuple[str, ...]
    options: Mapping[str, object] = field(default_factory=dict)
    predictions: list[BasePrediction] = field(default_factory=list)
    codes: dict[str, Code] = field(init=False)

    def __post_init__(self) -> None:
        self.codes = read_codes(self.bundle)

    def __call__(self, predictions: Iterator[BasePrediction]) -> Iterator[BasePrediction]:
        """The same predictions, taken note of."""
        for prediction in predictions:
            self.predictions.append(replace(prediction, features=_NO_FEATURES))
            yield prediction

    def write(self) -> None:
        """Write the objects, and say how many."""
        self.folder.mkdir(parents=True, exist_ok=True)
        written = write_results(
            self.predictions,
            self.bundle,
            self.folder,
            kinds=self.kinds,
            codes=self.codes,
            options=self.options,
        )
        for kind, group in itertools.groupby(sorted(each.kind for each in written)):
            say(f"{len(list(group)):,} of kind {kind} in {self.folder}")
