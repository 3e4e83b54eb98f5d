"""``manifest.json`` of a run: the hash of every file that its training wrote, and of what later commands added."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from hounsfield import folder_lock
from hounsfield.atomic import flush, is_temporary, replacing, write_text
from hounsfield.bundle import Bundle, bundle_faults
from hounsfield.errors import HounsfieldError, RunError
from hounsfield.integrity import digest, digests, files_below, seal_holds, sealed
from hounsfield.signing import demand_signature, renew, withdraw
from hounsfield.textfiles import parse_json, read_bytes, read_text

logger = logging.getLogger(__name__)

NAME = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT_VERSION = 1
# Characters of a path within a run, and bytes of a name as file systems have it.
MAX_NAME, MAX_PART = 1000, 255
# What the owner of a run writes, or a training keeps for itself; a folder of variants has runs of its own.
UNLISTED = (
    "about.yaml",
    "ablation",
    "bundle",
    "checkpoints",
    "learning_curve",
    "tensorboard",
    "tracking.json",
    "wandb",
    NAME,
    SIGNATURE,
    folder_lock.NAME,
)
BUNDLE = "bundle/bundle.json"
# Nothing is read from these; their reader may have edited them.
PAGES = ("report.html", "checklists.html", "model_facts.html", "MODEL_CARD.md")


@dataclass(frozen=True)
class Verdict:
    """Whether a run or a bundle is whole.

    Attributes:
        folder: that was looked at.
        faults: a sentence for each file that is missing, damaged or not listed; none where all is whole.
        notes: what is allowed to be so, and worth knowing.
        identity: of the bundle, where it could be read.
    """

    folder: Path
    faults: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    identity: str | None = None

    @property
    def whole(self) -> bool:
        """Whether every file is what was written."""
        return not self.faults


def write_run_manifest(folder: Path) -> None:
    """Write the manifest of a run whose training has come to its end; all that it lists is on the disk then."""
    names = [*files_below(folder, without=UNLISTED), *([BUNDLE] if (folder / BUNDLE).is_file() else [])]
    for name in names:
        flush(folder / name)
    _write(folder, digests(folder, names))


@contextmanager
def adding(folder: Path, paths: Sequence[Path]) -> Iterator[None]:
    """Let a command write files into a run: its manifest has them at the end of the ``with`` block.

    Until then the manifest does not list them, so that a command that is stopped half-way leaves a whole run. Nothing
    is done in any other folder.

    Args:
        folder: of the run.
        paths: files that are written; those that lie elsewhere, or are not there in the end, are left out.
    """
    if not (folder / NAME).is_file():
        yield
        return
    names = [path.relative_to(folder).as_posix() for path in paths if path.is_relative_to(folder)]
    # Of two commands that add to one run at once, the second waits: neither loses what the other wrote.
    with folder_lock.locked(folder, wait=True):
        known = read_run_manifest(folder)
        if not known.keys().isdisjoint(names):
            _write(folder, {name: value for name, value in known.items() if name not in names})
    yield
    with folder_lock.locked(folder, wait=True):
        present = [name for name in names if (folder / name).is_file()]
        _write(folder, read_run_manifest(folder) | digests(folder, present))


def amend(folder: Path, path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file that a run holds, and its hash in the manifest, while no other process does.

    Args:
        folder: of the run.
        path: of the file, which may not be there yet.
        change: from the old content to the new one.
    """
    with folder_lock.locked(folder, wait=True):
        listed, name = (folder / NAME).is_file(), path.relative_to(folder).as_posix()
        known = read_run_manifest(folder) if listed else {}
        if name in known:
            _write(folder, {each: value for each, value in known.items() if each != name})
        changed = change(read_bytes(path) if path.is_file() else b"")
        with replacing(path) as temporary:
            temporary.write_bytes(changed)
        if listed:
            _write(folder, known | digests(folder, [name]))


