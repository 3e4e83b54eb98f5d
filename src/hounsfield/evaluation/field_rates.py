"""Rates and shares of particles counted in fields of view, and what can be told from nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from hounsfield.evaluation.proportions import wilson_interval

Floats = npt.NDArray[np.float64]
# Counts at fewer dilutions than these lie on a line whatever they are.
LEAST_DILUTIONS = 3


@dataclass(frozen=True)
class Figure:
    """A figure with its interval; ends are ``nan`` where nothing can be said, ``low`` is 0 for an upper bound alone."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Detection:
    """What is told from nothing.

    Attributes:
        blanks: the specimens without particles.
        blank_fields: fields without a particle of the kind that is sought.
        false: findings in them.
        critical: in as many fields as a specimen has, so many findings are more than blanks have (5 %).
        limit: the least concentration that is found with 95 % probability in so many fields.
        fields: so many.
    """

    blanks: tuple[str, ...]
    blank_fields: int
    false: int
    critical: int
    limit: float
    fields: int


def share_of(rows: pd.DataFrame, kind: str | None, units: pd.Series | None, confidence: float) -> Figure | None:
    """The share of a kind among the particles, with fields or ``units`` of them as independent.

    Wilson's interval; the number of particles is divided by the design effect of the ratio (Rao, Scott 1992), and the
    quantile is Student's with one degree of freedom less than units. Where no variance can be seen (no or only the
    kind), the number of units stands for that of particles.
    """
    if kind is None:
        return None
    unit = pd.Series(np.arange(len(rows)), rows.index) if units is None else units
    sums = rows.groupby(unit)[[f"weight_{kind}", "total"]].sum()
    sums = sums[sums["total"] > 0]
    total, count = float(sums["total"].sum()), len(sums)
    if count == 0:
        return Figure(np.nan, np.nan, np.nan)
    share = float(sums[f"weight_{kind}"].sum() / total)
    if units is None and count < 2:
        return Figure(share, *wilson_interval(share * total, total, confidence=confidence))
    residuals = sums[f"weight_{kind}"] - share * sums["total"]
    variance = count / max(count - 1, 1) * float((residuals**2).sum()) / total**2
    effective = min(total, share * (1 - share) / variance) if variance > 0 else float(count)
    quantile = float(stats.t.isf((1 - confidence) / 2, max(count - 1, 1)))
    return Figure(share, *wilson_interval(share * effective, effective, quantile=quantile))


def rate_of(counts: pd.Series, exposure: pd.Series, confidence: float) -> Figure:
    """Particles per exposure: quasi-Poisson (McCullagh and Nelder 1989, 6.2), Student's t, on the logarithm.

    The dispersion is Fletcher's (Biometrika 2012), which a single particle in a highly diluted field does not blow up.
    It is never taken for less than that of Poisson counts, whose exact interval (Garwood 1936) is given where there is
    one unit alone; where nothing was found, the exact bound of one side.
    """
    total, whole = float(counts.sum()), float(exposure.sum())
    if total == 0:
        return Figure(0.0, 0.0, float(-np.log(1 - confidence) / whole))
    value, tail = total / whole, (1 - confidence) / 2
    if len(counts) < 2:
        return Figure(
            value, float(stats.gamma.ppf(tail, total) / whole), float(stats.gamma.isf(tail, total + 1) / whole)
        )
    expected = value * exposure
    pearson = float(((counts - expected) ** 2 / expected).sum() / (len(counts) - 1))
    dispersion = max(1.0, pearson / float((counts / expected).mean()))
    half = float(stats.t.isf(tail, len(counts) - 1)) * np.sqrt(dispersion / total)
    return Figure(value, float(value * np.exp(-half)), float(value * np.exp(half)))


def slope_of(rows: pd.DataFrame, confidence: float) -> Figure | None:
    """The common slope of log counts on log exposure; quasi-Poisson, one intercept per specimen and instrument."""
    if "dilution" not in rows:
        return None
    keys = ["specimen", *(["instrument"] if "instrument" in rows else [])]
    by_dilution = rows.groupby([*keys, "dilution"], as_index=False)[["total", "exposure"]].sum()
    usable = by_dilution.groupby(keys).filter(
        lambda one: one["dilution"].nunique() >= LEAST_DILUTIONS and one["total"].sum() > 0
    )
    if usable.empty:
        return None
    group = pd.factorize(pd.MultiIndex.from_frame(usable[keys]))[0]
    counts, exposure = usable["total"].to_numpy(float), np.log(usable["exposure"].to_numpy(float))
    totals = np.bincount(group, counts)

    def expected(slope: float) -> Floats:
        # The intercepts that fit each group's total are known: counts given their total are multinomial.
        relative = np.exp(slope * (exposure - exposure.max()))
        return np.asarray(totals[group] * relative / np.bincount(group, relative)[group])

    def score(slope: float) -> float:
        return float(((counts - expected(slope)) * exposure).sum())

    slope = float(optimize.brentq(score, -5, 10))
    fitted = expected(slope)
    means = np.bincount(group, fitted * exposure) / np.bincount(group, fitted)
    information = float((fitted * (exposure - means[group]) ** 2).sum())
    degrees = len(counts) - len(totals) - 1
    dispersion = max(1.0, float(((counts - fitted) ** 2 / fitted).sum() / degrees))
    half = float(stats.t.isf((1 - confidence) / 2, degrees)) * np.sqrt(dispersion / information)
    return Figure(slope, float(slope - half), float(slope + half))


def detection_limit(blank: pd.DataFrame, fields: int) -> Detection:
    """Decision and detection limits of exact Poisson counts (Currie 1968), from the rate in the blanks' fields."""
    false, count = int(blank["found"].sum()), len(blank)
    area = float(blank["exposure"].mean())
    expected = false / count * fields
    critical = int(stats.poisson.isf(0.05, expected)) + 1 if expected else 1
    excess = float(optimize.brentq(lambda mean: stats.poisson.sf(critical - 1, mean + expected) - 0.95, 0, 1e6))
    return Detection(
        tuple(map(str, blank["specimen"].unique())), count, false, critical, excess / (fields * area), fields
    )
