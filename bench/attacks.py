"""Does anything get past the hashes of a bundle, or make a reader do more than refuse it in one paragraph?

    python bench/attacks.py bits [--count 1000] [--exponents 200]     flipped bits of a bundle, over all of its files
    python bench/attacks.py files [--only NAME]                       hostile tables, plans, bundles and images

A bit counts as found where ``Bundle.load`` refuses the bundle and names the file. A hostile file is read in a process
of its own; allowed are a result and an error of ours, within 5 s of the processor and 1 GiB; after 30 s it counts as
hanging.
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hostile_files import ATTACKS, READERS
from hounsfield.bundle import Bundle
from hounsfield.errors import HounsfieldError
from hounsfield.safe_text import shown

SECONDS, HANG_SECONDS = 5.0, 30.0
MEMORY = 2**30
# Of addresses more: allocators reserve far more than they use.
ADDRESSES = 2**33


def flip_bits(bundle: Path, count: int, exponents: int, seed: int) -> bool:
    """Flip one bit at a time; whether each was refused by the name of its file."""
    random = np.random.default_rng(seed)
    files = sorted(path for path in bundle.iterdir() if path.is_file())
    sizes = np.array([path.stat().st_size for path in files])
    print(f"{len(files)} files of {sizes.sum():,} bytes: {', '.join(path.name for path in files)}")
    missed = 0
    # Every file, however small, gets its share of half of the bits; the other half falls anywhere.
    chosen = [files[number % len(files)] for number in range(count // 2)]
    chosen += [files[number] for number in random.choice(len(files), count - count // 2, p=sizes / sizes.sum())]
    # The highest exponent bit of a float32 in little-endian order: bit 6 of its last byte.
    weights = [path for path in files if path.suffix in {".onnx", ".npz", ".keras"}]
    places = [(path, int(random.integers(path.stat().st_size)), 1 << int(random.integers(8))) for path in chosen]
    for number in range(exponents):
        path = weights[number % len(weights)]
        places.append((path, 4 * int(random.integers(path.stat().st_size // 4)) + 3, 0x40))
    for path, place, bit in places:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        try:
            Bundle.load(bundle)
            missed += 1
            print(f"  NOT FOUND: bit {bit:#04x} of byte {place} of {path.name}")
        except HounsfieldError as error:
            if path.name not in str(error):
                missed += 1
                print(f"  NOT NAMED: byte {place} of {path.name}: {error}")
        path.write_bytes(whole)
    Bundle.load(bundle)
    print(f"{len(places):,} bits ({exponents} of exponents): {len(places) - missed:,} refused by the name of the file")
    return not missed


def read(pipe: Any, reader: Callable[[Path], object], path: Path) -> None:
    """Read one file, and tell what came of it."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (pages + ADDRESSES, pages + ADDRESSES))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        reader(path)
        outcome, words = "read", ""
    except HounsfieldError as error:
        outcome, words = "refused", shown(str(error))
        if "\n" in words or len(words) > 4000:
            outcome = "LONG"
    except BaseException as error:  # noqa: BLE001 - whatever else comes out is what is looked for
        outcome, words = f"ESCAPED {type(error).__name__}", str(error)[:300]
    seconds = time.process_time() - started
    pipe.send((outcome, words, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def try_file(kind: str, path: Path) -> tuple[str, str, float, int]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=read, args=(theirs, READERS[kind], path))
    process.start()
    theirs.close()
    try:
        answer: tuple[str, str, float, int] = ours.recv() if ours.poll(HANG_SECONDS) else ("HANG", "", HANG_SECONDS, 0)
    except EOFError:
        answer = ("CRASH", "", 0.0, 0)
    process.kill()
    process.join()
    return answer


def read_files(only: str) -> bool:
    """Read every hostile file; whether all outcomes are allowed."""
    tally: collections.Counter[str] = collections.Counter()
    slowest, largest = (0.0, ""), (0, "")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for (kind, name), write in ATTACKS.items():
            if only not in f"{kind} {name}":
                continue
            place = Path(folder) / "attack"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            outcome, words, seconds, kilobytes = try_file(kind, write(place))
            tally[outcome] += 1
            slowest = max(slowest, (seconds, f"{kind}: {name}"))
            largest = max(largest, (kilobytes, f"{kind}: {name}"))
            allowed = outcome in {"read", "refused"} and seconds <= SECONDS and kilobytes * 1024 <= MEMORY
            good = good and allowed
            if only or not allowed:
                print(f"  {kind}: {name}: {outcome}, {seconds:.1f} s, {kilobytes / 1024:.0f} MiB: {words[:300]}")
    print(f"{sum(tally.values())} files: " + ", ".join(f"{count} {outcome}" for outcome, count in tally.most_common()))
    print(f"  slowest: {slowest[0]:.2f} s ({slowest[1]}); most memory: {largest[0] / 1024:,.0f} MiB ({largest[1]})")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("bits", "files"))
    parser.add_argument("--bundle", type=Path, help="another than a tiny one made for this; it is copied")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--exponents", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    if arguments.what == "files":
        sys.exit(0 if read_files(arguments.only) else 1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "bundle"
        if arguments.bundle:
            shutil.copytree(arguments.bundle, place)
        else:
            from networks import tiny_bundle

            tiny_bundle(place)
        sys.exit(0 if flip_bits(place, arguments.count, arguments.exponents, arguments.seed) else 1)


if __name__ == "__main__":
    main()
