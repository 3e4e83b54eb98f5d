"""How fast are images read, with their geometry and metadata, beside the libraries that we stand on and our peers?

    python bench/ingest.py [--data FOLDER] [--repeats 5] [--case NAME ...]

Each case reads the same files, one after the other in one process, by every reader that is installed; the best of some
repeats counts, and readers take turns so that all see the same machine. "Bare" readers give pixels alone, without
rescaling, inversion, colours, geometry or checks. Printed are files a second, and ours as a share of each other's.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import logging
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK

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


def dicom_series(data: Path) -> list[Path]:
    return image_files(data / "ct-series") + image_files(data / "mr-study")


def dicom_zoo(data: Path) -> list[Path]:
    return image_files(data / "dicom-zoo")


def hippocampus(data: Path) -> list[Path]:
    """Twenty volumes and the label maps of twenty others."""
    images, labels = (sorted((data / "hippocampus" / name).glob("*.nii.gz")) for name in ("images", "labels"))
    return images[:20] + labels[20:40]


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
}
NEEDS = {"MONAI": "monai"}


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


def run(name: str, case: Case, data: Path, repeats: int) -> None:
    peers = {peer: read for peer, read in case.peers.items() if importlib.util.find_spec(NEEDS.get(peer, "pydicom"))}
    readers: dict[str, Read] = {"hounsfield": read_image, **peers}
    files = [path for path in case.files(data) if is_readable(path, readers)][: case.most]
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
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    for name in arguments.case or CASES:
        run(name, CASES[name], arguments.data, arguments.repeats)


if __name__ == "__main__":
    main()
