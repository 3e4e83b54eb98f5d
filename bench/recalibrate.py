"""Does local recalibration find a planted shift again?

    python bench/recalibrate.py [--draws 200]

Cases are drawn from a place where the model's log odds are too extreme by 1.8 and too high by 1.2. Printed are the
median slope and intercept of the recalibrated model in the population (20,000 cases), how often the 95 % intervals of
slope and intercept before recalibration hold those of the population (100,000), and the largest change of an AUC.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import special
from sklearn.metrics import roc_auc_score

from hounsfield.evaluation import as_outcomes
from hounsfield.evaluation.calibration import calibration_line
from hounsfield.evaluation.local_update import fit_local
from hounsfield.evaluation.scaling import Unscaled

EXTREME, HIGH, SEPARATION, PREVALENCE = 1.8, 1.2, 1.8, 0.3


def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(count) < PREVALENCE
    signal = SEPARATION * (rng.normal(size=count) + SEPARATION * truth) - SEPARATION**2 / 2
    logit = signal + np.log(PREVALENCE / (1 - PREVALENCE))
    return truth, special.expit(EXTREME * logit + HIGH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    rng = np.random.default_rng(0)
    truth, score = draw(100_000, rng)
    known = calibration_line(truth, score)
    slopes, intercepts, held, changes = [], [], [], []
    for _ in range(draws):
        local_truth, local = draw(int(rng.integers(100, 401)), rng)
        answers = as_outcomes(local_truth, local, labels=("normal", "sick"), task="binary")
        scaling = fit_local(answers, Unscaled()).scaling
        line = calibration_line(local_truth, local)
        held.append(
            [
                line.slope_interval.low <= known.slope <= line.slope_interval.high,
                line.intercept_interval.low <= known.intercept <= line.intercept_interval.high,
            ]
        )
        after = scaling.apply(score[:20_000, None], "binary")[:, 0]
        found = calibration_line(truth[:20_000], after)
        slopes.append(found.slope)
        intercepts.append(found.intercept)
        aucs = [roc_auc_score(local_truth, each) for each in (local, scaling.apply(local[:, None], "binary")[:, 0])]
        changes.append(abs(aucs[1] - aucs[0]))
    share = np.mean(held, axis=0)
    print(f"before: slope {known.slope:.2f}, intercept {known.intercept:+.2f}")
    for name, values in (("slope", slopes), ("intercept", intercepts)):
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        print(f"after: {name} {middle:.2f} (80 % of draws {low:.2f} to {high:.2f})")
    print(f"intervals hold: slope {share[0]:.1%}, intercept {share[1]:.1%}; largest change of AUC {max(changes):.1e}")


if __name__ == "__main__":
    main()
