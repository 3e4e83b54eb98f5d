"""A pipeline over many files: readable files are processed and written, the others are listed with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hounsfield.errors import HounsfieldError, ImageError, PreprocessingError, UsageError
from hounsfield.images.image import Image
from hounsfield.images.reading import READERS, image_files, read_image
from hounsfield.images.reference import Reference
from hounsfield.images.writers import WRITERS, write_image
from hounsfield.preprocessing.display import to_display
from hounsfield.preprocessing.grid_change import apply_with_mask
from hounsfield.preprocessing.pipeline import Pipeline
from hounsfield.progress import Progress, silent

FORMATS = (*(suffix.removeprefix(".") for suffix in WRITERS), "dcm")
# A file and its image -> the file, name and pixels of each of its masks.
MasksOf = Callable[[Path, Image], Iterable[tuple[Path, Path, Image]]]
# Distinguishes a results folder inside an input from a folder of input images.
MARK = ".hounsfield-results"


@dataclass(frozen=True)
class BatchResult:
    """The outcome for every file.

    Attributes:
        written: source and result, in the given order.
        bad: source and reason.
        pairs: the first images before and after, as many as were asked for.
    """

    written: tuple[tuple[Path, Path], ...]
    bad: tuple[tuple[Path, str], ...]
    pairs: tuple[tuple[Image, Image], ...]


def preprocess_files(  # noqa: PLR0913 - what a user may want to say of it
    sources: Sequence[tuple[Path, Path]],
    folder: Path,
    pipeline: Pipeline,
    *,
    format: str | None = None,  # noqa: A002 - the word of the command line
    overwrite: bool | Set[Path] = False,
    num_pairs: int = 0,
    masks: MasksOf | None = None,
    protected: Set[Path] = frozenset(),
    progress: Progress = silent,
) -> BatchResult:
    """Apply a fitted pipeline to every file and write the results below ``folder``.

    Masks go through the geometric steps with their image, each pixel from the nearest label.

    Args:
        sources: files and their names below ``folder`` without suffix, as ``named_sources`` makes them.
        folder: made where it does not exist.
        pipeline: the steps.
        format: of the results; by default PNG for slices, NIfTI for volumes with a geometry, else NumPy.
        overwrite: whether a result may replace an older file, though never a source; or the older files that none may.
        num_pairs: how many images to keep for a before-and-after picture.
        masks: gives the masks of a file, with their names below ``folder`` without suffix.
        protected: further files that no result may replace.
        progress: told of every file.

    Raises:
        UsageError: there is no such format.
    """
    check_format(format)
    written: list[tuple[Path, Path]] = []
    bad: list[tuple[Path, str]] = []
    pairs: list[tuple[Image, Image]] = []
    originals = {source.resolve() for source, _ in sources} | protected
    progress("Preprocessing", 0, len(sources))
    for done, (source, name) in enumerate(sources, start=1):
        try:
            before = read_image(Reference.parse(str(source)))
            after = pipeline.apply_steps(before)
            target = folder / f"{name}.{format or _default_format(after)}"
            _require_free(target, originals, overwrite=overwrite)
            target.parent.mkdir(parents=True, exist_ok=True)
            # A DICOM result keeps patient and study of its DICOM source.
            references = [source] if target.suffix == ".dcm" and before.metadata.instance is not None else []
            write_image(_writable(after, target), target, sources=references)
            moved = _write_masks(masks(source, before), before, folder, pipeline, originals, overwrite) if masks else ()
            written += moved
        except HounsfieldError as error:
            bad.append((source, str(error)))
        else:
            written.append((source, target))
            if len(pairs) < num_pairs:
                pairs.append((before, after))
        progress("Preprocessing", done, len(sources))
    return BatchResult(tuple(written), tuple(bad), tuple(pairs))


def _write_masks(
    masks: Iterable[tuple[Path, Path, Image]],
    image: Image,
    folder: Path,
    pipeline: Pipeline,
    originals: set[Path],
    overwrite: bool | Set[Path],
) -> list[tuple[Path, Path]]:
    written = []
    for source, name, mask in masks:
        _, moved, _ = apply_with_mask(pipeline, image, mask)
        target = folder / f"{name}.{'png' if moved.rank == 2 else 'nii.gz'}"
        _require_free(target, {*originals, source.resolve()}, overwrite=overwrite)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(moved, target)
        written.append((source, target))
    return written


def check_format(name: str | None) -> None:
    """Refuse a format that no result can be written in.

    Raises:
        UsageError: there is no such format.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"Images cannot be written as '{name}'. The formats are: {', '.join(FORMATS)}.")


