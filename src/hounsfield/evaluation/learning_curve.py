"""Would more data help? Error against training size, extrapolated by an inverse power law with its uncertainty.

The error of a network falls with the number n of training cases about as a + b n⁻ᶜ (Hestness et al. 2017, "Deep
learning scaling is predictable, empirically"; for classifiers of medical data Figueroa et al. 2012, "Predicting sample
size required for classification performance"). A few points do not fix three numbers, so all curves that the points
allow are weighed by how well they fit them, and the forecast is an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.intervals import bootstrap, make_clusters, percentile_interval
from hounsfield.evaluation.metrics import METRICS, Tally, headline
from hounsfield.evaluation.outcomes import Floats, Outcomes

LEAST_POINTS = 3
FACTORS = (2.0, 4.0)
EXPONENTS = np.linspace(0.05, 1.5, 20)
FLOORS = np.linspace(0.0, 0.99, 20)  # of the smallest error seen: what no amount of data removes
TRAINING_NOISE = np.geomspace(0.03, 0.4, 8)  # of the error: how much another seed changes it
NUM_DRAWS = 4000
NOTABLE = 0.1  # a tenth of the error is worth collecting for


@dataclass(frozen=True)
class Forecast:
    """What is expected of a larger training set.

    Attributes:
        factor: how many times the largest training set.
        size: its cases.
        error: the middle of what the curves say, with ``low`` and ``high``.
        gain: by how much the error falls from that of the curve at the largest training set, with ``gain_low`` and
            ``gain_high``.
    """

    factor: float
    size: int
    error: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class LearningCurve:
    """Error against training size, and where it leads.

    Attributes:
        metric: what the error is made of: 1 minus it where larger is better.
        unit: what is counted, such as "patients".
        sizes: the training sets, smallest first.
        errors: of the networks trained on them, with ``lows`` and ``highs``.
        now: what the curve says of the largest training set.
        forecasts: what it says of larger ones.
        confidence: nominal coverage of each interval.
    """

    metric: str
    unit: str
    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]
    now: float
    forecasts: tuple[Forecast, ...]
    confidence: float

    @property
    def title(self) -> str:
        """The name of the error."""
        metric = METRICS[self.metric]
        return f"1 − {metric.title}" if metric.better == "larger" else metric.title

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "title": self.title, "lines": self.lines()}

    def lines(self) -> list[str]:
        """The outcome in words."""
        seen = ", ".join(f"{error:.3f} with {size:,}" for size, error in zip(self.sizes, self.errors, strict=True))
        forecasts = [
            f"Predicted with {each.size:,} ({each.factor:g} times as many): {each.error:.3f} ({each.low:.3f} to "
            f"{each.high:.3f}), {each.gain:.3f} lower than now ({each.gain_low:.3f} to {each.gain_high:.3f})."
            for each in self.forecasts
        ]
        first = self.forecasts[0]
        if first.gain_low >= NOTABLE * self.now:
            told = "More data would help"
        elif first.gain_high < NOTABLE * self.now:
            told = "More data of the same kind would help little"
        else:
            told = "These points do not show whether more data would help much"
        return [
            f"{self.title} on validation images by number of training {self.unit}: {seen}.",
            *forecasts,
            f"{told} (a reduction by a tenth of the present error would be {NOTABLE * self.now:.3f}).",
        ]


def learning_curve(
    answers: Mapping[int, Outcomes],
    *,
    groups: npt.ArrayLike | None = None,
    metric: str = "auc",
    unit: str = "patients",
    factors: Sequence[float] = FACTORS,
    num_replicates: int = 500,
    seed: int = 0,
    confidence: float = 0.95,
) -> LearningCurve:
    """Measure networks trained on ever larger sets on the same cases, and extrapolate.

    The noise of the test is taken from a bootstrap by patient that draws the same patients for all networks, so that
    a lucky test moves the whole curve and not its slope.

    Args:
        answers: by the size of the training set, what the network trained on it says of the same n cases.
        groups: (n,) patient of each case; ``None`` where each case is another patient.
        metric: a key of ``METRICS``.
        unit: what the sizes count.
        factors: the forecasts wanted, as multiples of the largest size.
        num_replicates: of the bootstrap.
        seed: of the bootstrap and the draws.
        confidence: nominal coverage of the intervals.

    Raises:
        EvaluationError: there are fewer than three sizes, other cases, or an error that cannot be extrapolated.
    """
    sizes = sorted(answers)
    first = answers[sizes[0]] if sizes else None
    if first is None or any(not np.array_equal(each.truth, first.truth) for each in answers.values()):
        raise EvaluationError(
            "A learning curve needs answers to the same cases in the same order, and these differ. Test every network "
            "on the same validation images."
        )
    clusters = make_clusters(first.truth, groups)

    def statistic(weights: Floats, *, resampled: bool = True) -> Floats:
        tallies = [Tally(answers[size], weights, resampled=resampled, clusters=clusters) for size in sizes]
        found = [headline(METRICS[metric].compute(tally)) for tally in tallies]
        return np.stack([1 - value if METRICS[metric].better == "larger" else value for value in found])

    errors = statistic(np.ones((len(first), 1)), resampled=False)[:, 0]
    drawn = bootstrap(statistic, clusters, first.truth, num_replicates=num_replicates, seed=seed)
    forecasts, now = extrapolate(sizes, errors, np.cov(drawn), factors=factors, seed=seed, confidence=confidence)
    ends = [percentile_interval(row, confidence=confidence) for row in drawn]
    return LearningCurve(
        metric,
        unit,
        tuple(sizes),
        tuple(errors.tolist()),
        tuple(low for low, _ in ends),
        tuple(high for _, high in ends),
        now,
        forecasts,
        confidence,
    )


def extrapolate(
    sizes: Sequence[int],
    errors: npt.ArrayLike,
    covariance: npt.ArrayLike,
    *,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[tuple[Forecast, ...], float]:
    """Fit a + b n⁻ᶜ to a few points and say what it gives beyond them.

    Every floor a from 0 to the smallest error and every exponent c from .05 to 1.5 is equally likely beforehand, b
    anything above 0, and the noise of training (what another seed would change) from 3 to 40 % of the error on a
    logarithmic scale; forecasts are quantiles of what the points leave of these.

    Args:
        sizes: (k,) of the training sets.
        errors: (k,) of the networks.
        covariance: (k, k) of the errors, from the finite test alone.
        factors: multiples of the largest size to forecast.
        seed: of the draws.
        confidence: nominal coverage.

    Returns:
        A forecast a factor, and the curve's error at the largest size.

    Raises:
        EvaluationError: fewer than three sizes, or an error that is not above 0.
    """
    counts, seen = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if len(np.unique(counts)) < LEAST_POINTS:
        raise EvaluationError(
            f"A learning curve needs networks trained on at least {LEAST_POINTS} sizes; got {len(np.unique(counts))}. "
            "Train on smaller shares of the patients too."
        )
    if not np.isfinite(seen).all() or seen.min() <= 0:
        raise EvaluationError(
            f"The errors {', '.join(f'{error:.4g}' for error in seen)} cannot be extrapolated: each must be above 0. "
            "On these cases there is nothing left to gain, or too little to measure; take a larger validation set."
        )
    rng = np.random.default_rng(seed)
    floor, scale, exponent = _curves(counts / counts.max(), seen, np.asarray(covariance, dtype=np.float64), rng)
    now = floor + scale
    found = []
    for factor in factors:
        error = floor + scale * factor**-exponent
        middle, gained = np.median(error), np.median(now - error)
        interval, gain = (percentile_interval(each, confidence=confidence) for each in (error, now - error))
        found.append(
            Forecast(float(factor), round(factor * counts.max()), float(middle), *interval, float(gained), *gain)
        )
    return tuple(found), float(np.median(now))


def _curves(
    ratios: Floats, errors: Floats, covariance: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Draws of (a, b, c) from what the points leave; b is the part of the error at ratio 1 that data removes."""
    cells = [(a * errors.min(), c, noise) for a in FLOORS for c in EXPONENTS for noise in TRAINING_NOISE]
    weights, means, deviations = np.array([_fit(ratios, errors, covariance, *cell) for cell in cells]).T
    chance = np.exp(weights - weights.max())
    chosen = rng.choice(len(cells), size=NUM_DRAWS, p=chance / chance.sum())
    floor, exponent, _ = np.array(cells)[chosen].T
    least = special.ndtr(-means[chosen] / deviations[chosen])
    uniform = least + (1 - least) * rng.random(NUM_DRAWS)
    scale = means[chosen] + deviations[chosen] * special.ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    return floor, np.maximum(scale, 0.0), exponent


def _fit(
    ratios: Floats, errors: Floats, covariance: Floats, floor: float, exponent: float, noise: float
) -> tuple[float, float, float]:
    """Log of the marginal likelihood of one floor, exponent and noise; mean and deviation of b."""
    spread = covariance + np.diag((noise * errors) ** 2)
    design, target = ratios**-exponent, errors - floor
    solved = np.linalg.solve(spread, np.column_stack([design, target]))
    precision = float(design @ solved[:, 0])
    mean = float(design @ solved[:, 1]) / precision
    misfit = float(target @ solved[:, 1]) - mean**2 * precision
    log_determinant = float(np.linalg.slogdet(spread)[1])
    weight = -0.5 * (misfit + log_determinant + math.log(precision)) + float(
        special.log_ndtr(mean * math.sqrt(precision))
    )
    return weight, mean, 1 / math.sqrt(precision)
