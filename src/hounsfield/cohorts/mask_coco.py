"""Cohorts from the shapes of COCO's annotations: the objects of a category together are its label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hounsfield.cohorts.arrays import file_identity
from hounsfield.cohorts.coco import CocoPart, coco_files, read_documents
from hounsfield.cohorts.coco_shapes import marked_shape, shape_mask
from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.mask_build import FoundMasks, build_mask_cohort
from hounsfield.cohorts.masks import Layer
from hounsfield.cohorts.options import Options
from hounsfield.errors import CohortError, ImageError
from hounsfield.images.image import Image

KIND = "coco masks"
# So much of a file is searched for shapes.
SEARCHED_BYTES = 2**22


class CocoMasks:
    """Masks as shapes of annotations; see ``MaskSource``.

    Args:
        shapes: sample → label → the shapes of its objects.
        files: that they are from.
    """

    def __init__(self, shapes: Mapping[str, Mapping[str, Sequence[Any]]], files: Sequence[Path]) -> None:
        self.shapes = {sample: dict(by_label) for sample, by_label in shapes.items()}
        self.files = tuple(files)

    def layers(self, sample: str, image: Image) -> Iterator[Layer]:
        """See ``MaskSource.layers``."""
        if image.rank != 2:
            raise ImageError("its shapes are in two axes, and the image is a volume")
        rows, columns = image.shape
        for label, shapes in self.shapes.get(sample, {}).items():
            mask = np.zeros((rows, columns), bool)
            for shape in shapes:
                mask |= shape_mask(shape, (rows, columns))
            yield Layer(image.replace(pixels=mask[..., np.newaxis].astype(np.uint8)), label=label, place=label)

    def digest(self, samples: Sequence[str]) -> str:
        """See ``MaskSource.digest``: of the files as a whole."""
        del samples
        digest = hashlib.blake2b(digest_size=16)
        for file in self.files:
            digest.update(f"{file.resolve()}|{file_identity(file)}\n".encode())
        return digest.hexdigest()


def has_shapes(path: Path) -> bool:
    """Whether a COCO file of DATA has an annotation with a shape, as far as its start tells."""
    return any(_says_shapes(file) for file in coco_files(path))


def _says_shapes(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(SEARCHED_BYTES).replace(b" ", b"").replace(b"\n", b"")
    return any(mark in head for mark in (b'"segmentation":[[', b'"segmentation":{'))


def load_coco_masks(path: Path, options: Options) -> Cohort:
    """The cohort of a COCO file, or of a folder with one for each split; images without a shape are negatives.

    Raises:
        CohortError: a file is no COCO JSON, or no annotation has a shape.
    """
    parts = read_documents(path, options)
    shapes: dict[str, dict[str, list[Any]]] = {}
    without = sum(_collect(part, shapes) for part in parts)
    if not shapes:
        raise CohortError(
            f"Found no annotation with a shape ('segmentation' with polygons or run lengths) in {path}. Expected some "
            "to learn outlines from. With boxes alone, give --kind coco."
        )
    notes = [f"{without:,} annotations have a box alone and were left out."] if without else []
    images = pd.concat([part.images for part in parts], ignore_index=True)
    every = images["image"].astype(str).unique()
    order = tuple(dict.fromkeys(label for part in parts for label in part.document.categories.values()))
    found = FoundMasks(
        images=images,
        source=CocoMasks({image: shapes.get(image, {}) for image in every}, [part.document.path for part in parts]),
        mask={image: f"{sum(map(len, shapes.get(image, {}).values()))} shapes" for image in every},
        order=order,
        notes=tuple(notes),
    )
    name = path.resolve().name if path.is_dir() else path.stem
    return build_mask_cohort(found, options, root=Path(options.images or parts[0].root), kind=KIND, name=name)


def _collect(part: CocoPart, shapes: dict[str, dict[str, list[Any]]]) -> int:
    """Add the shapes of one file; how many annotations have none."""
    without = 0
    for number, item in enumerate(part.document.annotations):
        if not marked_shape(item):
            without += 1
            continue
        image, label = (
            part.references.get(_key(item, "image_id")),
            part.document.categories.get(_key(item, "category_id")),
        )
        if image is None or label is None:
            what = "an image" if image is None else "a category"
            raise CohortError(
                f"Found annotation {item.get('id', number)} of {part.document.path} of {what} that is not listed: "
                f"{json.dumps(item.get('image_id' if image is None else 'category_id'))}. Correct it, or export the "
                "file again as COCO JSON."
            )
        shapes.setdefault(image, {}).setdefault(label, []).append(item["segmentation"])
    return without


def _key(item: dict[str, Any], name: str) -> Any:
    key = item.get(name)
    return key if isinstance(key, (str, int)) else None
