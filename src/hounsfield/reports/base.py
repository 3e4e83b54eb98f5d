"""What each family of truth gives to the report of a run; ``table.PAGES`` has one entry per family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from matplotlib.figure import Figure

from hounsfield.images.image import Image
from hounsfield.progress import Progress
from hounsfield.reports.sections.content import Block, Section
from hounsfield.runs import RunRecord

RunT_contra = TypeVar("RunT_contra", bound=RunRecord, contravariant=True)
Read = Callable[[int], Image]


@dataclass(frozen=True)
class Cases:
    """Cases of a report with their pictures.

    Attributes:
        blocks: of the section.
        made: whether there are pictures.
        validated: whether what they show was checked.
    """

    blocks: tuple[Block, ...]
    made: bool = False
    validated: bool = False


@dataclass(frozen=True)
class Reply:
    """The answer to an item of a checklist.

    Attributes:
        status: filled by the run, partly, or left to the author.
        text: what the run knows, as a template; the words in braces are those of ``answers.words`` and of the family.
        missing: what the author must add.
        about: the entries of ``about.yaml`` that add it.
    """

    status: Literal["filled", "partly", "author"]
    text: str = ""
    missing: str = ""
    about: tuple[str, ...] = ()


# An answer that is always the same sentence, or one that depends on the run and its cases.
Answer = Reply | Callable[[Any, Cases], Reply]


class Page(Protocol[RunT_contra]):
    """What differs between families in the report, the model card and the figures of a test.

    The order of the page, the data, the split, the plan, resources and limitations are the same for all.

    Attributes:
        joined: what stands between two labels in a title, such as " or ".
        tiles: metric → its name at the top of the page.
        titles: metric → its name in tables, in their order.
        card: the metrics of the model card, of those with a title.
        chosen: what validation images chose, as the end of "Validation images chose …".
        distrust: the question about when not to rely on the model.
        cases_title: of the section with cases.
        explains: whether drawing cases runs the network, with Keras where it is installed.
        answers: items of checklists that the family answers otherwise than ``answers.ANSWERS``.
    """

    joined: ClassVar[str]
    tiles: ClassVar[Mapping[str, str]]
    titles: ClassVar[Mapping[str, str]]
    card: ClassVar[tuple[str, ...]]
    chosen: ClassVar[str]
    distrust: ClassVar[str]
    cases_title: ClassVar[str]
    explains: ClassVar[bool]
    answers: ClassVar[Mapping[str, Answer]]

    def what_it_does(self, run: RunT_contra) -> str:
        """One or two sentences."""

    def how_well(self, run: RunT_contra) -> Iterator[str]:
        """The main figures in plain words."""

    def not_for(self, run: RunT_contra) -> Iterator[str]:
        """Where the model performs worse, and what is unknown."""

    def when_not(self, run: RunT_contra) -> Iterator[str]:
        """The answers to ``distrust``."""

    def limits(self, run: RunT_contra) -> Iterator[str]:
        """Limitations beside those that every run has."""

    def card_facts(self, run: RunT_contra) -> Iterator[str]:
        """Lines of the model card on calibration and threshold."""

    def truth(self, run: RunT_contra) -> Iterator[Block]:
        """Tables of the truth in each split."""

    def results(self, run: RunT_contra) -> tuple[Section, ...]:
        """The sections on the test, in order."""

    def cases(self, run: RunT_contra, progress: Progress) -> Cases:
        """Typical and worst cases of the split that is shown.

        Raises:
            HounsfieldError: the run's data or network cannot be read.
        """

    def training(self, run: RunT_contra) -> Section:
        """How the training went."""

    def words(self, run: RunT_contra) -> dict[str, str]:
        """What the templates of checklist answers need of the family."""

    def figures(self, assessment: Any, read: Read | None = None) -> dict[str, Figure]:
        """The figures of a test by file name without suffix; ``read`` gives an image by its number."""
