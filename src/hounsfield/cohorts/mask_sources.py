"""The kinds of DATA that hold masks: how each is recognised, and what loads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hounsfield.cohorts import array_sets, mask_coco, mask_dicom, mask_folders, mask_tables
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.options import Options

LOADERS: dict[str, Callable[[Path, Options], Cohort]] = {
    mask_folders.KIND: mask_folders.load_masks,
    mask_dicom.KIND: mask_dicom.load_dicom_masks,
    mask_coco.KIND: mask_coco.load_coco_masks,
    mask_tables.KIND: mask_tables.load_mask_table,
}
MASK_KINDS = tuple(LOADERS)
MASK_FORMS = (
    "images with masks in a folder of their own (images and masks, imagesTr and labelsTr) or beside them "
    "(scan7_mask.png); DICOM series with segmentations or structure sets; COCO JSON with polygons or run lengths; a "
    "table with the columns image and mask"
)


def kinds_with_masks(path: Path, options: Options) -> tuple[list[str], list[str]]:
    """The kinds of DATA with masks that a path can be read as, the likeliest first.

    Returns:
        Those that nothing else speaks against, and those beside which the data can be read otherwise, too: the folders
        of the images are classes, or there are boxes.
    """
    if mask_coco.has_shapes(path):
        return [], [mask_coco.KIND]
    if mask_dicom.has_dicom_masks(path):
        return [mask_dicom.KIND], []
    layout = mask_folders.find_layout(path, options)
    # Arrays of images and of their labels are named as folders of images and label maps are.
    if layout is None or array_sets.array_pairs(path):
        return [], []
    beside = mask_folders.classes_of(layout, path, options)
    return ([], [mask_folders.KIND]) if beside else ([mask_folders.KIND], [])
