"""Does a bundle tell images that it was not made for, and how well beside the network's own confidence?

    python bench/novelty.py RUN [--data ../shared/data] [--images 400]

Of the run's own test images and of outliers of many kinds: the area under the ROC curve of telling the outliers from
the test images, and the share of each kind that lies beyond the bundle's limit. Beside the bundle's score stand its
two parts (network features alone, looks alone) and, as the peer, the probability of the decided label. Nothing is
fitted here: the bundle's score comes from its own training and validation images.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy import stats
from sklearn.datasets import load_sample_images

from hounsfield.bundle import Bundle
from hounsfield.errors import ImageError, PreprocessingError
from hounsfield.images import Image, image_files, read_image
from hounsfield.inference import Predictor
from hounsfield.inference.appearance import appearances
from hounsfield.testing.cohort import tested_cohort

FOLDERS = ("brain-mri", "blood-cells", "particles", "chest-xray", "chest-xray-subgroups", "ct-series")
BATCH = 64


def in_distribution(run: Path, bundle: Bundle, count: int) -> list[Image]:
    cohort = tested_cohort(run, None, bundle, None).cohort
    rows = np.unique(np.linspace(0, len(cohort) - 1, min(count, len(cohort))).round().astype(int))
    return [image for image in cohort.stream(rows) if isinstance(image, Image)]


def of_folder(folder: Path, count: int, generator: np.random.Generator) -> Iterator[Image]:
    files = image_files(folder)
    for number in generator.permutation(len(files))[:count]:
        try:
            image = read_image(files[number])
        except ImageError:
            continue
        # As a picture without a header would come: what the header tells, prediction refuses or flags by itself.
        yield Image(pixels=image.pixels)


def inverted(image: Image) -> Image:
    pixels = image.pixels.astype(np.float32)
    return Image(pixels=pixels.max() + pixels.min() - pixels)


def smooth_noise(generator: np.random.Generator, shape: tuple[int, ...], share: float) -> np.ndarray:
    noise = generator.normal(size=shape).astype(np.float32)
    parts = noise if noise.ndim == 3 else noise[None]
    blurred = np.stack([cv2.GaussianBlur(part, (0, 0), share * min(shape[-2:])) for part in parts]).reshape(shape)
    return 255 * (blurred - blurred.min()) / np.ptp(blurred)


def text(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    page = np.zeros((256, 256), np.uint8)
    for line in range(6):
        word = "".join(chr(code) for code in generator.integers(65, 91, 9))
        cv2.putText(page, word, (int(generator.integers(0, 40)), 40 + 40 * line), 0, 1.2, 255, 2)
    return np.broadcast_to(page, (*shape[:-2], 256, 256)).astype(np.float32)


def photographs(count: int, generator: np.random.Generator) -> Iterator[Image]:
    """Parts of the two photographs that come with scikit-learn, a temple and a flower, in colour."""
    pictures = load_sample_images().images
    for _ in range(count):
        picture = pictures[int(generator.integers(len(pictures)))]
        side = int(generator.integers(150, 400))
        row, column = (int(generator.integers(0, length - side)) for length in picture.shape[:2])
        yield Image(pixels=picture[row : row + side, column : column + side].copy())


def made(shape: tuple[int, ...], generator: np.random.Generator) -> dict[str, Callable[[], np.ndarray]]:
    """What draws one image of each kind, without a channel axis, in 0 to 255."""
    return {
        "noise, uniform": lambda: generator.uniform(0, 255, shape),
        "noise, Gaussian": lambda: generator.normal(128, 30, shape),
        "noise, salt and pepper": lambda: 255.0 * (generator.random(shape) < 0.5),
        "noise, smooth": lambda: smooth_noise(generator, shape, 0.1),
        "noise, very smooth": lambda: smooth_noise(generator, shape, 0.25),
        "ramp": lambda: np.broadcast_to(np.linspace(0, 255, shape[-1]), shape),
        "text": lambda: text(generator, shape),
        "blank": lambda: np.full(shape, float(generator.integers(0, 256))),
        "blank but for noise of 1 grey level": lambda: generator.integers(10, 246) + generator.normal(0, 1, shape),
    }


def outliers(run: Path, data: Path, usual: list[Image], count: int) -> Iterator[tuple[str, list[Image]]]:
    generator = np.random.default_rng(0)
    trained_on = str((run / "environment.json").read_text())
    for name in FOLDERS:
        if (data / name).is_dir() and f"/{name}" not in trained_on:
            yield name, list(of_folder(data / name, count, generator))
    if len(usual[0].shape) == 2:
        yield "photographs", list(photographs(min(count, 200), generator))
    yield "own images, inverted", [inverted(image) for image in usual]
    yield "own images, upside down", [Image(pixels=image.pixels[..., ::-1, :, :].copy()) for image in usual]
    yield "own images, on their side", [Image(pixels=np.rot90(image.pixels, axes=(-3, -2)).copy()) for image in usual]
    shape, channels = usual[0].shape, usual[0].channels
    for name, draw in made(shape, generator).items():
        pixels = [np.clip(draw(), 0, 255).astype(np.uint8)[..., None] for _ in range(min(count, 200))]
        yield name, [Image(pixels=np.repeat(each, channels, axis=-1)) for each in pixels]


def scores(predictor: Predictor, images: list[Image]) -> dict[str, np.ndarray]:
    """Every score of the images that can be prepared: larger is more unlike."""
    bundle, prepared = predictor.bundle, []
    for image in images:
        try:
            pixels = bundle.pipeline.apply(image).pixels
        except (ImageError, PreprocessingError):
            continue
        if pixels.shape == bundle.input_shape:
            prepared.append(pixels)
    if not prepared or bundle.novelty is None:
        return {}
    batches = [np.stack(prepared[start : start + BATCH]) for start in range(0, len(prepared), BATCH)]
    outputs = [predictor.run(batch) for batch in batches]
    probabilities = np.concatenate([bundle.calibrated(output.probabilities) for output in outputs])
    sure = np.maximum(probabilities, 1 - probabilities) if bundle.task != "multi-class" else probabilities
    described = {
        "features": np.concatenate([output.features for output in outputs]),
        "appearance": np.concatenate([appearances(batch) for batch in batches]),
    }
    parts = bundle.novelty.ratios(described)
    return {"bundle": np.max(list(parts.values()), axis=0), **parts, "confidence": 1 - sure.max(axis=1)}


def auroc(usual: np.ndarray, other: np.ndarray) -> float:
    ranks = stats.rankdata(np.concatenate([usual, other]))[len(usual) :]
    return float((ranks.sum() - len(other) * (len(other) + 1) / 2) / (len(usual) * len(other)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    default = os.environ.get("HOUNSFIELD_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--images", type=int, default=400)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    predictor = Predictor(arguments.run)
    bundle = predictor.bundle
    if bundle.novelty is None:
        parser.error("this bundle has no limit of novelty: train again")
    usual = in_distribution(arguments.run, bundle, 10**6)
    known = scores(predictor, usual)
    print(f"{predictor.engine.description}; limit: {bundle.novelty.false_alarms:.2%} false alarms expected")
    print(f"{len(known['bundle'])} test images: {np.mean(known['bundle'] > 1):.1%} beyond the limit")
    print(f"{'outliers':<38}{'n':>5}{'beyond':>9}" + "".join(f"{name:>12}" for name in known))
    for name, images in outliers(arguments.run, arguments.data, usual, arguments.images):
        found = scores(predictor, images)
        if found:
            areas = "".join(f"{auroc(known[score], found[score]):12.3f}" for score in known)
            print(f"{name:<38}{len(found['bundle']):>5}{np.mean(found['bundle'] > 1):>9.1%}{areas}")


if __name__ == "__main__":
    main()
