"""``hounsfield predict``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.inference import BadImage, Prediction, Predictor


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
    overlay: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a detector: draw the boxes of each image into this folder.")
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a detector: objects of each label in each image: .csv or .parquet."),
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print predictions (with -o their number), bad images and engine as JSON."),
    ] = False,
) -> None:
    """Predict images, folders of images or arrays; a table on standard output, or in a file.

    A detector gives a row a finding, with its box in pixels of the image as read; a .json is then COCO's.
    """
    from hounsfield.bundle import Bundle
    from hounsfield.cli.backend import announce_engine
    from hounsfield.inference import Predictor
    from hounsfield.inference.tables import check_table_path

    _check_shares({"--sets": sets, "--abstain": abstain})
    if output is not None:
        check_table_path(output)
    bundle = Bundle.load(run)
    announce_engine(engine)
    if bundle.task == "detection":
        from hounsfield.cli.detect import DetectionOutputs, detect

        _refuse(run, "a detector", {"--sets": sets, "--by-class": by_class or None, "--abstain": abstain})
        detect(bundle, inputs, DetectionOutputs(output, overlay, counts, as_json), threshold=threshold, engine=engine)
        return
    _refuse(run, "a classifier", {"--overlay": overlay, "--counts": counts})
    if by_class and sets is None:
        raise UsageError("The option --by-class says how the coverage of --sets shall hold. Give --sets COVERAGE too.")
    predictor = Predictor(bundle, engine, threshold=threshold, coverage=sets, by_class=by_class, max_risk=abstain)
    say(f"Engine: {predictor.engine.description}")
    bad: list[BadImage] = []
    if output is None:
        good = _print(predictor, good_results(predictor.stream(inputs), bad), bad, as_json=as_json)
    else:
        with progress_bars() as bars:
            good = _write(predictor, good_results(predictor.stream(inputs, progress=bars), bad), output)
        if as_json:
            print_json(
                {"engine": predictor.engine.description, "count": good, "file": str(output), "bad": reasons(bad)}
            )
    conclude(good, bad, output)


def _check_shares(options: Mapping[str, float | None]) -> None:
    """Refuse the ends of the range, at which nothing could be promised."""
    for name, share in options.items():
        if share is not None and not 0 < share < 1:
            raise UsageError(
                f"The option {name} is {share:g}, and a share strictly between 0 and 1 is expected. Give one, such as "
                "--sets 0.9 or --abstain 0.05."
            )


def _refuse(run: Path, kind: str, options: Mapping[str, object]) -> None:
    """Refuse options that the kind of network at hand cannot heed."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{run} is {kind}, for which there is no {' and no '.join(given)}: leave it out.")


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
