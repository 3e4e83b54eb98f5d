"""``hounsfield label``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.inference import BadImage
    from hounsfield.reading.known import KnownFiles
    from hounsfield.reading.ranking import Choice

COLUMNS = ("rank", "image", "value", "doubt", "disagreement", "ood_score", "blind")


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    pool: Annotated[list[str], typer.Argument(metavar="POOL...", help="Images without labels, or folders of them.")],
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images to choose.")] = 100,
    blind_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of them, drawn at random, to be read without the model's answer.")
    ] = 0.1,
    labelled: Annotated[
        list[Path] | None,
        typer.Option(help="Images that have labels already, and are left out as those of the run are; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random draw.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the list here, as .csv.")] = None,
    engine: Annotated[str, typer.Option(help=ENGINE_HELP)] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Say which images to label next: what the model doubts, each unlike the others, and some at random."""
    from hounsfield.cli.backend import announce_engine
    from hounsfield.inference import open_predictor
    from hounsfield.reading.pool import candidate_of
    from hounsfield.reading.ranking import ranked

    if output is not None and output.suffix != ".csv":
        raise UsageError(f"The list is written as a table: expected a file with the suffix .csv, and not '{output}'.")
    announce_engine(engine)
    predictor = open_predictor(run, engine)
    bad: list[BadImage] = []
    known, known_images = _known(run, labelled or ()), 0
    candidates = []
    with progress_bars() as bars:
        for prediction in good_results(predictor.stream(pool, progress=bars), bad):
            if known.has_image(prediction.image):
                known_images += 1
            else:
                candidates.append(candidate_of(predictor, prediction))
    choices = ranked(candidates, count=count, random_share=blind_share, seed=seed)
    rows = [_row(number, choice) for number, choice in enumerate(choices, start=1)]
    if as_json:
        print_json({"images": rows, "pool": len(candidates), "known": known_images, "bad": reasons(bad)})
    elif output is None:
        typer.echo("\n".join(f"{row['rank']}\t{row['image']}" + ("\tblind" if row["blind"] else "") for row in rows))
    if output is not None:
        _write(output, rows)
        say(f"{len(rows):,} of {len(candidates):,} images in {output}")
    if known_images:
        say(f"Left out, since they are images of the run or labelled already: {known_images:,}")
    if not candidates and not bad:
        say("Nothing is left to label.")
    conclude(len(candidates), bad, None)


def _known(run: Path, labelled: Sequence[Path]) -> KnownFiles:
    from hounsfield.reading.known import KnownFiles, files_below
    from hounsfield.testing.cohort import places_of_run

    absent = [str(path) for path in labelled if not path.exists()]
    if absent:
        raise UsageError(f"--labelled {absent[0]} is not there: expected a file or a folder of images.")
    places = [*places_of_run(run), *labelled]
    return KnownFiles(file for place in places for file in files_below(place))


def _row(rank: int, choice: Choice) -> dict[str, object]:
    found = choice.candidate
    numbers = {
        "value": found.value,
        "doubt": found.doubt,
        "disagreement": found.disagreement,
        "ood_score": found.ood_score,
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in numbers.items()}
    return {"rank": rank, "image": found.image, **rounded, "blind": choice.is_random}


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    from hounsfield.atomic import replacing

    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
