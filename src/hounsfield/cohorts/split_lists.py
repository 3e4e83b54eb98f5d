"""Lists of images by split, as text files beside a table: ``train_val_list.txt``, ``test_list.txt``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from hounsfield.cohorts.files import text_lines
from hounsfield.cohorts.options import NUM_NAMED
from hounsfield.cohorts.table_images import Names
from hounsfield.cohorts.words import SPLIT_WORDS, tokens
from hounsfield.errors import CohortError

# A list is one of images where so many of its lines name an image of the table.
LEAST_SHARE = 0.5
MAX_BYTES = 2**26


def splits_of_lists(folder: Path, images: pd.Series[str]) -> tuple[pd.Series[str] | None, list[str]]:
    """The split of each image by the lists in a folder; ``None`` where there are no such lists.

    A list of training and validation together, such as ``train_val_list.txt``, is one of training, from which a
    validation split is taken later.

    Raises:
        CohortError: an image is in lists of two splits, or in none.
    """
    names = Names(images.tolist())
    found: dict[str, str] = {}
    used: list[str] = []
    for path in sorted(folder.glob("*.txt")):
        split = _split_of(path)
        if split is None or path.stat().st_size > MAX_BYTES:
            continue
        lines = text_lines(path)
        places = [place for line in lines for place in names.find(line.split()[0])[:1] if place in names.images]
        if not lines or len(places) < LEAST_SHARE * len(lines):
            continue
        used.append(path.name)
        for place in places:
            if found.setdefault(place, split) != split:
                raise CohortError(
                    f"Found '{place}' in the lists of {found[place]} and of {split} in {folder}: expected each image "
                    "in one. Correct the lists, or move them elsewhere to have splits made."
                )
    if not used:
        return None, []
    absent = [image for image in images if image not in found]
    if absent or "train" not in found.values():
        named = ", ".join(absent[:NUM_NAMED]) or "none for training"
        raise CohortError(
            f"The lists {', '.join(used)} in {folder} give a split to {len(found):,} of {len(images):,} images, and "
            f"not to {named}. Expected one for each, and some for training. Complete the lists, or move them elsewhere "
            "to have splits made."
        )
    return images.map(found), [f"The splits were read from the lists {', '.join(used)}."]


def _split_of(path: Path) -> str | None:
    splits = {SPLIT_WORDS[word] for word in tokens(path.stem) if word in SPLIT_WORDS}
    if splits == {"train", "validation"}:
        return "train"
    return next(iter(splits)) if len(splits) == 1 else None
