"""``hounsfield demo``: the main job from end to end on a cohort that the program makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pandas as pd

# Of each so many patients one is held out: nothing of it is seen before the prediction.
HELD_OUT_SHARE = 10
# Predictions that are shown; the file has all.
SHOWN = 8
# Seconds for the whole demo. The steps after the training take this share of the time of the steps before it, which
# also show how slow or busy the machine is: the training gets at least so many times as long, most of which it needs to
# load the backend, compile and evaluate. With less it would end after a first epoch, and the network guess.
SECONDS, AFTER_SHARE, LEAST_SHARE = 84, 0.5, 2.5


def command(
    context: typer.Context,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new or empty folder. [default: runs/demo-DATE]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the images, the split and the training.")] = 0,
    patients: Annotated[int, typer.Option(min=40, help="How many patients to make; fewer are quicker.")] = 500,
) -> None:
    """Make chest radiographs as DICOM files, then inspect, train, evaluate, predict and report.

    It takes about 90 s, on a slow or busy machine longer.
    """
    import time

    from hounsfield.cli.console import say

    started = time.monotonic()
    folder = out or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
    _make(folder, seed, patients)
    run = folder / "run"
    table = folder / "predictions.csv"
    _step(context, "Look the data over", "inspect", folder / "chest", "--no-cost", "-o", folder / "inspection")
    spent = time.monotonic() - started
    options = ("--effort", "quick", "--minutes", f"{_minutes(spent):.2f}", "--seed", seed, "--out", run)
    _step(context, "Train a network in the time that is left", "train", folder / "chest", *options)
    steps = {
        "Evaluate it on its test patients": ("evaluate", run, "-o", run / "evaluation"),
        "Predict the files of patients held out": ("predict", run, folder / "held-out", "-o", table),
        "Report on it": ("report", run),
    }
    for title, arguments in steps.items():
        _step(context, title, *arguments)
    _compare(table, folder / "held-out.csv")
    _say_places(folder)
    say(f"The demo took {time.monotonic() - started:.0f} s.")


def _minutes(spent: float) -> float:
    """For the training, after so many seconds."""
    return max(SECONDS - spent - AFTER_SHARE * spent, LEAST_SHARE * spent) / 60


def _make(folder: Path, seed: int, patients: int) -> None:
    """Write the cohort, then move the last patients' files and rows out of what will be trained on."""
    import pandas as pd

    from hounsfield.cli.console import out, progress_bars
    from hounsfield.errors import UsageError
    from hounsfield.phantoms import make_phantom

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"The demo was to be written to {folder}, but something is there. Name a new or empty folder.")
    _title("Make chest radiographs, half of the patients with an opacity, as DICOM files")
    with progress_bars() as progress:
        table = make_phantom("phantom:chest", folder / "chest", seed=seed, num_patients=patients, progress=progress)
    rows = pd.read_csv(table)
    named = rows["patient"].drop_duplicates()
    held_out = rows["patient"].isin(named.tail(max(1, len(named) // HELD_OUT_SHARE)))
    (folder / "held-out").mkdir()
    for image in rows.loc[held_out, "image"]:
        (table.parent / image).rename(folder / "held-out" / Path(image).name)
    truth = rows[held_out].assign(image=[Path(image).name for image in rows.loc[held_out, "image"]])
    truth.to_csv(folder / "held-out.csv", index=False)
    rows[~held_out].to_csv(table, index=False)
    out.print(f"{(~held_out).sum()} images to learn from: {table.parent}")
    out.print(f"{held_out.sum()} images of other patients, held out: {folder / 'held-out'}")


def _step(context: typer.Context, title: str, *words: object) -> None:
    """Print a title and a command line, and run it as if it had been typed."""
    import shlex

    from hounsfield.cli.console import out

    _title(title)
    arguments = [str(word) for word in words]
    out.print(f"$ hounsfield {shlex.join(arguments)}", style="bold")
    program = context.find_root().command
    program.main(arguments, prog_name="hounsfield", standalone_mode=False)


def _title(text: str) -> None:
    from hounsfield.cli.console import out

    out.print()
    out.rule(text, align="left")


def _compare(predictions: Path, truth: Path) -> None:
    """Show some predictions beside the truth, and count the right ones."""
    import pandas as pd
    from rich.table import Table

    from hounsfield.cli.console import out

    said = pd.read_csv(predictions)
    said = said.assign(file=[Path(image).name for image in said["image"]])
    both = said.merge(pd.read_csv(truth)[["image", "label"]], left_on="file", right_on="image")
    positive = next(column for column in reversed(said.columns) if column.startswith("p_"))
    right = both["prediction"] == both["label"]
    table = Table("file", "truth", "prediction", positive.replace("_", "(") + ")", "")
    for row in _spread(both).index:
        file, label, prediction = both.loc[row, ["file", "label", "prediction"]].astype(str)
        probability = f"{both.loc[row, positive]:.3f}"
        table.add_row(file, label, prediction, probability, "right" if right[row] else "wrong")
    out.print(table)
    out.print(f"{right.sum()} of {len(both)} held-out images are right (all are in {predictions}).")


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Some rows, evenly taken from all."""
    return rows.iloc[:: max(1, len(rows) // SHOWN)].head(SHOWN)


def _say_places(folder: Path) -> None:
    import shlex

    from hounsfield.cli.console import out

    _title("What to look at")
    run = folder / "run"
    places = {
        "The data, as a page": folder / "inspection" / "inspection.html",
        "Pictures of the data": folder / "inspection" / "montage.png",
        "The report": run / "report.html",
        "The model card": run / "MODEL_CARD.md",
        "The run": run,
        "Its plan, with reasons": run / "plan.yaml",
        "Its metrics": run / "metrics.json",
        "Its figures": run / "figures",
        "Pictures with predictions": run / "figures" / "images_test.png",
        "Predictions": folder / "predictions.csv",
    }
    for name, place in places.items():
        out.print(f"{name + ':':<27}{place}")
    out.print()
    out.print(f"Serve it to a PACS and to programs: hounsfield serve {shlex.quote(str(run))}")
