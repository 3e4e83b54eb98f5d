"""``hounsfield train``: from DATA to a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import with_request
from hounsfield.cli.plan_options import AdaptOption, EffortOption, LicenceOption, MinutesOption, WeightsOption
from hounsfield.cli.workers import RayAddress, crew_for_calls

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest

Data = Annotated[str | None, typer.Argument(help="DATA to train on; not needed with --resume.")]


@with_request(leaks=True, data=Data)
def command(
    *,
    request: DataRequest | None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="A plan made by 'hounsfield plan' and perhaps edited.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Network instead of the planner's choice, e.g. resnet34, simple_cnn, efficientnetv2b0."
        ),
    ] = None,
    effort: EffortOption = None,
    minutes: MinutesOption = None,
    weights: WeightsOption = None,
    adapt: AdaptOption = None,
    accept_licence: LicenceOption = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Random seed of the split and the training; by default the plan's, or 0.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run folder; by default runs/NAME-DATE.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Continue a run that was stopped.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field of the plan, as FIELD=VALUE; repeatable.")
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="KIND:WHERE",
            help="Log settings and figures to mlflow:URI or wandb:PROJECT too; repeatable.",
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@ALIAS]", help="With --track mlflow:URI, make the bundle a version of this registered model."
        ),
    ] = None,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="Leave the test images alone, until `hounsfield evaluate RUN --open-seal` opens them once."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Train by so many processes: a single network together, the networks of an ensemble side by side.",
        ),
    ] = None,
    ray: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Train a network on DATA; evaluate, bundle and diagnose it."""
    import time

    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import print_json, progress_bars, say
    from hounsfield.cli.summary import print_run
    from hounsfield.errors import UsageError

    if (request is None) == (resume is None) and (request is None or request.data):
        raise UsageError("Give either DATA to train on, or --resume RUN to continue a run.")
    if plan is not None and (model is not None or effort is not None or weights or adapt or accept_licence):
        raise UsageError(
            "A plan has its own network, weights and effort: give --plan, or --model, --weights and --effort; single "
            "fields change with --set."
        )
    # A seed of 0 is given too.
    others = (out, plan, model, change or None, seed, effort, minutes, request, track or None, register, seal or None)
    started_from = (weights, adapt, accept_licence or None)
    if resume is not None and any(other is not None for other in (*others, *started_from)):
        raise UsageError(
            "A run that is resumed keeps its data, plan, seed, folder and trackers: give --resume RUN alone."
        )
    # Importing the backend is a part of the time that the user waits.
    started = time.monotonic()
    announce_backend()
    from hounsfield import training
    from hounsfield.planning import Start
    from hounsfield.plans.loading import load_plan

    crew = crew_for_calls(workers, ray)
    folder = resume or out or new_folder("", request.data if request else "")
    with progress_bars() as progress, resumable(folder, "train"):
        if resume is not None or request is None:
            run = training.resume(folder, progress=progress, crew=crew)
        else:
            loaded = load_plan(plan) if plan is not None else None
            say(f"Run folder: {folder}")
            run = training.train(
                request,
                folder,
                plan=loaded,
                effort=effort,
                minutes=minutes,
                network=model,
                seed=seed,
                changes=change or (),
                seal=seal,
                started=started,
                start=Start(weights, adapt, accept_licence),
                track=track or (),
                register=register,
                progress=progress,
                crew=crew,
            )
    if as_json:
        print_json(run.metrics)
    else:
        print_run(run)


@contextmanager
def resumable(folder: Path, command: str) -> Iterator[None]:
    """Say how a run that was interrupted, or for which disk or memory ran out, is continued.

    Args:
        folder: of the run.
        command: that writes it.
    """
    from hounsfield.errors import ResourceError, RunError

    def begun() -> bool:
        return (folder / "environment.json").is_file()

    again = f"hounsfield {command} --resume {folder}"
    try:
        yield
    except KeyboardInterrupt as interrupt:
        rest = f"Continue with: {again}" if begun() else "Nothing was written."
        raise RunError(f"Interrupted before the run was complete. {rest}") from interrupt
    except BrokenPipeError:
        raise
    except Exception as error:
        missing = _missing(error)
        if not missing or not begun():
            raise
        raise ResourceError(
            f"{missing}, then continue with: {again}. The run is not complete; what was trained is kept in it."
        ) from error


def _missing(error: Exception) -> str | None:
    """What the machine was short of, and what to do."""
    from hounsfield.hardware import out_of_files

    if found := out_of_files(error):
        return found
    if isinstance(error, MemoryError):
        return "The memory of this machine is too small. Close other programs or provide more memory"
    if isinstance(error, OSError):
        return f"The operating system refused: {error}. Free space or change the permissions"
    return None


def new_folder(prefix: str, data: str) -> Path:
    """Where a run goes that was given no folder: ``runs/``, then the prefix, the name of the data and the time."""
    import re
    import time

    name = re.sub(r"[^A-Za-z0-9]+", "-", Path(data.partition(",")[0]).stem or data).strip("-") or "run"
    return Path("runs") / f"{prefix}{name}-{time.strftime('%Y%m%d-%H%M%S')}"
