"""How fast are images read, with their geometry and metadata, beside the libraries that we stand on and our peers?

    python bench/ingest.py [--data FOLDER] [--repeats 5] [--case NAME ...] [--before SRC]

Each case reads the same files, one after the other in one process, by every reader that is installed; the best of some
repeats counts, and readers take turns so that all see the same machine. "Bare" readers give pixels alone, without
rescaling, inversion, colours, geometry or checks. Printed are files a second, and ours as a share of each other's.
``--before`` names the folder ``src`` of another version, which reads the same files in a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import cv2
import nibabel
import numpy as np
import pydicom
import SimpleITK
import tifffile

from hounsfield.images import image_files, read_image

Read = Callable[[Path], object]

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def bare_pydicom(path: Path) -> object:
    return pydicom.dcmread(path).pixel_array


def bare_nibabel(path: Path) -> object:
    return np.asanyarray(nibabel.load(path).dataobj)


def simple_itk(path: Path) -> object:
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


def monai(path: Path) -> object:
    return importlib.import_module("monai.transforms").LoadImage(image_only=True)(path)


def opencv(path: Path) -> object:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def dicom_series(data: Path) -> list[Path]:
    return image_files(data / "ct-series") + image_files(data / "mr-study")


def dicom_zoo(data: Path) -> list[Path]:
    return image_files(data / "dicom-zoo")


def hippocampus(data: Path) -> list[Path]:
    """Twenty volumes and the label maps of twenty others."""
    images, labels = (sorted((data / "hippocampus" / name).glob("*.nii.gz")) for name in ("images", "labels"))
    return images[:20] + labels[20:40]


def x_rays(data: Path) -> list[Path]:
    return image_files(data / "chest-xray")[:100]


def made(write: Callable[[Path, np.ndarray], object], suffix: str) -> Callable[[Path], list[Path]]:
    """Twenty files of smooth noise, (512, 512, 3), written for this run."""

    def files(_data: Path) -> list[Path]:
        folder = Path(tempfile.mkdtemp(prefix="ingest"))
        noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)
        paths = [folder / f"{number}{suffix}" for number in range(20)]
        for path in paths:
            write(path, cv2.GaussianBlur(noise, (0, 0), 3))
        return paths

    return files


def write_volume(path: Path, pixels: np.ndarray) -> None:
    volume = np.repeat(pixels[np.newaxis, :64, :256, 0].astype(np.int16), 40, axis=0)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(volume), str(path), True)


def write_grey(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels[..., 0].astype(np.uint16) * 200)


def write_packed(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="rgb", compression="lzw")


def write_png(path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(path), pixels)


@dataclass(frozen=True)
class Case:
    """Files that every reader gets; a file that one of them cannot read is left out for all."""

    files: Callable[[Path], list[Path]]
    peers: dict[str, Read]
    most: int = 200


DICOM_PEERS: dict[str, Read] = {"pydicom, bare": bare_pydicom, "SimpleITK": simple_itk, "MONAI": monai}

NIFTI_PEERS: dict[str, Read] = {"nibabel, bare": bare_nibabel, "SimpleITK": simple_itk, "MONAI": monai}

CASES: dict[str, Case] = {
    "DICOM series": Case(dicom_series, DICOM_PEERS),
    "DICOM zoo": Case(dicom_zoo, DICOM_PEERS),
    "NIfTI": Case(hippocampus, NIFTI_PEERS),
    "JPEG": Case(x_rays, {"OpenCV, bare": opencv}),
    "PNG": Case(made(write_png, ".png"), {"OpenCV, bare": opencv}),
    "TIFF": Case(made(write_grey, ".tif"), {"OpenCV, bare": opencv}),
    "TIFF, LZW": Case(made(write_packed, ".tif"), {"OpenCV, bare": opencv}),
    "NRRD": Case(made(write_volume, ".nrrd"), {"SimpleITK": simple_itk}),
    "MetaImage": Case(made(write_volume, ".mha"), {"SimpleITK": simple_itk}),
}
NEEDS = {"MONAI": "monai"}


# Reads the paths that it is sent; answers how many it could read, and the processor's seconds that they took.
WORKER = """
import contextlib, logging, pickle, sys, time, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter("ignore")
from hounsfield.images import read_image
while True:
    paths, number, start = pickle.load(sys.stdin.buffer), 0, time.process_time()
    for path in paths:
        with contextlib.suppress(Exception):
            read_image(path); number += 1
    print(number, time.process_time() - start, flush=True)
