"""Cohorts: the table of samples, where they come from, how they are split, and the store of prepared images."""

from hounsfield.cohorts.cohort import Cohort, ImageSource
from hounsfield.cohorts.digest import pixel_digest
from hounsfield.cohorts.mask_store import MaskStore
from hounsfield.cohorts.masks import read_mask
from hounsfield.cohorts.public import MEDMNIST, cache_folder, get_medmnist
from hounsfield.cohorts.sources import KINDS, load_cohort, load_request
from hounsfield.cohorts.split import assign_folds, assign_splits
from hounsfield.cohorts.store import SceneStore, Store
from hounsfield.cohorts.targets import TARGETS

__all__ = [
    "KINDS",
    "MEDMNIST",
    "TARGETS",
    "Cohort",
    "ImageSource",
    "MaskStore",
    "SceneStore",
    "Store",
    "assign_folds",
    "assign_splits",
    "cache_folder",
    "get_medmnist",
    "load_cohort",
    "load_request",
    "pixel_digest",
    "read_mask",
]
