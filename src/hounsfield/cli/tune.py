"""``hounsfield tune``: better values for the fields of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hounsfield.cli.data_options import with_request
from hounsfield.cli.workers import RayAddress, crew_for_calls

if TYPE_CHECKING:
    from hounsfield.cohorts.request import DataRequest
    from hounsfield.tuning import Outcome


@with_request(leaks=True)
def command(
    *,
    request: DataRequest,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Write the plan here; its trials and a picture go beside it.")
    ] = Path("tuned.yaml"),
    trials: Annotated[int, typer.Option(min=2, help="Settings to try at most; the first is the planner's plan.")] = 20,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.5, help="Begin no training that would end later than this.", show_default=False),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Folds of patients that judge each setting.")] = 3,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Search around this plan instead of the planner's.")
    ] = None,
    effort: Annotated[
        Literal["quick", "standard", "thorough"] | None,
        typer.Option(help="Of the planner's plan, which each trial trains. [default: quick]", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Network instead of the planner's choice.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Random seed of split, trainings and search; by default the plan's, or 0."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", min=1, help="Train folds and trials in so many processes, on a cluster so many trials."
        ),
    ] = None,
    ray: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Search around the planner's plan for better values of its fields, judged on folds without the test images.

    Train the result with: hounsfield train DATA --plan tuned.yaml
    """
    from hounsfield.cli.backend import announce_backend
    from hounsfield.cli.console import check_folder, out, print_json, progress_bars, say
    from hounsfield.errors import UsageError, require

    if output.suffix not in (".yaml", ".yml") or output.is_dir():
        raise UsageError(f"The output '{output}' is no file for a plan. Name one that ends in .yaml.")
    check_folder(output.parent)
    if plan is not None and (model is not None or effort is not None):
        raise UsageError("A plan has its own network and effort: give --plan, or --model and --effort.")
    require("optuna", "tuning a plan")
    announce_backend()
    from hounsfield.planning import check_network
    from hounsfield.plans.loading import load_plan
    from hounsfield.tuning import Cluster, Wishes, tune

    check_network(model)
    start = load_plan(plan) if plan is not None else None
    wishes = Wishes(trials, minutes, folds, effort or "quick", model, seed, start)
    cluster = Cluster(ray, workers) if ray is not None else None
    if cluster is not None:
        say(f"Trials run by Ray Tune on the Ray cluster at {ray}.")
    with progress_bars() as progress:
        tuned, outcome = tune(request, wishes, progress=progress, crew=crew_for_calls(workers, ray), cluster=cluster)
    tuned.save(output)
    written = [output, *_write(outcome, output)]
    if as_json:
        print_json(outcome.to_dict())
    else:
        for line in outcome.lines():
            out.print(line)
    for path in written:
        say(f"wrote {path}")


def _write(outcome: Outcome, output: Path) -> list[Path]:
    """The trials and the picture."""
    from hounsfield.atomic import write_json
    from hounsfield.reports.figures import save_figure
    from hounsfield.reports.tuning import tuning_figure

    table, picture = output.with_suffix(".json"), output.with_suffix(".png")
    write_json(table, outcome.to_dict())
    best = outcome.best.score
    flattered = (outcome.shown(best), outcome.shown(best + outcome.optimism))
    save_figure(tuning_figure(outcome.points(), flattered, outcome.importance, outcome.figure), picture)
    return [table, picture]
