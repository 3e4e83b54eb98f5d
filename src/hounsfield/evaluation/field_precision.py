"""How counts of particles scatter under the same conditions, and how two instruments agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from hounsfield.evaluation.field_rates import Figure

Floats = npt.NDArray[np.float64]
# Groups of fields with fewer particles on average say nothing of repeatability: chance alone scatters them by half.
LEAST_MEAN = 4.0
# Of fewer specimens no interval of a difference between instruments is given.
LEAST_SPECIMENS = 3


@dataclass(frozen=True)
class Agreement:
    """Two instruments on the same specimens.

    Attributes:
        instruments: their names; ratios are the second over the first.
        specimens: that both saw.
        ratio: geometric mean of the ratios of concentrations, with its interval.
        limits: within which 95 % of the ratios of single specimens lie (Bland and Altman 1986, on logarithms).
        share: mean difference of shares, second less first; ``None`` where no share was asked for.
    """

    instruments: tuple[str, str]
    specimens: int
    ratio: Figure
    limits: tuple[float, float]
    share: Figure | None


@dataclass(frozen=True)
class Repeatability:
    """How counts under the same conditions scatter, as coefficients of variation.

    Attributes:
        groups: of fields of one specimen, instrument and dilution with enough particles.
        fields: coefficient of variation of fields on one grid, with its interval.
        poisson: what chance alone would give.
        grids: of grids beyond that of their fields; ``None`` where no group has two grids.
    """

    groups: int
    fields: Figure
    poisson: float
    grids: float | None


def repeatability(rows: pd.DataFrame, confidence: float) -> Repeatability | None:
    """Nested analysis of variance of counts relative to the mean of their group."""
    keys = [name for name in ("specimen", "instrument", "dilution") if name in rows]
    within = between = 0.0
    degrees, grid_degrees, groups, means = 0, 0, 0, []
    per_grid: list[float] = []
    for _, group in rows.groupby(keys):
        # A field's count at the mean exposure of its group.
        counts = group["total"] / group["exposure"] * group["exposure"].mean()
        if len(counts) < 2 or counts.mean() < LEAST_MEAN:
            continue
        grids = pd.factorize(group["grid"])[0] if "grid" in group else np.zeros(len(group), int)
        relative = (counts / counts.mean()).to_numpy(float)
        sizes = np.bincount(grids)
        middles = np.bincount(grids, relative) / sizes
        within += float(((relative - middles[grids]) ** 2).sum())
        degrees += len(relative) - len(sizes)
        between += float((sizes * (middles - relative.mean()) ** 2).sum())
        grid_degrees += len(sizes) - 1
        per_grid += sizes.tolist() if len(sizes) > 1 else []
        means.append(float(counts.mean()))
        groups += 1
    if degrees < 1:
        return None
    variance = within / degrees
    ends = (stats.chi2.isf(tail, degrees) for tail in ((1 - confidence) / 2, (1 + confidence) / 2))
    low, high = (float(np.sqrt(within / end)) for end in ends)
    grid = np.sqrt(max(0.0, between / grid_degrees - variance) / np.mean(per_grid)) if grid_degrees else None
    poisson = float(np.sqrt(np.mean(1 / np.array(means))))
    return Repeatability(
        groups, Figure(float(np.sqrt(variance)), low, high), poisson, None if grid is None else float(grid)
    )


def agreements(rows: pd.DataFrame, kind: str | None, confidence: float) -> tuple[Agreement, ...]:
    """Every pair of instruments that saw at least three specimens both."""
    if "instrument" not in rows:
        return ()
    sums = rows.groupby(["specimen", "instrument"])[["total", "exposure", *([f"weight_{kind}"] if kind else [])]].sum()
    sums["rate"] = sums["total"] / sums["exposure"]
    sums["share"] = sums[f"weight_{kind}"] / sums["total"] if kind else np.nan
    rates, shares = (sums.pivot_table(name, "specimen", "instrument", dropna=False) for name in ("rate", "share"))
    names = list(map(str, rates.columns))
    found = []
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = rates[(rates[first] > 0) & (rates[second] > 0)]
            if len(both) < LEAST_SPECIMENS:
                continue
            logs = np.log((both[second] / both[first]).to_numpy(float))
            mean, low, high = _mean(logs, confidence)
            reach = 1.96 * float(logs.std(ddof=1))
            gap = None
            if kind:
                gaps = (shares[second] - shares[first]).loc[both.index].to_numpy(float)
                gap = Figure(*_mean(gaps, confidence))
            found.append(
                Agreement(
                    (first, second),
                    len(both),
                    Figure(float(np.exp(mean)), float(np.exp(low)), float(np.exp(high))),
                    (float(np.exp(mean - reach)), float(np.exp(mean + reach))),
                    gap,
                )
            )
    return tuple(found)


def _mean(values: Floats, confidence: float) -> tuple[float, float, float]:
    """A mean with Student's interval."""
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    half = float(stats.t.isf((1 - confidence) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half
