"""Text of people and other programs: regular files alone, of bounded size, in which nothing unfolds into more."""

from __future__ import annotations

import json
import os
import stat
from functools import cache
from pathlib import Path
from typing import Any

import yaml

# Bytes; a COCO file of a million boxes has some 300 MB.
MAX_BYTES = 2**29
MAX_YAML_BYTES = 2**22
MAX_DEPTH = 50
_OTHERS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def other_kind(status: os.stat_result) -> str:
    """What a file is that is not regular; "" for a regular one."""
    if not stat.S_ISREG(status.st_mode):
        return _OTHERS.get(stat.S_IFMT(status.st_mode), "no regular file")
    # Files of the kernel say that they are regular and empty, and some never end.
    return "a file of the system itself" if status.st_size == 0 and status.st_dev in _system_devices() else ""


@cache
def _system_devices() -> frozenset[int]:
    return frozenset(Path(place).stat().st_dev for place in ("/proc", "/sys") if Path(place).is_dir())


def require_regular(path: Path, limit: int | None = None) -> None:
    """Refuse a pipe, which would block its reader, a device, a folder, and a file of more bytes than ``limit``.

    Raises:
        OSError: the file is not there.
        ValueError: it is refused.
    """
    status = path.stat()
    if kind := other_kind(status):
        raise ValueError(f"it is {kind}, and a regular file is expected")
    if limit is not None and status.st_size > limit:
        raise ValueError(f"it has {status.st_size:,} bytes, and at most {limit:,} are read")


def read_text(path: Path, *, limit: int = MAX_BYTES) -> str:
    """The text of a regular file in UTF-8, without a mark of byte order.

    Raises:
        OSError: the file is not there or may not be read.
        ValueError: it is no regular file, is too large, or is not UTF-8.
    """
    return read_bytes(path, limit=limit).decode("utf-8-sig")


def read_bytes(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: the file is not there or may not be read.
        ValueError: it is no regular file, or is too large.
    """
    require_regular(path, limit)
    # A pipe that took the file's place meanwhile does not block.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        return file.read(limit + 1)


def parse_json(text: str | bytes) -> Any:
    """The values of a JSON text.

    Raises:
        ValueError: it is no JSON, is nested too deeply, has a number of thousands of digits, or a name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a name that stands twice, readers disagree which value counts."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1):.80}' stands twice in it")
    return values


def parse_yaml(text: str) -> Any:
    """The values of a YAML text; aliases are refused, which a few lines can multiply to any size.

    Raises:
        yaml.YAMLError: it is no YAML, is too long or nested too deeply, has an alias, a name twice or a value that none
            can have.
    """
    if len(text) > MAX_YAML_BYTES:
        raise yaml.YAMLError(f"it has {len(text):,} characters, and at most {MAX_YAML_BYTES:,} are read")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("its values are nested too deeply") from None
    except (ValueError, OverflowError) as error:
        # Numbers of thousands of digits, days that no month has.
        raise yaml.YAMLError(str(error)) from error


class _Loader(yaml.SafeLoader):
    """Safe, without aliases, and no deeper than ``MAX_DEPTH``."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases ('*name') are not read: write the value out")
        if self.depth == MAX_DEPTH:
            raise yaml.YAMLError("its values are nested too deeply")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            _refuse_repeats(node)
        return node


def _refuse_repeats(node: yaml.MappingNode) -> None:
    """Of a name that stands twice, YAML takes the last value without a word."""
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.YAMLError(f"'{key.value:.80}' stands twice in it, in line {key.start_mark.line + 1}")
            seen.add(key.value)
