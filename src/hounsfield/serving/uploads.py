"""Files that come over HTTP: bounded, written to a folder of their own under names of ours, archives unpacked."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from hounsfield.atomic import flush_folder, flush_tree
from hounsfield.errors import HounsfieldError

# Files of one archive, and how many times larger than the archive they may be together.
MAX_MEMBERS = 10_000
MAX_RATIO = 200
_CHUNK = 2**20
_SUFFIX = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,2}$")


class TooLargeError(HounsfieldError):
    """A request holds more than is allowed."""


class Upload:
    """The folder of one request.

    Args:
        folder: of the service.
        max_bytes: of all files together, unpacked ones too.

    Attributes:
        path: of the request's own folder.
        names: file in the folder → its name as the client gave it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.path = folder / "uploads" / secrets.token_hex(12)
        self.names: dict[str, str] = {}
        self._given: set[str] = set()
        self._left = max_bytes
        self.path.mkdir(mode=0o700, parents=True)

    @property
    def files(self) -> list[str]:
        """The files in the order in which they came."""
        return [str(self.path / name) for name in self.names]

    def keep(self) -> None:
        """Let the disk have all of it, for a job that is promised; what is answered at once need not outlive a loss."""
        flush_tree(self.path)
        for folder in list(self.path.parents)[:2]:
            flush_folder(folder)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    async def add(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write one file.

        Raises:
            TooLargeError: there is more than allowed.
            HounsfieldError: it is an archive that is damaged or unpacks into too much.
        """
        path = self._place(name)
        with path.open("x+b") as file:
            async for chunk in chunks:
                self._take(len(chunk))
                file.write(chunk)
            is_archive = path.suffix.lower() != ".npz" and zipfile.is_zipfile(file)
        if is_archive:
            # Other requests are served meanwhile.
            await asyncio.to_thread(self._unpack, path)

    def _place(self, name: str) -> Path:
        """A name of ours with the suffix of theirs, from which readers tell the format."""
        suffix = _SUFFIX.search(PurePosixPath(name.replace("\\", "/")).name)
        ours = f"{len(self.names):05d}{suffix[0].lower() if suffix else ''}"
        self.names[ours] = self._unlike(name)
        return self.path / ours

    def _unlike(self, name: str) -> str:
        """A name that none of the files before has: predictions are told apart by it."""
        found, number = name, 1
        while found in self._given:
            number += 1
            found = f"{name} ({number})"
        self._given.add(found)
        return found

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLargeError("The request holds more bytes than this service takes. Send less at a time.")

    def _unpack(self, path: Path) -> None:
        self._given.discard(self.names.pop(path.name))
        limit = path.stat().st_size * MAX_RATIO
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > MAX_MEMBERS:
                    raise TooLargeError(f"The archive holds {len(members)} files: at most {MAX_MEMBERS} are taken.")
                for member in members:
                    limit -= self._extract(archive, member, limit)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise HounsfieldError(f"The archive cannot be unpacked ({error}). Send a plain ZIP file.") from error
        finally:
            path.unlink()

    def _extract(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> int:
        written = 0
        with archive.open(member) as source, self._place(member.filename).open("xb") as target:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                self._take(len(chunk))
                if written > limit:
                    raise TooLargeError("The archive unpacks into far more than its own size. Send the files alone.")
                target.write(chunk)
        return written


def with_names(predictions: list[dict[str, Any]], folder: Path, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Predictions with the names that the client gave in place of ours, and no place of this machine.

    Args:
        predictions: as plain values.
        folder: of the upload.
        names: file in the folder → its name as the client gave it.
    """
    for prediction in predictions:
        ours, bracket, frame = prediction["image"].partition("[")
        name = names.get(ours, ours)
        prediction["image"] = name + bracket + frame
        if "reference" in prediction:
            prediction["reference"]["path"] = name
        if "reason" in prediction:
            prediction["reason"] = prediction["reason"].replace(str(folder / ours), name)
    return predictions
