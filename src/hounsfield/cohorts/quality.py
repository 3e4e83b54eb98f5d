"""Faulty images of a cohort, and what images like its own look like."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from hounsfield.cohorts.scan import Facts, Scan
from hounsfield.quality import Measures, QualityReference
from hounsfield.quality.measures import PICTURE
from hounsfield.quality.planting import Planted


def quality_reference(scanned: Scan) -> QualityReference | None:
    """What tells faulty images among those of the commonest rank; ``None`` where fewer than 50 were measured."""
    rows = np.flatnonzero([facts.measured is not None for facts in scanned.facts])
    if not len(rows):
        return None
    ranks = np.array([len(scanned.facts[row].shape) for row in rows])
    rows = rows[ranks == np.bincount(ranks).argmax()]
    patients = scanned.patients.iloc[rows]
    codes = pd.factorize(patients)[0].astype(np.int64) if patients.notna().all() else None
    facts = [scanned.facts[row] for row in rows]
    return QualityReference.fit([_measures(each) for each in facts], [_planted(each) for each in facts], codes)


def faulty_images(scanned: Scan, reference: QualityReference | None) -> dict[str, tuple[int, ...]]:
    """Fault → the rows that have it, of those that occur."""
    if reference is None:
        return {}
    named = reference.faults([None if each.measured is None else _measures(each) for each in scanned.facts])
    found: dict[str, list[int]] = {}
    for row, faults in enumerate(named):
        for fault in faults:
            found.setdefault(fault, []).append(row)
    return {fault: tuple(rows) for fault, rows in found.items()}


def intensities(scanned: Scan) -> dict[str, tuple[float, float]]:
    """Image → mean and standard deviation of its samples, of those that were measured."""
    pairs = zip(scanned.cohort.table["image"], scanned.facts, strict=True)
    return {str(image): (each.measured[4], each.measured[5]) for image, each in pairs if each.measured is not None}


def with_intensities(table: pd.DataFrame, known: Mapping[str, tuple[float, float]]) -> pd.DataFrame:
    """A table of predictions with the intensity of each image, where it has a row for each: ``monitor`` watches it."""
    found = [known.get(str(image), (math.nan, math.nan)) for image in table["image"]]
    if not table["image"].is_unique or np.isnan(found).all():
        return table
    means, deviations = ([float(f"{value:.6g}") for value in column] for column in zip(*found, strict=True))
    return table.assign(mean_intensity=means, sd_intensity=deviations)


def _measures(facts: Facts) -> Measures:
    top, bottom, first, second, mean, deviation = (facts.measured or ())[:6]
    picture = None
    if facts.small_picture is not None:
        picture = np.frombuffer(facts.small_picture, np.uint8).reshape(PICTURE, PICTURE)
    return Measures(picture, (top, bottom), (first, second), mean, deviation)


def _planted(facts: Facts) -> Planted:
    first, second, top, bottom = (facts.measured or ())[6:]
    return Planted((first, second), (top, bottom))
