"""Where an image came from: a value that travels with it, and the one place that reads it as a person types it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hounsfield.errors import UsageError

# PATH[N], or PATH[N][M]; a name of brackets alone has no path.
# DIR/CASE_{t1,t2}.nii.gz: several files that are the channels of one image.
JOINED = re.compile(r"(?P<before>.*)\{(?P<names>[^{}]*,[^{}]*)\}(?P<after>[^{}]*)", re.DOTALL)
TYPED = re.compile(r"(?P<path>.+?)\[(?P<first>\d{1,9})\](?:\[(?P<second>\d{1,9})\])?", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """The place of an image, and the identifiers that DICOM gives it.

    Two references are equal when they name the same place. The identifiers are what was found there, so they take no
    part in the comparison: a reference from a table finds the one that a reader returned.

    Attributes:
        path: the file or the folder as it was given, or the name of an array.
        volume: which of the volumes of ``path``, from 0 (a 4D file, a mixed series, the rows of an array); ``None``
            where it holds one.
        frame: which slice or frame of the volume, from 0; ``None`` for all of it. Where ``path`` turns out to hold
            several volumes and ``volume`` is ``None``, it counts these, and the reference of the image that was read
            says so.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID; of a volume made of several files, that of its first slice.
        several: whether ``path`` stands for several files, or parts of one, that are the channels of one image: what
            differs between them is in braces, with commas.
    """

    path: str
    volume: int | None = None
    frame: int | None = None
    study: str | None = field(default=None, compare=False)
    series: str | None = field(default=None, compare=False)
    instance: str | None = field(default=None, compare=False)
    several: bool = False

    @classmethod
    def joined(cls, paths: Sequence[str]) -> Reference:
        """The reference of one image whose channels lie at these paths, none of which has a brace or a comma in it."""
        before = _shared(paths)
        rests = [path[len(before) :] for path in paths]
        after = _shared([rest[::-1] for rest in rests])[::-1]
        names = ",".join(rest[: len(rest) - len(after)] for rest in rests)
        return cls(f"{before}{{{names}}}{after}", several=True)

    def parts(self) -> list[Reference]:
        """The channels of an image that has several files; the reference itself of any other."""
        match = JOINED.fullmatch(self.path) if self.several else None
        if match is None:
            return [self]
        return [_part(f"{match['before']}{name}{match['after']}") for name in match["names"].split(",")]

    @classmethod
    def parse(cls, text: str, root: Path | None = None) -> Reference:
        """A reference as a person types it: ``PATH``, ``PATH[N]`` or ``PATH[N][M]``, counted from 0.

        A single number is a frame, or a volume where the path holds several; of two, the first is the volume. So the
        text of every reference can be typed back. A file that is itself called ``scan[1]`` is meant as a whole.
        ``CASE_{t1,t2}.nii.gz`` stands for the two files that are the channels of one image.

        Args:
            text: as typed.
            root: the folder that the path is relative to.

        Raises:
            UsageError: the text is empty.
        """
        if not text.strip():
            raise UsageError("An image has an empty name: expected a file or a folder, or PATH[N].")
        if JOINED.fullmatch(text) and not (root or Path()).joinpath(text).exists():
            return cls(text, several=True)
        match = TYPED.fullmatch(text)
        if match is None or os.path.exists((root or Path()).joinpath(text)):  # noqa: PTH110 - of any name
            return cls(text)
        first, second = int(match["first"]), match["second"]
        return cls(match["path"], frame=first) if second is None else cls(match["path"], first, int(second))

    @property
    def text(self) -> str:
        """For tables and messages: the path, with the numbers of volume and frame in brackets where there are any."""
        numbers = (self.volume, self.frame)
        return self.path + "".join(f"[{number}]" for number in numbers if number is not None)

    def __str__(self) -> str:
        """As ``text``."""
        return self.text

    def replace(self, **changes: Any) -> Reference:
        """A copy in which the named attributes have other values."""
        return replace(self, **changes)


def _shared(texts: Sequence[str]) -> str:
    """What texts have in common from their beginning, letter by letter."""
    count = next((n for n, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), None)
    return texts[0][:count] if count is not None else min(texts, key=len)


def _part(path: str) -> Reference:
    """One channel, which may be a volume of a file: ``PATH[N]``."""
    match = TYPED.fullmatch(path)
    return Reference(path) if match is None else Reference(match["path"], frame=int(match["first"]))
