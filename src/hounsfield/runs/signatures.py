"""The signatures of a run: one of its own manifest, and one of its bundle's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hounsfield.errors import SignatureError
from hounsfield.runs.manifest import NAME, SIGNATURE
from hounsfield.signing import check_signature, sign


def sign_all(folder: Path, key: Path) -> list[Path]:
    """Sign each manifest of a run, or that of a bundle, and return the signatures.

    Raises:
        SignatureError: the key cannot be read.
        MissingDependency: the package cryptography is not installed.
    """
    written = []
    for manifest, signature in _manifests(folder):
        sign(manifest, key, signature)
        written.append(signature)
    return written


def check_signatures(folder: Path, key: Path) -> list[str]:
    """A sentence for each manifest that this key has not signed.

    Raises:
        MissingDependency: the package cryptography is not installed.
    """
    faults = []
    for manifest, signature in _manifests(folder):
        try:
            check_signature(manifest, key, signature)
        except SignatureError as error:
            faults.append(str(error))
    return faults


def _manifests(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Each manifest, with the name of its signature."""
    pairs = [(folder / NAME, folder / SIGNATURE)]
    pairs += [(place / "bundle.json", place / "bundle.sig") for place in (folder / "bundle", folder)]
    return (pair for pair in pairs if pair[0].is_file())
