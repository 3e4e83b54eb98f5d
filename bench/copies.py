"""Are augmented copies of an image grouped with it, and distinct images of one class kept apart?

    python bench/copies.py found DATA [--part report] [--copies 200]
    python bench/copies.py distinct DATA [--folder DIR]
    python bench/copies.py speed DATA [--images 10000]

DATA is a folder with `brain-mri` and `chest-xray`, each with a folder a class. `found` makes one copy of each of 200
images, of one kind of change at a time, and counts the copies that stand in a group with their original, beside the
peer: the comparison of thumbnails alone, which is what re-encoded and resized copies are found by. The thresholds were
chosen on the classes of the part `choice`; results are those of the part `report`.

`distinct` lists every group of different images within a class, and with --folder draws them side by side, since only
a look tells a false pair from a true copy: both collections hold augmented copies of their own.

`speed` writes files, real images and copies of them, and times the scan and the search; `taskset -c 0,1` before it
leaves two cores.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from hounsfield.cohorts import load_cohort
from hounsfield.cohorts.duplicates import duplicate_groups, near_pairs
from hounsfield.cohorts.scan import Scan, image_facts, scan
from hounsfield.images.image import Image

Pixels = np.ndarray
PARTS = {
    "choice": {"brain MRI": ("brain-mri/glioma",), "chest X-ray": ("chest-xray/bacteria",)},
    "report": {
        "brain MRI": ("brain-mri/meningioma", "brain-mri/pituitary", "brain-mri/notumor"),
        "chest X-ray": ("chest-xray/normal", "chest-xray/virus"),
    },
}
BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REPLICATE, cv2.BORDER_REFLECT)


def moved(pixels: Pixels, linear: Pixels, rng: np.random.Generator, shift: Pixels | float = 0.0) -> Pixels:
    """Map about the middle, the edge filled with black, with its own values, or with a reflection."""
    size = np.array(pixels.shape[1::-1])
    middle = (size - 1) / 2
    affine = np.column_stack([linear, middle - linear @ middle + shift * size])
    return cv2.warpAffine(pixels, affine, size.tolist(), borderMode=BORDERS[rng.integers(len(BORDERS))])


def mirror(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(np.flip(pixels, rng.integers(2)))


def quarter_turn(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.ascontiguousarray(np.rot90(pixels, rng.integers(1, 4)))


def rotation(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    angle = np.deg2rad(rng.uniform(-15, 15))
    return moved(pixels, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), rng)


def shift(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return moved(pixels, np.eye(2), rng, rng.uniform(-0.15, 0.15, 2))


def crop(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    rows, columns = (rng.uniform(0.85, 1, 2) * pixels.shape[:2]).astype(int)
    top, left = rng.integers(pixels.shape[0] - rows + 1), rng.integers(pixels.shape[1] - columns + 1)
    part = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return part if rng.random() < 0.5 else cv2.resize(part, pixels.shape[1::-1])


def zoom(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return moved(pixels, np.eye(2) * rng.uniform(0.85, 1.15), rng)


def shear(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    linear = np.eye(2)
    linear[(0, 1) if rng.random() < 0.5 else (1, 0)] = rng.uniform(-0.2, 0.2)
    return moved(pixels, linear, rng)


def as_bytes(values: Pixels) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def brightness(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return as_bytes(pixels * rng.uniform(0.4, 1.5) if rng.random() < 0.5 else pixels + rng.uniform(-50, 50))


def contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return as_bytes((pixels - pixels.mean()) * rng.uniform(0.5, 1.6) + pixels.mean())


def gamma(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return as_bytes(255 * (pixels / 255) ** (2 ** rng.uniform(-1, 1)))


def noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return as_bytes(pixels + rng.normal(0, rng.uniform(4, 25), pixels.shape))


def jpeg(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 91))])[1]
    return cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


GEOMETRIC = (mirror, quarter_turn, rotation, shift, crop, zoom, shear)
PHOTOMETRIC = (brightness, contrast, gamma, noise, jpeg)


def mixed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """One to three changes of place, then one or two of grey values."""
    for kinds, most in ((GEOMETRIC, 3), (PHOTOMETRIC, 2)):
        for at in rng.permutation(len(kinds))[: rng.integers(1, most + 1)]:
            pixels = kinds[at](pixels, rng)
    return pixels


CHANGES: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (*GEOMETRIC, *PHOTOMETRIC, mixed)


def read(data: Path, classes: tuple[str, ...]) -> tuple[list[Path], list[Pixels]]:
    """The files of some classes and their grey pixels, one of each group with the same pixels."""
    paths = sorted(path for name in classes for path in (data / name).iterdir() if path.suffix in {".jpg", ".jpeg"})
    distinct = {pixels.tobytes(): (path, pixels) for path in paths for pixels in [cv2.imread(str(path), 0)]}
    return [path for path, _ in distinct.values()], [pixels for _, pixels in distinct.values()]


def scanned(data: Path, images: list[Pixels]) -> Scan:
    """A scan of images in memory; the search looks at their facts alone."""
    cohort = load_cohort(data / "chest-xray" / "index.csv")
    return Scan(cohort, [image_facts(Image(pixels[..., None])) for pixels in images])


def found(data: Path, part: str, copies: int, seed: int) -> None:
    for name, classes in PARTS[part].items():
        images = read(data, classes)[1]
        rng = np.random.default_rng(seed)
        originals = [images[at] for at in np.sort(rng.permutation(len(images))[:copies])]
        for change in CHANGES:
            facts = scanned(data, [*originals, *(change(pixels, rng) for pixels in originals)])
            groups = [set(group.rows) for group in duplicate_groups(facts)]
            number = len(originals)
            hits = sum(any({row, row + number} <= group for group in groups) for row in range(number))
            pairs = {tuple(sorted(pair)) for pair in near_pairs(facts, np.arange(2 * number)).tolist()}
            peer = sum((row, row + number) in pairs for row in range(number))
            print(f"{name:12} {change.__name__:12} {hits / number:6.1%} of {number}, thumbnails {peer / number:6.1%}")


def distinct(data: Path, folder: Path | None) -> None:
    classes = sorted({name for part in PARTS.values() for group in part.values() for name in group})
    for name in (*((one,) for one in classes), ("chest-xray/bacteria", "chest-xray/virus")):
        paths, images = read(data, name)
        groups = [group for group in duplicate_groups(scanned(data, images)) if not group.exact]
        changes = [change for group in groups for change in group.changes]
        print(f"{' and '.join(name)}: {len(images)} images, {len(groups)} groups, {len(changes)} pairs")
        for number, change in enumerate(changes):
            print(f"  {paths[change.rows[0]].name} {paths[change.rows[1]].name}: {change.text}")
            if folder:
                both = [cv2.resize(images[row], (224, 224)) for row in change.rows]
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{'_'.join(name).replace('/', '_')}_{number}.png"), np.hstack(both))


def speed(data: Path, number: int) -> None:
    images = [pixels for part in PARTS.values() for group in part.values() for pixels in read(data, group)[1]]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        for at in range(number):
            pixels = images[at] if at < len(images) else mixed(images[at % len(images)], rng)
            path = Path(place) / "ab"[at % 2] / f"{at}.jpg"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), pixels)
        cohort = load_cohort(place)
        start, busy = time.perf_counter(), time.process_time()
        facts = scan(cohort)
        print(f"{number:,} images: scan {time.perf_counter() - start:.0f} s, {time.process_time() - busy:.0f} s of CPU")
        start, busy = time.perf_counter(), time.process_time()
        groups = duplicate_groups(facts)
        print(f"search {time.perf_counter() - start:.0f} s, {time.process_time() - busy:.0f} s of CPU")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{len(groups):,} groups; greatest memory {memory:.1f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=("found", "distinct", "speed"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--part", choices=tuple(PARTS), default="report")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    if asked.question == "found":
        found(asked.data, asked.part, asked.copies, asked.seed)
    elif asked.question == "distinct":
        distinct(asked.data, asked.folder)
    else:
        speed(asked.data, asked.images)


if __name__ == "__main__":
    main()
