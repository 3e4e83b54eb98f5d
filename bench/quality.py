"""Are faulty images found beside good ones, and how many good ones are flagged?

    python bench/quality.py found FOLDER... [--most 1200] [--seed 0]
    python bench/quality.py cost RUN FILES

found: of the images below each folder (an .npz of MedMNIST's form too) one half stands for training, by patient where
file names begin with one (as those of the chest X-rays). In each image of the other half every fault is planted at full
size; printed are the share of each that is named right, that is flagged at all, and the share of the images as they
were that is flagged.
cost: prediction of files by a run with and without these measures, in turns, in seconds of processor time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hounsfield.inference import open_predictor
from hounsfield.quality import QualityReference, measure
from hounsfield.quality.measures import sampled
from hounsfield.quality.planting import planted

Array = np.ndarray[Any, Any]


def images(folder: Path, most: int, seed: int) -> tuple[list[Array], Array]:
    """Pixels (rows, columns, channels), shuffled, and the patient of each by the first part of its name."""
    rng = np.random.default_rng(seed)
    if folder.suffix == ".npz":
        with np.load(folder) as arrays:
            every = np.concatenate([arrays[f"{split}_images"] for split in ("train", "test")])[..., None]
        chosen = rng.permutation(len(every))[:most]
        return list(every[chosen]), np.arange(len(chosen))
    paths = sorted(path for path in folder.rglob("*") if path.suffix in {".jpeg", ".jpg", ".png"})
    paths = [paths[place] for place in rng.permutation(len(paths))[:most]]
    known = [re.match(r"(person\d+|(NORMAL2-)?IM-\d+)", path.name) for path in paths]
    names = [each.group() if each else path.as_posix() for path, each in zip(paths, known, strict=True)]
    patients = np.unique(names, return_inverse=True)[1]
    return [_read(path) for path in paths], patients


def _read(path: Path) -> Array:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels[..., :3]
    is_grey = pixels.shape[2] == 3 and (pixels == pixels[..., :1]).all()
    return np.ascontiguousarray(pixels[..., :1] if is_grey else pixels)


def _with_channels(found: Array) -> Array:
    return found if found.ndim == 3 else found[..., None]


def clipped(pixels: Array, number: int, share: float) -> Array:
    low, high = int(pixels.min()), int(pixels.max())
    inside = pixels[(pixels > low + (high - low) / 64) & (pixels < high - (high - low) / 64)]
    if number < 0:
        return np.maximum(pixels, np.quantile(inside, share).astype(pixels.dtype))
    return np.minimum(pixels, np.quantile(inside, 1 - share).astype(pixels.dtype))


def blurred(pixels: Array, share: float) -> Array:
    return _with_channels(cv2.GaussianBlur(pixels, (0, 0), max(1, share * min(pixels.shape[:2]))))


def tilted(pixels: Array, degrees: float) -> Array:
    rows, columns = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1)
    return _with_channels(cv2.warpAffine(pixels, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE))


def cropped(pixels: Array, side: int, share: float = 0.3) -> Array:
    rows, columns = round(share * pixels.shape[0]), round(share * pixels.shape[1])
    return np.ascontiguousarray((pixels[:-rows], pixels[rows:], pixels[:, :-columns], pixels[:, columns:])[side])


def broken(pixels: Array, side: int, share: float = 0.35) -> Array:
    found = pixels.copy()
    rows, columns = round(share * pixels.shape[0]), round(share * pixels.shape[1])
    (found[-rows:], found[:rows], found[:, -columns:], found[:, :columns])[side][:] = (0, 127, 255)[side % 3]
    return found


def collimated(pixels: Array, share: float = 0.6) -> Array:
    found = np.full_like(pixels, pixels.min())
    rows, columns = (round((1 - share) / 2 * length) for length in pixels.shape[:2])
    inside = np.s_[rows:-rows, columns:-columns]
    found[inside] = pixels[inside]
    return found


# What is planted -> the word for it, and how; the number of the image decides the side or the direction.
FAULTS: dict[str, tuple[str, Callable[[Array, int], Array]]] = {
    "rotated by 90°": ("rotated", lambda pixels, _: np.ascontiguousarray(np.rot90(pixels))),
    "rotated by 180°": ("rotated", lambda pixels, _: np.ascontiguousarray(np.rot90(pixels, 2))),
    "rotated by 270°": ("rotated", lambda pixels, _: np.ascontiguousarray(np.rot90(pixels, 3))),
    "tilted by 30°": ("rotated", lambda pixels, number: tilted(pixels, 30 if number % 2 else -30)),
    "lower 30 % cut off": ("cut", lambda pixels, _: cropped(pixels, 0)),
    "upper 30 % cut off": ("cut", lambda pixels, _: cropped(pixels, 1)),
    "30 % at one side cut off": ("cut", lambda pixels, number: cropped(pixels, 2 + number % 2)),
    "35 % empty at an edge": ("cut", lambda pixels, number: broken(pixels, number % 4)),
    "collimated to 60 %": ("collimated", lambda pixels, _: collimated(pixels)),
    "blurred, 1.2 % of the side": ("blurred", lambda pixels, _: blurred(pixels, 0.012)),
    "blurred, 2.5 % of the side": ("blurred", lambda pixels, _: blurred(pixels, 0.025)),
    "bright 20 % clipped": ("clipped", lambda pixels, _: clipped(pixels, 1, 0.2)),
    "dark 20 % clipped": ("clipped", lambda pixels, _: clipped(pixels, -1, 0.2)),
}


def found(folders: list[Path], most: int, seed: int) -> None:
    table: dict[str, list[str]] = {name: [] for name in ("as they were", *FAULTS)}
    for folder in folders:
        every, patients = images(folder, most, seed)
        in_training = patients % 2 == 0
        train = [each for each, inside in zip(every, in_training, strict=True) if inside]
        test = [each for each, inside in zip(every, in_training, strict=True) if not inside]
        start = time.process_time()
        reference = fitted(train, patients[in_training])
        print(
            f"{folder.name}: {len(train)} for training, {len(test)} tested, {time.process_time() - start:.1f} s to fit"
        )
        print("  cannot be told:", ", ".join(reference.untold) or "no fault")
        good = reference.faults([measure(each, 2) for each in test])
        words = {
            name: sum(name in each for each in good) for name in ("rotated", "cut", "collimated", "blurred", "clipped")
        }
        table["as they were"].append(f"{_share(good, any)} %")
        print("  of good images:", words)
        for name, (word, plant) in FAULTS.items():
            flags = reference.faults([measure(plant(each, number), 2) for number, each in enumerate(test)])
            table[name].append(f"{_share(flags, lambda each, word=word: word in each)} ({_share(flags, any)}) %")
    print("| planted | " + " | ".join(folder.name for folder in folders) + " |")
    print("| --- |" + " ---: |" * len(folders))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(row) + " |")


def _share(flags: list[tuple[str, ...]], test: Callable[[tuple[str, ...]], bool]) -> str:
    share = 100 * sum(map(test, flags)) / len(flags)
    return f"{share:.1f}" if share < 5 else f"{share:.0f}"


def fitted(train: list[Array], patients: Array) -> QualityReference:
    known = [(sampled(each, 2), measure(each, 2)) for each in train]
    pairs = [(planes, measured) for planes, measured in known if planes is not None and measured is not None]
    reference = QualityReference.fit([each for _, each in pairs], [planted(planes) for planes, _ in pairs], patients)
    assert reference is not None
    return reference


def cost(run: Path, files: Path, turns: int = 9) -> None:
    with_measures, without = open_predictor(run), open_predictor(run)
    without._quality = None
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(turns):
        for measures, predictor in ((True, with_measures), (False, without)):
            start = time.process_time()
            for _ in predictor.stream(paths):
                pass
            seconds[measures].append(time.process_time() - start)
    ratios = [1 - off / on for on, off in zip(seconds[True], seconds[False], strict=True)]
    took = statistics.median(seconds[True])
    print(f"{len(paths)} files: {took:.3f} s of processor, of which the measures {statistics.median(ratios):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="question", required=True)
    first = commands.add_parser("found")
    first.add_argument("folders", type=Path, nargs="+")
    first.add_argument("--most", type=int, default=1200)
    first.add_argument("--seed", type=int, default=0)
    second = commands.add_parser("cost")
    second.add_argument("run", type=Path)
    second.add_argument("files", type=Path)
    options = parser.parse_args()
    if options.question == "found":
        found(options.folders, options.most, options.seed)
    else:
        cost(options.run, options.files)


if __name__ == "__main__":
    main()