def read_run_manifest(folder: Path) -> dict[str, str]:
    """File → hash.

    Raises:
        RunError: the manifest is damaged, was edited, or is of a newer version.
    """
    path = folder / NAME
    try:
        content = read_text(path).encode()
        values: Any = parse_json(content)
        hashes = {_inside(str(name)): str(value) for name, value in values["files"].items()}
        version = values["format_version"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}). Restore the run from a copy.") from error
    if version != FORMAT_VERSION:
        raise RunError(f"{path} has format {version}: expected {FORMAT_VERSION}. Upgrade Hounsfield.")
    if not seal_holds(content):
        raise RunError(
            f"{path} is not as it was written: the hash in it is not that of its content. Restore the run from a copy."
        )
    return hashes


def _inside(name: str) -> str:
    """A name of the manifest, which leads to no place outside the run.

    Raises:
        ValueError: it does.
    """
    parts = name.split("/")
    is_name = len(name) <= MAX_NAME and all(len(os.fsencode(part)) <= MAX_PART for part in parts)
    if not is_name or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"it lists {name!r:.100}, which is no file of the run")
    return name


def check_run(folder: Path) -> frozenset[str] | None:
    """Compare what a run is read from with its manifest; a run of an earlier version has none, which is logged.

    Returns:
        The files that the manifest lists; ``None`` where there is none.

    Raises:
        RunError: a file is missing or is another than was written; the message names it.
        SignatureError: a signature is demanded (HOUNSFIELD_VERIFY_KEY) that the run does not have.
    """
    demand_signature(folder / NAME, folder / SIGNATURE)
    if not (folder / NAME).is_file():
        logger.warning(
            "The run %s is of an earlier version, or its training was not finished: it has no %s, so whether its files "
            "are whole cannot be told.",
            folder,
            NAME,
        )
        return None
    listed = read_run_manifest(folder)
    hashes = {name: value for name, value in listed.items() if name not in (*PAGES, BUNDLE)}
    for fault in _faults(folder, hashes):
        raise RunError(f"{fault} Restore it from a copy of the run, or train again.")
    return frozenset(listed)


def verify(folder: Path) -> Verdict:
    """Compare every file of a run, or of a bundle, with what was written.

    Raises:
        RunError: the folder holds neither.
    """
    is_run = (folder / "plan.yaml").is_file() or (folder / NAME).is_file()
    if not is_run and not (folder / "bundle.json").is_file():
        raise RunError(f"{folder} holds neither a run nor a bundle. Give the folder that 'hounsfield train' wrote.")
    faults, notes = _run_faults(folder) if is_run else ([], [])
    place = folder / "bundle" if is_run else folder
    identity = None
    try:
        found, more = bundle_faults(place)
        faults += found
        notes += more
        identity = None if found else Bundle.load(place).identity
    except HounsfieldError as error:
        faults.append(str(error))
    return Verdict(folder, tuple(faults), tuple(notes), identity)


def _run_faults(folder: Path) -> tuple[list[str], list[str]]:
    leftovers = [f"{path} is what a process left half-written." for path in folder.iterdir() if is_temporary(path)]
    if not (folder / NAME).is_file():
        return [f"{folder} has no {NAME}: its training is not finished, or is of an earlier version."], leftovers
    try:
        hashes = read_run_manifest(folder)
    except RunError as error:
        return [str(error)], leftovers
    surplus = sorted(set(files_below(folder, without=UNLISTED)) - set(hashes))
    return list(_faults(folder, hashes)), leftovers + [f"{folder / name} is not listed." for name in surplus]


def _faults(folder: Path, hashes: dict[str, str]) -> Iterable[str]:
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            yield f"{path} is missing."
        elif (found := digest(path)) != expected:
            yield (
                f"{path} is damaged or was changed: its SHA-256 is {found[:12]}…, and that of what was written is "
                f"{expected[:12]}…."
            )


def _write(folder: Path, hashes: dict[str, str]) -> None:
    was_signed = withdraw(folder / SIGNATURE)
    values = {"format_version": FORMAT_VERSION, "files": dict(sorted(hashes.items()))}
    write_text(folder / NAME, sealed(values))
    renew(folder / NAME, folder / SIGNATURE, was_signed=was_signed)
