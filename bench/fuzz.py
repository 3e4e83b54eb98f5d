"""Does any damaged header make a reader raise something of its own, hang, crash, or take the memory?

    python bench/fuzz.py [--count 20000] [--start 0] [--seed 0] [--format dicom|tiff|deidentify|…] [--data FOLDER]
    python bench/fuzz.py --show INDEX --out FILE [--format NAME]      writes one mutated file, to look into it

Small true files of every kind (``fuzz_seeds.py``) are mutated by a generator seeded with the index, mostly within their
headers: bytes and bits changed, numbers set to extremes, parts cut out, doubled or cut off. Each is read by
``read_image``, bounded to 2²⁴ values, in a worker process that may take 1 GiB more than it has at the start; those of
``deidentify`` are de-identified and written again. A file that takes longer than 5 s is a hang and the worker is
replaced. Allowed are an image and an ``ImageError``.
"""

from __future__ import annotations

import argparse
import collections
import gzip
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_seeds import NAME, SEEDS, Seed

from hounsfield.errors import ImageError, SeveralVolumes
from hounsfield.images import Reference, read_image
from hounsfield.images.deidentify import deidentify_file

DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HANG_SECONDS = 5.0
MAX_PIXELS = 2**24
MEMORY_BYTES = 2**30
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00010000, 0x7FC00000)


@dataclass
class Tally:
    """What came of the files of one format."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    examples: dict[str, tuple[int, str]] = field(default_factory=dict)
    slowest: list[tuple[float, int]] = field(default_factory=list)
    peak_bytes: int = 0


def mutate(seeds: list[Seed], base: int, index: int) -> tuple[bytes, Seed]:
    """The mutated file of an index, the same one for ever, and the seed it was made from."""
    random = np.random.default_rng([base, index])
    seed = seeds[int(random.integers(len(seeds)))]
    content = bytearray(seed.content)
    for _ in range(int(random.integers(1, 7))):
        reach = len(content) if random.random() < 0.15 else min(seed.header, len(content))
        if reach > 8:
            MUTATIONS[int(random.choice(len(MUTATIONS), p=WEIGHTS))](content, int(random.integers(reach - 8)), random)
    if seed.suffix == ".png" and random.random() < 0.9:
        content = with_right_checksums(content)
    if seed.suffix in {".nii", ".mgh"} and random.random() < 0.4:
        content = bytearray(gzip.compress(bytes(content), 1, mtime=0))
        if random.random() < 0.2:
            set_byte(content, int(random.integers(len(content))), random)
    return bytes(content), seed


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


def worker(pipe: multiprocessing.connection.Connection, seeds: list[Seed], base: int, folder: str, name: str) -> None:
    """Read mutated files, an index at a time; answer with the outcome, its words, the time and the memory."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("error")  # a warning of another library is one of the things that must not come out
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    read = deidentified if name == "deidentify" else read_bounded
    for seed in seeds:  # loads what is loaded lazily, so that the limit is on the reading alone
        try_read(read, seed.content, seed, folder)
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY_BYTES, virtual + MEMORY_BYTES))
    pipe.send("ready")
    while (index := pipe.recv()) is not None:
        content, seed = mutate(seeds, base, index)
        start = time.perf_counter()
        outcome, words = try_read(read, content, seed, folder)
        seconds = time.perf_counter() - start
        pipe.send((outcome, words, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def read_bounded(path: Path) -> None:
    try:
        read_image(path, max_pixels=MAX_PIXELS)
    except SeveralVolumes:
        read_image(Reference(str(path), 1), max_pixels=MAX_PIXELS)


def deidentified(path: Path) -> None:
    deidentify_file(path, path.with_name("clean"), b"a key of this test", keep_pixels=True)


def try_read(read: Callable[[Path], None], content: bytes, seed: Seed, folder: str) -> tuple[str, str]:
    place = Path(folder, str(os.getpid()))
    place.mkdir(exist_ok=True)
    suffix = f"{seed.suffix}.gz" if seed.suffix == ".nii" and content.startswith(b"\x1f\x8b") else seed.suffix
    path = place / f"{NAME}{suffix}"
    path.write_bytes(content)
    if seed.second is not None:
        path.with_suffix(seed.second[0]).write_bytes(seed.second[1])
    try:
        read(path)
    except ImageError as error:
        return "refused", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is what is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"ESCAPED {type(error).__name__}", f"{error} ({Path(last.filename).name}:{last.lineno})"
    return "read", ""


class Pool:
    """One worker that is replaced when it hangs or dies."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=worker, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        # It reads all true files first, which is not to count as the time of the first index.
        self._pipe.recv()

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


def run(name: str, seeds: list[Seed], indices: range, base: int) -> Tally:
    tally = Tally()
    folder = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        pool = Pool(seeds, base, place, name)
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
        f"{name}: {total:,} files: "
        + ", ".join(f"{count:,} {outcome}" for outcome, count in tally.outcomes.most_common())
    )
    print("  slowest: " + ", ".join(f"{seconds:.3f} s (index {index})" for seconds, index in reversed(tally.slowest)))
    print(f"  peak memory of the worker: {tally.peak_bytes / 2**20:,.0f} MiB, the limit is 1,024 MiB above its start")
    bad = {outcome for outcome in tally.outcomes if outcome not in {"read", "refused"}}
    for key, (index, words) in tally.examples.items():
        if not key.startswith(("read", "refused")):
            print(f"  {key.partition(' ')[0]} at index {index}: {words[:300]}")
    return not bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="files, over all formats")
    parser.add_argument("--start", type=int, default=0, help="first index")
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
    verdicts = []
    for name in formats:
        seeds = SEEDS[name](arguments.data)
        print(f"\n{name}: {len(seeds)} true files", flush=True)
        indices = range(arguments.start, arguments.start + share)
        verdicts.append(report(name, run(name, seeds, indices, arguments.seed)))
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
