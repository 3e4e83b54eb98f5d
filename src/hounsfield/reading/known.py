"""Images that need no label any more: known by the bytes of their files, wherever they lie."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from hounsfield.images import Reference


class KnownFiles:
    """Says of files whether they are copies of known ones; only files of one size are read.

    Args:
        files: that are known.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._by_size: dict[int, set[Path]] = defaultdict(set)
        self._digests: dict[int, set[str]] = {}
        for path in files:
            self._by_size[path.stat().st_size].add(path)

    def has_image(self, image: str) -> bool:
        """Whether all files of an image are known.

        Args:
            image: a path as predictions have it: a file, a folder of slices, or ``PATH[N]``.
        """
        files = list(files_below(Path(Reference.parse(image).path)))
        return bool(files) and all(self._has(path) for path in files)

    def _has(self, path: Path) -> bool:
        size = path.stat().st_size
        if size not in self._by_size:
            return False
        if size not in self._digests:
            self._digests[size] = {_digest(known) for known in self._by_size[size]}
        return _digest(path) in self._digests[size]


def files_below(path: Path) -> Iterator[Path]:
    """A file itself, or all files in a folder and below it; nothing where there is neither."""
    if path.is_file():
        yield path
    elif path.is_dir():
        yield from (each for each in sorted(path.rglob("*")) if each.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
