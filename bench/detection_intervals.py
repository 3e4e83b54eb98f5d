"""Do the intervals of `evaluate_detections` cover the truth as often as they say, and what do they cost?

    python bench/detection_intervals.py coverage [--draws 300] [--replicates 300]
    python bench/detection_intervals.py speed

Coverage: test sets are drawn from a population whose every figure is known (from 5,000 images drawn the same way), and
the share of draws whose 95 % interval holds the true value is printed, a row a figure and a column a design.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from hounsfield.evaluation import Detections, Finding, Truth, as_detections, evaluate_detections

LABELS = ("common", "rare")
FIGURES = ("ap", "ap50", "ap75", "luna16", "sensitivity_fp_1", "f1", "count_bias", "count_mae", "count_high")
# Images, and how many of them are of one patient.
DESIGNS = ((30, 1), (100, 1), (100, 4))
POPULATION = 5_000
CELL = 48.0


def draw(generator: np.random.Generator, num_images: int, per_patient: int) -> tuple[Detections, np.ndarray]:
    """A test set: images of a patient are alike in how many objects they have and in how easy these are to find."""
    patients = np.arange(num_images) // per_patient
    ease = generator.normal(0, 0.8, patients.max() + 1)[patients]
    crowd = np.exp(generator.normal(1.2, 0.6, patients.max() + 1)[patients])
    images = [_image(generator, one, number) for one, number in zip(ease, crowd, strict=True)]
    return as_detections(*map(list, zip(*images, strict=True)), labels=LABELS), patients


def _image(generator: np.random.Generator, ease: float, crowd: float) -> tuple[Truth, Finding]:
    number = min(int(generator.poisson(crowd)), 40)
    cells = generator.choice(100, number, replace=False)
    corners = np.stack([cells // 10, cells % 10], axis=1) * CELL
    lengths = generator.uniform(10, 40, (number, 2))
    boxes = np.concatenate([corners, corners + lengths], axis=1)
    classes = (generator.random(number) < 0.2).astype(int)
    seen = generator.random(number) < 1 / (1 + np.exp(-1.6 - ease + 0.8 * classes))
    moved = boxes[seen] + generator.normal(0, 0.06, (int(seen.sum()), 4)) * np.tile(lengths[seen], 2)
    false = int(generator.poisson(1.2 * np.exp(-0.5 * ease)))
    places = generator.uniform(0, 9 * CELL, (false, 2))
    scores = np.concatenate([generator.beta(4, 2, int(seen.sum())), generator.beta(2, 4, false)])
    found = np.concatenate([moved, np.concatenate([places, places + generator.uniform(10, 40, (false, 2))], axis=1)])
    guessed = np.concatenate([classes[seen], generator.integers(0, 2, false)])
    return Truth(boxes, classes), Finding(found, guessed, scores)


def coverage(num_draws: int, num_replicates: int) -> None:
    print("figure".ljust(18) + "".join(f"{images}, {each} a patient".rjust(20) for images, each in DESIGNS))
    shares = {}
    for images, each in DESIGNS:
        # One image of many stands for the population, whatever the patients.
        truth = evaluate_detections(draw(np.random.default_rng(0), POPULATION, each)[0], num_replicates=1)
        held = dict.fromkeys(FIGURES, 0)
        for number in range(num_draws):
            detections, patients = draw(np.random.default_rng((1, images, each, number)), images, each)
            found = evaluate_detections(detections, groups=patients, num_replicates=num_replicates)
            for name in FIGURES:
                held[name] += found[name].low <= truth[name].value <= found[name].high
        shares[images, each] = {name: count / num_draws for name, count in held.items()}
    for name in FIGURES:
        print(name.ljust(18) + "".join(f"{100 * shares[design][name]:.1f}".rjust(20) for design in DESIGNS))


def speed() -> None:
    for images in (100, 1000):
        detections, patients = draw(np.random.default_rng(0), images, 1)
        start = time.process_time()
        evaluate_detections(detections, groups=patients)
        seconds = time.process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{images} images, {len(detections.scores):,} findings: {seconds:.1f} s, peak {peak:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("coverage", "speed"))
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--replicates", type=int, default=300)
    arguments = parser.parse_args()
    if arguments.question == "coverage":
        coverage(arguments.draws, arguments.replicates)
    else:
        speed()


if __name__ == "__main__":
    main()
