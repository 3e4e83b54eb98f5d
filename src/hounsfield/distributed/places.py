"""Where results are written: a folder of this machine or of a shared disk, or a bucket, through fsspec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from hounsfield.atomic import make_private, replacing
from hounsfield.errors import ResourceError
from hounsfield.inference.remote import file_system, is_url


class Place(ABC):
    """A folder of whole files; picklable."""

    @abstractmethod
    def names(self) -> set[str]:
        """The names of its files; none where it is not there yet."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file; it appears when it is complete, and replaces one that was there."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""


class Folder(Place):
    """A folder that has a path on every machine."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    def names(self) -> set[str]:
        """See :meth:`Place.names`."""
        return {file.name for file in self._path.iterdir()} if self._path.is_dir() else set()

    def read(self, name: str) -> bytes:
        """See :meth:`Place.read`."""
        return (self._path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """See :meth:`Place.write`."""
        make_private(self._path)
        with replacing(self._path / name) as temporary:
            temporary.write_bytes(content)

    def remove(self, name: str) -> None:
        """See :meth:`Place.remove`."""
        (self._path / name).unlink(missing_ok=True)

    def __str__(self) -> str:
        """Its path."""
        return str(self._path)


class Bucket(Place):
    """A prefix of an object store, whose files are whole or not there."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def names(self) -> set[str]:
        """See :meth:`Place.names`."""
        return set(self._attempt(self._names))

    def _names(self) -> list[str]:
        system, root = file_system(self._url)
        system.invalidate_cache()
        try:
            return [str(name).rpartition("/")[2] for name in system.ls(root, detail=False)]
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        """See :meth:`Place.read`."""
        system, root = file_system(self._url)
        return bytes(self._attempt(lambda: system.cat_file(f"{root}/{name}")))

    def write(self, name: str, content: bytes) -> None:
        """See :meth:`Place.write`."""
        system, root = file_system(self._url)
        self._attempt(lambda: system.pipe_file(f"{root}/{name}", content))

    def remove(self, name: str) -> None:
        """See :meth:`Place.remove`."""
        system, root = file_system(self._url)
        self._attempt(lambda: system.rm_file(f"{root}/{name}") if system.exists(f"{root}/{name}") else None)

    def _attempt(self, work: Any) -> Any:
        try:
            return work()
        except Exception as error:
            # Those of the many stores share no base.
            raise ResourceError(
                f"'{self._url}' cannot be used ({type(error).__name__}: {' '.join(str(error).split()):.300}). "
                "Check that it exists and that this machine may write to it."
            ) from error

    def __str__(self) -> str:
        """Its URL."""
        return self._url


def open_place(name: str) -> Place:
    """The place of a path or a URL."""
    return Bucket(name) if is_url(name) else Folder(Path(name))
