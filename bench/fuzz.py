"""Does any damaged header make a reader raise something of its own, hang, crash, or take the memory?

    python bench/fuzz.py [--count 20000] [--seed 0] [--format dicom|nifti|png ...] [--data FOLDER]
    python bench/fuzz.py --show INDEX --out FILE [--format NAME]      writes one mutated file, to look into it

Small true files (made here, and the small ones of the data folder where it is there) are mutated by a generator seeded
with the index, mostly within their headers: bytes and bits changed, numbers set to extremes, parts cut out, doubled or
cut off. Each is read by ``read_image`` in a worker process that may take 1 GiB more than it has at the start; a file
that takes longer than 10 s is a hang and the worker is replaced. Allowed are an image and an ``ImageError``.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import io
import logging
import multiprocessing
import multiprocessing.connection
import os
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from hounsfield.errors import ImageError
from hounsfield.images import Image, read_image
from hounsfield.images.dicom_writer import write_multiframe

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LARGEST_SEED = 40_000
HANG_SECONDS = 10.0
SLOW_SECONDS = 5.0
MEMORY_BYTES = 2**30
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00010000, 0x7FC00000)


@dataclass(frozen=True)
class Seed:
    """A true file, how much of it is header, and its suffix."""

    content: bytes
    header: int
    suffix: str


@dataclass
class Tally:
    """What came of the files of one format."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, tuple[int, str]] = field(default_factory=dict)
    slowest: list[tuple[float, int]] = field(default_factory=list)
    peak_bytes: int = 0


def dicom_seeds(data: Path) -> list[Seed]:
    pixels = np.random.default_rng(0).integers(-1000, 1000, (3, 12, 10, 1)).astype(np.int16)
    affine = np.diag([3.0, 0.7, 0.7, 1.0])[[2, 1, 0, 3]]
    colour = np.random.default_rng(0).integers(0, 255, (12, 10, 3)).astype(np.uint8)
    images = [
        Image(pixels=pixels[0]),
        Image(pixels=pixels, affine=affine, spacing=(3.0, 0.7, 0.7)),
        Image(pixels=colour),
    ]
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for image in images:
            path = Path(folder, "a.dcm")
            write_multiframe(image, path)
            syntaxes = (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)
            contents += [path.read_bytes(), *(transcoded(path.read_bytes(), syntax) for syntax in syntaxes)]
    zoo = sorted((data / "dicom-zoo").rglob("*")) if (data / "dicom-zoo").is_dir() else []
    contents += [path.read_bytes() for path in zoo if path.is_file() and path.stat().st_size <= LARGEST_SEED]
    return [Seed(content, max(200, content.rfind(b"\xe0\x7f\x10\x00")), ".dcm") for content in contents]


def transcoded(content: bytes, syntax: str) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(content))
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    implicit = syntax == ImplicitVRLittleEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def nifti_seeds(data: Path) -> list[Seed]:
    seeds = []
    for dtype in ("int16", "uint8", "float32", "float64"):
        for kind, size in ((nibabel.Nifti1Image, 352), (nibabel.Nifti2Image, 544)):
            values = np.random.default_rng(0).integers(0, 100, (7, 6, 5)).astype(dtype)
            image = kind(values, np.diag([2.0, 2, 3, 1]))
            image.set_qform(image.affine, 1)
            seeds.append(Seed(image.to_bytes(), size, ".nii"))
    big = nibabel.Nifti1Image(values, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    seeds += [
        Seed(big.to_bytes(), 352, ".nii"),
        Seed(nibabel.Nifti1Image(values[..., None], np.eye(4)).to_bytes(), 352, ".nii"),
    ]
    real = sorted((data / "nifti").rglob("*.nii.gz")) if (data / "nifti").is_dir() else []
    return (
        seeds
        + [Seed(gzip.decompress(path.read_bytes()), 352, ".nii") for path in real if path.stat().st_size < 8000][:12]
    )


def png_seeds(data: Path) -> list[Seed]:
    random = np.random.default_rng(0)
    shapes = [
        ((9, 11), "uint8"),
        ((9, 11), "uint16"),
        ((9, 11, 3), "uint8"),
        ((9, 11, 4), "uint8"),
        ((9, 11, 3), "uint16"),
    ]
    arrays = [random.integers(0, 255, shape).astype(dtype) for shape, dtype in shapes]
    seeds = [cv2.imencode(".png", array)[1].tobytes() for array in arrays]
    palette = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)) + chunk(b"PLTE", bytes(range(30)))
    palette += chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    real = sorted(data.glob("chest-xray-subgroups/**/*.png"))[:2] if data.is_dir() else []
    seeds += [
        b"\x89PNG\r\n\x1a\n" + palette,
        *(path.read_bytes() for path in real if path.stat().st_size < LARGEST_SEED),
    ]
    return [Seed(content, 41, ".png") for content in seeds]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


