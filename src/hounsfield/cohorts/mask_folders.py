"""Cohorts from images and masks in files: the Decathlon's and nnU-Net's folders, and any that are named as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from hounsfield.cohorts.build import patients_by_folder
from hounsfield.cohorts.channels import joined
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.files import FileSource
from hounsfield.cohorts.label_maps import map_names, map_regions
from hounsfield.cohorts.map_channels import channel_names
from hounsfield.cohorts.mask_build import FoundMasks, build_mask_cohort
from hounsfield.cohorts.mask_content import mask_classes
from hounsfield.cohorts.mask_files import FileMasks, read_label_maps
from hounsfield.cohorts.mask_grids import on_grid
from hounsfield.cohorts.mask_layouts import MaskLayout, mask_layout
from hounsfield.cohorts.masks import Layer, whole_numbers
from hounsfield.cohorts.options import Options
from hounsfield.cohorts.tree import class_tree
from hounsfield.errors import CohortError, ImageError, SeveralVolumes
from hounsfield.images import Reference
from hounsfield.images.image import Image, Metadata
from hounsfield.masks import IGNORE

KIND = "masks"


def load_masks(path: Path, options: Options) -> Cohort:
    """The cohort of a folder with images and their masks.

    Args:
        path: the folder; nnU-Net's or the Decathlon's ``dataset.json`` in it names the labels.
        options: what the user chose.

    Raises:
        CohortError: there are no masks, or they cannot be used.
    """
    layout = find_layout(path, options, asked=True)
    if layout is None:
        raise CohortError(
            f"Found no masks of images in {path}: expected them in a folder of their own, such as images and masks or "
            "imagesTr and labelsTr, or beside the images with a name such as scan7_mask.png. Rename them."
        )
    layout, channels = _channels(layout, path)
    regions = map_regions(path)
    names = {} if regions else map_names(path)
    images = pd.DataFrame({"image": [*layout.files]})
    if layout.splits:
        images["split"] = images["image"].map(layout.splits)
    if classes := classes_of(layout, path, options):
        images["folder"] = images["image"].map(classes)
    images, told = patients_by_folder(images)
    found = FoundMasks(
        images=images,
        source=FileMasks(path, layout.files, names, regions),
        mask={image: ";".join(file.path for file in files) for image, files in layout.files.items()},
        order=tuple(regions or (name for _, name in sorted(names.items()))),
        notes=(*layout.notes, *told),
        listed=frozenset(layout.files) if channels else frozenset(),
        channels=channels,
    )
    return build_mask_cohort(found, options, root=path, kind=KIND, name=path.resolve().name)


def _channels(layout: MaskLayout, path: Path) -> tuple[MaskLayout, tuple[str, ...]]:
    """The layout whose images have all of their channels, and the names of these; none where there is one."""
    count = layout.channels
    if count == 1:
        try:
            FileSource(path).read(Reference(next(iter(layout.files))))
        except SeveralVolumes as error:
            count = len(error.volumes)
            whole = {image: joined([f"{image}[{number}]" for number in range(count)]).text for image in layout.files}
            layout.files = {whole[image]: files for image, files in layout.files.items()}
            layout.splits = {whole[image]: split for image, split in layout.splits.items()}
        except ImageError:
            # Each image is looked at later, and named.
            pass
    if count == 1:
        return layout, ()
    named = channel_names(path)
    names = named if len(named) == count else tuple(map(str, range(count)))
    layout.notes.append(f"{count} channels ({', '.join(names)}) make one image.")
    return layout, names


def find_layout(path: Path, options: Options, *, asked: bool = False) -> MaskLayout | None:
    """The images and masks of a folder, by the names of folders and files, or else by what the files hold."""
    if not path.is_dir():
        return None
    layout = mask_layout(path, options, asked=asked)
    if layout is not None:
        return layout
    by_content = mask_classes(class_tree(path, exclude=options.exclude))
    layout = mask_layout(path, options, by_content) if by_content else None
    # Values alone are evidence only where nearly all is explained by them.
    if layout is None or layout.without >= len(layout.files):
        return None
    layout.notes.append(
        f"The images in {', '.join(by_content)} hold two values or few, and were taken for the masks of the others."
    )
    return layout


def classes_of(layout: MaskLayout, path: Path, options: Options) -> dict[str, str]:
    """Image → the class folder that it lies in; empty where the folders of the images are no classes."""
    tree = class_tree(path, exclude=options.exclude)
    masks = {file.path for files in layout.files.values() for file in files}
    found = {image: label for image, label in zip(tree.images, tree.labels, strict=True) if image not in masks}
    # A folder for each image is its case, and no class.
    several = 1 < len(set(found.values())) <= len(found) / 2
    return found if several and not tree.doubts else {}


def masks_below(path: Path) -> dict[Path, list[Path]]:
    """Image → its masks, of the files below a folder; of an image of several files under the first one."""
    layout = mask_layout(path, Options())
    if layout is None:
        return {}
    return {
        path / Reference.parse(image, path).parts()[0].path: [path / file.path for file in files]
        for image, files in layout.files.items()
    }


def mask_on(path: Path, image: Image) -> Image:
    """The label map of a file on the grid of an image, with the names of its values.

    Raises:
        ImageError: it cannot be read, does not lie on the image, or has values beyond those of 8 bits.
    """
    found = read_label_maps(path)
    if len(found) > 1:
        raise ImageError(f"{path} holds {len(found)} masks that overlap: expected one label map. Write each to a file.")
    mask, names, _ = found[0]
    values = on_grid(whole_numbers(Layer(mask)), image).mask
    if values.min() < 0 or values.max() > IGNORE:
        raise ImageError(f"{path} holds values from {values.min()} to {values.max()}: expected 0 to 255.")
    pixels = values[..., np.newaxis].astype(np.uint8)
    return Image(pixels, image.spacing, image.affine, "SEG", Metadata(labels=tuple(sorted(names.items()))))
