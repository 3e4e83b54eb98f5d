"""Counts of particles in fields of view as an assay: shares of a kind, concentration, and how far both can be trusted.

A specimen (preparation) is seen in fields, which lie on grids, at one or more dilutions, by one or more instruments.
Counts of fields scatter more than Poisson variables; so intervals rest on fields, or on grids, as independent units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.count_correction import CountCorrection
from hounsfield.evaluation.field_precision import Agreement, Repeatability, agreements, repeatability
from hounsfield.evaluation.field_rates import Detection, Figure, detection_limit, rate_of, share_of, slope_of


@dataclass(frozen=True)
class SpecimenAssay:
    """What the fields of one specimen say.

    Attributes:
        specimen: its name.
        fields: how many were counted.
        grids: on how many grids they lie; ``None`` where the table does not say.
        counts: label → particles found in all of them.
        share: of the wanted kind among the particles, with an interval in which fields are the independent units;
            ``None`` where no share was asked for.
        share_by_grid: the same where grids are; ``None`` with fewer than two.
        share_corrected: the share corrected for the detector's errors on validation images, grids being the independent
            units where there are two or more; ``None`` where these are not known.
        concentration: particles per unit of area (per field where no area is known) of the undiluted specimen. Where
            none was found the value is 0 and ``high`` the bound that a Poisson count of 0 excludes.
        concentration_by_grid: the same where grids are the independent units; ``None`` with fewer than two.
        calibrated: the concentration in units of the standard, grids being the independent units where there are two
            or more; ``None`` without one.
        recovery: dilution → the concentration found at it over that of all its dilutions.
    """

    specimen: str
    fields: int
    grids: int | None
    counts: dict[str, int]
    share: Figure | None
    share_by_grid: Figure | None
    share_corrected: Figure | None
    concentration: Figure
    concentration_by_grid: Figure | None
    calibrated: Figure | None
    recovery: dict[float, float]


@dataclass(frozen=True)
class Assay:
    """The results of all specimens; ``None`` where the table has no such design.

    Attributes:
        unit: of concentrations.
        among: the labels that are counted.
        kind: whose share is given.
        specimens: each by itself.
        slope: of log counts on log (area over dilution), one line per specimen and instrument with a common slope; 1
            where counts follow the dilution.
        detection: from blanks.
        repeatability: from fields under the same conditions.
        agreement: of two instruments.
        confidence: nominal coverage of the intervals.
    """

    unit: str
    among: tuple[str, ...]
    kind: str | None
    specimens: tuple[SpecimenAssay, ...]
    slope: Figure | None
    detection: Detection | None
    repeatability: Repeatability | None
    agreement: tuple[Agreement, ...]
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values; what is not known is ``None``."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def analyse_fields(
    fields: pd.DataFrame,
    labels: Sequence[str],
    *,
    kind: str | None = None,
    blanks: Sequence[str] = (),
    standard: tuple[str, float] | None = None,
    correction: CountCorrection | None = None,
    confidence: float = 0.95,
) -> Assay:
    """Compute the assay.

    Args:
        fields: one row per field with ``specimen`` and ``count_LABEL`` for each of ``labels``; ``weight_LABEL``, how
            many particles these counts stand for, where it is not the same; where known, ``grid``, ``instrument``
            (text), ``dilution`` (a factor of 1 or more) and ``area`` (of the field).
        labels: those that are particles.
        kind: the one whose share is wanted.
        blanks: specimens without particles.
        standard: a specimen and its known concentration, to which the others are related.
        correction: of shares, for a detector of just these labels in their order.
        confidence: nominal coverage of all intervals.

    Raises:
        EvaluationError: a name is not known, or a standard has no particle.
    """
    known = set(fields["specimen"])
    for name in [*blanks, *([standard[0]] if standard else [])]:
        if name not in known:
            raise EvaluationError(f"There is no specimen '{name}'. The specimens are {', '.join(sorted(known))}.")
    if kind is not None and kind not in labels:
        raise EvaluationError(f"The kind '{kind}' is not counted; expected one of {', '.join(labels)}.")
    table = _prepared(fields, labels)
    by_specimen = table.groupby("specimen")
    found = [_specimen(str(name), rows, labels, kind, confidence) for name, rows in by_specimen]
    if correction is not None and kind is not None:
        found = [
            replace(one, share_corrected=_corrected(rows, labels, kind, correction, confidence))
            for one, (_, rows) in zip(found, by_specimen, strict=True)
        ]
    if standard is not None:
        found = _calibrated(found, *standard)
    filled = table[~table["specimen"].isin(blanks)]
    most = int(filled.groupby("specimen").size().median()) if len(filled) else 0
    return Assay(
        unit="µm²" if "area" in fields else "field",
        among=tuple(labels),
        kind=kind,
        specimens=tuple(found),
        slope=slope_of(filled, confidence),
        detection=detection_limit(table[table["specimen"].isin(blanks)], most) if blanks and most else None,
        repeatability=repeatability(filled, confidence),
        agreement=agreements(filled, kind, confidence),
        confidence=confidence,
    )


def _prepared(fields: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """With ``found``, ``total`` and ``exposure``: the area of undiluted specimen that a field stands for.

    Weights are over their mean, and so is the area, so that totals scatter as counts do.
    """
    table = fields.copy()
    table["found"] = table[[f"count_{label}" for label in labels]].sum(axis=1)
    for label in labels:
        table[f"weight_{label}"] = table.get(f"weight_{label}", table[f"count_{label}"]).astype(float)
    weights = [f"weight_{label}" for label in labels]
    mean = float(table[weights].to_numpy().sum() / table["found"].sum()) if table["found"].any() else 1.0
    table[weights] /= mean
    table["total"] = table[weights].sum(axis=1)
    table["exposure"] = table.get("area", 1.0) / table.get("dilution", 1.0) / mean
    return table


def _specimen(
    name: str, rows: pd.DataFrame, labels: Sequence[str], kind: str | None, confidence: float
) -> SpecimenAssay:
    grids = rows.get("grid")
    num_grids = None if grids is None else len(grids.unique())
    apart = _several_grids(rows)
    whole = float(rows["total"].sum() / rows["exposure"].sum())
    recovery = {}
    if "dilution" in rows and len(rows["dilution"].unique()) > 1 and whole > 0:
        sums = rows.groupby("dilution")[["total", "exposure"]].sum()
        rates = sums["total"] / sums["exposure"] / whole
        recovery = dict(zip(map(float, sums.index.tolist()), rates.tolist(), strict=True))
    return SpecimenAssay(
        specimen=name,
        fields=len(rows),
        grids=num_grids,
        counts={label: int(rows[f"count_{label}"].sum()) for label in labels},
        share=share_of(rows, kind, None, confidence),
        share_by_grid=None if apart is None else share_of(rows, kind, apart, confidence),
        share_corrected=None,
        concentration=rate_of(rows["total"], rows["exposure"], confidence),
        concentration_by_grid=None if apart is None else _rate_by(rows, apart, confidence),
        calibrated=None,
        recovery=recovery,
    )


def _several_grids(rows: pd.DataFrame) -> pd.Series | None:
    grids = rows.get("grid")
    return grids if grids is not None and len(grids.unique()) > 1 else None


def _corrected(
    rows: pd.DataFrame, labels: Sequence[str], kind: str, correction: CountCorrection, confidence: float
) -> Figure | None:
    grids = _several_grids(rows)
    units = pd.Series(np.arange(len(rows)), rows.index) if grids is None else grids
    weights = rows[[f"weight_{label}" for label in labels]]
    return correction.share(weights, list(labels).index(kind), units, confidence=confidence)


def _rate_by(rows: pd.DataFrame, units: pd.Series, confidence: float) -> Figure:
    sums = rows.groupby(units)[["total", "exposure"]].sum()
    return rate_of(sums["total"], sums["exposure"], confidence)


def _shown(one: SpecimenAssay) -> Figure:
    """The concentration with grids as independent units where there are several: fields of one are no new settling."""
    return one.concentration_by_grid or one.concentration


def _calibrated(found: Sequence[SpecimenAssay], name: str, value: float) -> list[SpecimenAssay]:
    """Concentrations times that of the standard over what was found for it; the errors of both add up."""
    standard = next(_shown(one) for one in found if one.specimen == name)
    if standard.value == 0:
        raise EvaluationError(
            f"No particle was found in the standard '{name}', so nothing can be related to it. Name another specimen."
        )
    of_standard = np.log([standard.low, standard.high]) - np.log(standard.value)

    def related(one: SpecimenAssay) -> Figure:
        factor, given = value / standard.value, _shown(one)
        if one.specimen == name:
            return Figure(value, value, value)
        if given.value == 0:
            return Figure(0.0, 0.0, given.high * value / standard.low)
        own = np.log([given.low, given.high]) - np.log(given.value)
        low, high = -np.hypot(own[0], of_standard[1]), np.hypot(own[1], of_standard[0])
        return Figure(given.value * factor, *(float(given.value * factor * np.exp(end)) for end in (low, high)))

    return [replace(one, calibrated=related(one)) for one in found]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return None if np.isnan(value) else value
    return value
