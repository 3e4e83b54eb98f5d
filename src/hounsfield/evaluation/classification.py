"""One call that evaluates a classifier: every metric with its interval, the confusion matrix, the curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.errors import EvaluationError
from hounsfield.evaluation.delong import auc_interval
from hounsfield.evaluation.intervals import (
    Clusters,
    Interval,
    Sampling,
    bca_interval,
    bootstrap,
    jackknife,
    make_clusters,
    recentred_interval,
    vary,
)
from hounsfield.evaluation.metrics import METRICS, Tally, headline
from hounsfield.evaluation.outcomes import (
    Booleans,
    Floats,
    Integers,
    Outcomes,
    as_outcomes,
)
from hounsfield.evaluation.proportions import clustered_proportion, mean_of_proportions
from hounsfield.tasks import LabelTask, Threshold, Traits

NOWHERE = Interval(math.nan, math.nan)
# Of each kind that a figure rests on; with fewer, a note says that it is unreliable.
LEAST_PATIENTS = 10
UNRELIABLE = "unreliable"
UNVARIED = "no interval: resampling these patients does not change the value"


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval.

    Attributes:
        value: the figure on these cases; ``nan`` where it is undefined.
        low: the lower end of the interval; ``high`` the upper end; ``nan`` where none can be found.
        n: the cases that it rests on: all, or those that stand in its denominator.
        method: how the interval was found.
        note: why a figure or its interval is undefined, or rests on fewer labels; empty otherwise.
    """

    value: float
    low: float
    high: float
    n: int
    method: str = ""
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The form of ``metrics.json``; what is undefined becomes ``null``, an empty note is left out."""
        ends = {name: _json_number(getattr(self, name)) for name in ("value", "low", "high")}
        texts = {name: text for name in ("method", "note") if (text := getattr(self, name))}
        return {**ends, "n": self.n, **texts}


def estimate_from_dict(found: Mapping[str, Any]) -> Estimate:
    """What ``Estimate.to_dict`` gave."""
    value, low, high = (math.nan if found.get(name) is None else found[name] for name in ("value", "low", "high"))
    return Estimate(value, low, high, int(found.get("n", 0)), found.get("method", ""), found.get("note", ""))


def _json_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# The share that each metric is: which cases succeed, and among which.
_SHARES: dict[str, Callable[[Outcomes], tuple[Booleans, Booleans]]] = {
    "accuracy": lambda a: (_right(a), a.known[:, : len(a.judged)]),
    "sensitivity": lambda a: (a.decisions, a.truth),
    "specificity": lambda a: (~a.decisions, a.absent),
    "ppv": lambda a: (a.truth, a.decisions & a.known),
    "npv": lambda a: (a.absent, ~a.decisions & a.known),
    "f1": lambda a: (a.truth & a.decisions, a.truth | (a.decisions & a.known)),  # the Jaccard index J; F1 = 2J/(1+J)
}
# Headlines that are means over classes of the share recognised -> whether they are so for a task.
_MEAN_RECALLS: dict[str, Callable[[Traits], bool]] = {
    "balanced_accuracy": lambda traits: not traits.multi_label,
    "sensitivity": lambda traits: traits.exclusive,
}
# What compares cases with non-cases, or has most of its spread from the rarer of them, and so rests on either.
_RANKED = frozenset({"auc", "average_precision", "balanced_accuracy", "kappa", "f1", "brier", "log_loss", "ece"})
_DENOMINATORS: dict[str, Callable[[Outcomes], Booleans]] = {
    "positives": lambda a: a.truth,
    "negatives": lambda a: a.absent,
    "called": lambda a: a.decisions & a.known,
    "left": lambda a: ~a.decisions & a.known,
}


def _right(answers: Outcomes) -> Booleans:
    if answers.traits.exclusive:
        return answers.outcome
    return np.asarray(answers.truth == answers.decisions)


def evaluate(  # noqa: PLR0913 - each is a fact of the test that only the caller knows
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    *,
    labels: Sequence[str],
    task: LabelTask,
    threshold: Threshold = 0.5,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    sampling: Sampling = "cohort",
) -> dict[str, Estimate]:
    """Every metric of ``METRICS`` with its confidence interval, in one dictionary.

    A multi-class or multi-label task also has ``NAME_LABEL`` for the metrics that are reported for each label. The
    interval is the one that covers best in small samples (docs/evaluation.md): Wilson's for shares, DeLong's on the
    logit scale for AUC, both by patient where patients have several cases; the bootstrap by patient (BCa) elsewhere.

    Args:
        y_true: binary (n,) or (n, 1) of 0 and 1; multi-class (n,) indices or (n, C) one-hot; multi-label (n, C),
            NaN where it is not known.
        y_score: probabilities: binary (n,) or (n, 1); otherwise (n, C).
        labels: label names in class order; binary: (negative, positive).
        task: the kind of task.
        threshold: a score above it is a yes (binary, multi-label); of several labels also one for each.
        groups: (n,) patient of each case; ``None`` when each case is another patient.
        num_replicates: bootstrap replicates.
        seed: of the bootstrap.
        confidence: nominal coverage of each interval.
        sampling: whether patients came as they were (``"cohort"``) or a fixed number of each label was chosen
            (``"case-control"``); see ``resampled_weights``.

    Raises:
        EvaluationError: the arrays do not fit each other.
    """
    answers = as_outcomes(y_true, y_score, labels=labels, task=task, threshold=threshold)
    return evaluate_outcomes(
        answers, groups=groups, num_replicates=num_replicates, seed=seed, confidence=confidence, sampling=sampling
    )


def evaluate_outcomes(
    answers: Outcomes,
    *,
    groups: npt.ArrayLike | None = None,
    num_replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    sampling: Sampling = "cohort",
) -> dict[str, Estimate]:
    """``evaluate`` for answers that are laid out already; their decisions are taken as they are."""
    if not 0 < confidence < 1:
        raise EvaluationError(
            f"The confidence is {confidence:g}; expected a share strictly between 0 and 1, such as 0.95."
        )
    clusters = make_clusters(answers.truth, groups)
    order = np.argsort(-answers.scores[:, 0], kind="stable")  # sorted once, not in every replicate
    answers, clusters = answers.take(order), Clusters(clusters.of_case[order], clusters.stratum)
    return _Evaluation(answers, clusters, num_replicates, seed, confidence, sampling).estimates()


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """What ``evaluate`` works with; its one public method makes the estimates."""

    answers: Outcomes
    clusters: Clusters
    num_replicates: int
    seed: int
    confidence: float
    sampling: Sampling

    def estimates(self) -> dict[str, Estimate]:
        """Headline figures first, then those of each label."""
        tally = Tally(self.answers, np.ones((len(self.answers), 1)), clusters=self.clusters)
        rows = {name: metric.compute(tally) for name, metric in METRICS.items()}
        values = self._by_label(rows)
        intervals = self._closed(values)
        rest = [key for key in values if key not in intervals]
        intervals.update(self._bootstrapped(rest, values))
        estimates = {}
        for key in sorted(values, key=_rank):
            note = self._note(key, rows[key[0]][:, 0])
            estimates[_key(key)] = self._estimate(key, float(values[key][0]), *intervals[key], note)
        return estimates

    def _by_label(self, rows: dict[str, Floats]) -> dict[tuple[str, str], Floats]:
        """The (R,) values by metric and label ("" for the headline) from the (K, R) values by metric."""
        values: dict[tuple[str, str], Floats] = {}
        for name, each in rows.items():
            values[name, ""] = headline(each)
            if METRICS[name].per_label and len(each) > 1:
                values.update({(name, label): row for label, row in zip(self.answers.questions, each, strict=True)})
        return values

    def _closed(self, values: dict[tuple[str, str], Floats]) -> dict[tuple[str, str], tuple[Interval, str]]:
        """The intervals that need no resampling."""
        found: dict[tuple[str, str], tuple[Interval, str]] = {}
        for name, label in values:
            columns = self._columns(label)
            if not label and self._is_mean_recall(name):
                interval = self._mean_recall()
                found[name, label] = interval, "Wilson, combined"
            elif name == "auc":
                truth, scores = self.answers.truth[:, columns], self.answers.scores[:, columns]
                known = self.answers.known[:, columns]
                interval = auc_interval(truth, scores, self.clusters, known=known, confidence=self.confidence)
                found[name, label] = interval, "DeLong, logit scale"
            elif name in _SHARES:
                hits, base = _SHARES[name](self.answers)
                if label:
                    hits, base = hits[:, columns], base[:, columns]
                if hits.shape[1] == 1:
                    interval = clustered_proportion(hits[:, 0], base[:, 0], self.clusters, confidence=self.confidence)
                    found[name, label] = _from_jaccard(interval) if name == "f1" else interval, "Wilson"
        by_patient = "" if self.clusters.single else ", by patient"
        return {key: (interval, method + by_patient) for key, (interval, method) in found.items()}

    def _is_mean_recall(self, name: str) -> bool:
        """Whether a headline is a mean over classes of the share recognised, of classes that share no patient."""
        if name not in _MEAN_RECALLS or not _MEAN_RECALLS[name](self.answers.traits):
            return False
        return bool((self.clusters.sums(self.answers.class_truth.astype(np.float64)) > 0).sum(axis=1).max() == 1)

    def _mean_recall(self) -> Interval:
        answers = self.answers
        return mean_of_proportions(
            answers.class_decisions, answers.class_truth, self.clusters, confidence=self.confidence
        )

    def _bootstrapped(
        self, keys: Sequence[tuple[str, str]], values: dict[tuple[str, str], Floats]
    ) -> dict[tuple[str, str], tuple[Interval, str]]:
        names = tuple(dict.fromkeys(name for name, _ in keys))

        def statistic(weights: Floats, *, resampled: bool = True) -> Floats:
            tally = Tally(self.answers, weights, resampled=resampled, clusters=self.clusters)
            found = self._by_label({name: METRICS[name].compute(tally) for name in names})
            return np.stack([found[key] for key in keys])

        if not keys:
            return {}
        if len(self.clusters) < 2:
            return dict.fromkeys(keys, (NOWHERE, ""))
        truth, sampling = self.answers.truth, self.sampling
        replicates = bootstrap(
            statistic, self.clusters, truth, num_replicates=self.num_replicates, seed=self.seed, sampling=sampling
        )
        left_out = jackknife(partial(statistic, resampled=False), self.clusters, seed=self.seed)
        rest = zip(keys, replicates, left_out, strict=True)
        return {key: self._interval(key[0], float(values[key][0]), drawn, without) for key, drawn, without in rest}

    def _interval(self, name: str, value: float, drawn: Floats, without: Floats) -> tuple[Interval, str]:
        if not vary(drawn):
            return NOWHERE, ""
        if name == "ece":
            interval, kind = recentred_interval(value, drawn, confidence=self.confidence), "recentred"
        else:
            interval, kind = bca_interval(value, drawn, without, confidence=self.confidence), "BCa"
        return interval, f"{kind} bootstrap by patient, {self.num_replicates:,} replicates"

    def _columns(self, label: str) -> Integers:
        questions = self.answers.questions
        return np.arange(len(questions)) if not label else np.array([questions.index(label)])

    def _estimate(self, key: tuple[str, str], value: float, interval: Interval, method: str, note: str) -> Estimate:
        name, label = key
        count = int(self.answers.known[:, self._columns(label)].any(axis=1).sum())
        base = _DENOMINATORS.get(METRICS[name].of)
        columns = self._columns(label)
        if base is not None and len(columns) == 1:
            count = int(base(self.answers)[:, columns].sum())
        if not math.isfinite(value):
            return Estimate(math.nan, math.nan, math.nan, count, note=note)
        if not math.isfinite(interval.low):
            note = note or UNVARIED
        clip = METRICS[name].clip
        low, high = min(interval.low, value), max(interval.high, value)
        return Estimate(clip(value), clip(low), clip(high), count, method, note or self._few(key))

    def _note(self, key: tuple[str, str], rows: Floats) -> str:
        """Why a figure is undefined, or over which labels its mean was taken; empty where neither is to be said."""
        name, label = key
        questions = self.answers.questions
        undefined = [question for question, value in zip(questions, rows, strict=False) if not math.isfinite(value)]
        if label and label in undefined:
            return self._reason(name, label)
        if label or not undefined:
            return ""
        if len(rows) == 1:
            return self._reason(name, questions[0] if len(questions) == 1 else "")
        reasons = "; ".join(self._reason(name, question) for question in undefined)
        defined = len(rows) - len(undefined)
        return f"mean over {defined} of {len(rows)} labels ({reasons})" if defined else reasons

    def _few(self, key: tuple[str, str]) -> str:
        """That a figure rests on fewer than ten patients of a kind; empty where it does not."""
        name, label = key
        answers, base = self.answers, _DENOMINATORS.get(METRICS[name].of)
        kinds = (answers.truth, answers.absent) if name in _RANKED else (base(answers) if base else answers.known,)
        fewest = min(
            len(np.unique(self.clusters.of_case[kind[:, column]])) for kind in kinds for column in self._columns(label)
        )
        return few_patients(fewest)

    def _reason(self, name: str, label: str) -> str:
        columns = self._columns(label)
        truth, absent = self.answers.truth[:, columns], self.answers.absent[:, columns]
        if name in {"ppv", "npv"}:
            return f"no prediction is {'' if name == 'ppv' else 'not '}'{label}'"
        if label and not truth.any():
            return f"no case is '{label}'"
        if label and not absent.any():
            return f"every case is '{label}'"
        return "all truths and predictions are one label"


def few_patients(count: int) -> str:
    """That a figure rests on fewer than ten patients of a kind; empty where it does not."""
    if count >= LEAST_PATIENTS:
        return ""
    return f"{UNRELIABLE}: rests on {count} patient{'s' * (count != 1)} of a kind; at least {LEAST_PATIENTS} are needed"


def _key(key: tuple[str, str]) -> str:
    name, label = key
    return f"{name}_{label}" if label else name


def _rank(key: tuple[str, str]) -> bool:
    return bool(key[1])  # sorting is stable: headline figures first, otherwise in the order of METRICS


def _from_jaccard(interval: Interval) -> Interval:
    return Interval(*(2 * end / (1 + end) for end in interval))


def estimates_to_dict(estimates: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    """One split's part of ``metrics.json``."""
    return {name: estimate.to_dict() for name, estimate in estimates.items()}
