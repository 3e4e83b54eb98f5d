"""How many planted gaps does the bias audit find, beside a test of the one question that was fixed beforehand?

    python bench/bias_power.py [--plants gap intersection slope twenty none nothing-of-twenty] [--audits 100]
        [--nulls 500] [--cases 400 1000 3000] [--workers 2]

Cases of as many patients, half of them sick, with a sensitivity and a specificity of .9. Planted are: "gap", a
sensitivity of .7 at a site of 15 %; "twenty", the same among 20 attributes; "intersection", .7
for the women of a ward, 15 % of the patients, and for nobody else; "slope", a sensitivity that falls evenly with age,
from .95 at 20 years to .65 at 90. "none" and "nothing-of-twenty" are without a gap: any finding is false.

Printed is the share of audits that name what was planted, of all attributes at their family-wise error of .01 and of
the column alone that was fixed beforehand (at .05), beside Fisher's exact test of the sick cases inside and outside the
group (of age below and above 60) at .05.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.bias_outcome import BiasAudit
from hounsfield.evaluation.outcomes import as_outcomes

PLANTS = ("gap", "intersection", "slope", "twenty", "none", "nothing-of-twenty")
ASKED = {"intersection": ("sex", "ward"), "slope": ("age",)}


class Draw(NamedTuple):
    """One cohort: what was planted, how many cases, and a seed."""

    plant: str
    cases: int
    seed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", nargs="+", choices=PLANTS, default=PLANTS)
    parser.add_argument("--audits", type=int, default=100)
    parser.add_argument("--nulls", type=int, default=500)
    parser.add_argument("--cases", type=int, nargs="+", default=[400, 1000, 3000])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.workers) as pool:
        for plant in options.plants:
            count = options.nulls if plant.startswith("no") else options.audits
            for cases in options.cases:
                draws = [Draw(plant, cases, seed) for seed in range(count)]
                shares = np.mean(list(pool.map(judged, draws, chunksize=5)), axis=0)
                told = ", ".join(f"{name} {share:.1%}" for name, share in zip(NAMES, shares, strict=True))
                print(f"{plant:18} {cases:5} cases, {count} audits: {told}", flush=True)


NAMES = ("all attributes", "fixed beforehand", "Fisher")


def judged(draw: Draw) -> tuple[bool, bool, bool]:
    """Whether each of ``NAMES`` finds something: what was planted, or anything where nothing was."""
    rng = np.random.default_rng([draw.seed, draw.cases])
    count, plant = draw.cases, draw.plant
    table = pd.DataFrame(
        {
            "site": rng.choice(["north", "south"], count, p=[0.85, 0.15]),
            "sex": rng.choice(["F", "M"], count),
            "ward": rng.choice(["A", "B"], count, p=[0.7, 0.3]),
            "age": rng.integers(20, 91, count),
        }
    )
    if plant in ("twenty", "nothing-of-twenty"):
        for number in range(16):
            table[f"other {number}"] = rng.choice(["a", "b", "c"], count, p=[0.5, 0.35, 0.15])
    sick = rng.random(count) < 0.5
    inside, lower = planted(plant, table)
    right = rng.random(count) < 0.9 - lower * sick
    score = np.where(sick == right, rng.uniform(0.5, 1, count), rng.uniform(0, 0.5, count))
    answers = as_outcomes(sick, score, labels=("well", "sick"), task="binary")
    columns = ASKED.get(plant, ("site",))
    nothing = plant.startswith("no")
    every, fixed = audit_bias(answers, table), audit_bias(answers, table, attributes=columns)
    counts = [[int((right & sick & side).sum()), int((~right & sick & side).sum())] for side in (inside, ~inside)]
    return (
        any(nothing or names <= set(columns) for names in named(every)),
        any(nothing or names <= set(columns) for names in named(fixed)),
        bool(stats.fisher_exact(counts).pvalue < 0.05),
    )


def planted(plant: str, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which cases are in the group that is asked about, and by how much the sensitivity of each case is lower."""
    age = table["age"].to_numpy()
    if plant == "slope":
        return age >= 60, 0.3 * (age - 20) / 70 - 0.05
    if plant == "intersection":
        inside = ((table["sex"] == "F") & (table["ward"] == "B")).to_numpy()
    else:
        inside = (table["site"] == "south").to_numpy()
    return inside, 0.2 * inside * (not plant.startswith("no"))


def named(audit: BiasAudit) -> Iterator[set[str]]:
    """The columns of each finding."""
    for gap in audit.findings:
        yield {name for name, _ in gap.parts}


if __name__ == "__main__":
    main()
