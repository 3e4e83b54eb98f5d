"""``hounsfield predict``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.errors import ImageError, UsageError
from hounsfield.progress import Progress, silent

if TYPE_CHECKING:
    from hounsfield.inference import BadImage, Prediction, Predictor

ENGINE_HELP = "auto (the first installed of those that follow), openvino, onnxruntime or keras."


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders of images, or .npy arrays.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the table here: .csv, .parquet or .json.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead of the bundle's own; binary and multi-label.")
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="COVERAGE", help="Add sets of labels that hold the true one this often, such as 0.9."
        ),
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Let the coverage of --sets hold within each true label.")
    ] = False,
    abstain: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="RISK", help="Answer only where at most this share of answers is wrong, such as 0.05."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print predictions, bad images and engine as JSON.")] = False,
) -> None:
    """Predict images, folders of images or arrays; a table on standard output, or in a file."""
    from hounsfield.inference import Predictor
    from hounsfield.inference.tables import check_table_path

    if output is not None:
        check_table_path(output)
    if by_class and sets is None:
        raise UsageError("The option --by-class says how the coverage of --sets shall hold. Give --sets COVERAGE too.")
    predictor = Predictor(run, engine, threshold=threshold, coverage=sets, by_class=by_class, max_risk=abstain)
    if threshold is not None and predictor.bundle.task == "multi-class":
        raise UsageError("A multi-class network has no threshold: its prediction is the most probable label.")
    say(f"Engine: {predictor.engine.description}")
    bad: list[BadImage] = []
    if output is None:
        good = _print(predictor, good_predictions(predictor, inputs, bad, silent), bad, as_json=as_json)
    else:
        with progress_bars() as bars:
            good = _write(predictor, good_predictions(predictor, inputs, bad, bars), output)
        if as_json:
            print_json(
                {"engine": predictor.engine.description, "count": good, "file": str(output), "bad": reasons(bad)}
            )
    conclude(good, bad, output)


def good_predictions(
    predictor: Predictor, inputs: list[str], bad: list[BadImage], progress: Progress
) -> Iterator[Prediction]:
    """The predictions; bad images are told on standard error and put into ``bad``.

    The first prediction is made at once: where every image is bad, no file is made or replaced.

    Raises:
        ImageError: there is no good image.
    """
    stream = _sorted_out(predictor, inputs, bad, progress)
    first = list(itertools.islice(stream, 1))
    if not first:
        conclude(0, bad, None)
    return itertools.chain(first, stream)


def _sorted_out(
    predictor: Predictor, inputs: list[str], bad: list[BadImage], progress: Progress
) -> Iterator[Prediction]:
    from hounsfield.inference import Prediction

    for result in predictor.stream(inputs, progress=progress):
        if isinstance(result, Prediction):
            yield result
        else:
            say(f"Bad image: {result}")
            bad.append(result)


def _print(predictor: Predictor, stream: Iterator[Prediction], bad: list[BadImage], *, as_json: bool) -> int:
    from hounsfield.inference.tables import prediction_columns, prediction_row, write_csv

    if not as_json:
        columns = prediction_columns(predictor.bundle.labels, predictor.judge.columns)
        return write_csv(sys.stdout, columns, map(prediction_row, stream))
    rows = [prediction_row(prediction) for prediction in stream]
    print_json({"engine": predictor.engine.description, "count": len(rows), "predictions": rows, "bad": reasons(bad)})
    return len(rows)


def _write(predictor: Predictor, stream: Iterator[Prediction], output: Path) -> int:
    from hounsfield.inference.tables import prediction_columns, prediction_row, write_table

    columns = prediction_columns(predictor.bundle.labels, predictor.judge.columns)
    return write_table(output, columns, map(prediction_row, stream))


def reasons(bad: list[BadImage]) -> list[dict[str, str]]:
    """The bad images for machines."""
    return [{"image": image.image, "reason": image.reason} for image in bad]


def conclude(good: int, bad: list[BadImage], output: Path | None) -> None:
    """Say what was done, and fail where an image could not be predicted.

    Raises:
        ImageError: there was a bad image.
    """
    if output is not None:
        say(f"{good:,} images in {output}")
    if bad:
        names = ", ".join(image.image for image in bad[:5]) + (", …" if len(bad) > 5 else "")
        raise ImageError(
            f"{len(bad)} of {good + len(bad)} images could not be used: {names}. The reasons stand above; the others "
            "are done. Repair these or leave them out."
        )
