"""Options for work in several processes: --workers, --ray, --time-limit and --worker-memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.cli.console import check_folder, print_json, progress_bars, say
from hounsfield.cli.results import conclude, reasons
from hounsfield.errors import ResourceError, UsageError
from hounsfield.progress import Progress

if TYPE_CHECKING:
    from hounsfield.distributed import Pool
    from hounsfield.distributed.work import Part, Work

# Between two lines of a log.
SECONDS_OF_A_LINE = 30.0

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Work in so many processes, of one core each (docs/scale.md).")
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Work on this Ray cluster: auto, HOST:PORT, or local to start one."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=1, help="With --workers: seconds that one image may take, then it is a bad image.", show_default="300"
    ),
]
WorkerMemory = Annotated[
    float | None,
    typer.Option(
        min=0.25, metavar="GIB", help="With --workers: memory of a worker; by default a share of what is free."
    ),
]


@dataclass(frozen=True)
class Crew:
    """The workers that were asked for."""

    workers: int | None
    ray: str | None
    seconds: float | None = None
    memory: float | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there are to be any."""
        return self.workers is not None or self.ray is not None

    def check(self) -> None:
        """Refuse limits without workers.

        Raises:
            UsageError: there are some.
        """
        if not self.is_wanted and (self.seconds is not None or self.memory is not None):
            raise UsageError(
                "--time-limit and --worker-memory hold for workers. Give --workers N or --ray ADDRESS too."
            )

    def refuse(self, given: Mapping[str, object]) -> None:
        """Refuse options that one process alone can follow.

        Args:
            given: option → its value, which is false where it was left out.

        Raises:
            UsageError: there is one.
        """
        if found := [name for name, value in given.items() if value]:
            raise UsageError(
                f"{' and '.join(found)} cannot be combined with --workers or --ray, which write the table alone. Leave "
                "one of them out."
            )

    def open(self, work: Work) -> Pool:
        """The pool of these workers."""
        from hounsfield.distributed import Limits, open_pool

        memory = int(self.memory * 2**30) if self.memory is not None else None
        limits = Limits(self.seconds or Limits.seconds, memory)
        return open_pool(work, workers=self.workers, ray=self.ray, limits=limits)


@dataclass(frozen=True)
class Table:
    """A table that workers make.

    Attributes:
        command: that asked for it.
        output: a file, or a folder or URL for shards; ``None`` for standard output.
        columns: of it; ``None`` where the rows tell.
        write: writes rows into a file or standard output, where shards are not wanted.
        facts: what the rows depend on beside the images.
        as_json: whether a summary is printed as JSON.
    """

    command: str
    output: str | None
    columns: Sequence[str] | None
    write: Callable[[Iterable[dict[str, Any]]], int]
    facts: Mapping[str, Any]
    as_json: bool


