"""One streaming pass over a cohort that keeps, for each image, the few figures that every check needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hounsfield.cohorts.cohort import Cohort
from hounsfield.cohorts.delegation import delegate_for
from hounsfield.cohorts.digest import pixel_digest
from hounsfield.cohorts.public import cache_folder
from hounsfield.cohorts.scan_cache import keep_facts, load_facts, scan_file
from hounsfield.cohorts.signature import signature
from hounsfield.images.colour import is_grey
from hounsfield.images.image import Image
from hounsfield.images.orientation import is_usable, orientation_of
from hounsfield.preprocessing.lungs import lung_box, upright_axis
from hounsfield.preprocessing.statistics import percentiles
from hounsfield.progress import Progress, silent
from hounsfield.quality import measure
from hounsfield.quality.measures import sampled
from hounsfield.quality.planting import planted

TASK = "looking at every image"
# Values drawn for percentiles; the minimum, the maximum, the mean and the deviation use all.
SAMPLED_VALUES = 2**16
# Values summed at once, so that a volume needs no copy of its own size.
CHUNK = 2**20
# Rows that another process is given at once.
DELEGATED = 64


HEADER_TEXTS = ("sex", "view", "laterality", "site", "manufacturer", "scanner", "body_part")


class Facts(NamedTuple):
    """What is kept of one image: some 6 kilobytes, however large it is. ``reason`` says why it could not be read."""

    reason: str | None = None
    digest: str | None = None
    thumbnail: bytes | None = None
    tolerance: float = 0.0
    picture: bytes | None = None
    shape: tuple[int, ...] = ()
    channels: int = 0
    grey: bool = True
    dtype: str | None = None
    bits: int | None = None
    minimum: float = np.nan
    maximum: float = np.nan
    mean: float = np.nan
    deviation: float = np.nan
    low: float = np.nan
    high: float = np.nan
    at_maximum: float = np.nan
    at_minimum: float = np.nan
    not_finite: int = 0
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    lung_shape: tuple[int, ...] | None = None
    lung_extent: float = np.nan
    modality: str | None = None
    patient: str | None = None
    study: str | None = None
    sex: str | None = None
    age: float | None = None
    view: str | None = None
    laterality: str | None = None
    site: str | None = None
    manufacturer: str | None = None
    scanner: str | None = None
    body_part: str | None = None
    resampled: bool = False
    small_picture: bytes | None = None
    measured: tuple[float, ...] | None = None


class Scan:
    """The facts of every image of a cohort, in the order of its rows."""

    def __init__(self, cohort: Cohort, facts: list[Facts]) -> None:
        self.cohort = cohort
        self.facts = facts
        self.table = pd.DataFrame(facts, columns=list(Facts._fields))

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which rows could be read."""
        return self.table["reason"].isna().to_numpy()

    @property
    def bad(self) -> tuple[tuple[str, str], ...]:
        """Reference and reason of every image that could not be read."""
        pairs = zip(self.cohort.table["image"], self.facts, strict=True)
        return tuple((str(reference), facts.reason) for reference, facts in pairs if facts.reason is not None)

    @property
    def patients(self) -> pd.Series[Any]:
        """The patient of each row: the table's, or the header's where the table knows no patient at all."""
        given = self.cohort.table["patient"].reset_index(drop=True)
        return given if given.notna().any() else self.table["patient"]


def describe(cohort: Cohort, rows: Sequence[int]) -> Iterator[Facts]:
    """The facts of some rows, in their order, by the threads of this process or by others."""
    delegate = delegate_for(len(rows))
    if delegate is not None:
        parts = (cohort.subset(rows[start : start + DELEGATED]) for start in range(0, len(rows), DELEGATED))
        for found in delegate(f"{__name__}:{describe_all.__name__}", parts):
            yield from found
        return
    for item in cohort.stream(rows):
        yield image_facts(item) if isinstance(item, Image) else Facts(reason=str(item))


def describe_all(cohort: Cohort) -> list[Facts]:
    """The facts of every row, which another process may be asked for."""
    return list(describe(cohort, range(len(cohort))))


