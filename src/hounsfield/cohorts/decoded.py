"""Images that are kept as decoded between the scan of a cohort and its store, so that each is decoded once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Sequence

import psutil

from hounsfield.cohorts.cohort import Cohort, ImageSource
from hounsfield.errors import ImageError
from hounsfield.images.image import Image
from hounsfield.images.reference import Reference

# What is kept takes at most this share of the free memory, and never more than so many bytes.
FREE_SHARE = 1 / 8
MAX_BYTES = 2**30


class DecodedSource:
    """Gives out what another source reads, and keeps it as long as there is room.

    Args:
        source: what reads the images.
        max_bytes: of pixels; images beyond are read again each time.
    """

    def __init__(self, source: ImageSource, max_bytes: int) -> None:
        self.source = source
        self._room = max_bytes
        self._kept: dict[Reference, Image] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[DecodedSource], tuple[ImageSource, int]]:
        """A pickled source keeps no image: another process reads what it needs."""
        return DecodedSource, (self.source, 0)

    def read(self, reference: Reference) -> Image:
        """See ``ImageSource.read``."""
        return self._kept.get(reference) or self.source.read(reference)

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        """See ``ImageSource.stream``."""
        known = {reference: self._kept[reference] for reference in references if reference in self._kept}
        others = self.source.stream([reference for reference in references if reference not in known])
        for reference in references:
            image = known.pop(reference, None)
            if image is not None:
                yield image
                continue
            item = next(others)
            if isinstance(item, Image):
                self._keep(reference, item)
            yield item

    def digest(self, references: Sequence[Reference]) -> str:
        """See ``ImageSource.digest``."""
        return self.source.digest(references)

    def release(self) -> None:
        """Let go of all images, and keep none from now on."""
        with self._lock:
            self._kept.clear()
            self._room = 0

    def _keep(self, reference: Reference, image: Image) -> None:
        with self._lock:
            if reference not in self._kept and image.pixels.nbytes <= self._room:
                self._kept[reference] = image
                self._room -= image.pixels.nbytes


def keep_decoded(cohort: Cohort, *, max_bytes: int | None = None) -> Cohort:
    """The same cohort, whose images are kept as decoded from their first reading until :func:`release_decoded`.

    Args:
        cohort: any cohort.
        max_bytes: of pixels that may be kept; by default an eighth of the free memory, and a gibibyte at most.
    """
    if max_bytes is None:
        max_bytes = min(MAX_BYTES, int(psutil.virtual_memory().available * FREE_SHARE))
    return dataclasses.replace(cohort, source=DecodedSource(cohort.source, max_bytes))


def release_decoded(cohort: Cohort) -> None:
    """Let go of the decoded images of a cohort, if any were kept; its source reads on."""
    if isinstance(cohort.source, DecodedSource):
        cohort.source.release()