"""


class Version:
    """A reader of many files by another version, in a process of its own.

    Args:
        source: its folder ``src``.
    """

    def __init__(self, source: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source)}
        command = [sys.executable, "-c", WORKER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def read(self, paths: list[Path]) -> tuple[int, float]:
        """How many could be read, and the processor's seconds."""
        to, back = cast("IO[bytes]", self.process.stdin), cast("IO[bytes]", self.process.stdout)
        to.write(pickle.dumps(paths))
        to.flush()
        number, seconds = back.readline().split()
        return int(number), float(seconds)


def versions(source: Path, files: list[Path], repeats: int) -> None:
    """Print what this version needs beside another one: the processor's time, so that a busy machine counts less."""
    both = [Version(source), Version(Path(__file__).resolve().parents[1] / "src")]
    files = [path for path in files if all(one.read([path])[0] for one in both)]
    before, now = (min(seconds) for seconds in zip(*turns(both, files, repeats), strict=True))
    rates = f"before {len(files) / before:8.0f} files/s of processor, now {len(files) / now:8.0f}"
    print(f"  {rates}: {before / now:.2f} of it ({len(files)} files)")
    for one in both:
        one.process.kill()
        one.process.wait()


def turns(readers: list[Version], files: list[Path], repeats: int) -> Iterator[list[float]]:
    for _ in range(repeats):
        yield [one.read(files)[1] for one in readers]


def is_readable(path: Path, readers: dict[str, Read]) -> bool:
    for read in readers.values():
        try:
            read(path)
        except Exception:  # noqa: BLE001 - peers raise whatever they like on files that they cannot read
            return False
    return True


def best_seconds(readers: dict[str, Read], files: list[Path], repeats: int) -> dict[str, float]:
    best = dict.fromkeys(readers, float("inf"))
    for _ in range(repeats):
        for name, read in readers.items():
            start = time.perf_counter()
            for path in files:
                read(path)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def seconds_with_processes(files: list[Path], processes: int, repeats: int) -> float:
    """Our reader on a warm pool; only the files' sizes travel back."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pool.map(count_values, files[: 2 * processes], chunksize=1)
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            pool.map(count_values, files, chunksize=4)
            best = min(best, time.perf_counter() - start)
    return best


def count_values(path: Path) -> int:
    return read_image(path).pixels.size


def run(name: str, case: Case, data: Path, repeats: int, before: Path | None) -> None:
    peers = {peer: read for peer, read in case.peers.items() if importlib.util.find_spec(NEEDS.get(peer, "pydicom"))}
    readers: dict[str, Read] = {"hounsfield": read_image, **peers}
    candidates = case.files(data)
    if before is not None:
        print(f"\n{name}")
        versions(before, candidates[: case.most], repeats)
        return
    files = [path for path in candidates if is_readable(path, readers)][: case.most]
    if not files:
        print(f"{name}: no files below {data}")
        return
    best = best_seconds(readers, files, repeats)
    print(f"\n{name}: {len(files)} files")
    for reader, seconds in best.items():
        share = "" if reader == "hounsfield" else f"   ours is {seconds / best['hounsfield']:.2f} of it"
        print(f"  {reader:<16}{len(files) / seconds:8.0f} files/s{share}")
    # A second of work or more: handing out less measures the pool instead.
    many = files * max(1, round(1 / best["hounsfield"]))
    for processes in (1, 2):
        rate = len(many) / seconds_with_processes(many, processes, repeats)
        print(f"  hounsfield, {processes} process{'es' if processes > 1 else ''} {rate:8.0f} files/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HOUNSFIELD_DATA", DEFAULT_DATA)))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", action="append", choices=CASES, help="only these")
    parser.add_argument("--before", type=Path, help="the folder src of another version: compare with that alone")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    for name in arguments.case or CASES:
        run(name, CASES[name], arguments.data, arguments.repeats, arguments.before)


if __name__ == "__main__":
    main()