def scan(cohort: Cohort, *, folder: Path | None = None, progress: Progress = silent) -> Scan:
    """The facts of every image of a cohort; pixels are read once and let go at once.

    Facts are kept in the cache as long as the images and the version stay the same. Images that could not be read are
    tried again each time.

    Args:
        cohort: any cohort.
        folder: where scans are kept; in the user's cache by default.
        progress: receives a report every few images.
    """
    references = cohort.references()
    progress(TASK, 0, len(references))
    if not references:
        return Scan(cohort, [])
    kept = scan_file(folder or cache_folder() / "scans", cohort.source.digest(references), Facts)
    facts = load_facts(kept, Facts) or [Facts(reason="not read yet")] * len(references)
    rows = [row for row, known in enumerate(facts) if known.reason is not None]
    num_known = len(references) - len(rows)
    for done, (row, found) in enumerate(zip(rows, describe(cohort, rows), strict=True), start=num_known + 1):
        facts[row] = found
        if done % 50 == 0:
            progress(TASK, done, len(references))
    progress(TASK, len(references), len(references))
    if rows:
        keep_facts(kept, facts, Facts)
    return Scan(cohort, facts)


def image_facts(image: Image) -> Facts:
    """Describe one image; see ``Facts``."""
    pixels, metadata = image.pixels, image.metadata
    marks = signature(pixels)
    values = _describe_values(pixels)
    affine = image.affine
    header: dict[str, Any] = {name: _text(getattr(metadata, name)) for name in ("patient", "study", *HEADER_TEXTS)}
    return Facts(
        digest=pixel_digest(image),
        thumbnail=marks.thumbnail if marks else None,
        tolerance=marks.tolerance if marks else 0.0,
        picture=marks.picture if marks else None,
        shape=tuple(int(length) for length in image.shape),
        channels=image.channels,
        grey=is_grey(pixels, values["maximum"] - values["minimum"]),
        dtype=sys.intern(pixels.dtype.name),
        bits=metadata.bits or (8 * pixels.dtype.itemsize if pixels.dtype.kind in "iub" else None),
        **values,
        **_describe_lungs(image),
        spacing=tuple(round(float(step), 4) for step in image.spacing) if image.spacing else None,
        orientation=orientation_of(affine) if affine is not None and is_usable(affine) else None,
        modality=_text(image.modality),
        age=metadata.age,
        resampled=metadata.resampled,
        **_describe_quality(image),
        **header,
    )


def _describe_quality(image: Image) -> dict[str, Any]:
    """What faults of the image are told by, and what planted faults make of it; see ``cohorts.quality``."""
    measured = measure(image.pixels, image.rank)
    planes = sampled(image.pixels, image.rank)
    if measured is None or planes is None:
        return {}
    faulty = planted(planes)
    figures = (*measured.saturated, *measured.sharpness, measured.mean, measured.deviation)
    picture = None if measured.picture is None else measured.picture.tobytes()
    return {"small_picture": picture, "measured": (*figures, *faulty.sharpness, *faulty.saturated)}


def _describe_lungs(image: Image) -> dict[str, Any]:
    """The size of the box around the lungs of a CT volume, and the share of its height that they take."""
    box = lung_box(image) if image.modality == "CT" and image.rank == 3 and image.channels == 1 else None
    if box is None:
        return {}
    shape = tuple(end - start for start, end in box)
    upright = upright_axis(image) or 0
    return {"lung_shape": shape, "lung_extent": shape[upright] / image.shape[upright]}


def _text(value: str | None) -> str | None:
    """Keep one copy of each distinct text, however many images carry it."""
    return sys.intern(value) if value else None


def _describe_values(pixels: NDArray[Any]) -> dict[str, Any]:
    """The statistics of the finite values that stand in ``Facts``; percentiles are those of an even sample."""
    flat = pixels.reshape(-1)
    count, total, minimum, maximum = 0, 0.0, np.inf, -np.inf
    for values in _finite_chunks(flat):
        count, total = count + values.size, total + float(values.sum(dtype=np.float64))
        minimum, maximum = min(minimum, float(values.min())), max(maximum, float(values.max()))
    if count == 0:
        return {"not_finite": flat.size, "minimum": np.nan, "maximum": np.nan}
    mean = total / count
    squares = sum(float(np.square(values - mean, dtype=np.float64).sum()) for values in _finite_chunks(flat))
    sample = next(_finite_chunks(flat[:: max(1, flat.size // SAMPLED_VALUES)]), np.array([mean]))
    low, high = percentiles(sample, (1, 99))
    return {
        "not_finite": flat.size - count,
        "minimum": minimum,
        "maximum": maximum,
        "mean": mean,
        "deviation": float(np.sqrt(squares / count)),
        "low": low,
        "high": high,
        "at_minimum": float((sample == minimum).mean()),
        "at_maximum": float((sample == maximum).mean()),
    }


def _finite_chunks(flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The finite values, a bounded number at once and never none."""
    for start in range(0, flat.size, CHUNK):
        values = flat[start : start + CHUNK]
        if flat.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            yield values
