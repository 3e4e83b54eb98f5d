"""``hounsfield audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.console import say

app = typer.Typer(help="Look into the audit of a service.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Look into the audit of a service."""


@app.command()
def verify(
    folder: Annotated[Path, typer.Option(help="Of the service.")] = Path("service"),
) -> None:
    """Go through the chain of all accesses, and name the first record that was changed or removed."""
    from hounsfield.serving import audit
    from hounsfield.serving.terminal import open_reader

    say(f"All {audit.verify(open_reader(folder)):,} records of the audit are as they were written.")