SEEDS = {"dicom": dicom_seeds, "nifti": nifti_seeds, "png": png_seeds}


def mutate(seeds: list[Seed], base: int, index: int) -> tuple[bytes, str]:
    """The mutated file of an index, the same one for ever."""
    random = np.random.default_rng([base, index])
    seed = seeds[int(random.integers(len(seeds)))]
    content = bytearray(seed.content)
    for _ in range(int(random.integers(1, 7))):
        reach = len(content) if random.random() < 0.15 else min(seed.header, len(content))
        if reach > 8:
            MUTATIONS[int(random.choice(len(MUTATIONS), p=WEIGHTS))](content, int(random.integers(reach - 8)), random)
    if seed.suffix == ".png" and random.random() < 0.9:
        content = with_right_checksums(content)
    if seed.suffix == ".nii" and random.random() < 0.4:
        content = bytearray(gzip.compress(bytes(content), 1, mtime=0))
        if random.random() < 0.2:
            set_byte(content, int(random.integers(len(content))), random)
    return bytes(content), seed.suffix


def set_byte(content: bytearray, at: int, random: np.random.Generator) -> None:
    content[at] = int(random.integers(256))


def flip_bit(content: bytearray, at: int, random: np.random.Generator) -> None:
    content[at] ^= 1 << int(random.integers(8))


def set_number(content: bytearray, at: int, random: np.random.Generator) -> None:
    width = int(random.choice([1, 2, 4]))
    value = EXTREMES[int(random.integers(len(EXTREMES)))] % (1 << 8 * width)
    content[at : at + width] = value.to_bytes(width, "little" if random.random() < 0.5 else "big")


def cut_out(content: bytearray, at: int, random: np.random.Generator) -> None:
    del content[at : at + int(random.integers(1, 40))]


def double(content: bytearray, at: int, random: np.random.Generator) -> None:
    content[at:at] = content[at : at + int(random.integers(1, 80))]


def cut_off(content: bytearray, at: int, random: np.random.Generator) -> None:
    del content[at + int(random.integers(8)) :]


MUTATIONS = (set_byte, flip_bit, set_number, cut_out, double, cut_off)
WEIGHTS = (0.3, 0.2, 0.3, 0.08, 0.08, 0.04)


def with_right_checksums(content: bytearray) -> bytearray:
    """So that a mutated PNG gets past its checksums, to the decoder."""
    position = 8
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        if end + 4 > len(content):
            break
        struct.pack_into(">I", content, end, zlib.crc32(content[position + 4 : end]))
        position = end + 4
    return content


