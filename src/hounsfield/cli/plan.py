"""``hounsfield plan``: decide and explain, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hounsfield.cli.data_options import with_request
from hounsfield.cli.plan_options import AdaptOption, EffortOption, LicenceOption, MinutesOption, WeightsOption

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest


@with_request(leaks=True)
def command(
    *,
    request: DataRequest,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan here instead of printing it.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Network instead of the planner's choice.")] = None,
    effort: EffortOption = None,
    minutes: MinutesOption = None,
    weights: WeightsOption = None,
    adapt: AdaptOption = None,
    accept_licence: LicenceOption = "",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the split and the training.")] = 0,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Set a field of the plan, as FIELD=VALUE; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Decide how to train on DATA, and say why; nothing is trained."""
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import check_folder, print_json, progress_bars, say
    from hounsfield.errors import UsageError

    if output is not None and output.is_dir():
        raise UsageError(f"'{output}' is a folder, and a file for the plan is expected. Name one, such as plan.yaml.")
    check_folder(output.parent if output is not None else None)
    announce_backend()
    from hounsfield.planning import Start, check_start
    from hounsfield.plans.loading import check_changes
    from hounsfield.training import prepare

    check_changes(change or ())
    start = Start(weights, adapt, accept_licence)
    check_start(start, model)
    with progress_bars() as progress:
        prepared = prepare(request, seed=seed, progress=progress)
    for note in prepared.cohort.notes:
        say(f"Note: {note}")
    plan = prepared.plan(effort=effort, minutes=minutes, network=model, seed=seed, start=start)
    if change:
        plan = prepared.changed(plan, change)
    if output is not None:
        plan.save(output)
        say(f"Plan: {output}")
    if as_json:
        print_json(plan.model_dump(mode="json"))
    elif output is None:
        typer.echo(plan.to_yaml(), nl=False)
