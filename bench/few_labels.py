"""What do pretrained weights bring where few images are labelled?

    python bench/few_labels.py PNEUMONIAMNIST.npz [--labels 20 50 100 200] [--ways probe:20 scratch:3 finetune:3 own:3]

Of a MedMNIST file's training images, 1,000 are the pool of which labels are drawn; a network is pretrained on the
others without their labels (way "own": a probe of it; "own_finetuned": all of it). So many of the pool are drawn, the
same for every way, three quarters to train on and a quarter for validation: labels for validation are labels, too. All
ways are judged on the whole test split: from scratch, as the planner trains without weights at effort quick, and from
EfficientNet-Lite0 on ImageNet in a probe and in a finetuning. A way has as many draws as its number says. The mean of
each has a 95 % interval over draws (Student's t), beside the mean width of the DeLong intervals over test images, which
does not shrink with more draws.

Images are prepared once for all draws, and networks are judged as they are, without a bundle; nothing ends by the
clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
from scipy import stats

from hounsfield.cohorts import Cohort, Store, load_cohort
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.cohorts.request import DataRequest
from hounsfield.evaluation.delong import auc_estimate
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.planning import Facts, Start, Wish, make_plan
from hounsfield.pretrained import build_network
from hounsfield.pretraining import pretrain
from hounsfield.training import probing
from hounsfield.training.base import Specification
from hounsfield.training.classifier import validation_scores
from hounsfield.training.image_trainee import Examples
from hounsfield.training.loop import ignore
from hounsfield.training.networks import train_network
from hounsfield.training.run import fitted_plan

POOL = 1000
DRAWS = ["probe:20", "own:20", "scratch:3", "finetune:3", "own_finetuned:3"]


class Bench:
    """The pool, the test images, and what was prepared of them."""

    def __init__(self, source: Path, folder: Path, epochs: int) -> None:
        self._folder, self._epochs = folder, epochs
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "pool.npz").is_file():
            _write(source, folder)
        self.cohort: Cohort = load_cohort(folder / "pool.npz")
        self.test = self.cohort.rows("test")
        self.targets = self.cohort.targets()
        self._backbones: dict[str, tuple[Any, Any, np.ndarray]] = {}

    def own(self) -> str:
        """The folder of the pretraining on the rest of the training images."""
        out, started = self._folder / "own", time.process_time()
        if (out / "pretrained.json").is_file():
            return str(out)
        plan = self.plan(np.arange(150), Start())
        pretrain(DataRequest(str(self._folder / "rest.npz")), out, plan=plan, changes=(f"epochs={self._epochs}",))
        print(f"pretraining: {time.process_time() - started:.0f} s of processor", flush=True)
        return str(out)

    def start(self, way: str) -> Start:
        """What a way starts from."""
        if way.startswith("own"):
            return Start(self.own(), "probe" if way == "own" else "finetune")
        return Start() if way == "scratch" else Start("imagenet", way)  # type: ignore[arg-type]  # probe or finetune

    def plan(self, train: np.ndarray, start: Start) -> Any:
        """The planner's plan for some rows, without a limit of time."""
        part = self.cohort.subset(train)
        facts = Facts(fingerprint(part.with_splits(["train"] * len(part))), None, len(part))
        plan = make_plan(facts, Wish("quick", None, None, 0, *start), self.cohort.task)
        return plan.model_copy(update={"minutes": None})

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation rows, the labels as frequent as in the pool."""
        rows, generator = self.cohort.rows("train"), np.random.default_rng((seed, count))
        labels = self.targets[rows, 0]
        share = labels.mean()
        numbers = {1: round(count * share), 0: count - round(count * share)}
        drawn = [generator.permutation(rows[labels == label])[:number] for label, number in numbers.items()]
        # Each label is in both parts.
        validation = np.concatenate([part[::4] for part in drawn])
        return np.setdiff1d(np.concatenate(drawn), validation), np.sort(validation)

    def judge(self, way: str, count: int, seed: int) -> tuple[float, float]:
        """AUC on the test images, and the width of its interval."""
        train, validation = self.draw(count, seed)
        start = self.start(way)
        if start.adapt == "probe":
            scores = self.probed(way, start, train, validation)
        else:
            plan = self.plan(train, start).model_copy(update={"seed": seed})
            plan = fitted_plan(plan, self.cohort.subset(train).with_splits(["train"] * len(train)))
            store = Store.build(self.cohort, plan.pipeline)
            network = train_network(Specification(plan, store, train, validation)).network
            starts = range(0, len(self.test), 64)
            parts = [network.predict_on_batch(store.batch(self.test[begin : begin + 64])) for begin in starts]
            scores = np.concatenate(parts)
        value, interval = auc_estimate(self.targets[self.test] > 0, scores, make_clusters(self.targets[self.test] > 0))
        return value, interval.high - interval.low

    def probed(self, way: str, start: Start, train: np.ndarray, validation: np.ndarray) -> np.ndarray:
        """(test images, 1) what a probe gives, by the features that are computed once for all draws."""
        if way not in self._backbones:
            plan = self.plan(self.cohort.rows("train"), start)
            store, network = Store.build(self.cohort, plan.pipeline), build_network(plan)
            every = Specification(plan, store, np.arange(len(store)), self.test)
            self._backbones[way] = network, every, probing.features_of(network, every, np.arange(len(store)))
        network, every, features = self._backbones[way]
        trainee: Any = SimpleNamespace(
            examples=Examples(every.store, self.targets, np.ones(len(self.targets), np.float32), train, validation),
            judge=validation_scores,
        )
        part = Specification(every.plan, every.store, train, validation)
        with mock.patch.object(probing, "features_of", return_value=features):
            probing.probe(network, trainee, part, ignore)
        kernel, bias = network.get_layer("probabilities").get_weights()
        return features[self.test] @ kernel + bias


def _write(source: Path, folder: Path) -> None:
    """The pool with the test images, and the other training images, which a pretraining learns from."""
    with np.load(source) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"]
        test = {kind: arrays[f"test_{kind}"] for kind in ("images", "labels")}
    order = np.random.default_rng(0).permutation(len(labels))
    pool, rest = order[:POOL], order[POOL:]
    few = {f"{split}_{kind}": part[:20] for split in ("val", "test") for kind, part in test.items()}
    np.savez(folder / "rest.npz", train_images=images[rest], train_labels=labels[rest], **few)  # type: ignore[arg-type]
    whole = {f"test_{kind}": part for kind, part in test.items()}
    np.savez(folder / "pool.npz", train_images=images[pool], train_labels=labels[pool], **whole)  # type: ignore[arg-type]


def line(count: int, way: str, found: np.ndarray) -> str:
    """A row of the table."""
    values, width = found[:, 0], found[:, 1].mean()
    several = len(values) > 1
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if several else np.nan
    mean = values.mean()
    return (
        f"| {count} | {way} | {mean:.3f} ({mean - half:.3f} to {mean + half:.3f}, {len(values)} draws) "
        f"| {values.min():.3f} to {values.max():.3f} | {width:.3f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--ways", nargs="+", default=DRAWS, help="each with its number of draws, such as probe:20")
    parser.add_argument("--folder", type=Path, help="kept, so that another call goes on with what was prepared")
    parser.add_argument("--epochs", type=int, default=30, help="of the pretraining")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options.source, options.folder or Path(name), options.epochs)
        print(
            "| labels | way | AUC, mean of draws (95 % over draws) | least to greatest | mean width over test images |"
        )
        print("| --- | --- | --- | --- | --- |")
        for way, draws in (text.rsplit(":", 1) for text in options.ways):
            for count in options.labels:
                started = time.process_time()
                found = [bench.judge(way, count, seed) for seed in range(int(draws))]
                spent = time.process_time() - started
                print(line(count, way, np.array(found)) + f" {spent:.0f} s of processor |", flush=True)


if __name__ == "__main__":
    main()
