"""``hounsfield forecast``: would more data help?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Train a run's plan on an eighth, a quarter and half of its patients, and say what more patients would bring.

    This takes one to three times as long as the run; a forecast that was stopped goes on where it was.
    """
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import progress_bars
    from hounsfield.cli.options import require_family
    from hounsfield.cli.results import tell
    from hounsfield.plans.loading import CLASSIFIERS, load_plan
    from hounsfield.runs.folder import RunFolder

    require_family("forecast", run, load_plan(RunFolder.open(run).plan).family, CLASSIFIERS)
    announce_backend()
    from hounsfield.training.forecast import forecast

    with progress_bars() as progress:
        curve = forecast(run, progress=progress)
    tell(curve, run, ("learning_curve.json", "figures/learning_curve.png"), as_json=as_json)
