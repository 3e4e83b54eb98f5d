"""Do the intervals of `evaluate` cover the truth as often as they say, and what do they cost?

    python bench/intervals.py coverage [--draws 500] [--replicates 400]
    python bench/intervals.py small [--draws 1000] [--keep FOLDER]
    python bench/intervals.py speed

Coverage: cohorts are drawn from a population whose every metric is known (from a million cases drawn the same way),
and the share of draws whose 95 % interval holds the true value is printed, a row a metric and a column a design.
Small: 100 and 500 cases, also three images a patient that are nearly alike, with calibration slope and intercept, net
benefit, the macro AUC of three classes, AP50 of a detector and Dice of a segmenter; figures that come with a note on
too few patients are counted apart.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from segment_metrics import population as masks

from hounsfield.evaluation import METRICS, Detections, Finding, Truth, as_detections, evaluate, evaluate_detections
from hounsfield.evaluation.average_precision import average_precisions
from hounsfield.evaluation.calibration import calibration_line
from hounsfield.evaluation.classification import LEAST_PATIENTS, few_patients
from hounsfield.evaluation.delong import auc_estimate
from hounsfield.evaluation.detection_matching import SIZES, ClassMatches, match_class
from hounsfield.evaluation.intervals import bca_interval, bootstrap, jackknife, logit_interval, make_clusters, vary
from hounsfield.evaluation.metrics import calibration_bins
from hounsfield.evaluation.operating import decision_curve
from hounsfield.evaluation.segmentation_assessment import assess_masks
from hounsfield.evaluation.segmentation_figures import FIGURES

SEPARATION = 1.8  # of the two normal distributions: AUC about .90
POPULATION = 1_000_000


@dataclass(frozen=True)
class Design:
    """How a simulated test set comes about."""

    cases: int
    prevalence: float
    per_patient: int = 1
    sampling: str = "cohort"
    share: float = 0.5  # of the variance that lies between patients, where they have several cases

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
    share = design.share if design.per_patient > 1 else 0.0
    signal = np.sqrt(share) * shared + np.sqrt(1 - share) * rng.normal(size=len(of_case)) + SEPARATION * truth
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


SMALL = [
    Design(cases, prevalence, per_patient, share=0.8)
    for cases in (100, 500)
    for prevalence in (0.1, 0.5)
    for per_patient in (1, 3)
]
BENEFIT_AT = 0.2
# Draws that are kept together.
PART = 100
# Of what `evaluate` gives.
ASKED = ("auc", "average_precision", "sensitivity", "specificity", "ppv", "brier", "ece")
Row = tuple[float, float, float, bool]  # value, both ends, whether it is told to be unreliable


def further(truth: np.ndarray, score: np.ndarray, groups: np.ndarray | None) -> dict[str, Row]:
    """What `evaluate` does not give."""
    line = calibration_line(truth, score, groups=groups)
    curve = decision_curve(truth, score, [BENEFIT_AT], groups=groups)
    return {
        "calibration slope": (line.slope, *line.slope_interval, bool(line.note)),
        "calibration intercept": (line.intercept, *line.intercept_interval, bool(line.note)),
        "net benefit at .2": (curve.model[0], curve.low[0], curve.high[0], bool(curve.note)),
    }


def three_classes(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same with a third class half as frequent as the rarer one; signal lies in two directions."""
    patients = design.cases // design.per_patient
    of_case = np.repeat(np.arange(patients), design.per_patient)
    shares = np.array([1 - 1.5 * design.prevalence, design.prevalence, 0.5 * design.prevalence])
    kind = rng.choice(3, size=patients, p=shares)[of_case]
    share = design.share if design.per_patient > 1 else 0.0
    shared = rng.normal(size=(patients, 3))[of_case]
    logits = np.sqrt(share) * shared + np.sqrt(1 - share) * rng.normal(size=(len(of_case), 3))
    logits[np.arange(len(kind)), kind] += SEPARATION
    return kind, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), of_case


def findings(design: Design, rng: np.random.Generator) -> tuple[Detections, np.ndarray]:
    """Images of patients of whom some have objects; images of a patient are alike in number and ease of objects."""
    patients = design.cases // design.per_patient
    of_case = np.repeat(np.arange(patients), design.per_patient)
    sick = (rng.random(patients) < design.prevalence)[of_case]
    ease = rng.normal(0, 0.8, patients)[of_case]
    number = np.where(sick, 1 + rng.poisson(np.exp(rng.normal(0, 0.4, patients))[of_case]), 0)
    images = [_image(rng, int(count), one) for count, one in zip(number, ease, strict=True)]
    return as_detections(*map(list, zip(*images, strict=True)), labels=("lesion",)), of_case


