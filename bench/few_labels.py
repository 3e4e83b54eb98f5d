"""Which way to a network is best where few images are labelled: from scratch, or from pretrained weights, and how?

    python bench/few_labels.py draw FOLDER DATA --way finetune --draws 20:5 50:3 100:2 200:1
    python bench/few_labels.py draw FOLDER DATA --way scratch --draws all:1 --minutes 4
    python bench/few_labels.py pretrain FOLDER DATA --effort quick --minutes 7
    python bench/few_labels.py table FOLDER

DATA is split once, as a training with seed 0 splits it. Its test images judge every way; of its training images so many
labels are drawn, each of another patient, as frequent as they are there: three quarters to train on and a quarter for
validation, since labels for validation are labels, too. With "all", training and validation images are those of the
split. The ways are: from scratch, as the planner trains at --effort; a probe or a finetuning of
EfficientNet-Lite0 on ImageNet; and "own-probe" and "own-finetune", of a network that `pretrain` pretrained on the
training images without their labels.

Every draw is the same for all ways. A call makes those of one way in one process, "20:5" being five draws of 20 labels,
so that a network is compiled once for each number, and leaves out those that FOLDER has already; nothing ends by the
clock but where --minutes is given. Networks are judged as they are, without a bundle. The table has the mean AUC with
its 95 % interval over draws (Student's t) and over the patients of the test images (by the influence of each on the
mean of the draws; DeLong, Obuchowski), what would have come of choosing in each draw the way of the smallest validation
loss, or with --parts that of the smallest loss over parts of all labels, each held out in turn as a training with
--weights does it, as it is and after one temperature for all parts; the mean of two networks' logits; and what such a
training takes, where scratch, finetune and companion have parts.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import keras
import numpy as np
import pandas as pd
from scipy import optimize, stats

from hounsfield.cohorts import Store
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.delong import auc_influence, influence_variance
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.evaluation.scaling import Temperature, logits_of, probabilities_of
from hounsfield.planning import Facts, Start, Wish, make_plan
from hounsfield.planning.adapting import with_companion
from hounsfield.plans.base import Effort
from hounsfield.pretraining import pretrain
from hounsfield.tasks import LabelTask
from hounsfield.training import loop, prepare, probing
from hounsfield.training.adapting import check_unseen
from hounsfield.training.base import Specification
from hounsfield.training.classifier import validation_scores
from hounsfield.training.image_trainee import Examples
from hounsfield.training.pace import Pace, TimeLimit
from hounsfield.training.run import fitted_plan
from hounsfield.training.schedule import Schedule
from hounsfield.training.starts import ORDER, Trial, best_trial
from hounsfield.training.table import TRAININGS
from hounsfield.training.weights import training_weights

# How all labels are written in tables of numbers, and how many images are predicted at once.
ALL, PREDICTED = 0, 32
WAYS = ("scratch", "probe", "finetune", "companion", "own-probe", "own-finetune")
RESULTS = "draws.csv"
# Rules by which a way is chosen in each draw, and the column of its figure.
CHOICES = {
    "smallest validation loss": "val_loss",
    "smallest loss of parts": "held_loss",
    "smallest loss of parts at a temperature": "scaled_loss",
}
AVERAGED = (("scratch", "finetune"), ("companion", "finetune"))


class Bench:
    """The images of DATA, split once, and what was prepared of them."""

    def __init__(self, data: str, folder: Path, effort: Effort, pool: int | None) -> None:
        self.data, self.folder, self._effort = data, folder, effort
        prepared = prepare(DataRequest(data), seed=0)
        self.cohort = prepared.cohort
        patients = self.cohort.table["patient"].astype(object)
        pictures = self.cohort.table["image"].map(prepared.pictures).map("picture {}".format)
        self.groups = patients.where(patients.notna(), pictures).to_numpy(dtype=str)
        if pool is not None:
            drawn = np.random.default_rng(0).permutation(self.cohort.rows("train"))[:pool]
            rows = np.sort(np.concatenate([drawn, self.cohort.rows("test")]))
            self.cohort, self.groups = self.cohort.subset(rows), self.groups[rows]
        self.targets, self.test = self.cohort.targets(), self.cohort.rows("test")
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "truth.npz", truth=self.targets[self.test] > 0, groups=self.groups[self.test])
        self._bases: dict[Start, Any] = {}

    def pretrain(self, minutes: float) -> None:
        """Pretrain the planner's network on the training images without their labels."""
        plan = self.plan("scratch", self.cohort.rows("train"), None)
        found = pretrain(DataRequest(self.data), self.folder / "own", plan=plan, minutes=minutes)
        print(f"{found.method} on {found.images} images of {found.patients} patients, {len(found.history)} epochs")

    def _start(self, way: str) -> Start:
        """What a way starts from; a companion has the images of the finetuning that it belongs to."""
        if way == "scratch":
            return Start()
        if way == "companion":
            return Start("imagenet", "finetune")
        if not way.startswith("own"):
            return Start("imagenet", way)  # type: ignore[arg-type]  # probe or finetune
        own = str(self.folder / "own")
        check_unseen(own, self.cohort)
        return Start(own, way.removeprefix("own-"))  # type: ignore[arg-type]  # likewise

    def plan(self, way: str, train: np.ndarray, minutes: float | None, changes: Sequence[str] = ()) -> Any:
        """The planner's plan for some rows, with the size and the preprocessing that it has for all training images."""
        start = self._start(way)
        if start not in self._bases:
            rows = self.cohort.rows("train")
            self._bases[start] = fitted_plan(self._planned(start, rows, minutes), self.cohort.subset(rows))
        base, plan = self._bases[start], self._planned(start, train, minutes)
        if way == "companion":
            both: Any = with_companion(plan, self._planned(Start(), train, minutes))
            plan = both.companion_plan()
        update = {"input_shape": base.input_shape, "pipeline": base.pipeline, "minutes": minutes}
        return plan.model_copy(update=update).changed([*changes, f"minutes={minutes or 'null'}"])

    def _planned(self, start: Start, rows: np.ndarray, minutes: float | None) -> Any:
        part = self.cohort.subset(rows)
        facts = Facts(fingerprint(part.with_splits(["train"] * len(part))), None, len(part))
        return make_plan(facts, Wish(self._effort, minutes, None, 0, *start), part.task)

    def draw(self, count: int, seed: int, part: int = 3, parts: int = 4) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows; of few labels one of so many parts is for validation."""
        rows = self.cohort.rows("train")
        if count == ALL:
            return rows, self.cohort.rows("validation")
        rows = np.random.default_rng((seed, count)).permutation(rows)
        rows = rows[np.sort(np.unique(self.groups[rows], return_index=True)[1])]
        truth = self.targets[rows]
        labels = truth.argmax(1) if truth.shape[1] > 1 else truth[:, 0].astype(int)
        shares = count * np.bincount(labels) / len(labels)
        numbers = np.floor(shares).astype(int)
        numbers[np.argsort(numbers - shares)[: count - numbers.sum()]] += 1
        drawn = [rows[labels == label][:number] for label, number in enumerate(numbers)]
        validation = np.sort(np.concatenate([rows[part::parts] for rows in drawn]))
        return np.setdiff1d(np.concatenate(drawn), validation), validation


class Way:
    """One way with one number of labels: a network that is compiled once and trained anew for each draw."""

    def __init__(self, bench: Bench, way: str, count: int, minutes: float | None, changes: Sequence[str]) -> None:
        self._bench, self._count = bench, count
        train, validation = bench.draw(count, 0)
        self._plan = bench.plan(way, train, minutes, changes)
        self._store = Store.build(bench.cohort, self._plan.pipeline)
        self._entry = TRAININGS["labels"]
        keras.utils.set_random_seed(0)
        self._network = self._entry.build_network(self._plan)
        self._begun = self._network.get_weights()
        every = np.arange(len(self._store))
        self._features = None
        if self._plan.adapt:
            self._features = probing.features_of(self._network, self._specification(every, every), every)
        self._trainee: Any = self._entry.make_trainee(self._network, self._specification(train, validation))
        self._optimizer = [keras.ops.convert_to_numpy(each) for each in self._trainee.model.optimizer.variables]

    def _specification(self, train: np.ndarray, validation: np.ndarray) -> Any:
        return Specification(self._plan, self._store, train, validation)

    def judge(self, seed: int, parts: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The figures of a draw, and the scores of the test images and of the parts that were held out.

        Args:
            seed: of the draw.
            parts: of the labels that are each held out in turn, for a loss over all of them; 0 for none.
        """
        bench, started = self._bench, time.process_time()
        train, validation = bench.draw(self._count, seed)
        fitted = self._trained(train, validation, seed)
        scores = self._scores(np.concatenate([bench.test, validation]))
        tested, judged = scores[: len(bench.test)], scores[len(bench.test) :]
        figures = {
            "seed": seed,
            "auc": auc(bench.targets[bench.test] > 0, tested, bench.groups[bench.test])[0],
            "val_loss": validation_scores(bench.targets[validation], judged)["val_loss"],
            "epochs": len(fitted.history),
            "kept_epoch": fitted.kept_epoch,
            "seconds": round(time.process_time() - started, 1),
        }
        if not parts:
            return figures | {"held_loss": np.nan, "scaled_loss": np.nan}, {"tested": tested}
        divided = [bench.draw(self._count, seed, part, parts) for part in range(parts)]
        targets = bench.targets[np.concatenate([rows for _, rows in divided])]
        held = np.concatenate([self._held(rows, seed) for rows in divided])
        losses = {
            "held_loss": validation_scores(targets, held)["val_loss"],
            "scaled_loss": scaled_loss(targets, held, bench.cohort.task),
        }
        of_part = np.repeat(np.arange(parts), [len(rows) for _, rows in divided])
        return figures | losses, {"tested": tested, "held": held, "held_targets": targets, "held_part": of_part}

    def _held(self, rows: tuple[np.ndarray, np.ndarray], seed: int) -> np.ndarray:
        """Scores of validation rows by a network that was trained on the training rows."""
        self._trained(*rows, seed)
        return self._scores(rows[1])

    def _trained(self, train: np.ndarray, validation: np.ndarray, seed: int) -> Any:
        """Train on some rows from the beginning."""
        plan = self._plan
        weights = training_weights(plan, self._bench.cohort, train)
        self._trainee.examples = Examples(self._store, self._bench.targets, weights, train, validation)
        _seed(seed)
        self._network.set_weights(self._begun if plan.adapt else self._entry.build_network(plan).get_weights())
        fitted = None
        if plan.adapt:
            with mock.patch.object(probing, "features_of", return_value=self._features):
                specification = self._specification(train, validation)
                fitted = probing.probe(self._network, self._trainee, specification, loop.ignore)
        return fitted if plan.adapt == "probe" else self._fit(seed, len(train), fitted)

    def _fit(self, seed: int, count: int, start: Any) -> Any:
        plan, trainee = self._plan, self._trainee
        trainee._seed = seed
        trainee.model.get_layer("network").set_weights(self._network.get_weights())
        for variable, value in zip(trainee.model.optimizer.variables, self._optimizer, strict=True):
            variable.assign(value)
        schedule = Schedule.of(plan)
        limit = TimeLimit(60 * plan.minutes, schedule.num_images(count), 0) if plan.minutes else None
        # TensorFlow forgets what it compiled where its own seed is set, which nothing here draws from.
        with mock.patch.object(keras.utils, "set_random_seed", _seed):
            fitted = loop.fit(trainee, schedule, seed=seed, pace=Pace(plan.epochs, limit), start=start)
        self._network.set_weights(fitted.weights)
        return fitted

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """The network's answers; those of a probe by the features that are there."""
        if self._plan.adapt == "probe":
            head = self._network.get_layer("probabilities")
            return np.asarray(head(self._features[rows]))
        parts = [rows[start : start + PREDICTED] for start in range(0, len(rows), PREDICTED)]
        # Batches of one size, so that it is compiled once.
        answers = [self._network.predict_on_batch(self._store.batch(np.resize(part, PREDICTED))) for part in parts]
        return np.concatenate([answer[: len(part)] for answer, part in zip(answers, parts, strict=True)])


