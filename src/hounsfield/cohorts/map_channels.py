"""Images of several channels beside label maps: one is read, chosen by the user, and none is dropped unsaid."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

from hounsfield.cohorts.options import Options
from hounsfield.errors import CohortError, UsageError
from hounsfield.hardware import out_of_files

# nnU-Net numbers the channels of an image; its map has no such number.
NUMBERED = re.compile(r"_\d{4}$")
NUM_NAMED = 3


def kept_images(images: Sequence[Path], options: Options) -> list[Path]:
    """The images that ``--exclude`` leaves.

    Raises:
        UsageError: it leaves out none.
    """
    if not options.exclude:
        return list(images)
    kept = [path for path in images if not any(fnmatch(path.name, pattern) for pattern in options.exclude)]
    if len(kept) == len(images):
        raise UsageError(
            f"No image is called {', '.join(options.exclude)} (--exclude). Name a file or a pattern that is there, or "
            "leave the option out."
        )
    return kept


def refuse_several_files(images_of: Mapping[Path, Sequence[Path]], data: Path) -> None:
    """Refuse label maps with several images each, which are the channels of one.

    Args:
        images_of: label map → its images.
        data: the folder with ``dataset.json``, where there is one.

    Raises:
        CohortError: there are such maps; the message names the channels and how to choose one.
    """
    several = [images for images in images_of.values() if len(images) > 1]
    if not several:
        return
    names = ", ".join(path.name for path in several[0][:NUM_NAMED])
    suffix = "".join(several[0][-1].suffixes[-2:])
    number = NUMBERED.search(several[0][-1].name.removesuffix(suffix))
    pattern = f"*{number[0]}{suffix}" if number else several[0][-1].name
    raise CohortError(
        f"Found {len(several):,} images of {data} in several files each{_of(channel_names(data))}, such as {names}: "
        "these are the channels of one image, and one channel is read. Choose it by leaving the others out, as in "
        f"--exclude '{pattern}'."
    )


def several_volumes(count: int, num_volumes: int, data: Path) -> CohortError:
    """The error for 4D images, which hold channels or time points."""
    named = _of(channel_names(data))
    return CohortError(
        f"Found {count:,} images of {data} that hold {num_volumes} volumes each{named}: one is read, "
        "chosen by its number from 0, as in --volume 0."
    )


def channel_names(data: Path) -> tuple[str, ...]:
    """The channels by the ``dataset.json`` of nnU-Net or the Decathlon; empty where it says nothing of them."""
    try:
        sheet = json.loads((data / "dataset.json").read_text(encoding="utf-8-sig"))
        named = sheet.get("channel_names") or sheet.get("modality") or {}
        return tuple(str(named[key]) for key in sorted(named, key=int))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if out_of_files(error):
            raise
        return ()


def _of(names: Sequence[str]) -> str:
    return f" ({', '.join(f'{number}: {name}' for number, name in enumerate(names))})" if names else ""
