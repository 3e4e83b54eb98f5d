"""``hounsfield ablate``: what did the remedies against overfitting bring?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.workers import RayAddress, crew_for_calls


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Train the variants side by side in so many processes.")
    ] = None,
    ray: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Train a run's plan without each of its remedies against overfitting, and say what each one brings.

    This takes up to five times as long as the run; an ablation that was stopped goes on where it was.
    """
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import progress_bars
    from hounsfield.cli.options import require_family
    from hounsfield.cli.results import tell
    from hounsfield.plans.loading import CLASSIFIERS, load_plan
    from hounsfield.runs.folder import RunFolder

    require_family("ablate", run, load_plan(RunFolder.open(run).plan).family, CLASSIFIERS)
    announce_backend()
    from hounsfield.training.ablation import ablate

    with progress_bars() as progress:
        found = ablate(run, progress=progress, crew=crew_for_calls(workers, ray))
    tell(found, run, ("ablation.json", "figures/ablation.png"), as_json=as_json)