def _seed(seed: int) -> None:
    """Seed all that Keras draws from."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Keras draws from it


def auc(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean AUC over the labels, and the influence of each case on it."""
    clusters = make_clusters(truth, groups)
    found = [auc_influence(truth[:, column], scores[:, column], clusters) for column in range(truth.shape[1])]
    return float(np.mean([value for value, _ in found])), np.mean([influence for _, influence in found], axis=0)


def scaled_loss(targets: np.ndarray, scores: np.ndarray, task: Any) -> float:
    """The log loss at the temperature at which it is smallest."""

    def loss(logarithm: float) -> float:
        return validation_scores(targets, Temperature(np.exp(logarithm)).apply(scores, task))["val_loss"]

    return float(optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").fun)


def draw(options: argparse.Namespace) -> None:
    """Make the draws that are not there yet, until the time is over."""
    started, name, known = time.monotonic(), options.name or options.way, _known(options.folder)
    missing: dict[int, list[int]] = {}
    for text in options.draws:
        labels, _, draws = text.partition(":")
        count = ALL if labels == "all" else int(labels)
        there = set(known.loc[(known["labels"] == count) & (known["way"] == name), "seed"])
        missing[count] = [seed for seed in range(int(draws)) if seed not in there]
    if not any(missing.values()):
        return
    bench = Bench(options.data, options.folder, options.effort, options.pool)
    for count, seeds in missing.items():
        if not seeds:
            continue
        way = Way(bench, options.way, count, options.minutes, options.set)
        for seed in seeds:
            if time.monotonic() - started > options.seconds:
                return
            figures, arrays = way.judge(seed, options.parts)
            _keep(options.folder, {"labels": count, "way": name} | figures, arrays)
            print(count, name, figures, f"{time.monotonic() - started:.0f} s", flush=True)


def _keep(folder: Path, figures: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    path = _scores_file(folder, figures["labels"], figures["way"], figures["seed"])
    path.parent.mkdir(exist_ok=True)
    np.savez(path, **arrays)
    pd.concat([_known(folder), pd.DataFrame([figures])]).to_csv(folder / RESULTS, index=False)


def _scores_file(folder: Path, count: int, way: str, seed: int) -> Path:
    return folder / "scores" / f"{count}-{way}-{seed}.npz"


def _tested(folder: Path, count: int, way: str, seed: int) -> np.ndarray:
    with np.load(_scores_file(folder, count, way, seed)) as arrays:
        return np.asarray(arrays["tested"])


def _known(folder: Path) -> pd.DataFrame:
    path = folder / RESULTS
    return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["labels", "way", "seed"], dtype=object)


def table(folder: Path) -> None:
    """Print what was found."""
    known = _known(folder).sort_values("seed")
    with np.load(folder / "truth.npz") as arrays:
        truth, groups = arrays["truth"], arrays["groups"]
    print("| labels | way | draws | AUC | over draws | over patients | less than the best way | s of processor |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for count in sorted(known["labels"].unique(), key=lambda each: each or np.inf):
        part = known[known["labels"] == count]
        values = {way: rows.set_index("seed")["auc"] for way, rows in part.groupby("way")}
        # A companion alone is no start that is chosen.
        starts = {way: found for way, found in values.items() if way != "companion"}
        for way, found in sorted(values.items(), key=lambda each: -each[1].mean()):
            scores = [_tested(folder, count, way, seed) for seed in found.index]
            seconds = part.loc[part["way"] == way, "seconds"].median()
            half = _over_patients(truth, scores, groups)
            print(_line(count, way, found, half, _behind(values, way), seconds))
        for name, column in CHOICES.items():
            losses = part[part["way"].isin(starts)].pivot_table(index="seed", columns="way", values=column).dropna()
            if len(losses) and len(losses.columns) > 1:
                chosen = pd.Series({seed: values[way][seed] for seed, way in losses.idxmin(axis=1).items()})
                print(_line(count, name, chosen, np.nan, _behind(starts | {"": chosen}, ""), np.nan))
        if chosen_by_parts := _planners(folder, count, truth, groups, values):
            planner = pd.Series(chosen_by_parts)
            print(_line(count, "the planner's rule", planner, np.nan, _behind(starts | {"": planner}, ""), np.nan))
        for ways in AVERAGED:
            both = sorted(set.intersection(*(set(values.get(way, pd.Series()).index) for way in ways)))
            if both:
                scores = [_averaged([_tested(folder, count, way, seed) for way in ways]) for seed in both]
                mean = pd.Series([auc(truth, each, groups)[0] for each in scores], both)
                half, behind = _over_patients(truth, scores, groups), _behind(starts | {"": mean}, "")
                print(_line(count, f"mean of {' and '.join(ways)}", mean, half, behind, np.nan))


def _planners(
    folder: Path, count: int, truth: np.ndarray, groups: np.ndarray, values: dict[str, pd.Series]
) -> dict[int, float]:
    """Seed → AUC of what a training with --weights takes: an adapted network, one from scratch, or both as one."""
    ways = ("finetune", "scratch", "companion")
    found = {}
    for seed in sorted(set.intersection(*(set(values.get(way, pd.Series()).index) for way in ways))):
        kept = [dict(np.load(_scores_file(folder, count, way, seed))) for way in ways]
        if not all("held" in arrays for arrays in kept):
            continue
        adapted, scratch, companion = kept
        both = {key: _averaged([adapted[key], companion[key]]) for key in ("tested", "held")}
        targets, of_part = adapted["held_targets"], adapted["held_part"]
        trials = []
        for name, arrays in zip(ORDER, (adapted, scratch, both), strict=True):
            losses = [
                validation_scores(targets[of_part == part], arrays["held"][of_part == part])["val_loss"]
                for part in np.unique(of_part)
            ]
            loss = float(np.average(losses, weights=np.bincount(of_part)))
            nothing: Any = None
            trials.append(Trial(name, nothing, arrays["tested"], nothing, loss, tuple(losses), None))
        found[seed] = auc(truth, best_trial(trials).plan, groups)[0]
    return found


def _averaged(scores: Sequence[np.ndarray]) -> np.ndarray:
    """The probabilities of the mean logits of several networks."""
    task: LabelTask = "multi-class" if scores[0].shape[1] > 1 else "binary"
    return np.asarray(probabilities_of(np.mean([logits_of(each, task) for each in scores], axis=0), task))


def _over_patients(truth: np.ndarray, scores: Sequence[np.ndarray], groups: np.ndarray) -> float:
    """Half the interval over patients of the mean AUC of several draws."""
    influence = np.mean([auc(truth, each, groups)[1] for each in scores], axis=0)
    return float(1.96 * influence_variance(influence, make_clusters(truth, groups)) ** 0.5)


def _behind(values: dict[str, pd.Series], way: str) -> str:
    """The mean difference to the best of the other ways, on the draws that both have, and its interval over draws."""
    found = [(values[other] - values[way]).dropna() for other in values if other != way]
    pairs = [difference for difference in found if len(difference)]
    if not pairs:
        return ""
    worst = max(pairs, key=lambda difference: difference.mean())
    return f"{worst.mean():+.3f} ± {_half(worst):.3f} ({len(worst)})"


def _half(values: pd.Series) -> float:
    """Half the interval of a mean over draws."""
    count = len(values)
    return stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan


def _line(count: int, way: str, found: pd.Series, patients: float, behind: str, seconds: float) -> str:
    return (
        f"| {count or 'all'} | {way} | {len(found)} | {found.mean():.3f} | ± {_half(found):.3f}, {found.min():.3f} to "
        f"{found.max():.3f} | ± {patients:.3f} | {behind} | {seconds:.3g} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("draw", "pretrain", "table"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path, help="keeps the draws of one DATA")
        if name != "table":
            command.add_argument("data")
            command.add_argument("--minutes", type=float, help="of a training or pretraining")
            command.add_argument("--pool", type=int, help="training images that labels are drawn of, all by default")
            command.add_argument("--effort", choices=get_args(Effort), default="standard", help="whose plan is taken")
        if name == "draw":
            command.add_argument("--way", choices=WAYS, required=True)
            command.add_argument("--draws", nargs="+", required=True, help="labels, or all, and draws of them: 50:20")
            command.add_argument("--parts", type=int, default=0, help="of the labels, each held out in turn")
            command.add_argument("--seconds", type=float, default=np.inf, help="after which no draw begins")
            command.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of the plan")
            command.add_argument("--name", help="of a way with other settings")
    options = parser.parse_args()
    if options.command == "table":
        table(options.folder)
    elif options.command == "pretrain":
        Bench(options.data, options.folder, options.effort, options.pool).pretrain(options.minutes or 10)
    else:
        draw(options)


if __name__ == "__main__":
    main()
