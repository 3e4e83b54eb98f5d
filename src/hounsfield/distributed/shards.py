"""Results in shards: whole Parquet files that each say what they hold, and a note of the job that they belong to."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from hounsfield.distributed.places import Place
from hounsfield.distributed.work import Part
from hounsfield.distributed.worker import Worker
from hounsfield.errors import UsageError
from hounsfield.images import Reference
from hounsfield.inference import BadImage
from hounsfield.inference.fitting import Differences
from hounsfield.inference.tables import write_parquet

# Readers of Parquet pass over names that begin so.
JOB = "_job.json"
SUMMARY = "_summary.json"
# In the metadata of a shard: what it holds, beside its rows.
FACTS = "hounsfield"


@dataclass(frozen=True)
class Shard:
    """Parts whose rows make one file; a task of a ``Pool``.

    Attributes:
        number: from 0.
        count: of all shards.
        parts: lists of items.
        place: where the file is written; ``None`` gives the rows back instead.
        columns: of the table; ``None`` where the rows tell.
        state: of the files when they were listed; see ``state_of``.
    """

    number: int
    count: int
    parts: Sequence[Sequence[Any]]
    place: Place | None = None
    columns: Sequence[str] | None = None
    state: str = ""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"part-{self.number:05d}-of-{self.count:05d}.parquet"

    @property
    def empty_name(self) -> str:
        """Of its file where it has no row that could tell the columns: one that readers of the table pass over."""
        return f"_{self.name}"

    def run(self, worker: Worker) -> Part:
        """Do the work; of a shard that is written, the rows stay with it."""
        whole = Part()
        for items in self.parts:
            for answer in worker.run(items):
                whole.add(answer)
        if self.place is None:
            return whole
        name, other = self.name, self.empty_name
        if self.columns is None and not whole.rows:
            name, other = other, name
        # First, so that what an earlier state of the images left never stands beside it.
        self.place.remove(other)
        self.place.write(name, _to_bytes(whole, self.columns, self.state))
        return Part([], whole.images, whole.bad, whole.differences, whole.engines, len(whole.rows))


def _to_bytes(part: Part, columns: Sequence[str] | None, state: str) -> bytes:
    facts = {
        "images": part.images,
        "bad": [asdict(bad) for bad in part.bad],
        "differences": asdict(part.differences),
        "engines": sorted(part.engines),
        "state": state,
    }
    stream = io.BytesIO()
    if columns is None:
        columns = list(part.rows[0]) if part.rows else ["image"]
    write_parquet(stream, columns, part.rows, {FACTS: json.dumps(facts)})
    return stream.getvalue()


def read_shard(shard: Shard, place: Place, names: Set[str]) -> Part | None:
    """What a shard that is there holds, without its rows.

    Args:
        shard: that is looked for.
        place: where.
        names: of the files that are there.

    Returns:
        ``None`` where it has to be made: it is not there, is damaged, or one of its images has changed since.
    """
    name = next((each for each in (shard.name, shard.empty_name) if each in names), None)
    return None if name is None else _read(shard, place, name)


def _read(shard: Shard, place: Place, name: str) -> Part | None:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    try:
        file = parquet.ParquetFile(io.BytesIO(place.read(name)))
        facts = json.loads(file.schema_arrow.metadata[FACTS.encode()])
        if facts["state"] != shard.state:
            return None
        bad = [BadImage(Reference(**each["reference"]), each["reason"]) for each in facts["bad"]]
        found = Differences(**facts["differences"])
        return Part([], facts["images"], bad, found, set(facts["engines"]), file.metadata.num_rows)
    except (arrow.ArrowException, KeyError, TypeError, ValueError, OSError):
        return None


def digest_of(texts: Iterable[str]) -> str:
    """What tells these texts, in their order, from others."""
    found = hashlib.sha256()
    for text in texts:
        found.update(f"{text}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def state_of(parts: Sequence[Sequence[Any]]) -> str:
    """What changes when a file of these items does: sizes, and times of the last change."""
    return digest_of(_state(file) for items in parts for item in items for file in item.files)


def _state(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - called for each image
    except (OSError, ValueError):
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def begin_job(place: Place, facts: dict[str, Any], shard_parts: int) -> tuple[int, set[str]]:
    """Note which job is written into a place, or find the one that was begun there.

    Args:
        place: of the shards.
        facts: what the rows depend on, as plain values.
        shard_parts: parts of a shard, of a new job.

    Returns:
        The parts of a shard, which are those of the job that was begun, and the names of the files that are there.

    Raises:
        UsageError: the place holds the shards of another job, or other files.
    """
    names = place.names()
    if JOB not in names:
        if names:
            raise UsageError(
                f"'{place}' holds files already, such as {min(names)}, and no {JOB}: the shards need a folder of "
                "their own. Name a new one."
            )
        place.write(JOB, json.dumps(facts | {"shard_parts": shard_parts}, indent=2).encode())
        return shard_parts, set()
    try:
        known = json.loads(place.read(JOB))
        parts = int(known.pop("shard_parts"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"The {JOB} in '{place}' is damaged. Name a new folder.") from error
    wanted = json.loads(json.dumps(facts))
    if others := sorted(name for name in known.keys() | wanted.keys() if known.get(name) != wanted.get(name)):
        raise UsageError(
            f"'{place}' holds the shards of another job, which differs in: {', '.join(others)}. A job is continued "
            "with the same command on the same files; otherwise name a new folder."
        )
    return parts, names
