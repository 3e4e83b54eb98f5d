"""What do pretrained weights bring where few images are labelled?

    python bench/few_labels.py PNEUMONIAMNIST.npz [--labels 20 50 100 200] [--ways probe:20 scratch:3 finetune:3 own:3]

Of a MedMNIST file's training images, 1,000 are the pool of which labels are drawn; a network is pretrained on the
others without their labels (way "own": a probe of it; "own finetuned": all of it). So many of the pool are drawn, the
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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hounsfield.cohorts import Cohort, Store, load_cohort
from hounsfield.cohorts.fingerprint import fingerprint
from hounsfield.cohorts.request import DataRequest
from hounsfield.cohorts.scan import scan
from hounsfield.evaluation.delong import auc_estimate
from hounsfield.evaluation.intervals import make_clusters
from hounsfield.planning import Facts, Start, Wish, make_plan
from hounsfield.pretraining import pretrain
from hounsfield.training import probing
from hounsfield.training.base import Specification
from hounsfield.training.networks import train_network
from hounsfield.training.run import fitted_plan

POOL = 1000
DRAWS = ["probe:20", "own:20", "scratch:3", "finetune:3", "own finetuned:3"]


class Bench:
    """The pool, the test images, and what was prepared of them."""

    def __init__(self, source: Path, folder: Path, epochs: int) -> None:
        self._folder, self._epochs = folder, epochs
        with np.load(source) as arrays:
            images, labels = arrays["train_images"], arrays["train_labels"]
            order = np.random.default_rng(0).permutation(len(labels))
            test = {"test_images": arrays["test_images"], "test_labels": arrays["test_labels"]}
        pool, rest = order[:POOL], order[POOL:]
        np.savez(folder / "pool.npz", train_images=images[pool], train_labels=labels[pool], **test)
        few = {f"{split}_{kind}": part[:20] for split in ("val", "test") for kind, part in test.items()}
        few = {name.replace("_test", ""): part for name, part in few.items()}
        np.savez(folder / "rest.npz", train_images=images[rest], train_labels=labels[rest], **few)
        self.cohort: Cohort = load_cohort(folder / "pool.npz")
        self.test = self.cohort.rows("test")
        self.scanned = scan(self.cohort)

    @cache  # noqa: B019 - one bench a process
    def own(self) -> str:
        """The folder of the pretraining on the rest of the training images."""
        out, started = self._folder / "own", time.process_time()
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
        labels = self.cohort.targets()[rows, 0]
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
        plan = self.plan(train, start).model_copy(update={"seed": seed})
        plan = fitted_plan(plan, self.cohort.subset(train).with_splits(["train"] * len(train)))
        store = Store.build(self.cohort, plan.pipeline)
        network = train_network(Specification(plan, store, train, validation)).network
        if plan.adapt == "probe":
            features = all_features(network, Specification(plan, store, train, validation), self.test)[self.test]
            kernel, bias = network.get_layer("probabilities").get_weights()
            scores = (features @ kernel + bias)[:, 0]
        else:
            starts = range(0, len(self.test), 64)
            parts = [network.predict_on_batch(store.batch(self.test[begin : begin + 64])) for begin in starts]
            scores = np.concatenate(parts)[:, 0]
        truth = self.cohort.targets()[self.test] > 0
        value, interval = auc_estimate(truth, scores[:, np.newaxis], make_clusters(truth))
        return value, interval.high - interval.low


def all_features(network: Any, specification: Specification[Any, Any], rows: np.ndarray, *_: Any) -> np.ndarray:
    """The features of every row of a store, which the product would compute anew for each draw."""
    every = np.arange(len(specification.store))
    if not np.isin(rows, every).all():
        raise ValueError("rows beyond the store")
    return FEATURES_OF(network, specification, every)


FEATURES_OF = probing.features_of


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
    parser.add_argument("--epochs", type=int, default=30, help="of the pretraining")
    options = parser.parse_args()
    probing.features_of = all_features
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(options.source, Path(name), options.epochs)
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
