"""Does the bias audit find what is planted, does it accuse where nothing is, and what does balancing groups buy?

    python bench/bias.py simulated [--audits 200] [--patients 200 400 800]
    python bench/bias.py coverage [--audits 200] [--patients 200 800]
    python bench/bias.py phantoms [--seeds 0 1 2] [--arms weak marker none] [--tested 800] [--folder DIR]
    python bench/bias.py mitigation [--patients 1200] [--folder DIR]
    python bench/bias.py speed

`simulated` draws predictions that are spread like those of quick networks on phantom:chest (the logits' mean and
deviation by label, and the correlation of one patient's images, of the runs that `phantoms` makes with seeds 0 to 2),
and counts findings: of a corner marker on 90 % of the cases and 10 % of the others, of a group of 15 % whose cases
score lower, and where every attribute is drawn without regard to the predictions, so that any finding is false.

`coverage` counts how often the 95 % interval of a gap holds 0 in the same predictions with nothing planted.

`phantoms` trains a quick network a seed and arm on phantom:chest and audits it on a cohort of other patients with the
same bias. Of the unbiased arm it counts the findings by site and by placebo columns drawn for the purpose, which must
be false: sex, age, view and scanner change the picture itself, so a difference by them can be real. Whether it is
shows on a third cohort, of yet other patients.

`mitigation` trains with and without balance_groups=marker on a cohort with the marker, and tests both on a cohort in
which the marker tells nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from hounsfield.evaluation.assessment import Assessment
from hounsfield.evaluation.bias import audit_bias
from hounsfield.evaluation.bias_outcome import BiasAudit, Gap
from hounsfield.evaluation.gaps import contrast
from hounsfield.evaluation.group_figures import GROUP_METRICS, Question, measure, too_small
from hounsfield.evaluation.outcomes import Outcomes, as_outcomes

LABELS = ("normal", "opacity")
SITES = {"Northgate Hospital": 0.50, "Riverside Clinic": 0.35, "Lakeside Hospital": 0.15}
WEAK = "site = Lakeside Hospital"
MARKER_BIAS = 0.8
ARMS = {
    "weak": {"weak_group": "site=Lakeside Hospital", "weak_signal": 0.4},
    "marker": {"marker_bias": MARKER_BIAS},
    "none": {},
}


# Columns without a trace in the picture of the unbiased arm.
BLIND = {"site", "placebo"}
TEST_SEED = 500  # added to a training cohort's seed


def simulate(arm: str, num_patients: int, rng: np.random.Generator) -> tuple[Outcomes, pd.DataFrame, np.ndarray]:
    """Made-up answers, the attributes of phantom:chest, and patients."""
    images = rng.choice([1, 2, 3], p=[0.35, 0.35, 0.30], size=num_patients)
    patient = np.repeat(np.arange(num_patients), images)
    count = len(patient)
    truth = (rng.random(num_patients) < 0.56)[patient] & (rng.random(count) < 0.86)
    bias = MARKER_BIAS if arm == "marker" else 0.0
    table = pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], num_patients)[patient],
            "age": np.clip(rng.normal(56, 17, num_patients), 19, 92).astype(int)[patient],
            "site": rng.choice(list(SITES), p=list(SITES.values()), size=num_patients)[patient],
            "scanner": np.where(rng.random(count) < 0.45, "Clarus 7", "Radion DX-40"),
            "view": np.where(rng.random(count) < 0.25, "AP", "PA"),
            "marker": np.where(rng.random(count) < 0.5 + 0.5 * bias * np.where(truth, 1, -1), "present", "absent"),
        }
    )

    def noise(share: float) -> np.ndarray:
        """Standard noise, this share of its variance between patients."""
        common = rng.normal(size=num_patients)[patient]
        return np.sqrt(share) * common + np.sqrt(1 - share) * rng.normal(size=count)

    lesion, ground = noise(0.75), noise(0.5)
    cases = 2.9 + 2.4 * lesion
    others = -1.9 + 0.9 * (np.exp(0.5 * ground) - 0.7) + 0.6 * ground
    if arm == "weak":
        cases = cases - 2.1 * (table["site"] == "Lakeside Hospital").to_numpy()
    logit = np.where(truth, cases, others)
    if arm == "marker":
        logit = logit + np.where(table["marker"] == "present", 1.8, -1.8)
    answers = as_outcomes(truth, 1 / (1 + np.exp(-logit)), labels=LABELS, task="binary")
    return answers, table, patient


def simulated_audit(arm: str, num_patients: int, rng: np.random.Generator) -> BiasAudit:
    answers, table, patient = simulate(arm, num_patients, rng)
    return audit_bias(answers, table, groups=patient)


def coverage(draws: int, patients: list[int]) -> None:
    """How often the interval of a gap holds 0 where nothing is planted."""
    groups = {
        "15 % of the patients": ("site", "Lakeside Hospital"),
        "half": ("sex", "F"),
        "25 % of images": ("view", "AP"),
    }
    for size in patients:
        held: dict[tuple[str, str], list[bool]] = {}
        for seed in range(draws):
            answers, table, patient = simulate("none", size, np.random.default_rng([seed, size]))
            question = Question.of(answers, 0, patient)
            for told, (column, level) in groups.items():
                rows = (table[column] == level).to_numpy()
                for name, metric in GROUP_METRICS.items():
                    if any(too_small(metric, question.take(side)) for side in (rows, ~rows)):
                        continue
                    tested = contrast(question.comparable(name), rows, patient)
                    low, high = measure(metric, question, rows, tested, 0.95).interval
                    held.setdefault((name, told), []).append(low <= 0 <= high)
        for (name, told), each in held.items():
            print(f"{size:5} test patients, {name:16} {told:22} {100 * np.mean(each):.1f} % of {len(each)}", flush=True)


def is_found(audit: BiasAudit, arm: str) -> bool:
    """Whether the audit names what was planted; of the unbiased arm, whether it finds anything."""
    groups = {gap.group for gap in audit.findings}
    if arm == "weak":
        return WEAK in groups
    return any(group.startswith("marker = ") for group in groups) if arm == "marker" else bool(groups)


def simulated(audits: int, patients: list[int]) -> None:
    for arm, number in (("weak", max(20, audits // 5)), ("marker", max(20, audits // 5)), ("none", audits)):
        for size in patients:
            found, beside = 0, 0
            for seed in range(number):
                audit = simulated_audit(arm, size, np.random.default_rng([seed, size]))
                found += is_found(audit, arm)
                wanted = {"weak": "site", "marker": "marker"}.get(arm, "")
                named = [gap.parts for gap in audit.findings]
                beside += any(wanted not in dict(parts) for parts in named) if wanted else 0
            told = "" if arm == "none" else f", something else in {beside}"
            print(f"{arm:7} {size:5} test patients: found in {found} of {number}{told}", flush=True)


def phantom(arm: str, seed: int, patients: int, folder: Path) -> Path:
    """A cohort of one arm, made if need be."""
    from hounsfield.phantoms import make_phantom

    data = folder / f"{arm}{seed}"
    if not data.exists():
        make_phantom("phantom:chest", data, seed=seed, num_patients=patients, **ARMS[arm])
    return data


def quick_run(arm: str, seed: int, patients: int, folder: Path, *changes: str) -> Path:
    """The run folder of a quick training on a cohort of one arm, trained if need be."""
    from hounsfield import train

    run = folder / "-".join([f"run-{arm}{seed}", *(change.replace("=", "-") for change in changes)])
    if not (run / "metrics.json").is_file():
        train(str(phantom(arm, seed, patients, folder)), run, effort="quick", seed=seed, changes=list(changes))
    return run


def audit_on(run: Path, data: Path, *, placebo_seed: int | None = None) -> tuple[Assessment, BiasAudit]:
    """Test a run on a cohort and audit it, if wanted with placebo columns beside the others."""
    from hounsfield.testing import evaluate_run

    assessment = evaluate_run(run, str(data)).assessment
    table = assessment.table.copy()
    if placebo_seed is not None:
        rng = np.random.default_rng(placebo_seed)
        names, codes = np.unique(assessment.groups.astype(str), return_inverse=True)
        for number in range(5):
            table[f"placebo {number}"] = rng.choice(["a", "b", "c"], p=[0.5, 0.35, 0.15], size=len(names))[codes]
    return assessment, audit_bias(assessment.answers, table, groups=assessment.groups)


def is_blind(gap: Gap) -> bool:
    """Whether a finding is by columns alone that leave no trace in the picture, and so must be false."""
    return {name.partition(" ")[0] for name, _ in gap.parts} <= BLIND


def repeats(gap: Gap, audit: BiasAudit) -> bool:
    """Whether an audit of other patients has the same gap, on the same side of 0 with its interval."""
    return any(
        (one.group, one.metric, one.question) == (gap.group, gap.metric, gap.question)
        and (one.low > 0 if gap.value > 0 else one.high < 0)
        for one in audit.gaps
    )


def phantoms(seeds: list[int], patients: int, tested: int, arms: list[str], folder: Path) -> None:
    for seed in seeds:
        for arm in arms:
            started = time.perf_counter()
            run = quick_run(arm, seed, patients, folder)
            data = phantom(arm, TEST_SEED + seed, tested, folder)
            _, audit = audit_on(run, data, placebo_seed=seed if arm == "none" else None)
            outcome = is_found(audit, arm)
            if arm == "none":
                others = [gap for gap in audit.findings if not is_blind(gap)]
                again = audit_on(run, phantom(arm, 2 * TEST_SEED + seed, tested, folder))[1] if others else audit
                outcome = (
                    f"{len(audit.findings) - len(others)} findings by columns that no picture shows; of {len(others)} "
                    f"others {sum(repeats(gap, again) for gap in others)} are there on {tested} other patients too"
                )
            print(f"seed {seed}, {arm}: {outcome} ({time.perf_counter() - started:.0f} s)", flush=True)
            print(*audit.lines()[:5], sep="\n", flush=True)


def mitigation(patients: int, folder: Path) -> None:
    fair = phantom("none", 2 * TEST_SEED, 400, folder)
    for changes in ((), ("balance_groups=marker",)):
        assessment, audit = audit_on(quick_run("marker", 1, patients, folder, *changes), fair)
        print(" ".join(changes) or "as planned")
        for name in ("auc", "sensitivity", "specificity"):
            estimate = assessment.estimates[name]
            print(f"  {name} {estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})", flush=True)
        for gap in audit.gaps:
            if len(gap.parts) == 1 and gap.parts[0][0] == "marker":
                print(f"  {gap.group}: {gap.text()}", flush=True)


def speed() -> None:
    rng = np.random.default_rng(0)
    for patients in (500, 5_000, 50_000):
        started, busy = time.perf_counter(), time.process_time()
        audit = simulated_audit("none", patients, rng)
        wall, cpu = time.perf_counter() - started, time.process_time() - busy
        print(f"{audit.overall.cases:>8,} cases, {len(audit.groups)} groups: {wall:.1f} s ({cpu:.1f} s of processor)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["simulated", "coverage", "phantoms", "mitigation", "speed"])
    parser.add_argument("--audits", type=int, default=200)
    parser.add_argument("--patients", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--tested", type=int, default=800)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hounsfield-bias-"))
    if options.question == "simulated":
        simulated(options.audits, options.patients or [200, 400, 800])
    elif options.question == "coverage":
        coverage(options.audits, options.patients or [200, 800])
    elif options.question == "phantoms":
        phantoms(options.seeds, (options.patients or [1200])[0], options.tested, options.arms, folder)
    elif options.question == "mitigation":
        mitigation((options.patients or [1200])[0], folder)
    else:
        speed()


if __name__ == "__main__":
    main()
