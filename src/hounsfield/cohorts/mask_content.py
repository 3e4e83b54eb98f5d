"""Whether folders of a tree, or files beside its images, hold masks, told by the values of a few of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hounsfield.cohorts.files import ordered_map
from hounsfield.cohorts.tree import Tree
from hounsfield.cohorts.words import stem_of
from hounsfield.errors import ImageError
from hounsfield.hardware import out_of_files
from hounsfield.images import Reference
from hounsfield.images.reading import read_reference

# So many images of a folder tell what it holds, of no more folders than this.
LOOKED_AT = 4
MOST_CLASSES = 20
# A label map of several values: so few, and no more of it marked than this.
MOST_VALUES = 20
MOST_MARKED = 0.9
# JPEG blurs the edges of a mask: from this share of pixels near black or white on it is one.
NEARLY, NEAR = 0.98, 12


def mask_classes(tree: Tree) -> list[str]:
    """The class folders of which every image that is looked at holds two values alone, or few as a label map does.

    Nothing where all folders do: then the images themselves are such, as shapes of organs are.
    """
    classes = sorted(set(tree.labels))
    if not 2 <= len(classes) <= MOST_CLASSES:
        return []
    found = [name for name in classes if _are_masks(tree, name)]
    return found if len(found) < len(classes) else []


def mask_endings(tree: Tree) -> list[str]:
    """What the names of files end in that hold masks, each beside an image without the ending that is none.

    As ``_annot`` where ``7_annot.png`` lies beside ``7.png``, whatever the word is.
    """
    stems = {stem_of(image): image for image in tree.images}
    pairs: dict[str, list[tuple[str, str]]] = {}
    for stem, image in stems.items():
        for sign in re.finditer(r"[_\-. ](?=[^/]+$)", stem):
            if (alone := stems.get(stem[: sign.start()])) is not None:
                pairs.setdefault(stem[sign.start() :], []).append((image, alone))
    several = sorted((ending for ending, found in pairs.items() if len(found) > 1), key=lambda one: -len(pairs[one]))
    return [ending for ending in several[:MOST_CLASSES] if _are_masks_of(tree, pairs[ending])]


def _are_masks_of(tree: Tree, pairs: Sequence[tuple[str, str]]) -> bool:
    step = max(1, len(pairs) // LOOKED_AT)
    looked_at = pairs[::step][:LOOKED_AT]
    return all(_is_mask(tree, mask) and not _is_mask(tree, image) for mask, image in looked_at)


def _are_masks(tree: Tree, name: str) -> bool:
    images = [image for image, label in zip(tree.images, tree.labels, strict=True) if label == name]
    step = max(1, len(images) // LOOKED_AT)
    return all(ordered_map(lambda image: _is_mask(tree, image), images[::step][:LOOKED_AT]))


def _is_mask(tree: Tree, image: str) -> bool:
    try:
        pixels = read_reference(Reference(str(tree.root / image))).pixels
    except (ImageError, OSError) as error:
        if out_of_files(error):
            raise
        return False
    grey = pixels[..., 0]
    if pixels.shape[-1] > 1 and not (pixels == grey[..., None]).all():
        return False
    return is_map(grey)


def is_map(values: npt.NDArray[np.generic]) -> bool:
    """Whether the values of an image are those of a mask or of a label map."""
    whole = values.astype(np.float64)
    distinct: Sequence[float] = np.unique(whole).tolist()
    if len(distinct) < 2 or distinct[0] < 0:
        return False
    if distinct[0] == 0 and len(distinct) <= MOST_VALUES and all(value == int(value) for value in distinct):
        return len(distinct) == 2 or float((whole > 0).mean()) <= MOST_MARKED
    dark, bright = whole <= NEAR, whole >= 255 - NEAR
    return distinct[-1] <= 255 and bool(dark.any() and bright.any() and (dark | bright).mean() >= NEARLY)