@dataclass(frozen=True)
class CallCrew:
    """The workers that were asked for, for calls, which take as long as they take."""

    workers: int | None
    ray: str | None

    def __call__(self, work: Work) -> Pool:
        """The pool of these workers."""
        from hounsfield.distributed import Limits, open_pool
        from hounsfield.hardware import num_cores

        cores = max(1, num_cores() // self.workers) if self.workers is not None and self.ray is None else 1
        pool = open_pool(work, workers=self.workers, ray=self.ray, limits=Limits(math.inf, None, cores))
        say(f"Workers: {pool.description}")
        return pool


def delegated(crew: CallCrew | None) -> AbstractContextManager[None]:
    """Let workers that were asked for do within a block what can be delegated to them."""
    if crew is None:
        return nullcontext()
    from hounsfield.distributed.delegating import delegating_to

    return delegating_to(crew, least=1)


def crew_for_calls(workers: int | None, ray: str | None) -> CallCrew | None:
    """The workers for calls; ``None`` where none are asked for."""
    return None if workers is None and ray is None else CallCrew(workers, ray)


def is_sharded(output: str | None) -> bool:
    """Whether an output is a folder or a URL, for shards."""
    from hounsfield.inference.remote import is_url

    return output is not None and (is_url(output) or Path(output).is_dir() or not Path(output).suffix)


def check_output(
    output: str | None, inputs: Sequence[str], suffixes: Sequence[str] = (".csv", ".parquet", ".json"), *, masks: bool
) -> None:
    """Refuse, before any work is done, what could not be written.

    Args:
        output: a file, a folder or a URL.
        inputs: that are worked on, which no shard may lie beside.
        suffixes: of the files.
        masks: whether a folder would be for masks.

    Raises:
        UsageError: it could not.
    """
    from hounsfield.inference.remote import is_url
    from hounsfield.inference.tables import check_table_path

    if output is None:
        return
    if not is_sharded(output):
        check_table_path(Path(output), suffixes)
    elif masks:
        raise UsageError(
            f"Masks are written by one process, and -o names the place '{output}' for them. With --workers or --ray "
            "give a file for the table of volumes, or leave these options out."
        )
    elif not is_url(output):
        check_folder(Path(output), [given for given in inputs if not is_url(given)])


def make_table(table: Table, crew: Crew, work: Work, parts: Sequence[Sequence[Any]]) -> Part:
    """Let workers make a table, and say how fast they were.

    Returns:
        What it holds, without its rows.

    Raises:
        ImageError: an image could not be used.
    """
    with crew.open(work) as pool:
        say(f"Workers: {pool.description}")
        whole, rows = _sharded(table, pool, parts) if is_sharded(table.output) else _in_one(table, pool, parts)
    for image in whole.bad:
        say(f"Bad image: {image}")
    if table.as_json:
        summary = {"engine": "; ".join(sorted(whole.engines)), "count": whole.images, "bad": reasons(whole.bad)}
        print_json(summary | {"rows": rows, "file": table.output})
    return whole


def _sharded(table: Table, pool: Pool, parts: Sequence[Sequence[Any]]) -> tuple[Part, int]:
    from hounsfield.distributed.bulk import run_bulk
    from hounsfield.distributed.places import open_place
    from hounsfield.images.settings import current_settings

    place = open_place(str(table.output))
    # Other volumes or levels are other images under the same names.
    facts = {"command": table.command, **table.facts, "settings": current_settings()}
    try:
        with progress_bars() as bars:
            result = run_bulk(pool, parts, place, facts, columns=table.columns, progress=Rate(bars))
    except KeyboardInterrupt as interrupt:
        raise ResourceError(
            f"Interrupted before all images were done. What is done is kept in {place}: give the same command again to "
            "go on from there."
        ) from interrupt
    if result.found:
        say(f"{result.found:,} of {result.shards:,} shards were there already.")
    if result.images:
        say(_speed(result.images, result.seconds))
    return result.part, result.part.num_rows


def told_parts(pool: Pool, parts: Sequence[Sequence[Any]]) -> Iterator[Part]:
    """What workers make of parts, in order; progress, bad images and speed are told."""
    from hounsfield.distributed.bulk import stream_bulk

    say(f"Workers: {pool.description}")
    started, images = time.monotonic(), 0
    with progress_bars() as bars:
        for part in stream_bulk(pool, parts, progress=Rate(bars)):
            for image in part.bad:
                say(f"Bad image: {image}")
            images += part.images
            yield part
    say(_speed(images, time.monotonic() - started))


def _in_one(table: Table, pool: Pool, parts: Sequence[Sequence[Any]]) -> tuple[Part, int]:
    from hounsfield.distributed.bulk import stream_bulk
    from hounsfield.distributed.work import Part

    whole, started = Part(), time.monotonic()

    def rows() -> Iterator[dict[str, Any]]:
        with progress_bars() as bars:
            for part in stream_bulk(pool, parts, progress=Rate(bars)):
                yield from part.rows
                part.rows = []
                whole.add(part)
        if not whole.images:
            # No file is made or replaced where every image is bad.
            conclude(0, whole.bad, None)

    count = table.write(rows())
    say(_speed(whole.images + len(whole.bad), time.monotonic() - started))
    return whole, count


def _speed(images: int, seconds: float) -> str:
    return f"{images:,} images in {seconds:,.1f} s, {images / max(seconds, 1e-9):,.1f} images/s"


class Rate:
    """A ``Progress`` that also writes a line with speed and time left now and then, which a log of a long job needs.

    Args:
        shown: is told as well.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._began: tuple[float, int] | None = None
        self._told = time.monotonic()

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Report the state."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, done
        self._shown(task, done, total)
        seconds, images = now - self._began[0], done - self._began[1]
        if now - self._told > SECONDS_OF_A_LINE and images and total and done < total:
            self._told = now
            left = (total - done) * seconds / images
            say(f"{done:,} of {total:,} images, {images / seconds:,.1f} images/s, {left / 60:,.1f} min left")
