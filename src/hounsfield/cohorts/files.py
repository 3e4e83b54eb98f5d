"""Images that are files below one folder."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TypeVar

from hounsfield.cohorts.arrays import file_identity
from hounsfield.errors import CohortError, ImageError
from hounsfield.hardware import num_cores, out_of_files
from hounsfield.images import Reference
from hounsfield.images.image import Image
from hounsfield.images.reading import read_reference
from hounsfield.images.settings import current_settings, held

# Files are read in groups of at most so many, and of about so many bytes.
GROUP_FILES = 32
GROUP_BYTES = 2**16
MAX_WORKERS = 8

Given = TypeVar("Given")
Made = TypeVar("Made")


class FileSource:
    """Reads references whose paths are relative to a folder; an absolute path stays as it is.

    A path that leads to a folder stands for the volume of the one DICOM series in it. ``PATH[N]`` is a volume of a file
    or a folder that holds several, or a slice of one (``images.Reference``). The settings of reading that hold when the
    source is made, such as --volume, hold whenever it reads.

    Args:
        root: the folder that references are relative to.
        series: paths of volumes whose files are known, with those files.
    """

    def __init__(self, root: Path, series: Mapping[str, Sequence[str]] | None = None) -> None:
        self.root = Path(root)
        self.series = dict(series or {})
        self._settings = current_settings()

    def read(self, reference: Reference) -> Image:
        """See ``ImageSource.read``."""
        known = self.series.get(reference.path)
        files = None if known is None else [self.root / name for name in known]
        with held(self._settings):
            return read_reference(reference.replace(path=str(self.root / reference.path)), files=files)

    def stream(self, references: Sequence[Reference]) -> Iterator[Image | ImageError]:
        """See ``ImageSource.stream``; a few files are decoded ahead, on all cores."""
        for images in ordered_map(self._read_all, self._groups(references)):
            yield from images

    def digest(self, references: Sequence[Reference]) -> str:
        """See ``ImageSource.digest``; a file is identified by its path, size and time of change."""
        digest = hashlib.blake2b(str(self.root.resolve()).encode(), digest_size=16)
        # Without a number, the settings decide which volume or level of a file is read.
        digest.update(f"{sorted(self._settings.items())}\n".encode())
        for reference in references:
            for path in self._files_of(reference):
                digest.update(f"{reference.text}|{file_identity(path)}\n".encode())
        return digest.hexdigest()

    def _files_of(self, reference: Reference) -> list[str]:
        """The files of a volume: those that are known, or else those right in its folder; else the path itself."""
        if reference.several:
            return [file for part in reference.parts() for file in self._files_of(part)]
        path = full_path(self.root, reference.path)
        if reference.path in self.series:
            return [full_path(self.root, name) for name in self.series[reference.path]]
        if os.path.isdir(path):  # noqa: PTH112 - called for each image
            return sorted(entry.path for entry in os.scandir(path) if entry.is_file())
        return [path]

    def _groups(self, references: Sequence[Reference]) -> Iterator[list[Reference]]:
        """Small files together, so that handing them over costs little; a large one by itself, for the memory."""
        group: list[Reference] = []
        size = 0
        for reference in references:
            group.append(reference)
            size += sum(file_size(path) for path in self._files_of(reference))
            if size >= GROUP_BYTES or len(group) >= GROUP_FILES:
                yield group
                group, size = [], 0
        if group:
            yield group

    def _read_all(self, references: list[Reference]) -> list[Image | ImageError]:
        return [self._read_or_error(reference) for reference in references]

    def _read_or_error(self, reference: Reference) -> Image | ImageError:
        try:
            return self.read(reference)
        except ImageError as error:
            return error
        except OSError as error:
            if out_of_files(error):
                raise
            return ImageError(
                f"{reference} cannot be opened ({error.strerror or error}). Check that it is there and readable."
            )


def typed_places(images: Iterable[str], root: Path) -> dict[str, Reference]:
    """Text → reference of the images that a table names as ``PATH[N]``."""
    typed = {image: Reference.parse(image, root) for image in images if image.endswith("]") or "}" in image}
    return {image: reference for image, reference in typed.items() if reference.several or reference.path != image}


def full_path(root: str | os.PathLike[str], reference: str) -> str:
    """The file or folder of a reference, without the number of a volume or a slice."""
    if reference.endswith("]"):
        reference = Reference.parse(reference, Path(root)).path
    return os.path.join(root, reference)  # noqa: PTH118 - called for each image: a Path would take several times as long


def text_lines(path: Path) -> list[str]:
    """The lines of a list that are not empty, without the space around them.

    Raises:
        CohortError: the file cannot be read, or is no UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise CohortError(f"Cannot read the list {path} ({error}): expected UTF-8 text. Save it again.") from error
    return [line.strip() for line in lines if line.strip()]


def file_exists(root: str | os.PathLike[str], reference: str) -> bool:
    """Whether a reference lies where it says."""
    return os.path.exists(full_path(root, reference))  # noqa: PTH110 - as above


def file_size(path: str) -> int:
    """The bytes of a file; 0 when there is none."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - as above
    except OSError:
        return 0


def num_workers() -> int:
    """How many threads work at once: the cores that this process may use, but no more than memory is sure to allow."""
    return min(MAX_WORKERS, num_cores())


def ordered_map(function: Callable[[Given], Made], items: Iterable[Given], *, ahead: int = 1) -> Iterator[Made]:
    """Apply a function on all cores and yield the results in order, with at most a few of them waiting.

    Threads, not processes: decoding and filtering release the interpreter's lock, and processes would have to be
    spawned (forking a program that has started TensorFlow deadlocks), which asks every user's script for a main guard.

    Args:
        function: is called in worker threads.
        items: is consumed lazily in the caller's thread.
        ahead: results that may wait for each worker.
    """
    workers = num_workers()
    if workers == 1:
        yield from map(function, items)
        return
    executor = ThreadPoolExecutor(workers)
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            # A thread knows the settings that are held here by a copy.
            waiting.append(executor.submit(copy_context().run, function, item))
            if len(waiting) > workers * ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
