"""What every command shares: where text goes, how progress is drawn, how errors end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hounsfield.errors import UsageError
from hounsfield.safe_text import shown

if TYPE_CHECKING:
    from rich.console import Console

    out: Console
    err: Console


@cache
def _console(*, stderr: bool) -> Console:
    """Rich's console, imported on use: a prediction of one image is printed without it."""
    from rich.console import Console

    class SafeConsole(Console):
        """Whatever text is printed, also in the cells of a table, nothing hides in the names it holds."""

        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(shown(text, lines=True), **options)

    # No markup and no emoji codes: a label may well have brackets or colons.
    return SafeConsole(stderr=stderr, highlight=False, soft_wrap=True, markup=False, emoji=False)


def __getattr__(name: str) -> Console:
    """``out`` and ``err``: the consoles on standard output and standard error."""
    if name not in ("out", "err"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console(stderr=name == "err")


def print_json(value: Any) -> None:
    """Write the machine-readable form of a result to standard output."""
    # Escapes are JSON's own but for bytes of a file's name that are no text.
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


def say(text: str) -> None:
    """Write one line of log to standard error."""
    line = shown(text, lines=True)
    # Bars that may be on the screen are redrawn below the line.
    if _console.cache_info().currsize:
        _console(stderr=True).print(line)
    else:
        typer.echo(line, err=True)


class ProgressBars:
    """A ``Progress`` that draws a bar a task with time left and the memory in use.

    Where standard error is no terminal, one line is written when a task starts and one when it ends,
    so logs stay readable.
    """

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = _console(stderr=True)
        self._interactive = console.is_terminal
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[memory]}"),
            console=console,
            disable=not self._interactive,
        )
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}

    def __call__(self, task: str, done: int, total: int | None) -> None:
        """Draw the state of one task; the first call of a name starts its bar."""
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, memory="")
            self._started[task] = time.monotonic()
            if not self._interactive:
                say(f"{task}: started" + (f" ({total:,})" if total else ""))
        self._bars.update(self._tasks[task], completed=done, total=total, memory=_memory_in_use())
        if total is not None and done >= total:
            self._end(task)

    def _end(self, task: str) -> None:
        if not self._interactive and task in self._started:
            say(f"{task}: done, {time.monotonic() - self._started.pop(task):.1f} s, {_memory_in_use()}")

    def start(self) -> None:
        """Begin to draw."""
        self._bars.start()

    def finish(self) -> None:
        """Say that all is done, also tasks whose length was not known and those that ended early."""
        for task in tuple(self._started):
            self._end(task)

    def stop(self) -> None:
        """Leave the last state on the screen."""
        self._bars.stop()


def _memory_in_use() -> str:
    import psutil

    return f"{psutil.Process().memory_info().rss / 2**20:,.0f} MiB"


@contextmanager
def progress_bars() -> Iterator[ProgressBars]:
    """Draw progress on standard error for the length of a ``with`` block."""
    bars = ProgressBars()
    bars.start()
    try:
        yield bars
        bars.finish()
    finally:
        bars.stop()


def check_folder(path: Path | None, inputs: Sequence[str] = ()) -> None:
    """Refuse, before any work is done, a folder for results that is a file, or in which inputs lie.

    A result has the name of its image, so beside the image it could replace it; and results below a folder of inputs
    would be read as images by the next call.

    Args:
        path: the folder; ``None`` where none is wanted.
        inputs: images and folders of images whose results are written.

    Raises:
        UsageError: it is a file or lies below one, it holds an input, or it is a folder with images inside an input.
    """
    if path is None:
        return
    if file := next((place for place in (path, *path.parents) if place.is_file()), None):
        raise UsageError(f"'{file}' is a file, and a folder for the results is expected. Name another.")
    if path.is_dir() and (held := _held_by(path, inputs)):
        raise UsageError(
            f"The folder for the results '{path}' holds images of the input '{held}', which results of the same name "
            "would replace. Name a folder apart from the inputs."
        )


def _held_by(folder: Path, inputs: Sequence[str]) -> str | None:
    """The first input that has images in a folder."""
    from hounsfield.images import Reference, image_files

    place = folder.resolve()
    for name in inputs:
        given = Path(Reference.parse(name).path).resolve()
        if given.is_dir():
            if place == given or (place.is_relative_to(given) and image_files(folder)):
                return name
        elif given.parent == place:
            return name
    return None


def picture_name(image: str, taken: set[str]) -> str:
    """A file name for the picture of an image: its own name and slice, numbered where it is taken."""
    path, _, frame = image.partition("[")
    stem = Path(path).name.removesuffix(".gz")
    stem = stem.rpartition(".")[0] or stem
    plain = re.sub(r"[^\w.-]+", "-", stem + (f"-{frame.rstrip(']')}" if frame else "")).strip("-") or "image"
    name, number = plain, 2
    while name in taken:
        name, number = f"{plain}-{number}", number + 1
    taken.add(name)
    return name