def worker(pipe: multiprocessing.connection.Connection, seeds: list[Seed], base: int, folder: str) -> None:
    """Read mutated files, an index at a time; answer with the outcome, its words, the time and the memory."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")  # a warning of another library is one of the things that must not come out
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for seed in seeds[:1]:  # loads what is loaded lazily, so that the limit is on the reading alone
        try_read(seed.content, seed.suffix, folder)
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY_BYTES, virtual + MEMORY_BYTES))
    while (index := pipe.recv()) is not None:
        content, suffix = mutate(seeds, base, index)
        start = time.perf_counter()
        outcome, words = try_read(content, suffix, folder)
        seconds = time.perf_counter() - start
        pipe.send((outcome, words, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def try_read(content: bytes, suffix: str, folder: str) -> tuple[str, str]:
    path = Path(folder) / f"{os.getpid()}{suffix}"
    path.write_bytes(content)
    try:
        read_image(path)
    except ImageError as error:
        return "refused", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"ESCAPED {type(error).__name__}", f"{error} ({Path(place.filename).name}:{place.lineno})"
    return "read", ""


class Pool:
    """One worker that is replaced when it hangs or dies."""

    def __init__(self, seeds: list[Seed], base: int, folder: str) -> None:
        self._arguments = (seeds, base, folder)
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=worker, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, index: int) -> tuple[str, str, float, int]:
        """Outcome, its words, seconds and peak bytes of one index."""
        self._pipe.send(index)
        try:
            if self._pipe.poll(HANG_SECONDS):
                answer: tuple[str, str, float, int] = self._pipe.recv()
                return answer
            outcome = "HANG"
        except EOFError:
            outcome = "CRASH"
        self._process.kill()
        self._process.join()
        self._start()
        return outcome, f"exit code {self._process.exitcode}", HANG_SECONDS, 0

    def stop(self) -> None:
        """Let the worker end."""
        self._pipe.send(None)
        self._process.join()


def run(seeds: list[Seed], indices: range, base: int) -> Tally:
    tally = Tally()
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        pool = Pool(seeds, base, place)
        for index in indices:
            outcome, words, seconds, peak = pool.ask(index)
            tally.outcomes[outcome] += 1
            tally.slowest = sorted([*tally.slowest, (seconds, index)])[-3:]
            tally.peak_bytes = max(tally.peak_bytes, peak)
            if outcome not in {"read", "refused"} or outcome not in tally.examples:
                tally.examples.setdefault(f"{outcome} {words.rpartition('(')[2]}" if words else outcome, (index, words))
        pool.stop()
    return tally


def report(name: str, tally: Tally) -> bool:
    """Print a format's outcomes; whether all are allowed."""
    total = sum(tally.outcomes.values())
    print(
        f"\n{name}: {total:,} files: "
        + ", ".join(f"{count:,} {outcome}" for outcome, count in tally.outcomes.most_common())
    )
    print("  slowest: " + ", ".join(f"{seconds:.3f} s (index {index})" for seconds, index in reversed(tally.slowest)))
    print(f"  peak memory of the worker: {tally.peak_bytes / 2**20:,.0f} MiB, the limit is 1,024 MiB above its start")
    bad = {outcome for outcome in tally.outcomes if outcome not in {"read", "refused"}}
    for key, (index, words) in tally.examples.items():
        if not key.startswith(("read", "refused")):
            print(f"  {key.partition(' ')[0]} at index {index}: {words[:300]}")
    return not bad and tally.slowest[-1][0] < SLOW_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="files, over all formats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", action="append", choices=SEEDS)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("HOUNSFIELD_DATA", DEFAULT_DATA)))
    parser.add_argument("--show", type=int)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    formats = arguments.format or list(SEEDS)
    if arguments.show is not None:
        arguments.out.write_bytes(mutate(SEEDS[formats[0]](arguments.data), arguments.seed, arguments.show)[0])
        return
    share = -(-arguments.count // len(formats))
    tallies = {}
    for name in formats:
        seeds = SEEDS[name](arguments.data)
        print(f"{name}: {len(seeds)} true files")
        tallies[name] = run(seeds, range(share), arguments.seed)
    verdicts = [report(name, tally) for name, tally in tallies.items()]
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
