"""How soon does `hounsfield monitor` find a drift, and how often does it alarm without one?

    python bench/monitor.py [--quiet 500] [--streams 20] [--reference 500] [--seed 0]

Streams of a binary classifier are drawn (log odds, out-of-distribution score, mean intensity, abstentions, truths);
charts are fitted on validation images. Printed are the rate of false alarms in quiet streams of 2,000 images, which
validation sets share evenly, with an interval from a bootstrap of these sets, and the delay of the first alarm after
each of 20 drifts begins, in images. The margin of the limits was chosen with --seed 0; other seeds judge it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from hounsfield.evaluation.charts import Charts, Reference

LENGTH, AFTER = 2000, 1500
Stream = dict[str, np.ndarray]


def draw(count: int, rng: np.random.Generator, prevalence: float | np.ndarray = 0.3) -> Stream:
    truth = (rng.random(count) < prevalence).astype(float)
    logit = 1.5 * (2 * truth - 1) + 1.5 * rng.normal(size=count) - 0.5
    ood = np.exp(0.3 * rng.normal(size=count))
    return {"truth": truth, "logit": logit, "ood": ood, "mean": rng.normal(size=count)}


def share(
    stream: Stream, part: float, rng: np.random.Generator, change: Callable[[Stream, np.ndarray], None]
) -> Stream:
    change(stream, rng.random(len(stream["truth"])) < part)
    return stream


def moved(name: str, shift: float = 0.0, scale: float = 1.0) -> Callable[[int, np.random.Generator], Stream]:
    def drift(count: int, rng: np.random.Generator) -> Stream:
        stream = draw(count, rng)
        stream[name] = stream[name] * scale + shift
        return stream

    return drift


def ramp(count: int) -> np.ndarray:
    return np.minimum(np.arange(count) / 300, 1)


def _some(name: str, part: float, shift: float) -> Callable[[int, np.random.Generator], Stream]:
    def drift(count: int, rng: np.random.Generator) -> Stream:
        stream = draw(count, rng)
        stream[name] = stream[name] + shift * (rng.random(count) < part)
        return stream

    return drift


def _noisy(count: int, rng: np.random.Generator) -> Stream:
    stream = draw(count, rng)
    return stream | {"logit": stream["logit"] + 1.5 * rng.normal(size=count)}


def _wrong(count: int, rng: np.random.Generator) -> Stream:
    stream = draw(count, rng)
    return stream | {"truth": np.where(rng.random(count) < 0.3, 1 - stream["truth"], stream["truth"])}


def _group(count: int, rng: np.random.Generator) -> Stream:
    stream, new = draw(count, rng), rng.random(count) < 0.25
    return stream | {"mean": stream["mean"] + 1.5 * new, "logit": stream["logit"] - 1.5 * new}


DRIFTS: dict[str, Callable[[int, np.random.Generator], Stream]] = {
    "prevalence .3 to .5": lambda count, rng: draw(count, rng, 0.5),
    "prevalence .3 to .12": lambda count, rng: draw(count, rng, 0.12),
    "prevalence .3 to .6 within 300 images": lambda count, rng: draw(count, rng, 0.3 + 0.3 * ramp(count)),
    "log odds + .8": moved("logit", 0.8),
    "log odds - .8": moved("logit", -0.8),
    "log odds twice as extreme": moved("logit", scale=2),
    "log odds half as extreme": moved("logit", scale=0.5),
    "noise in the log odds": _noisy,
    "log odds + 3 in 15 %": _some("logit", 0.15, 3),
    "out-of-distribution score x 1.15": moved("ood", scale=1.15),
    "out-of-distribution score + 1 in 15 %": _some("ood", 0.15, 1),
    "intensity + .5": moved("mean", 0.5),
    "intensity - .5": moved("mean", -0.5),
    "intensity spread x 1.6": moved("mean", scale=1.6),
    "intensity spread x .5": moved("mean", scale=0.5),
    "intensity + 1 within 300 images": lambda count, rng: (s := draw(count, rng)) | {"mean": s["mean"] + ramp(count)},
    "intensity + 1.5 in 30 %": _some("mean", 0.3, 1.5),
    "another scanner in 25 %": _group,
    "readers disagree in 30 %": _wrong,
    "constant intensity": moved("mean", scale=0),
}


def figures(stream: Stream) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    probability = 1 / (1 + np.exp(-stream["logit"]))
    wrong = (stream["logit"] > 0) != (stream["truth"] > 0.5)
    residual = (stream["truth"] - probability) / np.sqrt(probability * (1 - probability))
    flags = {
        "out of distribution": (stream["ood"] > 2).astype(float),
        "abstained": (np.abs(stream["logit"]) < 0.3).astype(float),
        "disagreement": wrong.astype(float),
    }
    return {
        "log odds": stream["logit"],
        "ood score": stream["ood"],
        "intensity": stream["mean"],
        "residual": residual,
    }, flags


def fitted(count: int, number: int, seed: int) -> Charts:
    values, flags = figures(draw(count, np.random.default_rng((1, number, seed))))
    return Charts.fit(Reference(values, flags, np.arange(count)), seed=1000 * seed + number)


def run_length(firsts: np.ndarray) -> float:
    """Images between two alarms at a constant rate, from (sets, streams) first alarms."""
    return float(firsts.sum() / max((firsts < LENGTH).sum(), 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quiet", type=int, default=500)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--reference", type=int, default=500)
    parser.add_argument("--fits", type=int, default=20, help="validation sets")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.process_time()
    charts = [fitted(options.reference, number, options.seed) for number in range(options.fits)]
    print(f"{(time.process_time() - start) / len(charts):.1f} s of processor to fit the charts")
    quiet: list[np.ndarray] = []
    delays: dict[str, list[int]] = {name: [] for name in DRIFTS}
    for number, each in enumerate(charts):
        rng = np.random.default_rng((2, number, options.seed))
        quiet.append(each.first_alarms([figures(draw(LENGTH, rng)) for _ in range(options.quiet // len(charts))]))
        several = max(options.streams // len(charts), 1)
        streams = [figures(drift(AFTER, rng)) for drift in DRIFTS.values() for _ in range(several)]
        for place, delay in enumerate(each.first_alarms(streams).tolist()):
            delays[list(DRIFTS)[place // several]].append(delay)
    firsts = np.array(quiet)
    rng = np.random.default_rng((3, options.seed))
    again = [run_length(firsts[rng.integers(len(firsts), size=len(firsts))]) for _ in range(2000)]
    low, high = np.quantile(again, [0.025, 0.975])
    print(
        f"{firsts.size} quiet streams, {len(firsts)} validation sets: {(firsts == LENGTH).mean():.1%} without alarm "
        f"in {LENGTH:,} images; one false alarm in {run_length(firsts):,.0f} images ({low:,.0f} to {high:,.0f})"
    )
    print("| drift | median delay | 90 % within |\n| --- | ---: | ---: |")
    medians = []
    for name, found in delays.items():
        medians.append(float(np.median(found)))
        print(f"| {name} | {medians[-1]:.0f} | {np.quantile(found, 0.9):.0f} |")
    print(f"median of all drifts {np.median(medians):.0f}, largest {max(medians):.0f}")


if __name__ == "__main__":
    main()
