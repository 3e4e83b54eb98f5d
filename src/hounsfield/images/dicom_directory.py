"""DICOMDIR: the table of contents that lies beside the DICOM files of a medium (PS3.3 annex F)."""

from __future__ import annotations

from pathlib import Path

from hounsfield.errors import ImageError
from hounsfield.images.dicom_file import refusing
from hounsfield.images.dicom_header import Header


def is_directory(header: Header) -> bool:
    """Whether a DICOM file is a table of contents."""
    return "DirectoryRecordSequence" in header


def referenced_files(header: Header, path: Path) -> list[Path]:
    """The files that an opened DICOMDIR names, in its order; those that are not there stand in the list as well.

    Raises:
        ImageError: it names files outside its own folder, or is damaged.
    """
    with refusing(path):
        names = [record.text("ReferencedFileID") for record in header.items("DirectoryRecordSequence")]
        files = [_located(path.parent, name.split("\\")) for name in names if name]
        folder = path.parent.resolve()
        is_inside = all(folder in file.resolve().parents for file in files)
    if not is_inside:
        raise ImageError(
            f"{path} names files outside its own folder, which a table of contents cannot. Read the files themselves "
            "instead."
        )
    return list(dict.fromkeys(files))


def _located(folder: Path, parts: list[str]) -> Path:
    """A named file, also where the names were turned into small letters when the medium was copied."""
    named = folder.joinpath(*parts)
    if named.exists():
        return named
    lowered = folder.joinpath(*(part.lower() for part in parts))
    return lowered if lowered.exists() else named
