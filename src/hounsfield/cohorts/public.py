"""Public data sets by name, downloaded once and checked by their MD5."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pooch

from hounsfield.errors import CohortError, UsageError
from hounsfield.progress import Progress, silent

TIMEOUT = 60
ATTEMPTS = 2


@dataclass(frozen=True)
class PublicSet:
    """What is known of a public set before it is downloaded.

    Attributes:
        name: as in ``medmnist:NAME``.
        task: the origin's word for the task.
        labels: in index order.
        channels: 1 or 3.
        samples: how many images, by split.
        license: the origin's.
        files: address and MD5 by image size.
    """

    name: str
    task: str
    labels: tuple[str, ...]
    channels: int
    samples: dict[str, int]
    license: str
    files: dict[int, tuple[str, str]]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The image sizes that can be had, ascending."""
        return tuple(sorted(self.files))


def _packaged() -> dict[str, PublicSet]:
    content = json.loads(resources.files("hounsfield.cohorts").joinpath("medmnist.json").read_text(encoding="utf-8"))
    return {name: _entry(name, values) for name, values in content.items()}


def _entry(name: str, values: dict[str, Any]) -> PublicSet:
    labels = tuple(values["labels"][str(index)] for index in range(len(values["labels"])))
    files = {int(size): (file["url"], file["md5"]) for size, file in values["files"].items()}
    return PublicSet(name, values["task"], labels, values["channels"], values["samples"], values["license"], files)


MEDMNIST: dict[str, PublicSet] = _packaged()


def cache_folder() -> Path:
    """Where downloads, phantoms and stores lie: ``HOUNSFIELD_CACHE``, or else the user's cache folder."""
    chosen = os.environ.get("HOUNSFIELD_CACHE")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("hounsfield"))


def public_set(name: str) -> PublicSet:
    """Look a set up by name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in MEDMNIST:
        raise UsageError(f"There is no public set 'medmnist:{name}': the names are {', '.join(MEDMNIST)}.")
    return MEDMNIST[name]


def parse_name(text: str) -> tuple[str, int | None]:
    """The set and the size in ``NAME``, ``NAME:SIZE`` or one of these after ``medmnist:``.

    Raises:
        UsageError: the size is not a number.
    """
    name, _, size = text.removeprefix("medmnist:").partition(":")
    if size and not size.isdecimal():
        raise UsageError(f"'{size}' in '{text}' is no size: write medmnist:NAME or medmnist:NAME:SIZE.")
    return name, int(size) if size else None


def get_medmnist(
    name: str, size: int | None = None, *, folder: Path | None = None, progress: Progress = silent
) -> Path:
    """The file of a MedMNIST set, downloaded when it is not in the cache, and checked by its MD5 in any case.

    Args:
        name: for example ``"pneumoniamnist"``.
        size: rows and columns of the images; the smallest by default.
        folder: where to keep it; the cache by default.
        progress: receives reports on bytes.

    Raises:
        UsageError: the name or the size does not exist.
        CohortError: the file cannot be downloaded, or is not the one that was published.
    """
    entry = public_set(name)
    size = entry.sizes[0] if size is None else size
    if size not in entry.files:
        raise UsageError(f"The set '{name}' has no size {size}: the sizes are {', '.join(map(str, entry.sizes))}.")
    url, md5 = entry.files[size]
    url = _mirrored(url)
    target = Path(folder or cache_folder() / "medmnist")
    file_name = f"{name}.npz" if size == entry.sizes[0] else f"{name}_{size}.npz"
    fetcher = pooch.create(
        target, "", registry={file_name: f"md5:{md5}"}, urls={file_name: url}, retry_if_failed=ATTEMPTS - 1
    )
    pooch.get_logger().setLevel("ERROR")
    bar = _Bar(f"downloading {file_name}", progress)
    try:
        return Path(fetcher.fetch(file_name, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=TIMEOUT)))
    # requests' errors are OSErrors; pooch says ValueError when the MD5 is another one.
    except (OSError, ValueError) as error:
        reason = "its MD5 is not the published one" if isinstance(error, ValueError) else type(error).__name__
        raise CohortError(
            f"Could not get {file_name} from {url} ({reason}). Expected a connection to that address and the file with "
            f"the MD5 {md5}. Check the network or the proxy, or download the file by other means and put it at "
            f"{target / file_name}."
        ) from error


def _mirrored(url: str) -> str:
    """The address at a mirror, where ``HOUNSFIELD_MEDMNIST`` names a folder of one; else the origin's."""
    mirror = os.environ.get("HOUNSFIELD_MEDMNIST")
    return f"{mirror.rstrip('/')}/{url.rpartition('/')[2].partition('?')[0]}" if mirror else url


class _Bar:
    """The few methods that pooch expects of a progress bar."""

    def __init__(self, task: str, progress: Progress) -> None:
        self._task = task
        self._progress = progress
        self._done = 0
        self.total = 0

    def update(self, num_bytes: int) -> None:
        self._done += num_bytes
        self._progress(self._task, self._done, self.total or None)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        self._progress(self._task, self._done, self._done)
