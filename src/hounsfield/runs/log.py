"""``log.jsonl`` of a run: one event per line; a full disk or a loss of power may have cut the last line short."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from hounsfield.atomic import replacing
from hounsfield.errors import RunError
from hounsfield.textfiles import parse_json, read_bytes


def log_line(event: str, **facts: Any) -> bytes:
    """A line of the log, with the time."""
    values = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "event": event} | facts
    # Names of files that are not UTF-8 hold surrogates, which JSON can hold as escapes.
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def whole_lines(content: bytes) -> bytes:
    """The log as far as it was written: without a last line that was cut short, which is no whole event."""
    end = content.rfind(b"\n") + 1
    # A line without its end is whole where a person removed the line break with an editor.
    return content + b"\n" if _event(content[end:]) is not None else content[:end]


def readable_lines(content: bytes) -> bytes:
    """The log without lines that are no events, as a loss of power may leave them anywhere in what was not flushed."""
    lines = whole_lines(content).splitlines(keepends=True)
    return b"".join(line for line in lines if _event(line) is not None)


def append_event(path: Path, event: str, **facts: Any) -> None:
    """Write an event to the end of the log, in a line of its own whatever the last line looks like."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if not size or file.read(1) == b"\n":
            file.write(log_line(event, **facts))
            return
    with replacing(path) as temporary:
        temporary.write_bytes(whole_lines(path.read_bytes()) + log_line(event, **facts))


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events, in order; a last line that was cut short is left out.

    Raises:
        RunError: the file is not there or cannot be read, or another line is no event.
    """
    try:
        content = whole_lines(read_bytes(path))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}. Restore it from a copy of the run, or train again.") from error
    lines = [line for line in content.split(b"\n") if line.strip()]
    events = [_event(line) for line in lines]
    if None in events:
        raise RunError(
            f"{path} is damaged: its line {events.index(None) + 1} is no event in JSON. Restore it from a copy of the "
            "run, or train again."
        )
    return [event for event in events if event is not None]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        values = parse_json(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None