def _image(rng: np.random.Generator, number: int, ease: float) -> tuple[Truth, Finding]:
    places = rng.choice(64, number + 1, replace=False)
    corners = np.stack([places // 8, places % 8], axis=1) * 48.0
    boxes = np.concatenate([corners, corners + rng.uniform(12, 40, corners.shape)], axis=1)
    seen = rng.random(number) < 1 / (1 + np.exp(-1.6 - ease))
    false = rng.random() < 0.25
    kept = np.append(seen, false)
    scores = np.append(rng.beta(4, 2, number), rng.beta(2, 4))[kept]
    zeros = np.zeros(len(boxes), dtype=int)
    moved = boxes + rng.normal(0, 1.5, boxes.shape)
    return Truth(boxes[:-1], zeros[:-1]), Finding(moved[kept], zeros[kept], scores)


def ap50_of(matches: ClassMatches) -> Callable[[np.ndarray], np.ndarray]:
    """AP50 as a function of the images' weights (n, R): (1, R)."""
    return lambda weights: average_precisions(matches, weights)[0]


def matched(detections: Detections) -> ClassMatches:
    return match_class(detections, 0, thresholds=np.array([0.5]), sizes=[SIZES["all"]])


def ap50(matches: ClassMatches, groups: np.ndarray | None, replicates: int) -> Row:
    """What `evaluate_detections` gives, without the other figures: a fifth of the time."""
    statistic, present = ap50_of(matches), matches.num_truths.T > 0
    clusters = make_clusters(present, groups)
    value = float(statistic(np.ones((len(present), 1)))[0, 0])
    drawn = bootstrap(statistic, clusters, present, num_replicates=replicates)[0]
    told = bool(few_patients(len(np.unique(clusters.of_case[present.any(axis=1)]))))
    if not vary(drawn):
        return value, np.nan, np.nan, told
    ends = bca_interval(value, drawn, jackknife(statistic, clusters)[0])
    return value, min(ends.low, value), max(ends.high, value), told


class Images:
    """A population of images with findings that were matched once; test sets are drawn from its patients."""

    def __init__(self, design: Design) -> None:
        self.design = design
        many = Design(24_000, design.prevalence, design.per_patient)
        self.matches = matched(findings(many, np.random.default_rng(97))[0])
        self.patients = many.cases // design.per_patient
        self.order = np.argsort(self.matches.images, kind="stable")
        self.starts = np.searchsorted(self.matches.images[self.order], np.arange(many.cases + 1))
        self.ap50 = float(ap50_of(self.matches)(np.ones((many.cases, 1)))[0, 0])

    def drawn(self, rng: np.random.Generator, replicates: int) -> Row | None:
        each = self.design.per_patient
        patients = rng.integers(0, self.patients, self.design.cases // each)
        images = (patients[:, None] * each + np.arange(each)).ravel()
        if not self.matches.num_truths[:, images].any():
            return None
        rows = [self.order[self.starts[image] : self.starts[image + 1]] for image in images]
        number = np.repeat(np.arange(len(images)), [len(part) for part in rows])
        every = np.concatenate(rows)
        surest = np.argsort(every, kind="stable")
        chosen = every[surest]
        found = self.matches
        matches = ClassMatches(
            number[surest],
            found.scores[chosen],
            found.hits[..., chosen],
            found.ignored[..., chosen],
            found.num_truths[:, images],
        )
        return ap50(matches, np.repeat(np.arange(len(patients)), each) if each > 1 else None, replicates)


def compared_masks(design: Design, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Images of which a share of the patients has the structure, and of these patients every image."""
    cases, of_case = masks(design.cases // design.per_patient, design.per_patient, 0.0, rng)
    sick = (rng.random(of_case.max() + 1) < design.prevalence)[of_case]
    cases.loc[~sick, "dice"] = np.nan
    cases.loc[~sick, "size_true"] = 0
    return cases, of_case


def dice(cases: pd.DataFrame, groups: np.ndarray | None) -> Row | None:
    """What `assess_masks` gives, without the other figures."""
    columns = {"dice": cases["dice"].to_numpy(np.float64)}
    known = ~np.isnan(columns["dice"])
    if not known.any():
        return None
    clusters = make_clusters((cases["size_true"] > 0).to_numpy()[:, None], groups)

    def statistic(weights: np.ndarray) -> np.ndarray:
        return FIGURES["dice"].weighted(columns, weights)[None]

    value = float(columns["dice"][known].mean())
    left_out = jackknife(statistic, clusters)[0]
    ends = logit_interval(value, left_out) if vary(left_out) else (np.nan, np.nan)
    return value, *ends, bool(few_patients(len(np.unique(clusters.of_case[known]))))


def of_labels(design: Design, rng: np.random.Generator, replicates: int) -> dict[str, Row] | None:
    truth, score, patients = draw(design, rng)
    kind, scores, of_kind = three_classes(design, rng)
    if truth.all() or not truth.any() or len(np.unique(kind)) < 3:
        return None
    groups = patients if design.per_patient > 1 else None
    found = evaluate(truth, score, labels=("no", "yes"), task="binary", num_replicates=replicates, groups=groups)
    rows: dict[str, Row] = {
        name: (found[name].value, found[name].low, found[name].high, found[name].note.startswith("unreliable"))
        for name in ASKED
    }
    clusters = make_clusters(kind[:, None] == np.arange(3), of_kind if groups is not None else None)
    value, ends = auc_estimate(kind[:, None] == np.arange(3), scores, clusters)
    fewest = min(len(np.unique(of_kind[kind == column])) for column in range(3))
    rows["macro AUC"] = (value, *ends, fewest < LEAST_PATIENTS)
    return rows | further(truth, score, groups)


def in_population(design: Design, images: Images) -> dict[str, float]:
    """The true figures, from a population that is drawn the same way."""
    truth, score, _ = draw(Design(POPULATION, design.prevalence, 1), np.random.default_rng(99))
    known = truth_of(design) | {name: found[0] for name, found in further(truth, score, None).items()}
    kind, scores, _ = three_classes(Design(POPULATION, design.prevalence), np.random.default_rng(98))
    known["macro AUC"] = float(np.mean([METRICS["auc"](kind == column, scores[:, column]) for column in range(3)]))
    known["AP50"] = images.ap50
    known["Dice"] = float(np.nanmean(masks(POPULATION, 1, 0.0, np.random.default_rng(96))[0]["dice"]))
    return known


def same_as_evaluate(design: Design, replicates: int) -> None:
    """Stop where the short ways to AP50 and Dice give anything else than `evaluate` does."""
    rng = np.random.default_rng(0)
    detections, of_case = findings(design, rng)
    groups = of_case if design.per_patient > 1 else None
    whole = evaluate_detections(detections, groups=groups, num_replicates=replicates)["ap50"]
    assert ap50(matched(detections), groups, replicates)[:3] == (whole.value, whole.low, whole.high) or np.isnan(
        whole.low
    )
    cases, of_case = compared_masks(design, rng)
    groups = of_case if design.per_patient > 1 else None
    each = assess_masks(cases, labels=["lesion"], unit="ml", groups=groups, num_replicates=2).estimates["dice_lesion"]
    assert np.allclose(dice(cases, groups)[:3], (each.value, each.low, each.high), rtol=1e-12, equal_nan=True)


def one_draw(design: Design, images: Images, number: int, replicates: int) -> dict[str, Row]:
    rng = np.random.default_rng((8, number))
    rows = of_labels(design, rng, replicates) or {}
    cases, of_case = compared_masks(design, rng)
    for name, row in (
        ("AP50", images.drawn(rng, replicates)),
        ("Dice", dice(cases, of_case if design.per_patient > 1 else None)),
    ):
        rows |= {name: row} if row else {}
    return rows


def drawn(design: Design, draws: int, replicates: int, kept: Path | None) -> pd.DataFrame:
    """A row for each draw and figure; with a folder, draws that lie there are not made again."""
    stem = str(design).replace(", ", "_").replace(" ", "_")
    starts = range(0, draws, PART)
    paths = [None if kept is None else kept / f"{stem}-{start}.csv" for start in starts]
    if all(path is not None and path.is_file() for path in paths):
        return pd.concat([pd.read_csv(path) for path in paths])
    images = Images(design)
    known = in_population(design, images)
    same_as_evaluate(design, replicates)
    parts = []
    for start, path in zip(starts, paths, strict=True):
        if path is not None and path.is_file():
            parts.append(pd.read_csv(path))
            continue
        found = [
            (name, bool(told) or not np.isfinite([value, low, high]).all(), bool(low <= known[name] <= high))
            for number in range(start, min(start + PART, draws))
            for name, (value, low, high, told) in one_draw(design, images, number, replicates).items()
        ]
        parts.append(pd.DataFrame(found, columns=["figure", "told", "holds"]))
        if path is not None:
            parts[-1].to_csv(path, index=False)
    return pd.concat(parts)


def small(draws: int, replicates: int, designs: list[Design], kept: Path | None) -> None:
    """Coverage of what is not told to be unreliable, and the share that is."""
    table: dict[str, list[str]] = {}
    for design in designs:
        for name, rows in drawn(design, draws, replicates, kept).groupby("figure", sort=False):
            told, holds = rows["told"].to_numpy(bool), rows["holds"].to_numpy(bool)
            # Of what is told in most draws, the coverage stands behind it.
            cell = f"{100 * holds[~told if told.mean() < 0.5 else told].mean():.1f}"
            cell = f"unreliable ({cell})" if told.mean() >= 0.5 else cell
            table.setdefault(str(name), []).append(cell)
    print("| metric | " + " | ".join(map(str, designs)) + " |")
    print("| --- |" + " ---: |" * len(designs))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(row) + " |")
    cells = [cell for row in table.values() for cell in row]
    print(f"unreliable: {sum('un' in cell for cell in cells)} of {len(cells)} cells")


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
    parser.add_argument("question", choices=["coverage", "small", "speed"])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--designs", type=int, nargs="*", default=list(range(len(DESIGNS))))
    parser.add_argument("--keep", type=Path, help="of small: a folder for what was drawn, from where it is continued")
    options = parser.parse_args()
    if options.question == "speed":
        speed()
    elif options.question == "small":
        chosen = options.designs if len(options.designs) < len(DESIGNS) else range(len(SMALL))
        small(options.draws, options.replicates, [SMALL[index] for index in chosen], options.keep)
    else:
        coverage(options.draws, options.replicates, [DESIGNS[index] for index in options.designs])


if __name__ == "__main__":
    main()
