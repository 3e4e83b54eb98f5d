"""Do the intervals of `evaluate` cover the truth as often as they say, and what do they cost?

    python bench/intervals.py coverage [--draws 500] [--replicates 400]
    python bench/intervals.py speed

Coverage: cohorts are drawn from a population whose every metric is known (from a million cases drawn the same way),
and the share of draws whose 95 % interval holds the true value is printed, a row a metric and a column a design.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass

import numpy as np

from hounsfield.evaluation import METRICS, evaluate
from hounsfield.evaluation.metrics import calibration_bins

SEPARATION = 1.8  # of the two normal distributions: AUC about .90
POPULATION = 1_000_000


@dataclass(frozen=True)
class Design:
    """How a simulated test set comes about."""

    cases: int
    prevalence: float
    per_patient: int = 1
    sampling: str = "cohort"

    def __str__(self) -> str:
        shape = f"{self.cases}, {self.prevalence:g}"
        shape += f", {self.per_patient} a patient" if self.per_patient > 1 else ""
        return shape + (", case-control" if self.sampling == "case-control" else "")


DESIGNS = [
    Design(cases, prevalence, per_patient, sampling)
    for cases, prevalence, per_patient, sampling in [
        (200, 0.05, 1, "cohort"),
        (200, 0.2, 1, "cohort"),
        (200, 0.5, 1, "cohort"),
        (2000, 0.05, 1, "cohort"),
        (2000, 0.2, 1, "cohort"),
        (2000, 0.5, 1, "cohort"),
        (200, 0.2, 4, "cohort"),
        (200, 0.5, 4, "cohort"),
        (2000, 0.05, 4, "cohort"),
        (2000, 0.2, 4, "cohort"),
        (200, 0.2, 1, "case-control"),
        (2000, 0.2, 1, "case-control"),
    ]
]


def draw(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truths, probabilities (somewhat too extreme) and patients."""
    patients = design.cases // design.per_patient
    of_case = np.repeat(np.arange(patients), design.per_patient)
    if design.sampling == "case-control":
        sick = rng.permutation(patients) < round(patients * design.prevalence)
    else:
        sick = rng.random(patients) < design.prevalence
    truth = sick[of_case]
    shared = rng.normal(size=patients)[of_case]
    share = 0.5 if design.per_patient > 1 else 0.0  # of the variance lies between patients
    signal = np.sqrt(share) * shared + np.sqrt(1 - share) * rng.normal(size=design.cases) + SEPARATION * truth
    odds = np.log(design.prevalence / (1 - design.prevalence))
    logit = SEPARATION * signal - SEPARATION**2 / 2 + odds  # the true log odds
    return truth, 1 / (1 + np.exp(-1.4 * (logit - odds) - odds)), of_case


def truth_of(design: Design) -> dict[str, float]:
    truth, score, _ = draw(Design(POPULATION, design.prevalence, 1), np.random.default_rng(99))
    values = {name: metric(truth, score) for name, metric in METRICS.items()}
    mass, events, expected = calibration_bins(score, truth, np.ones((len(truth), 1)))
    values["ece"] = float(np.abs(events - expected).sum() / mass.sum())
    return values


def coverage(draws: int, replicates: int, designs: list[Design]) -> None:
    table: dict[str, list[str]] = {name: [] for name in METRICS}
    for design in designs:
        known = truth_of(design)
        held = {name: [] for name in METRICS}
        rng = np.random.default_rng(7)
        for _ in range(draws):
            truth, score, patients = draw(design, rng)
            groups = patients if design.per_patient > 1 else None
            found = evaluate(
                truth, score, labels=("no", "yes"), task="binary", groups=groups, num_replicates=replicates,
                sampling=design.sampling,
            )  # fmt: skip
            for name, estimate in found.items():
                if np.isfinite(estimate.value):
                    held[name].append(estimate.low <= known[name] <= estimate.high)
        for name, each in held.items():
            table[name].append(f"{100 * np.mean(each):.1f}")
    print("| metric | " + " | ".join(map(str, designs)) + " |")
    print("| --- |" + " ---: |" * len(designs))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(row) + " |")


def speed() -> None:
    rng = np.random.default_rng(0)
    for cases in (1_000, 10_000, 100_000):
        truth, score, _ = draw(Design(cases, 0.3), rng)
        started, busy = time.perf_counter(), time.process_time()
        evaluate(truth, score, labels=("no", "yes"), task="binary")
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{cases:>8,} cases, 2,000 replicates: {wall:6.2f} s ({cpu:.2f} s of processor), peak {peak:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=["coverage", "speed"])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--designs", type=int, nargs="*", default=list(range(len(DESIGNS))))
    options = parser.parse_args()
    if options.question == "speed":
        speed()
    else:
        coverage(options.draws, options.replicates, [DESIGNS[index] for index in options.designs])


if __name__ == "__main__":
    main()