def fit_on_files(pipeline: Pipeline, files: Sequence[Path]) -> Pipeline:
    """Return the pipeline fitted on the files that can be read; see :meth:`Pipeline.fit`.

    Raises:
        PreprocessingError: no file can be read, or no image is left to learn from.
    """

    def images() -> Iterator[Image]:
        for file in files:
            try:
                image = read_image(Reference.parse(str(file)))
            except ImageError:
                continue
            yield image

    return pipeline.fit(images) if pipeline.needs_fit else pipeline


def lies_inside(folder: Path, inputs: Sequence[Path]) -> bool:
    """Whether a folder for results lies in a folder of the inputs, so that it has to be left out of these.

    Raises:
        UsageError: it is one of the inputs, or it has images that no earlier run wrote, which may be meant as inputs.
    """
    place = folder.resolve()
    around = [given for given in inputs if given.is_dir() and place.is_relative_to(given.resolve())]
    if any(place == given.resolve() for given in around):
        raise UsageError(
            f"The folder '{folder}' is an input, so results cannot be written to it. Name another with -o; it may lie "
            "inside the input."
        )
    if around and folder.is_dir() and not (folder / MARK).is_file() and (images := image_files(folder)):
        raise UsageError(
            f"The folder '{folder}' lies in the input '{around[0]}' and holds {len(images):,} images that no earlier "
            f"run wrote there, such as '{images[0].name}'. The results need a folder of their own: name a new one "
            "with -o."
        )
    return bool(around)


def mark_results(folder: Path) -> None:
    """Make a folder for results and mark it as one, so that :func:`lies_inside` recognises it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def named_sources(inputs: Sequence[Path], *, results: Path | None = None) -> list[tuple[Path, Path]]:
    """Return every file of the inputs with a name for its result: its path below the given folder, without suffix.

    Where two would have the same name, the later ones keep their suffix in it, or are numbered.

    Args:
        inputs: files and folders.
        results: a folder inside one of them that is left out.

    Raises:
        UsageError: an input does not exist, or a folder holds no image.
    """
    taken: set[Path] = set()
    sources = []
    for given in inputs:
        for file in _files_of(given, results):
            relative = file.relative_to(given) if given.is_dir() else Path(file.name)
            name = next(name for name in _names(relative) if name not in taken)
            taken.add(name)
            sources.append((file, name))
    return sources


def _files_of(given: Path, results: Path | None) -> list[Path]:
    if given.is_dir():
        files = image_files(given)
        if results is not None:
            place = results.resolve()
            files = [file for file in files if not file.resolve().is_relative_to(place)]
        if not files:
            raise UsageError(f"The folder '{given}' holds no image file. Give a folder with images, or the files.")
        return files
    if not Path(Reference.parse(str(given)).path).exists():
        raise UsageError(
            f"There is no file or folder '{given}'. Give existing ones; the value of a step is joined to it by '=', as "
            "in --gamma=0.8."
        )
    return [given]


def _names(relative: Path) -> Iterator[Path]:
    suffix = next((known for known in (".nii.gz", *READERS) if relative.name.lower().endswith(known)), "")
    stem = relative.name[: len(relative.name) - len(suffix)] or relative.name
    yield relative.with_name(stem)
    yield relative
    number = 2
    while True:
        yield relative.with_name(f"{stem}-{number}")
        number += 1


def _default_format(image: Image) -> str:
    if image.rank == 2:
        return "png"
    return "npy" if image.affine is None and image.spacing is None else "nii.gz"


def _writable(image: Image, target: Path) -> Image:
    """Picture formats hold 8 or 16 bits; other types are converted to 8."""
    if target.suffix in (".png", ".tif", ".tiff") and image.pixels.dtype not in (np.uint8, np.uint16):
        return to_display(image)
    return image


def _require_free(target: Path, originals: set[Path], *, overwrite: bool | Set[Path]) -> None:
    if target.resolve() in originals:
        raise PreprocessingError(
            f"The result would replace the source '{target}'. Give another folder, or another --format."
        )
    if not target.exists() or overwrite is True:
        return
    if overwrite is False or target in overwrite:
        raise PreprocessingError(f"The result '{target}' exists already. Give another folder, or --overwrite.")
