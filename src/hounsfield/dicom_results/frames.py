"""Values at each pixel of images, put on the frames that the images were read from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hounsfield.dicom_results.sources import Source
from hounsfield.images.stored import Frame, put_back

logger = logging.getLogger(__name__)

Planes = dict[Frame, npt.NDArray[np.float32]]


def by_series(sources: Sequence[Source], *, alone_without_place: bool = False) -> list[list[Source]]:
    """Sources that one object of frames can refer to: of one series and size; a file of several frames is alone.

    Images without a frame of reference are left out with a warning: they lie nowhere, and an object of frames has to
    say where its frames lie.

    Args:
        sources: of one study.
        alone_without_place: whether a single image without a frame of reference gets an object of its own.
    """
    groups: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        dataset = source.datasets[0]
        has_place = all(each.get("FrameOfReferenceUID") for each in source.datasets)
        is_single = len(source.datasets) == 1 and int(dataset.get("NumberOfFrames") or 1) == 1
        if not has_place and not (alone_without_place and is_single):
            logger.warning(
                "%s states no frame of reference, so that no object can say where its frames lie: it gets no map, and "
                "no segmentation where it has several frames. Reports and captures are made of it.",
                source.prediction.image,
            )
            continue
        alone = source.slices[0].frame is not None or not has_place
        instance = str(dataset.SOPInstanceUID) if alone else ""
        key = (str(dataset.SeriesInstanceUID), instance, str(dataset.Rows), str(dataset.Columns))
        groups.setdefault(key, []).append(source)
    return list(groups.values())


def placed(values: npt.NDArray[np.generic], source: Source, *, order: Literal[0, 1]) -> Planes:
    """Values (spatial …) on the frames of a source; see ``put_back``."""

    def size(path: Path) -> tuple[int, int]:
        dataset = source.headers[path]
        return int(dataset.Rows), int(dataset.Columns)

    volume = np.asarray(values, np.float32)
    return put_back(volume if volume.ndim == 3 else volume[np.newaxis], source.slices, size, order=order)


def stacked(planes: Planes, source: Source) -> tuple[list[Dataset], npt.NDArray[np.float32]]:
    """The images of planes, and the planes (frames, rows, columns) as the images have their frames."""
    (path, _), plane = next(iter(planes.items()))
    frames = int(source.headers[path].get("NumberOfFrames") or 1)
    if frames == 1:
        return [source.headers[path] for path, _ in planes], np.stack(list(planes.values()))
    # The library takes the place of each frame from an image of as many.
    empty = np.zeros_like(plane)
    return [source.headers[path]], np.stack([planes.get((path, number), empty) for number in range(frames)])


def key_of(sources: Sequence[Source]) -> list[str]:
    """What tells the images of sources from all others."""
    return sorted(part for source in sources for part in source.key)
