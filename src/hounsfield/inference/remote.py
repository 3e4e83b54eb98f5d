"""Images that lie in an object store, by URLs such as ``s3://bucket/folder``: listed, and read one by one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from hounsfield.errors import ImageError, UsageError, require
from hounsfield.images import Image, Reference
from hounsfield.images.files import MAX_VALUE_BYTES
from hounsfield.images.limits import SPARE_BYTES, pixel_limit
from hounsfield.images.reading import DOUBLE_SUFFIXES, READERS, read_reference

# Stores of files; a URL of any other kind is refused, and nothing is ever fetched from it.
SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "sftp", "smb")
Found = TypeVar("Found")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.+")


def is_url(name: str) -> bool:
    """Whether an input or output is a URL, and no path.

    Raises:
        UsageError: it is one of a kind that is not read.
    """
    match = _URL.fullmatch(name)
    if match is None:
        return False
    if match[1] not in SCHEMES:
        raise UsageError(
            f"'{name}' is a URL of the kind {match[1]}://, and expected is a path, or a URL of one of: "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}. Download the files and give their folder."
        )
    return True


def file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec that serves a URL, and the path in it.

    Raises:
        MissingDependency: fsspec, or what it needs for this kind of URL, is not installed.
        UsageError: the URL has a form that its store does not know.
    """
    fsspec = require("fsspec", "reading and writing URLs")
    if url.startswith("s3:"):
        require("s3fs", "reading and writing s3:// URLs")
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"'{url}' cannot be opened ({' '.join(str(error).split()):.300}).") from error
    return system, str(path)


def remote_files(url: str) -> Iterator[str]:
    """The URLs of the images at or below a URL, sorted.

    Raises:
        ImageError: there is nothing, or it may not be listed.
    """
    system, path = file_system(url)
    # The store's own names may lack what stands before the path, such as a host.
    whole, below = url.rstrip("/"), path.rstrip("/")
    known = whole.endswith(below)
    before = whole[: len(whole) - len(below)] if known else f"{url.partition('://')[0]}://"
    system.invalidate_cache()
    names = [str(name) for name in sorted(_of_store(url, lambda: system.find(path)))]
    if names != [path]:
        names = [name for name in names if _is_image(PurePosixPath(name))]
    if not names:
        raise ImageError(f"There is no image at '{url}'. Check the URL: below it, images are known by their suffixes.")
    yield from (before + (name if known else name.lstrip("/")) for name in names)


def read_remote(url: str) -> Image:
    """Read an image by its URL.

    Raises:
        ImageError: it cannot be fetched, is too large, or is no image that can be read.
    """
    system, path = file_system(url)
    limit = pixel_limit(None) * MAX_VALUE_BYTES + SPARE_BYTES
    with tempfile.TemporaryDirectory() as folder:
        # Its name is kept, for its suffix says what it is.
        file = Path(folder) / PurePosixPath(path).name
        size = _of_store(url, lambda: int(system.info(path)["size"] or 0))
        if size > limit:
            raise ImageError(f"'{url}' has {size:,} bytes, and no image that may be read has more than {limit:,}.")
        _of_store(url, lambda: system.get_file(path, str(file)))
        try:
            image = read_reference(Reference(str(file)))
        except ImageError as error:
            raise ImageError(str(error).replace(str(file), url)) from error
    known = image.reference or Reference(url)
    return image.replace(reference=known.replace(path=url))


def _is_image(path: PurePosixPath) -> bool:
    if any(part.startswith(".") for part in path.parts):
        return False
    name = path.name.lower()
    return any(name.endswith(double) for double in DOUBLE_SUFFIXES) or path.suffix.lower() in READERS


def _of_store(url: str, call: Callable[[], Found]) -> Found:
    """What a store answers; the errors of the many stores share no base."""
    try:
        return call()
    except Exception as error:
        raise ImageError(
            f"'{url}' cannot be read ({type(error).__name__}: {' '.join(str(error).split()):.300}). Check the URL and "
            "that this machine may read it."
        ) from error
