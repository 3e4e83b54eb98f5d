"""Cohorts from images and label maps in two folders: the Decathlon's, nnU-Net's, and any pair called so."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.label_maps import map_folders, map_names, map_pairs
from hounsfield.cohorts.mask_build import FoundMasks, build_mask_cohort
from hounsfield.cohorts.mask_files import FileMasks, MaskFile
from hounsfield.cohorts.options import Options
from hounsfield.errors import CohortError

KIND = "masks"


def load_masks(path: Path, options: Options) -> Cohort:
    """The cohort of a folder with images and label maps of the same names.

    Args:
        path: the folder; nnU-Net's or the Decathlon's ``dataset.json`` in it names the labels.
        options: what the user chose.

    Raises:
        CohortError: there are no masks, or they cannot be used.
    """
    folders = map_folders(path)
    if folders is None:
        raise CohortError(f"Found no folders of images and of masks in {path}.")
    pairs, notes = map_pairs(*folders, options, path)
    images = {os.path.relpath(image, path): os.path.relpath(mask, path) for image, mask in pairs}
    names = map_names(path)
    found = FoundMasks(
        images=pd.DataFrame({"image": [*images]}),
        source=FileMasks(path, {image: [MaskFile(mask)] for image, mask in images.items()}, names),
        mask=images,
        order=tuple(name for _, name in sorted(names.items())),
        notes=tuple(notes),
    )
    return build_mask_cohort(found, options, root=path, kind=KIND, name=path.resolve().name)
