"""Keeps the names of patients and files out of a report."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self

from hounsfield.runs import RunRecord

# Shorter identifiers, such as plain numbers, would match in every figure and table.
SHORTEST = 5
WORD = re.compile(r"[\w./:@\\-]+")


@dataclass(frozen=True)
class Scrubber:
    """Replaces image references and patient identifiers wherever they occur in a text.

    Attributes:
        known: every identifier that must not be shown.
    """

    known: frozenset[str]

    @classmethod
    def of(cls, run: RunRecord) -> Self:
        """For the images and patients of a run."""
        references = run.cohort["image"].astype(str)
        names = {form for reference in references for form in _forms(reference)}
        names |= {str(patient) for patient in run.cohort["patient"].dropna()}
        allowed = {str(label) for label in run.bundle.labels}
        return cls(frozenset(name for name in names - allowed if len(name) >= SHORTEST and not name.isdigit()))

    def __call__(self, text: str) -> str:
        """The text with ``[withheld]`` in place of each identifier."""
        return WORD.sub(self._word, text)

    def _word(self, found: re.Match[str]) -> str:
        word = found[0]
        bare = word.strip(".:/")
        if bare in self.known or PurePosixPath(bare).name in self.known or PurePosixPath(bare).stem in self.known:
            return word.replace(bare, "[withheld]")
        return word


def _forms(reference: str) -> tuple[str, ...]:
    """A reference as it may occur in a text: whole, its file name, and that without its suffix."""
    path = PurePosixPath(reference)
    return reference, path.name, path.stem
