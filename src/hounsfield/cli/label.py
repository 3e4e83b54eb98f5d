"""``hounsfield label``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.console import print_json, progress_bars, say
from hounsfield.cli.results import ENGINE_HELP, conclude, good_results, reasons
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.inference import BadImage
    from hounsfield.reading.ranking import Choice

COLUMNS = ("rank", "image", "value", "doubt", "disagreement", "ood_score", "blind")


def command(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or of a bundle.")],
    pool: Annotated[list[str], typer.Argument(metavar="POOL...", help="Images without labels, or folders of them.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many images to choose.")] = 100,
    blind_share: Annotated[
        float, typer.Option(min=0, max=1, help="Of them, drawn at random, to be read without the model's answer.")
    ] = 0.1,
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
    with progress_bars() as bars:
        good = good_results(predictor.stream(pool, progress=bars), bad)
        candidates = [candidate_of(predictor, prediction) for prediction in good]
    choices = ranked(candidates, count=count, random_share=blind_share, seed=seed)
    rows = [_row(number, choice) for number, choice in enumerate(choices, start=1)]
    if as_json:
        print_json({"images": rows, "pool": len(candidates), "bad": reasons(bad)})
    elif output is None:
        typer.echo("\n".join(f"{row['rank']}\t{row['image']}" + ("\tblind" if row["blind"] else "") for row in rows))
    if output is not None:
        _write(output, rows)
        say(f"{len(rows):,} of {len(candidates):,} images in {output}")
    if not candidates and not bad:
        say("Nothing is left to label: the pool has no image.")
    conclude(len(candidates), bad, None)


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
