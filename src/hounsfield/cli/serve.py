"""``hounsfield serve``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hounsfield.cli.console import print_json, say
from hounsfield.errors import UsageError


def command(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Folders of runs or bundles.")] = None,
    *,
    config: Annotated[Path | None, typer.Option(help="Settings: serve.yaml, see docs/serving.md.")] = None,
    folder: Annotated[Path | None, typer.Option(help="For records and files; 'service' where none is given.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Show what waits and what was laid aside, and end.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Let everything that was laid aside be tried again, and end.")
    ] = False,
    swap: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=RUN",
            help="Let the running service serve another run under this name, once compared; NAME alone goes back.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Swap although the run is worse on the same test images, or cannot be compared."),
    ] = False,
    add_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a token for --role, print it this once, and end.")
    ] = None,
    remove_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let a token count no longer, and end.")
    ] = None,
    role: Annotated[str, typer.Option(help="Of --add-token: reader, annotator or admin.")] = "reader",
    days: Annotated[float, typer.Option(min=0, help="For which the token of --add-token counts.")] = 365,
    as_json: Annotated[bool, typer.Option("--json", help="Print --status as JSON.")] = False,
) -> None:
    """Serve models: a PACS sends studies by DICOM and gets results back, programs ask over HTTP."""
    if force and not swap:
        raise UsageError(
            "--force says that a model is swapped whatever the comparison says, and nothing is swapped here."
        )
    place = folder or _folder(config)
    if status:
        _status(place, as_json)
    elif retry:
        _retry(place)
    elif swap:
        _swap(place, swap, force=force)
    elif add_token:
        _add_token(place, add_token, role, days)
    elif remove_token:
        _remove_token(place, remove_token)
    else:
        _serve(runs, config, folder)


def _folder(config: Path | None) -> Path:
    from hounsfield.serving.settings import ServeSettings, load_settings

    if config is None:
        return Path(ServeSettings.model_fields["folder"].default)
    return load_settings(config, {}).folder


def _serve(runs: list[Path] | None, config: Path | None, folder: Path | None) -> None:
    from hounsfield.serving.settings import load_settings
    from hounsfield.serving.supervisor import Supervisor

    overrides: dict[str, Any] = {"folder": folder} if folder is not None else {}
    if runs:
        overrides["models"] = _models(runs)
    elif config is None:
        raise UsageError("Nothing to serve: expected at least one RUN, or --config with models.")
    Supervisor(load_settings(config, overrides), say).run()


def _models(runs: list[Path]) -> list[dict[str, Any]]:
    """A model for each folder, named after it."""
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Two of the runs have one name ({', '.join(names)}). Rename a folder, or name the models in --config."
        )
    return [{"name": name, "run": run} for name, run in zip(names, runs, strict=True)]


def _status(folder: Path, as_json: bool) -> None:
    from hounsfield.serving.terminal import read_overview

    overview = read_overview(folder)
    if as_json:
        print_json(overview)
        return
    for kind, states in overview["counts"].items():
        say(f"{kind}: " + (", ".join(f"{count:,} {state}" for state, count in states.items()) or "none"))
    for row in overview["laid_aside"]:
        say(f"{row['kind']} {row['id']} ({row['state']}, attempt {row['attempt']}): {row['reason']}")


def _retry(folder: Path) -> None:
    from hounsfield.serving.terminal import release_laid_aside

    say(f"{release_laid_aside(folder):,} are tried again.")


def _swap(folder: Path, swap: str, *, force: bool) -> None:
    from hounsfield.serving.control import find_control

    control = find_control(folder)
    if control is None:
        raise UsageError(f"No service runs in {folder}. Start it, or give its --folder.")
    name, _, run = swap.partition("=")
    found = control("swap", name, str(Path(run).resolve()) if run else None, force)
    if found["comparison"]:
        say(found["comparison"])
    say(f"{name} is served by the bundle {found['bundle'][:12]} from now on.")


def _add_token(folder: Path, name: str, role: str, days: float) -> None:
    from hounsfield.serving.tokens import Tokens

    typer.echo(Tokens(folder, alone=False).add(name, role, time.time(), days=days))


def _remove_token(folder: Path, name: str) -> None:
    from hounsfield.serving.tokens import Tokens

    Tokens(folder, alone=False).remove(name)
    say(f"The token '{name}' counts no longer.")
