"""A table of many images made by a pool of workers: in shards that are resumed, or row by row in order."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hounsfield.distributed.places import Place
from hounsfield.distributed.pool import Pool
from hounsfield.distributed.shards import SUMMARY, Shard, begin_job, digest_of, read_shard, state_of
from hounsfield.distributed.work import Part
from hounsfield.progress import Progress, silent
from hounsfield.version import __version__

logger = logging.getLogger(__name__)

# Parts of a shard: the workers share the end of the job evenly, and a shard that is lost costs little.
SHARDS_OF_A_WORKER = 8
MOST_PARTS = 64


@dataclass(frozen=True)
class BulkResult:
    """What was written.

    Attributes:
        part: of all shards together, without rows.
        shards: how many there are.
        found: how many of them were there already.
        seconds: that the others took.
        images: in these others, good and bad.
    """

    part: Part
    shards: int
    found: int
    seconds: float
    images: int


def run_bulk(
    pool: Pool,
    parts: Sequence[Sequence[Any]],
    place: Place,
    facts: Mapping[str, Any],
    *,
    columns: Sequence[str] | None = None,
    progress: Progress = silent,
) -> BulkResult:
    """Write the rows of all parts into shards, each image exactly once; those that are there are left.

    Args:
        pool: of workers.
        parts: lists of items with a ``reference`` and the ``files`` that they are read from, in order.
        place: where the shards are written, with ``_job.json`` and at the end ``_summary.json``.
        facts: what the rows depend on beside the images, as plain values.
        columns: of the table; ``None`` where the rows tell.
        progress: told of the images.

    Raises:
        UsageError: the place holds something else.
        ResourceError: workers were lost too often, or the place cannot be written to.
    """
    total = sum(map(len, parts))
    inputs = {"images": total, "inputs": digest_of(item.reference.text for part in parts for item in part)}
    per_shard = min(MOST_PARTS, math.ceil(len(parts) / (SHARDS_OF_A_WORKER * pool.size))) or 1
    per_shard, names = begin_job(place, {"version": __version__, **facts, **inputs}, per_shard)
    shards = _shards(parts, per_shard, place, columns)
    whole = Part()
    missing = []
    for shard in shards:
        found = read_shard(shard, place, names)
        if found is None:
            missing.append(shard)
        else:
            whole.add(found)
    before, started = whole.images + len(whole.bad), time.monotonic()
    progress("predict", before, total)
    for part in pool.map(missing):
        whole.add(part)
        progress("predict", min(whole.images + len(whole.bad), total), total)
    done = whole.images + len(whole.bad)
    result = BulkResult(whole, len(shards), len(shards) - len(missing), time.monotonic() - started, done - before)
    _conclude(place, result)
    return result


def stream_bulk(pool: Pool, parts: Sequence[Sequence[Any]], *, progress: Progress = silent) -> Iterator[Part]:
    """What workers make of parts, in their order, with few of them in memory.

    Args:
        pool: of workers.
        parts: lists of items.
        progress: told of the images.
    """
    total, done = sum(map(len, parts)), 0
    progress("predict", done, total)
    per_task = min(MOST_PARTS, math.ceil(len(parts) / (SHARDS_OF_A_WORKER * pool.size))) or 1
    for part in pool.map(_shards(parts, per_task, None, None), ordered=True):
        done += part.images + len(part.bad)
        progress("predict", min(done, total), total)
        yield part


def _shards(
    parts: Sequence[Sequence[Any]], per_shard: int, place: Place | None, columns: Sequence[str] | None
) -> list[Shard]:
    count = math.ceil(len(parts) / per_shard)
    shards = []
    for number in range(count):
        own = parts[number * per_shard : (number + 1) * per_shard]
        shards.append(Shard(number, count, own, place, columns, state_of(own) if place is not None else ""))
    return shards


def _conclude(place: Place, result: BulkResult) -> None:
    """Leave a summary beside the shards, and say what one process would have said."""
    part = result.part
    if len(part.engines) > 1:
        logger.warning(
            "The shards come from different engines, so their last digits may differ: %s.",
            "; ".join(sorted(part.engines)),
        )
    summary = {
        "images": part.images,
        "rows": part.num_rows,
        "shards": result.shards,
        "engines": sorted(part.engines),
        "bad": [bad.json() for bad in part.bad],
    }
    place.write(SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace"))
