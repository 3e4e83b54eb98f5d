"""De-identification of DICOM files and folders, and the key that their pseudonyms come from."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from hounsfield.atomic import creating, replacing
from hounsfield.errors import ImageError
from hounsfield.images.burned_in import BurnedIn, Masks
from hounsfield.images.deidentification import Deidentified, decoding, deidentify
from hounsfield.images.dicom_file import read_content, refusing
from hounsfield.images.limits import pixel_limit
from hounsfield.images.pseudonyms import check_key
from hounsfield.images.reading import image_files
from hounsfield.progress import Progress, silent

PIXEL_DATA = 0x7FE00010


@dataclass(frozen=True)
class Outcome:
    """What became of the files that were to be de-identified.

    Attributes:
        written: the new files.
        flagged: those of them whose pixels may show text, with what says so.
        masked: those of them in whose pixels something was blacked out.
        left_out: files that could not be de-identified, with the reason.
        repeated: files that are the same as one before them, and were not written again.
        kept: keyword of each attribute that kept its values, and in how many files.
        kept_text: those of them that hold free text, in which a person may have named someone.
        broken: keyword of each attribute with values that broke their representation, and were removed.
    """

    written: tuple[Path, ...]
    flagged: dict[Path, BurnedIn]
    masked: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]
    repeated: tuple[Path, ...]
    kept: dict[str, int]
    kept_text: dict[str, int]
    broken: dict[str, int]


def make_key(path: Path) -> None:
    """Write a new random key of 256 bits, readable by its owner alone; an existing file is never replaced.

    The file appears when it is complete: a key that was cut short would give pseudonyms that nobody can repeat.

    Raises:
        OSError: the file exists or cannot be written.
    """
    with creating(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(f"{secrets.token_hex(32)}\n", encoding="ascii")


def read_key(path: Path) -> bytes:
    """The key in a file, without the white space around it.

    Raises:
        ImageError: there is no such file, or it holds fewer than 16 bytes.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise ImageError(f"The key file '{path}' cannot be read ({error.strerror}). Check its path.") from error
    check_key(key)
    return key


def deidentify_file(
    source: Path,
    target: Path,
    key: bytes,
    *,
    keep_characteristics: bool = False,
    masks: Masks | None = None,
    keep_pixels: bool = False,
) -> Deidentified:
    """De-identify one DICOM file into another; pixels that are not masked, and transfer syntax, stay as they are.

    See ``deidentify``.

    Raises:
        ImageError: the source is not DICOM, or cannot be de-identified.
        OSError: the target cannot be written.
    """
    result = deidentify(
        read_object(source), key, keep_characteristics=keep_characteristics, masks=masks, keep_pixels=keep_pixels
    )
    with replacing(target) as temporary:
        temporary.write_bytes(_encoded(result.dataset))
    return result


def deidentify_paths(
    source: Path,
    target: Path,
    key: bytes,
    *,
    keep_characteristics: bool = False,
    masks: Masks | None = None,
    keep_pixels: bool = False,
    progress: Progress = silent,
) -> Outcome:
    """De-identify one file into another, or every DICOM file of a folder into ``target/PSEUDONYM/INSTANCE_UID.dcm``.

    Files of a folder that cannot be de-identified are left out, and named in the result. A file that is the same as one
    before it is written once; another object under the UID of one before it gets a number in its name.

    Raises:
        ImageError: the source does not exist, or nothing in it could be de-identified.
        OSError: a file cannot be written.
    """
    tally = _Tally(target)
    sources = [source] if source.is_file() else image_files(source)
    for number, path in enumerate(sources):
        progress("de-identifying", number, len(sources))
        try:
            result = deidentify(
                read_object(path), key, keep_characteristics=keep_characteristics, masks=masks, keep_pixels=keep_pixels
            )
            tally.add(path, result, target if source.is_file() else None)
        except ImageError as error:
            if source.is_file():
                raise ImageError(f"{source} was not de-identified. {error}") from error
            tally.left_out.append((path, str(error)))
    progress("de-identifying", len(sources), len(sources))
    if not tally.written:
        reason = f" The first was refused: {tally.left_out[0][1]}" if tally.left_out else ""
        raise ImageError(f"No DICOM file below '{source}' could be de-identified.{reason}")
    return tally.outcome()


class _Tally:
    """Writes objects, each under a name of its own, and counts what was kept in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[Path, bytes] = {}
        self._flagged: dict[Path, BurnedIn] = {}
        self._masked: list[Path] = []
        self._repeated: list[Path] = []
        self._kept: Counter[str] = Counter()
        self._kept_text: Counter[str] = Counter()
        self._broken: Counter[str] = Counter()
        self.left_out: list[tuple[Path, str]] = []

    @property
    def written(self) -> tuple[Path, ...]:
        return tuple(self._digests)

    def add(self, source: Path, result: Deidentified, target: Path | None) -> None:
        """Write one object, to ``target`` or else where its new identity says."""
        content = _encoded(result.dataset)
        digest = hashlib.sha256(content).digest()
        path = target or self._free_place(result, digest)
        if path in self._digests:
            self._repeated.append(source)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        self._digests[path] = digest
        if result.burned_in != "unlikely" and not result.masked:
            self._flagged[path] = result.burned_in
        if result.masked:
            self._masked.append(path)
        self._kept.update(result.kept)
        self._kept_text.update(result.kept_text)
        self._broken.update(result.broken)

    def _free_place(self, result: Deidentified, digest: bytes) -> Path:
        """Where an object belongs: the place of the same one, or the first that no other object has taken."""
        uid, number = str(result.dataset.SOPInstanceUID), 1
        while True:
            name = f"{uid}.dcm" if number == 1 else f"{uid}_{number}.dcm"
            path = self._folder / result.patient / name
            if self._digests.get(path, digest) == digest:
                return path
            number += 1

    def outcome(self) -> Outcome:
        """What became of all of them."""
        return Outcome(
            self.written,
            self._flagged,
            tuple(self._masked),
            tuple(self.left_out),
            tuple(self._repeated),
            dict(sorted(self._kept.items())),
            dict(sorted(self._kept_text.items())),
            dict(sorted(self._broken.items())),
        )


def read_object(path: Path) -> Dataset:
    """Read a whole DICOM object, pixels included and not decoded.

    Raises:
        ImageError: the file is no DICOM, or damaged.
    """
    with refusing(path):
        content, syntax = read_content(path, pixel_limit())
        dataset = pydicom.dcmread(io.BytesIO(content), force=True)
        if syntax is not None:
            dataset.file_meta.TransferSyntaxUID = syntax
        _cut_after_pixels(dataset, path)
        # Left as they are in the file: pydicom would convert them by what the file says of their representation.
        named = all(tag in dataset and dataset.get_item(tag).value for tag in ("SOPClassUID", "SOPInstanceUID"))
    if not named:
        raise ImageError(
            f"'{path}' has no SOP class and instance UID. Expected a complete DICOM object; only these can be "
            "de-identified."
        )
    return dataset


def _cut_after_pixels(dataset: Dataset, path: Path) -> None:
    """Remove what pydicom took for elements in bytes after the data set; elsewhere disorder is damage."""
    tags = list(dataset.keys())
    descending = next((number for number in range(1, len(tags)) if tags[number] < tags[number - 1]), None)
    if descending is None:
        return
    if tags[descending - 1] < PIXEL_DATA:
        raise ImageError(
            f"{path} has elements out of order, as where a length is wrong, so nobody can say what it holds. Copy it "
            "again from its source."
        )
    for tag in tags[descending:]:
        del dataset[tag]


def _encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    with decoding():
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
