"""What do pretrained weights bring where few images are labelled?

    python bench/few_labels.py PNEUMONIAMNIST.npz [--labels 20 50 100 200] [--draws 5] [--ways scratch probe finetune]

Of a MedMNIST file's training images so many are drawn, the same for every way, three quarters of them to train on and a
quarter for validation: labels for validation are labels, too. All ways are judged on the whole test split: from
scratch, as the planner trains without weights at effort quick, and from EfficientNet-Lite0 on ImageNet in a probe and
in a finetuning. The mean of each way has a 95 % interval over draws (Student's t), beside the mean width of the
intervals over test images, which does not shrink with more draws.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats

from hounsfield.planning import Start
from hounsfield.plans.loading import load_plan
from hounsfield.training import train

WAYS: dict[str, Start] = {
    "scratch": Start(),
    "probe": Start("imagenet", "probe"),
    "finetune": Start("imagenet", "finetune"),
}


def draw(source: Path, count: int, seed: int, folder: Path) -> Path:
    """A file of so many labelled images, the labels as frequent as in the source, with the whole test split."""
    with np.load(source) as arrays:
        images, labels = arrays["train_images"], arrays["train_labels"]
        test = {name: arrays[name] for name in ("test_images", "test_labels")}
    generator = np.random.default_rng((seed, count))
    rows = np.concatenate(
        [
            generator.permutation(np.flatnonzero(labels[:, 0] == label))[: max(2, round(count * share))]
            for label, share in zip(*np.unique(labels[:, 0], return_counts=True), strict=True)
            for share in [share / len(labels)]
        ]
    )
    rows = generator.permutation(rows)
    # Each label is in both parts.
    order = np.argsort(labels[rows, 0], kind="stable")
    validation = np.zeros(len(rows), bool)
    validation[order[::4]] = True
    parts = {"train": rows[~validation], "val": rows[validation]}
    arrays = {
        f"{name}_{kind}": what[part]
        for name, part in parts.items()
        for kind, what in (("images", images), ("labels", labels))
    }
    path = folder / f"drawn-{count}-{seed}.npz"
    np.savez(path, **arrays, **test)  # type: ignore[arg-type]  # the stub takes them for allow_pickle
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 50, 100, 200])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    print("| labels | way | AUC, mean of draws (95 % over draws) | least to greatest | mean width over test images |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        for count in options.labels:
            for way in options.ways:
                found = [judge(options.source, count, seed, way, Path(name)) for seed in range(options.draws)]
                print(line(count, way, np.array(found)), flush=True)


def judge(source: Path, count: int, seed: int, way: str, folder: Path) -> tuple[float, float]:
    """AUC on the test split, and the width of its interval over test images."""
    out = folder / f"{way}-{count}-{seed}"
    data = str(draw(source, count, seed, folder))
    run = train(data, out, effort="quick", seed=seed, start=WAYS[way])
    assert load_plan(out / "plan.yaml").weights == WAYS[way].weights
    auc = run.metrics["test"]["auc"]
    return auc["value"], auc["high"] - auc["low"]


def line(count: int, way: str, found: np.ndarray) -> str:
    values, width = found[:, 0], found[:, 1].mean()
    half = (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    )
    mean = values.mean()
    return (
        f"| {count} | {way} | {mean:.3f} ({mean - half:.3f} to {mean + half:.3f}, {len(values)} draws) "
        f"| {values.min():.3f} to {values.max():.3f} | {width:.3f} |"
    )


if __name__ == "__main__":
    main()
