"""What commands share in printing their results: good images, bad images, and what was found of a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hounsfield.cli.console import print_json, say
from hounsfield.errors import ImageError

if TYPE_CHECKING:
    from hounsfield.inference import BadImage

Result = TypeVar("Result")

ENGINE_HELP = "openvino, onnxruntime, keras, or auto: the first of these that is installed."


class Outcome(Protocol):
    """What a command found of a run."""

    def lines(self) -> list[str]:
        """In words."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""


def tell(found: Outcome, run: Path, written: Sequence[str], *, as_json: bool) -> None:
    """Print what was found of a run, and name the files in it that were written."""
    from hounsfield.cli.console import out

    if as_json:
        print_json(found.to_dict())
    else:
        for line in found.lines():
            out.print(line)
    for name in written:
        say(f"wrote {run / name}")


def good_results(results: Iterator[Result | BadImage], bad: list[BadImage]) -> Iterator[Result]:
    """The good results of a stream; bad images are printed to standard error and put into ``bad``.

    The first result is made at once: where every image is bad, no file is made or replaced.

    Raises:
        ImageError: there is no good image.
    """
    stream = _sorted_out(results, bad)
    first = list(itertools.islice(stream, 1))
    if not first:
        conclude(0, bad, None)
    return itertools.chain(first, stream)


def _sorted_out(results: Iterator[Result | BadImage], bad: list[BadImage]) -> Iterator[Result]:
    from hounsfield.inference import BadImage

    for result in results:
        if isinstance(result, BadImage):
            say(f"Bad image: {result}")
            bad.append(result)
        else:
            yield result


def reasons(bad: list[BadImage]) -> list[dict[str, str]]:
    """The bad images for machines."""
    return [image.json() for image in bad]


def conclude(good: int, bad: list[BadImage], output: Path | None) -> None:
    """Say what was done, and fail where an image could not be predicted.

    Raises:
        ImageError: there was a bad image.
    """
    if output is not None and good:
        say(f"{good:,} images in {output}")
    if bad:
        names = ", ".join(image.image for image in bad[:5]) + (", …" if len(bad) > 5 else "")
        raise ImageError(
            f"{len(bad)} of {good + len(bad)} images could not be used: {names}. The reasons are printed above, and "
            "the other images are done. Repair these or leave them out."
        )
