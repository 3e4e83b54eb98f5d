"""What a report is made of: sections of paragraphs, tables, figures and cases, before they become HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from hounsfield.evaluation.classification import UNRELIABLE
from hounsfield.evaluation.rounding import rounded

UNDEFINED = "–"


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Questions:
    """Questions that a reader has, and their answers in plain words."""

    kind: ClassVar[str] = "questions"
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    kind: ClassVar[str] = "points"
    items: tuple[str, ...]


@dataclass(frozen=True)
class Callout:
    """A sentence that must not be missed."""

    kind: ClassVar[str] = "callout"
    severity: Literal["error", "warning", "note"]
    title: str
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of text; every cell is final.

    Attributes:
        title: above it; empty where a heading is enough.
        columns: their heads; the first column holds names, the others figures unless ``wordy``.
        rows: one text per column.
        note: below it.
        wordy: whether all columns hold words.
        beside: whether it is narrow enough to stand beside a drawing.
        folded: whether it opens on a click, and for print.
    """

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    wordy: bool = False
    beside: bool = False
    folded: bool = False


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: counts, and the share of each true class as shade."""

    kind: ClassVar[str] = "matrix"
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    caption: str

    @property
    def beside(self) -> bool:
        """Whether it is narrow enough to stand beside a drawing."""
        return len(self.labels) <= 4

    @property
    def rows(self) -> list[tuple[str, list[tuple[int, float, str]]]]:
        """Label, and each count with its share of the true class, as a number and as text."""
        return [
            (label, [(count, share, percent(share)) for count in row for share in (count / max(sum(row), 1),)])
            for label, row in zip(self.labels, self.counts, strict=True)
        ]


@dataclass(frozen=True)
class Drawing:
    """A vector picture with what it shows in words, and the table of its numbers.

    Attributes:
        svg: the picture.
        caption: what it shows.
        table: its numbers, folded away; ``None`` where they stand beside it.
        wide: whether it needs the whole width of the page.
    """

    kind: ClassVar[str] = "drawing"
    svg: str
    caption: str
    table: Table | None = None
    wide: bool = False

    @property
    def beside(self) -> bool:
        """Whether it is narrow enough to stand beside another."""
        return not self.wide


@dataclass(frozen=True)
class Case:
    """One image with its evidence, under a pseudonym used only in the report.

    Attributes:
        name: the pseudonym.
        original: address of the picture as it was read.
        overlay: address of the picture with its evidence.
        caption: truth and prediction.
        right: whether they agree; true where agreement is a matter of degree, which the caption describes.
    """

    name: str
    original: str
    overlay: str
    caption: str
    right: bool


@dataclass(frozen=True)
class Gallery:
    """Some cases side by side.

    Attributes:
        title: above them.
        items: the images.
        large: whether they have small parts that must be seen.
    """

    kind: ClassVar[str] = "cases"
    title: str
    items: tuple[Case, ...]
    large: bool = False


@dataclass(frozen=True)
class Verbatim:
    """A file as it is, folded away."""

    kind: ClassVar[str] = "verbatim"
    title: str
    text: str


@dataclass(frozen=True)
class Checklist:
    """Items of a reporting guideline and how far this report answers them."""

    kind: ClassVar[str] = "checklist"
    title: str
    items: tuple[ChecklistRow, ...]

    @property
    def name(self) -> str:
        """The guideline."""
        return self.title.partition(":")[0]


@dataclass(frozen=True)
class ChecklistRow:
    """One item: its number and topic, who fills it in, and the answer or what is missing."""

    number: str
    topic: str
    status: Literal["filled", "partly", "author"]
    text: str


Block = Paragraph | Questions | Points | Callout | Table | Matrix | Drawing | Gallery | Verbatim | Checklist


@dataclass(frozen=True)
class Section:
    """A part of the report under one heading."""

    identifier: str
    title: str
    blocks: tuple[Block, ...]


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash where it is undefined; never rounded to 0 or 1 unless it is exactly that."""
    return UNDEFINED if value is None or not math.isfinite(value) else rounded(value, digits)


def of_hundred(value: float | None, digits: int = 0) -> str:
    """A share as a count of 100; never rounded to 0 or 100 unless it is exactly that."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    for precision in range(digits, digits + 2):
        text = f"{100 * value:.{precision}f}"
        if float(text) not in (0, 100) or value in (0, 1):
            return text
    step = 10.0 ** -(digits + 1)
    return f"less than {step:g}" if value < 0.5 else f"more than {100 - step:g}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage; see ``of_hundred``."""
    text = of_hundred(value, digits)
    return text if text == UNDEFINED else f"{text} %"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Both ends of an interval."""
    return f"{number(low, digits)} to {number(high, digits)}"


def with_interval(estimate: Mapping[str, Any], digits: int = 3) -> str:
    """An entry of ``metrics.json`` as text, with "unreliable" where it rests on few patients."""
    value = number(estimate.get("value"), digits)
    ends = interval(estimate.get("low"), estimate.get("high"), digits)
    return value if UNDEFINED in ends else f"{value} ({ends}{unreliable(estimate)})"


def unreliable(estimate: Mapping[str, Any]) -> str:
    """Said behind an interval: ", unreliable" where a note of the estimate says so, else empty."""
    return ", unreliable" if str(estimate.get("note", "")).startswith(UNRELIABLE) else ""


def listed(words: Iterable[str]) -> str:
    """Words with commas and "and" between them."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def lowered(title: str) -> str:
    """A title within a sentence: "sensitivity" for "Sensitivity", but "AUC" as it is."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title
