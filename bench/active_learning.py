"""Does choosing what to label by `hounsfield label` need fewer labels than choosing at random?

    python bench/active_learning.py CHEST_XRAY [--seeds 5] [--rounds 5] [--labels 30] [--picture FILE.svg]

CHEST_XRAY is a table, or a folder with one, of images with labels and known patients. Of every seed, three tenths of
the patients are for test and the others are the pool. Both ways begin with the same labels, drawn at random, and add as
many in every round: by the rule of `hounsfield label` (with its blind tenth), or at random. After each round a linear
probe on the frozen features of EfficientNet-Lite0 (ImageNet) is fitted anew; a quarter of the labelled patients are its
validation, which chooses the penalty, so labels for validation are counted, too. It is judged by the macro AUC on all
images of the test patients. Means have 95 % intervals over seeds (Student's t), and so has the paired difference.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from hounsfield.cohorts import Cohort, load_cohort
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.novelty import Novelty
from hounsfield.inference import open_predictor
from hounsfield.planning import Start
from hounsfield.reading.doubt import doubt_of
from hounsfield.reading.ranking import Candidate, ranked
from hounsfield.training import train

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# Inverse penalties that are tried, and the share of patients for test.
STRENGTHS = np.logspace(-5, 1, 7)
TEST_SHARE = 0.3
BLIND_SHARE = 0.1
WAYS = ("label", "random")


class Pictures:
    """The images of a cohort as the frozen network describes them.

    Attributes:
        features: (n, F).
        labels: (n,) codes.
        patients: (n,) codes.
        names: of the labels.
    """

    def __init__(self, data: str, folder: Path) -> None:
        cohort = load_cohort(data)
        if not cohort.knows_patients:
            raise SystemExit(f"{data} does not name the patient of each image.")
        self.names = cohort.labels
        self.labels = pd.Categorical(cohort.table["label"], self.names).codes.astype(np.int64)
        self.patients = pd.factorize(cohort.table["patient"])[0].astype(np.int64)
        self.features = _features(cohort, folder)


def _features(cohort: Cohort, folder: Path) -> Floats:
    """Of every image, by the network of a probe; the head that it was given does not touch them."""
    table = cohort.table
    root = Path(getattr(cohort.source, "root"))  # noqa: B009 - a folder's images alone have one
    rows = table.groupby("label", group_keys=False).head(20)
    rows.assign(image=[str(root / image) for image in rows["image"]]).to_csv(folder / "some.csv", index=False)
    some = DataRequest(str(folder / "some.csv"), allow_outside=True)
    run = train(some, folder / "run", effort="quick", start=Start("imagenet", "probe"))
    predictor = open_predictor(run.folder)
    paths = [str(root / image) for image in table["image"]]
    found = {each.image: each.features for each in predictor.stream(paths)}
    return np.stack([found[path] for path in paths]).astype(np.float64)


class Learner:
    """A probe on the labelled images, and what it says of others."""

    def __init__(self, pictures: Pictures, labelled: Integers, seed: int) -> None:
        patients = np.unique(pictures.patients[labelled])
        held = np.random.default_rng((seed, len(labelled))).permutation(patients)[: max(1, len(patients) // 4)]
        is_held = np.isin(pictures.patients[labelled], held)
        fitted, judged = labelled[~is_held], labelled[is_held]
        mean, scale = pictures.features[fitted].mean(0), pictures.features[fitted].std(0)
        self._scaled = (pictures.features - mean) / np.where(scale > 0, scale, 1.0)
        self._num_labels = len(pictures.names)
        models = [
            LogisticRegression(C=strength, max_iter=500).fit(self._scaled[fitted], pictures.labels[fitted])
            for strength in STRENGTHS
        ]
        truth = pictures.labels[judged]
        losses = [
            -np.log(np.maximum(self._of(model, judged)[range(len(judged)), truth], 1e-12)).mean() for model in models
        ]
        self._model = models[int(np.argmin(losses))]
        self._novelty = Novelty.fit(
            {"features": pictures.features[fitted].astype(np.float32)},
            {"features": pictures.features[judged].astype(np.float32)},
        )

    def _of(self, model: LogisticRegression, rows: Integers) -> Floats:
        found = np.zeros((len(rows), self._num_labels))
        found[:, model.classes_] = model.predict_proba(self._scaled[rows])
        return found

    def probabilities(self, rows: Integers) -> Floats:
        return self._of(self._model, rows)

    def candidates(self, pictures: Pictures, rows: Integers) -> list[Candidate]:
        """As the command has them."""
        features = pictures.features[rows].astype(np.float32)
        scores = self._novelty.ratios({"features": features})["features"]
        candidates = []
        for row, own, score, probabilities in zip(rows, features, scores, self.probabilities(rows), strict=True):
            content = {"probabilities": dict(zip(pictures.names, probabilities.tolist(), strict=True))}
            doubt = doubt_of(content, 0.5, "multi-class" if self._num_labels > 2 else "binary")
            candidates.append(Candidate(str(row), doubt, None, float(score), own))
        return candidates


def curve(pictures: Pictures, way: str, seed: int, rounds: int, count: int) -> list[float]:
    """The AUC on test patients after each round."""
    generator = np.random.default_rng(seed)
    patients = generator.permutation(np.unique(pictures.patients))
    is_test = np.isin(pictures.patients, patients[: round(TEST_SHARE * len(patients))])
    test, pool = np.flatnonzero(is_test), np.flatnonzero(~is_test)
    labelled = generator.choice(pool, count, replace=False)
    found = []
    for number in range(rounds + 1):
        assert not set(pictures.patients[labelled]) & set(pictures.patients[test])
        learner = Learner(pictures, labelled, seed)
        found.append(_auc(pictures.labels[test], learner.probabilities(test)))
        free = np.setdiff1d(pool, labelled)
        if way == "random":
            chosen = np.random.default_rng((seed, number)).choice(free, count, replace=False)
        else:
            candidates = learner.candidates(pictures, free)
            choices = ranked(candidates, count=count, random_share=BLIND_SHARE, seed=seed + number)
            chosen = np.array([int(choice.candidate.image) for choice in choices])
        labelled = np.concatenate([labelled, chosen])
    return found


def _auc(truth: Integers, scores: Floats) -> float:
    if scores.shape[1] == 2:
        return float(roc_auc_score(truth, scores[:, 1]))
    return float(np.mean([roc_auc_score(truth == label, scores[:, label]) for label in range(scores.shape[1])]))


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean and 95 % interval over seeds."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=30, help="At the beginning, and in each round.")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        pictures = Pictures(options.data, Path(name))
    patients = len(np.unique(pictures.patients))
    print(f"{len(pictures.labels):,} images of {patients:,} patients: {', '.join(pictures.names)}")
    found = {
        way: np.array([curve(pictures, way, seed, options.rounds, options.labels) for seed in range(options.seeds)])
        for way in WAYS
    }
    used = options.labels * np.arange(1, options.rounds + 2)
    print("| labels | chosen by `hounsfield label` | at random | difference |\n| ---: | --- | --- | --- |")
    for index, count in enumerate(used):
        cells = [interval(found[way][:, index]) for way in WAYS]
        cells.append(interval(found["label"][:, index] - found["random"][:, index]))
        texts = [f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, low, high in cells[:2]]
        texts.append("{:+.3f} ({:+.3f} to {:+.3f})".format(*cells[2]))
        print(f"| {count} | {' | '.join(texts)} |")
    if options.picture:
        draw(found, used, options.picture)


def draw(found: dict[str, Floats], used: Integers, path: Path) -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "active learning"
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    names = {"label": "chosen by hounsfield label", "random": "drawn at random"}
    for way, colour, shift in (("label", "#0b62a3", -1.0), ("random", "#b35900", 1.0)):
        means, lows, highs = np.array([interval(column) for column in found[way].T]).T
        axes.errorbar(
            used + shift, means, [means - lows, highs - means], color=colour, marker="o", capsize=3, label=names[way]
        )
    axes.set(xlabel="images labelled", ylabel="macro AUC on test patients")
    axes.set_xticks(used)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
