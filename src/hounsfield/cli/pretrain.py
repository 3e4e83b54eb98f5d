"""``hounsfield pretrain``: weights from images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import with_request

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.pretraining import Pretraining

Data = Annotated[
    str | None,
    typer.Argument(help="Images to learn from: DATA in any form, or with --unlabelled a folder. Not with --resume."),
]


@with_request(leaks=True, data=Data)
def command(
    *,
    request: DataRequest | None,
    unlabelled: Annotated[
        bool, typer.Option("--unlabelled", help="Take all images below the folder DATA, and read no labels.")
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", help="A plan of the later training, whose network and preprocessing are taken."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.5, help="Time for the whole pretraining. [default: 20]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split and the pretraining.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder; by default runs/pretrained-NAME-DATE.")
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue a pretraining that was stopped.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field of the plan, as FIELD=VALUE; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Let a network learn from images without labels, as a start for trainings with few of them.

    Then: hounsfield train LABELLED --weights FOLDER
    """
    import dataclasses
    import time

    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import print_json, progress_bars, say
    from hounsfield.cli.train import new_folder, resumable
    from hounsfield.errors import UsageError

    has_data = request is not None and bool(request.data)
    if has_data == (resume is not None):
        raise UsageError("Give either DATA to learn from, or --resume FOLDER to continue a pretraining.")
    others = (out, plan, minutes, seed or None, change or None, unlabelled or None, request)
    if resume is not None and any(other is not None for other in others):
        raise UsageError("A pretraining that is resumed keeps its data and its plan: give --resume FOLDER alone.")
    # Importing the backend is a part of the time that the user waits.
    started = time.monotonic()
    announce_backend()
    from hounsfield import pretraining
    from hounsfield.plans.loading import check_changes, load_plan

    check_changes(change or ())
    folder = resume or out or new_folder("pretrained-", request.data if request else "")
    with progress_bars() as progress, resumable(folder, "pretrain"):
        if resume is not None or request is None:
            done = pretraining.resume(folder, progress=progress)
        else:
            loaded = load_plan(plan) if plan is not None else None
            say(f"Folder: {folder}")
            done = pretraining.pretrain(
                dataclasses.replace(request, unlabelled=unlabelled).with_settings(),
                folder,
                plan=loaded,
                minutes=minutes,
                seed=seed,
                changes=change or (),
                started=started,
                progress=progress,
            )
    for note in done.notes:
        say(f"Note: {note}")
    if as_json:
        print_json(dataclasses.asdict(done) | {"folder": str(done.folder)})
    else:
        _print(done)


def _print(done: Pretraining) -> None:
    from hounsfield.cli.console import out

    patients = f" of {done.patients:,} patients" if done.patients else ""
    out.print(f"{done.method}: {len(done.history)} epochs on {done.images:,} images{patients}")
    shown = {name: value for name, value in done.history[-1].items() if name not in ("epoch", "seconds")}
    out.print("Last epoch: " + ", ".join(f"{name} {value:.3g}" for name, value in shown.items()))
    out.print(f"Weights:  {done.folder}")
    out.print(f"Then:     hounsfield train LABELLED --weights {done.folder}")
