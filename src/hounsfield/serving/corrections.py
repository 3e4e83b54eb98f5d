"""What readers said of a model's answers, as DATA: files, and a table that names labels, boxes or masks for them."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.atomic import replacing_folder
from hounsfield.errors import HounsfieldError, ServingError
from hounsfield.images import Image, Reference, group_series, read_image, read_series, write_image
from hounsfield.reading import Content, Mark, Opinion, Region, read_content
from hounsfield.serving import statements as sql
from hounsfield.serving.database import Reader, Row
from hounsfield.tasks import Family

logger = logging.getLogger(__name__)

TABLE = "table.csv"
_FACTS = ("reader", "read", "bundle", "blind")


@dataclass(frozen=True)
class Source:
    """The image of a reading, in its new place.

    Attributes:
        name: of the file or folder, relative to the table.
        frame: of the stack, where the model judged a frame alone.
        paths: the files.
        volume: which volume of its one file.
        inner: the same frame, where the one file holds several.
        rank: of what the model judged.
    """

    name: str
    frame: int | None
    paths: tuple[Path, ...]
    volume: int | None
    inner: int | None
    rank: int

    @property
    def text(self) -> str:
        """As a table names it."""
        numbers = (self.volume, self.inner)
        return self.name + "".join(f"[{number}]" for number in numbers if number is not None)

    def read(self) -> Image:
        """The image as predictors and cohorts read it."""
        if len(self.paths) > 1:
            return read_series(self.paths)
        return read_image(Reference(str(self.paths[0]), self.volume, self.inner))

    def check_slices(self) -> None:
        """Refuse a volume of other slices than those that were drawn on.

        Raises:
            HounsfieldError: reading it shifts or interpolates its slices.
        """
        if len(self.paths) < 2:
            return
        series = group_series(self.paths).series
        if len(series) != 1 or series[0].is_tilted or series[0].problems:
            raise HounsfieldError("what was drawn on its slices has no place in the resampled volume")


@dataclass(frozen=True)
class Written:
    """How many images and readings were written, and how many finished readings say nothing that could be."""

    images: int
    readings: int
    left_out: int


def export_readings(folder: Path, reader: Reader, out: Path, *, model: str, family: Family, rank: int) -> Written:
    """Write the finished readings of a model's answers as DATA.

    Args:
        folder: of the service.
        reader: of its records.
        out: a new folder for images and table.
        model: its name.
        family: of its task.
        rank: of what it judges.

    Raises:
        ServingError: there is no such reading, or the folder is there already.
    """
    if out.exists():
        raise ServingError(f"{out} is there already: name a new folder.")
    readings = reader.rows(sql.FINISHED_READINGS)
    if family == "masks":
        readings = _last_drawn(readings, model)
    rows: list[dict[str, Any]] = []
    names: set[str] = set()
    left_out = 0
    with replacing_folder(out) as target:
        for reading in readings:
            found = _found(folder, target, reading, Kind(model, family, rank))
            left_out += not found
            rows += found
            names |= {str(row["image"]) for row in found}
        if not rows:
            raise ServingError(
                f"No finished reading in {folder} says anything of the model '{model}'. Finish some first."
            )
        _write_table(target / TABLE, rows)
    return Written(len(names), len(readings) - left_out, left_out)


def _last_drawn(readings: Sequence[Row], model: str) -> list[Row]:
    """Of each case the last reading: that with masks, where there is one; masks of several cannot be joined."""
    found: dict[tuple[int | None, int | None], tuple[bool, Row]] = {}
    for each in readings:
        case = each["study"], each["job"]
        has_masks = any(region.model == model for region in read_content(json.loads(each["content"])).regions)
        if has_masks or not found.get(case, (False, each))[0]:
            found[case] = has_masks, each
    return [each for _, each in found.values()]


@dataclass(frozen=True)
class Kind:
    """Of which answers readings are written: the name of the model, its family, and the rank of what it judges."""

    model: str
    family: Family
    rank: int


def _found(folder: Path, target: Path, reading: Row, kind: Kind) -> list[dict[str, Any]]:
    """The rows of a reading; none, with a warning, where what it says does not fit its images."""
    try:
        return list(_rows(folder, target, reading, kind))
    except HounsfieldError as error:
        logger.warning("Reading %s by %s is left out: %s", reading["id"], reading["reader"], error)
        return []


# Of a source with what was said of it: the columns that tell the truth, one row or several.
Form = Callable[[Source, Content, Opinion, str, Path], list[dict[str, Any]]]


def _rows(folder: Path, target: Path, reading: Row, kind: Kind) -> Iterator[dict[str, Any]]:
    content, places = read_content(json.loads(reading["content"])), json.loads(reading["places"])
    facts = {
        "patient": _patient(reading),
        "reader": reading["reader"],
        "read": datetime.fromtimestamp(reading["time"], UTC).isoformat(timespec="seconds"),
        "bundle": json.loads(reading["bundles"]).get(kind.model, ""),
        "blind": reading["blind"],
    }
    for stack, frame, opinion in _judged(content, kind):
        source = _copied(folder, target, reading, (stack, frame, kind.rank), places[str(stack)])
        for row in _FORMS[kind.family](source, content, opinion, kind.model, target):
            yield {"image": source.text} | row | facts


def _judged(content: Content, kind: Kind) -> list[tuple[int, int | None, Opinion]]:
    """Stack, frame and opinion of each image of which a reading says something for a model."""
    found: dict[tuple[int, int | None], Opinion] = {}
    for key, opinion in content.opinions.items():
        name, _, place = key.partition("|")
        stack, _, frame = place.partition("|")
        if name == kind.model and stack and opinion.verdict:
            found[int(stack), int(frame) if frame else None] = opinion
    boxes = [mark for mark in content.marks if mark.kind == "box"]
    drawn: Mapping[Family, Sequence[Mark | Region]] = {"boxes": boxes, "masks": content.regions}
    for each in drawn.get(kind.family, ()):
        # What is drawn is a correction, whether or not a verdict was given, too.
        if each.model == kind.model and (each.stack, None) not in found:
            judged = each.stack, each.frame if kind.rank == 2 else None
            found.setdefault(judged, Opinion(verdict="corrected"))
    return [(*place, opinion) for place, opinion in found.items()]


def _labels(source: Source, content: Content, opinion: Opinion, model: str, target: Path) -> list[dict[str, Any]]:  # noqa: ARG001
    chosen = [label for label, is_there in opinion.labels.items() if is_there]
    return [{"label": ";".join(chosen)}] if opinion.labels else []


def _values(source: Source, content: Content, opinion: Opinion, model: str, target: Path) -> list[dict[str, Any]]:  # noqa: ARG001
    return [{"label": opinion.grade}] if opinion.grade else []


def _boxes(source: Source, content: Content, opinion: Opinion, model: str, target: Path) -> list[dict[str, Any]]:  # noqa: ARG001
    boxes = [mark for mark in _here(content.marks, source) if mark.kind == "box" and mark.model == model]
    if not boxes:
        # An answer that was rejected without other boxes says what is not there, and not what is.
        return [] if opinion.verdict == "rejected" else [{"label": ""}]
    if source.rank == 3:
        source.check_slices()
    return [{"label": box.label} | _corners(box, source.rank) for box in boxes]


def _masks(source: Source, content: Content, opinion: Opinion, model: str, target: Path) -> list[dict[str, Any]]:  # noqa: ARG001
    regions = [each for each in _here(content.regions, source) if each.model == model]
    if not regions:
        return []
    source.check_slices()
    image = source.read()
    row: dict[str, Any] = {}
    for label in sorted({region.label for region in regions}):
        mask = np.zeros(image.shape, np.uint8)
        for region in regions:
            if region.label == label:
                if mask.ndim == 3 and region.frame >= len(mask):
                    raise HounsfieldError(f"A mask of slice {region.frame} belongs to no volume of {len(mask)}.")
                frame = mask if mask.ndim == 2 else mask[region.frame]
                frame[...] = decode_runs(region.runs, frame.shape)
        name = f"masks/{Path(source.name).name.partition('.')[0]}-{source.frame or 0}-{len(row)}.nii.gz"
        (target / "masks").mkdir(exist_ok=True)
        write_image(image.replace(pixels=mask[..., np.newaxis]), target / name)
        row[f"{label}_mask"] = name
    return [row]


_FORMS: Mapping[str, Form] = {"labels": _labels, "values": _values, "boxes": _boxes, "masks": _masks}


def decode_runs(runs: Sequence[int], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """(rows, columns) of 0 and 1 from lengths of runs, row by row, the first of them of 0.

    Raises:
        HounsfieldError: they are not of this shape.
    """
    if sum(runs) != int(np.prod(shape)):
        raise HounsfieldError(f"A mask of {sum(runs)} pixels belongs to no frame of {shape}: the files were changed.")
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    return values.reshape(shape).astype(np.uint8)


def _here(items: Sequence[Any], source: Source) -> list[Any]:
    return [item for item in items if source.frame is None or item.frame == source.frame]


def _corners(box: Mark, rank: int) -> dict[str, float]:
    (x0, y0), (x1, y1) = box.start, box.end
    if rank == 2:
        return {"y0": y0, "x0": x0, "y1": y1, "x1": x1}
    z0, z1 = box.slices or (box.frame, box.frame + 1)
    return {"z0": z0, "y0": y0, "x0": x0, "z1": z1, "y1": y1, "x1": x1}


def _patient(reading: Row) -> str:
    attributes = json.loads(reading["attributes"] or "{}")
    return str(attributes.get("PatientID", ""))


def _copied(
    folder: Path, target: Path, reading: Row, judged: tuple[int, int | None, int], place: dict[str, Any]
) -> Source:
    """The files of what was judged, its stack, frame and rank, in their new place."""
    stack, frame, rank = judged
    case = f"s{reading['study']}" if reading["study"] is not None else f"u{reading['job']}"
    name = f"images/{case}-{reading['revision']}-{stack}"
    paths = [folder / file for file in place["files"]]
    is_single = len(paths) == 1
    if frame is not None and not is_single:
        if frame >= len(paths):
            raise HounsfieldError(f"There is no slice {frame} in a series of {len(paths)}.")
        name, paths = f"{name}-{frame}", [paths[frame]]
    if len(paths) == 1:
        name += "".join(paths[0].suffixes[-2:])
        new = [target / name]
    else:
        new = [target / name / f"{number:05d}{path.suffix}" for number, path in enumerate(paths)]
    for old, path in zip(paths, new, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            shutil.copyfile(old, path)
    inner = frame if is_single and _has_frames(new[0], place["volume"], frame) else None
    return Source(name, frame, tuple(new), place["volume"], inner, rank)


def _has_frames(path: Path, volume: int | None, frame: int | None) -> bool:
    """Whether a file holds several frames, of which one was judged."""
    return frame is not None and (frame > 0 or read_image(Reference(str(path), volume)).rank == 3)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in _FACTS))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *_FACTS], restval="")
        writer.writeheader()
        writer.writerows(rows)
