"""``hounsfield serve``."""

from __future__ import annotations

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
    as_json: Annotated[bool, typer.Option("--json", help="Print --status as JSON.")] = False,
) -> None:
    """Serve models: a PACS sends studies by DICOM and gets results back, programs ask over HTTP."""
    from hounsfield.serving.settings import load_settings

    overrides: dict[str, Any] = {"folder": folder} if folder is not None else {}
    if runs:
        overrides["models"] = _models(runs)
    if (status or retry) and not runs and config is None:
        overrides["models"] = [{"name": "any", "run": "."}]
    settings = load_settings(config, overrides)
    if status:
        _status(settings.folder, as_json)
    elif retry:
        _retry(settings.folder)
    else:
        from hounsfield.serving.supervisor import Supervisor

        Supervisor(settings, say).run()


def _models(runs: list[Path]) -> list[dict[str, Any]]:
    """A model for each folder, named after it."""
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Two of the runs have one name ({', '.join(names)}). Rename a folder, or name the models in --config."
        )
    return [{"name": name, "run": run} for name, run in zip(names, runs, strict=True)]


def _status(folder: Path, as_json: bool) -> None:
    from hounsfield.serving.overview import read_overview

    overview = read_overview(folder)
    if as_json:
        print_json(overview)
        return
    for kind, states in overview["counts"].items():
        say(f"{kind}: " + (", ".join(f"{count:,} {state}" for state, count in states.items()) or "none"))
    for row in overview["laid_aside"]:
        say(f"{row['kind']} {row['id']} ({row['state']}, attempt {row['attempt']}): {row['reason']}")


def _retry(folder: Path) -> None:
    from hounsfield.serving.overview import release_laid_aside

    say(f"{release_laid_aside(folder):,} are tried again.")
