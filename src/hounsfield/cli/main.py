"""Binds the commands and turns every expected error into one paragraph and an exit status."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated

import typer

from hounsfield.cli.settings import with_settings
from hounsfield.errors import HounsfieldError
from hounsfield.version import __version__

# Command name -> module that holds a function `command` with Typer annotations (or a Typer group `app`).
COMMANDS: dict[str, str] = {
    "demo": "hounsfield.cli.demo",
    "inspect": "hounsfield.cli.inspection",
    "plan": "hounsfield.cli.plan",
    "train": "hounsfield.cli.train",
    "evaluate": "hounsfield.cli.evaluate",
    "robustness": "hounsfield.cli.robustness",
    "forecast": "hounsfield.cli.forecast",
    "ablate": "hounsfield.cli.ablate",
    "predict": "hounsfield.cli.predict",
    "features": "hounsfield.cli.features",
    "explain": "hounsfield.cli.explain",
    "report": "hounsfield.cli.report",
    "export": "hounsfield.cli.export",
    "preprocess": "hounsfield.cli.preprocess",
    "convert": "hounsfield.cli.convert",
    "data": "hounsfield.cli.data",
}

app = typer.Typer(
    name="hounsfield",
    help="From a folder of medical images to a trained, evaluated and explained network.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a folder of medical images to a trained, evaluated and explained network."""


for _name, _module in COMMANDS.items():
    _loaded = importlib.import_module(_module)
    if hasattr(_loaded, "app"):
        app.add_typer(_loaded.app, name=_name)
    else:
        app.command(_name, context_settings=getattr(_loaded, "CONTEXT_SETTINGS", None))(with_settings(_loaded.command))


def main() -> None:
    """Run the command line; the entry point of the ``hounsfield`` script."""
    try:
        app(standalone_mode=True)
    except HounsfieldError as error:
        sys.stderr.write(f"hounsfield: {error}\n")
        sys.exit(error.exit_status)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        sys.stderr.write(
            f"hounsfield: the operating system refused: {error}. Free space, change the permissions or name a place "
            "that exists, then run the command again; nothing that was there has been changed.\n"
        )
        sys.exit(1)
