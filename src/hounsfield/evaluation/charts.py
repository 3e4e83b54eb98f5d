"""Control charts of a stream of images: drift from validation, with limits of a known false alarm rate.

Three kinds of chart look at the same stream. A two-sided CUSUM (Page 1954) of each figure finds shifts of its level;
the population stability index of each figure, and the maximum mean discrepancy of all of them together (Gretton et al.
2012, by random Fourier features), both with exponentially decaying weights, find changes of any other kind. A CUSUM of
each flag finds a higher share of rare events. Limits come from simulation: streams are drawn from the validation
images by patient, against a validation set that is itself drawn anew, so that a small one gives wide limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.outcomes import Floats, Integers

# Of a CUSUM, in standard deviations: half of the shift that it is to find.
ALLOWANCE = 0.25
# Of the decaying weights: a new image has this share of all, as in a window of 99 images.
DECAY = 0.02
BINS, FEATURES = 10, 32
# Flags are watched for a share that is this many times that of validation, and not less than the lowest.
FLAG_RATIO, LOWEST_SHARE = 3.0, 0.005
# Of the simulation: streams, images of each; validation images beyond the most are thinned.
STREAMS, LENGTH, MOST_ROWS = 400, 2000, 2000
LEAST_ROWS = 50
# Streams are drawn from the images that stand for validation too, so that limits are a little too narrow; measured by
# bench/monitor.py.
MARGIN = 1.2
# Patients with more images than this would make a stream of their own.
MOST_IMAGES = 50


@dataclass(frozen=True, eq=False)
class Reference:
    """What the figures and flags of validation images are like.

    Attributes:
        figures: name → (n,) values, such as log odds or an out-of-distribution score.
        flags: name → (n,) booleans as floats, such as abstentions.
        patients: (n,) codes of patients.
    """

    figures: Mapping[str, Floats]
    flags: Mapping[str, Floats]
    patients: Integers

    def __post_init__(self) -> None:
        count = len(self.patients)
        if count < LEAST_ROWS or not self.figures:
            raise EvaluationError(
                f"Control limits need at least {LEAST_ROWS} validation images with a figure; there are {count:,}. "
                "Give more with --reference."
            )

    @property
    def names(self) -> list[str]:
        """Of the charts, in their order."""
        return [
            *(f"{name}, level" for name in self.figures),
            *(f"{name}, PSI" for name in self.figures),
            "all figures, MMD",
            *(f"{name}, share" for name in self.flags),
        ]

    def normal(self, figures: Mapping[str, Floats]) -> Floats:
        """(n, F) the normal score of each value: the quantile of its rank among those of validation."""
        return np.stack([_normal_scores(self.figures[name], figures[name]) for name in self.figures], axis=1)

    def shares(self) -> Floats:
        """(flags,) of validation."""
        return np.array([max(float(np.mean(values)), LOWEST_SHARE) for values in self.flags.values()])

    def thinned(self) -> Reference:
        """At most ``MOST_ROWS`` of its images, taken evenly."""
        rows = np.unique(np.linspace(0, len(self.patients) - 1, min(len(self.patients), MOST_ROWS)).round().astype(int))
        figures = {name: values[rows] for name, values in self.figures.items()}
        flags = {name: values[rows] for name, values in self.flags.items()}
        return Reference(figures, flags, self.patients[rows])


def _normal_scores(known: Floats, values: Floats) -> Floats:
    ordered = np.sort(known)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    share = np.clip(ranks / len(ordered), 0.5 / len(ordered), 1 - 0.5 / len(ordered))
    return np.asarray(stats.norm.ppf(share))


class _State:
    """The statistics of every chart for S streams side by side, one image of each at a time.

    Args:
        means: (S, F) of the normal scores in validation; ``deviations`` likewise.
        bins: (S, F, BINS) shares of validation in each bin.
        centre: (S, D) mean random features of validation.
        shares: (S, flags) of validation.
    """

    def __init__(self, means: Floats, deviations: Floats, bins: Floats, centre: Floats, shares: Floats) -> None:
        self._means, self._deviations, self._bins, self._centre = means, deviations, bins, centre
        odds = np.minimum(FLAG_RATIO * shares, (1 + shares) / 2)
        self._gains = np.log(odds / shares), np.log((1 - odds) / (1 - shares))
        self.restart()

    def restart(self) -> None:
        """Begin anew, as after an alarm."""
        self._up, self._down = np.zeros_like(self._means), np.zeros_like(self._means)
        self._seen, self._mean = self._bins.copy(), self._centre.copy()
        self._flagged = np.zeros_like(self._gains[0])

    def step(self, normal: Floats, binned: Integers, features: Floats, flags: Floats) -> Floats:
        """(S, charts) after one more image of each stream; ``nan`` leaves a chart as it was."""
        known = ~np.isnan(normal)
        moved = np.where(known, (normal - self._means) / self._deviations, 0)
        self._up = np.where(known, np.maximum(self._up + moved - ALLOWANCE, 0), self._up)
        self._down = np.where(known, np.maximum(self._down - moved - ALLOWANCE, 0), self._down)
        hit = binned[..., None] == np.arange(BINS)
        self._seen = np.where(known[..., None], self._seen + DECAY * (hit - self._seen), self._seen)
        every = known.all(axis=1, keepdims=True)
        self._mean = np.where(every, self._mean + DECAY * (features - self._mean), self._mean)
        told = ~np.isnan(flags)
        gain = np.where(flags > 0.5, *self._gains)
        self._flagged = np.where(told, np.maximum(self._flagged + gain, 0), self._flagged)
        stability = ((self._seen - self._bins) * np.log(self._seen / self._bins)).sum(axis=2)
        discrepancy = np.sqrt(((self._mean - self._centre) ** 2).sum(axis=1, keepdims=True))
        return np.concatenate([np.maximum(self._up, self._down), stability, discrepancy, self._flagged], axis=1)


@dataclass(frozen=True, eq=False)
class Charts:
    """Charts with their limits.

    Attributes:
        reference: validation.
        limits: (charts,) beyond which there is an alarm.
        run_length: images between two false alarms that the limits were made for.
    """

    reference: Reference
    limits: Floats
    run_length: float

    @classmethod
    def fit(cls, reference: Reference, *, run_length: float = 2000, seed: int = 0) -> Charts:
        """Find limits by simulation that give one false alarm of any chart in so many images.

        Each chart has the same share of the false alarms.

        Args:
            reference: validation images.
            run_length: images between two false alarms.
            seed: of the simulation.
        """
        reference = reference.thinned()
        maxima = _largest(reference, seed)
        # Alarms come at a constant rate, so that so many streams have had one.
        wanted = 1 - np.exp(-LENGTH / (MARGIN * run_length))
        low, high = 0.0, 1.0
        for _ in range(30):
            middle = (low + high) / 2
            limits = np.quantile(maxima, 1 - middle, axis=0)
            low, high = (middle, high) if (maxima > limits).any(axis=1).mean() < wanted else (low, middle)
        return cls(reference, np.quantile(maxima, 1 - low, axis=0), run_length)

    def follow(
        self, figures: Mapping[str, Floats], flags: Mapping[str, Floats]
    ) -> tuple[Floats, list[tuple[int, int]]]:
        """Run a stream through the charts; after an alarm all begin anew.

        Args:
            figures: name → (n,) values in the order of time; ``nan`` where there is none.
            flags: name → (n,) likewise.

        Returns:
            (n, charts) statistics as a share of their limits, and each alarm as (image, chart).
        """
        state, rows = self._begun(1), self._rows(figures, flags)
        paths, alarms = np.empty((len(rows[0]), len(self.limits))), []
        for number in range(len(paths)):
            paths[number] = state.step(*(part[number : number + 1] for part in rows))[0] / self.limits
            if (paths[number] > 1).any():
                alarms.append((number, int(paths[number].argmax())))
                state.restart()
        return paths, alarms

    def first_alarms(self, streams: Sequence[tuple[Mapping[str, Floats], Mapping[str, Floats]]]) -> Integers:
        """The images until the first alarm of each stream of one length, that length where there is none: (S,)."""
        state = self._begun(len(streams))
        parts = [self._rows(*stream) for stream in streams]
        rows = [np.stack(each, axis=1) for each in zip(*parts, strict=True)]
        found = np.full(len(streams), len(rows[0]))
        for number in range(len(rows[0])):
            over = (state.step(*(part[number] for part in rows)) > self.limits).any(axis=1)
            found = np.where(over & (found == len(rows[0])), number + 1, found)
        return found

    def _begun(self, count: int) -> _State:
        centres = _Known.of(self.reference).centres(np.ones(len(self.reference.patients)))
        return _State(*(np.repeat(part[None], count, axis=0) for part in centres))

    def _rows(self, figures: Mapping[str, Floats], flags: Mapping[str, Floats]) -> tuple[Any, ...]:
        """Normal scores, their deciles, random features and flags of a stream, image by image."""
        values = np.stack([figures[name] for name in self.reference.figures], axis=1)
        normal = np.nan_to_num(self.reference.normal(figures))
        features = _Known.of(self.reference).features(normal)
        told = [flags[name] for name in self.reference.flags]
        stacked = np.stack(told, axis=1) if told else np.empty((len(normal), 0))
        return np.where(np.isnan(values), np.nan, normal), _binned(normal), features, stacked


@dataclass(frozen=True, eq=False)
class _Known:
    """Validation images as the charts see them.

    Attributes:
        normal: (n, F) normal scores.
        flags: (n, flags).
        directions: (F, D / 2) of the random features.
    """

    normal: Floats
    flags: Floats
    directions: Floats

    @classmethod
    def of(cls, reference: Reference) -> _Known:
        normal = reference.normal(reference.figures)
        count = normal.shape[1]
        # A Gaussian kernel as wide as the distances are.
        directions = np.random.default_rng(0).normal(size=(count, FEATURES // 2)) / np.sqrt(count)
        flags = list(reference.flags.values())
        told = np.stack(flags, axis=1) if flags else np.empty((len(normal), 0))
        return cls(normal, told, directions)

    def features(self, normal: Floats) -> Floats:
        """(n, D) random Fourier features (Rahimi, Recht 2007)."""
        turned = normal @ self.directions
        return np.asarray(np.concatenate([np.cos(turned), np.sin(turned)], axis=1) / np.sqrt(FEATURES // 2))

    def centres(self, weights: Floats, normal: Floats | None = None) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """What ``_State`` needs of validation images that count so often (n,), and of their normal scores (n, F)."""
        normal = self.normal if normal is None else normal
        share = weights / weights.sum()
        means = share @ normal
        deviations = np.sqrt(np.maximum(share @ (normal - means) ** 2, 1e-6))
        hits = _binned(normal)[..., None] == np.arange(BINS)
        # Laplace's correction keeps every share above zero.
        bins = (np.tensordot(weights, hits, axes=1) + 0.5) / (weights.sum() + 0.5 * BINS)
        shares = np.maximum(share @ self.flags, LOWEST_SHARE)
        return means, deviations, bins, share @ self.features(normal), np.minimum(shares, 1 - LOWEST_SHARE)


def _binned(normal: Floats) -> Integers:
    """The decile of each normal score."""
    return np.minimum((stats.norm.cdf(normal) * BINS).astype(np.int64), BINS - 1)


def _largest(reference: Reference, seed: int) -> Floats:
    """(STREAMS, charts) the largest statistic of each chart in streams without drift."""
    generator = np.random.default_rng(seed)
    known = _Known.of(reference)
    members = _members(reference.patients)
    centres: list[tuple[Any, ...]] = []
    normals = []
    for _ in range(STREAMS):
        drawn = np.concatenate([members[each] for each in generator.integers(0, len(members), len(members))])
        # Ranks among the images that were drawn: what a small validation does not know of the tails counts too.
        normal = [_normal_scores(values[drawn], values) for values in reference.figures.values()]
        normals.append(np.stack(normal, axis=1))
        weights = np.bincount(drawn, minlength=len(reference.patients)).astype(np.float64)
        centres.append(known.centres(weights, normals[-1]))
    state = _State(*(np.stack(part) for part in zip(*centres, strict=True)))
    scores, each = np.stack(normals), np.arange(STREAMS)
    order = np.stack([_stream(members, generator) for _ in range(STREAMS)], axis=1)
    largest: Floats | None = None
    for rows in order:
        normal_rows = scores[each, rows]
        found = state.step(normal_rows, _binned(normal_rows), known.features(normal_rows), known.flags[rows])
        largest = found if largest is None else np.maximum(largest, found)
    return np.asarray(largest)


def _members(patients: Integers) -> list[npt.NDArray[np.int64]]:
    """The images of each patient, at most so many."""
    order = np.argsort(patients, kind="stable")
    cuts = np.flatnonzero(np.diff(patients[order])) + 1
    return [rows[:MOST_IMAGES] for rows in np.split(order, cuts)]


def _stream(members: Sequence[Integers], generator: np.random.Generator) -> Integers:
    """``LENGTH`` images: patient after patient."""
    found: list[Integers] = []
    total = 0
    while total < LENGTH:
        found.append(members[int(generator.integers(len(members)))])
        total += len(found[-1])
    return np.concatenate(found)[:LENGTH]
