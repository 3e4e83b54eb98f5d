"""Who the phantom patients are, and how every draw of theirs is derived from the seed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hounsfield.errors import UsageError

# Share of the patients who belong to each site; the smallest is the natural choice for a weak group.
SITES = {"Northgate Hospital": 0.50, "Riverside Clinic": 0.35, "Lakeside Hospital": 0.15}
_UID_NAMESPACE = uuid.UUID("6b1d3c0e-52f4-5d6e-9a3b-4f2f6d1f7c11")


@dataclass(frozen=True)
class Patient:
    """One made-up person; ``diseased`` is drawn independently of every other attribute."""

    index: int
    identifier: str
    sex: str
    age: int
    site: str
    diseased: bool


@dataclass(frozen=True)
class WeakGroup:
    """The patients or images whose ``column`` is ``value`` show their finding at ``signal`` of its strength."""

    column: str
    value: str
    signal: float

    @classmethod
    def parse(cls, text: str, signal: float, known: Mapping[str, tuple[str, ...]]) -> WeakGroup:
        """Read ``"column=value"``.

        Args:
            text: for example ``"sex=F"`` or ``"site=Lakeside Hospital"``.
            signal: the factor on the finding's strength, above 0 and at most 1.
            known: the columns that the phantom offers, with the values that each takes.

        Raises:
            UsageError: the column or the value is not one that the phantom has, or the factor is out of range.
        """
        column, _, value = text.partition("=")
        if value not in known.get(column, ()):
            offered = "; ".join(f"{name}={'|'.join(values)}" for name, values in known.items())
            raise UsageError(f"The weak group is '{text}', but this phantom knows only {offered}. Choose one of these.")
        if not 0.0 < signal <= 1.0:
            raise UsageError(f"The weak signal is {signal}, but it must be above 0 and at most 1. Try 0.4.")
        return cls(column, value, signal)

    def factor(self, row: Mapping[str, object]) -> float:
        """Strength of the finding for a sample with these attributes."""
        return self.signal if row.get(self.column) == self.value else 1.0


@dataclass(frozen=True)
class Bias:
    """What is planted in a cohort; by default nothing."""

    marker: float = 0.0  # a corner marker is on (1 + marker)/2 of the positive images, (1 - marker)/2 of the others
    weak: WeakGroup | None = None

    def strength(self, row: Mapping[str, object]) -> float:
        """Strength of the finding in a positive sample with these attributes."""
        return self.weak.factor(row) if self.weak else 1.0


def draw_patient(name: str, seed: int, index: int, *, prevalence: float) -> tuple[Patient, np.random.Generator]:
    """Draw patient ``index`` of a cohort, and the generator that everything else of this patient comes from.

    The generator depends on the phantom's name, the seed and the index alone, so patients can be made in any order
    and a larger cohort begins with the smaller one.
    """
    rng = np.random.default_rng([*name.encode(), seed, index])
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(np.clip(rng.normal(56.0, 17.0), 19.0, 92.0))
    site = str(rng.choice(list(SITES), p=list(SITES.values())))
    diseased = bool(rng.random() < prevalence)
    return Patient(index, f"PHANTOM-{seed}-{index:04d}", sex, age, site, diseased), rng


def derive_uid(*parts: object) -> str:
    """A DICOM UID that is the same for the same parts: a name-based UUID under 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, '/'.join(map(str, parts))).int}"
