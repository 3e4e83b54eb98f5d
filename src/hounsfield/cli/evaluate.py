"""``hounsfield evaluate``: metrics with intervals of a run, or of anyone's table of predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from hounsfield.cli.backend import announce_backend
from hounsfield.cli.console import check_folder, out, print_json, say
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.evaluation.assessment import Assessment
    from hounsfield.evaluation.bias_report import BiasReport
    from hounsfield.evaluation.classification import Estimate
    from hounsfield.evaluation.masking_effect import MaskingEffect


# Of the intervals that a run keeps.
CONFIDENCE = 0.95


def command(  # noqa: PLR0917 - Typer takes every option as a parameter
    target: Annotated[
        Path, typer.Argument(metavar="RUN_OR_PREDICTIONS", help="A run folder, or a table of predictions.")
    ],
    data: Annotated[str | None, typer.Argument(help="Other data to test a run on; by default its test split.")] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json and the figures.")] = None,
    threshold: Annotated[float | None, typer.Option(help="A probability above it is a yes.", min=0, max=1)] = None,
    task: Annotated[str | None, typer.Option(help="Of a table: binary, multi-class or multi-label.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Of a table of findings with boxes: the true boxes, a table or a COCO JSON.")
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="Of detection, what hits an object: iou, or centre (LUNA16's).", show_default="iou"),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(help="Of detection: IoU that hits an object.", min=0.01, max=0.99, show_default="0.5"),
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 2000,
    confidence: Annotated[
        float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)
    ] = CONFIDENCE,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
    interventions: Annotated[
        bool,
        typer.Option(help="Of a run: test too whether masking corners or border, or other exposure, changes answers."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the machine-readable form.")] = False,
) -> None:
    """Measure a run on its test split or on other data, or evaluate a table of predictions, or of findings with boxes.

    Where the table has columns such as sex, age, site or scanner, the groups that they make are compared.
    """
    _check_output(output)
    hit = (criterion or "iou", overlap or 0.5)
    if truth is not None:
        from hounsfield.cli.detections import evaluate_table
        from hounsfield.testing.findings import TableTest

        _refuse_options_of_runs(target, data, interventions=interventions)
        if task is not None:
            raise UsageError("The option --task is for tables of predictions, and --truth for findings with boxes.")
        test = TableTest(threshold, *hit, replicates, seed, confidence)
        evaluate_table(target, truth, test, output=output, as_json=as_json)
        return
    options: dict[str, Any] = {"num_replicates": replicates, "confidence": confidence, "seed": seed}
    if target.is_dir() and _is_detector(target):
        from hounsfield.cli.detections import evaluate_detection_run
        from hounsfield.testing.findings import TableTest

        if task is not None or interventions:
            raise UsageError("The options --task and --interventions are for classifiers, and this run is a detector.")
        test = TableTest(threshold, *hit, replicates, seed, confidence)
        evaluate_detection_run(target, data, test, output=output, as_json=as_json)
        return
    _refuse_options_of_detection(criterion, overlap)
    if target.is_dir():
        assessment, removals = _test_run(target, data, task, threshold, options, interventions=interventions)
    else:
        _refuse_options_of_runs(target, data, interventions=interventions)
        assessment, removals = _assess_table(target, task, threshold, options), ()
    for note in assessment.notes:
        say(note)
    from hounsfield.evaluation.bias_report import report_bias

    bias = report_bias(assessment, removals=removals, seed=seed, confidence=confidence)
    if as_json:
        print_json({**assessment.to_dict(), **({"bias": bias.to_dict()} if bias.says_anything else {})})
    else:
        _report(assessment, confidence)
        _report_bias(bias)
    if target.is_dir() and data is None:
        _keep_bias(bias, target, as_planned=threshold is None and confidence == CONFIDENCE)
    if output is not None:
        _write(assessment, bias, output)


def _check_output(output: Path | None) -> None:
    check_folder(output)
    if output is not None and (output / "plan.yaml").is_file():
        raise UsageError(
            f"{output} is a run, whose own metrics.json would be lost. Name another folder with --out; without it the "
            "figures are printed."
        )


def _is_detector(run: Path) -> bool:
    from hounsfield.bundle import Bundle

    return Bundle.load(run).task == "detection"


def _test_run(
    run: Path,
    data: str | None,
    task: str | None,
    threshold: float | None,
    options: dict[str, Any],
    *,
    interventions: bool,
) -> tuple[Assessment, tuple[MaskingEffect, ...]]:
    if task is not None:
        raise UsageError("The option --task is for tables of predictions; a run knows its task. Leave it out.")
    announce_backend()
    from hounsfield.testing import evaluate_run

    assessment = evaluate_run(run, data, threshold=threshold, **options).assessment
    return assessment, _remove_shortcuts(run, data, threshold, options["confidence"]) if interventions else ()


def _refuse_options_of_runs(table: Path, data: str | None, *, interventions: bool) -> None:
    if interventions:
        raise UsageError("The option --interventions needs a network: it is for runs. Leave it out.")
    if data is not None:
        raise UsageError(f"{table} is no run folder, so it cannot be tested on {data}. Give a run, or the table alone.")


def _refuse_options_of_detection(criterion: str | None, overlap: float | None) -> None:
    if criterion is not None or overlap is not None:
        raise UsageError(
            "The options --criterion and --overlap are for detection: for a detector's run, or findings with --truth. "
            "Leave them out."
        )


def _remove_shortcuts(
    run: Path, data: str | None, threshold: float | None, confidence: float
) -> tuple[MaskingEffect, ...]:
    from hounsfield.cli.console import progress_bars
    from hounsfield.testing.interventions import mask_shortcuts

    with progress_bars() as progress:
        return mask_shortcuts(run, data, threshold=threshold, confidence=confidence, progress=progress)


def _assess_table(path: Path, task: str | None, threshold: float | None, options: dict[str, Any]) -> Assessment:
    from hounsfield.evaluation.assessment import assess
    from hounsfield.evaluation.predictions import UNCERTAINTY_COLUMNS, read_predictions
    from hounsfield.tasks import LabelTask, refuse_threshold

    known = {name: name for name in get_args(LabelTask)}
    if task is not None and task not in known:
        raise UsageError(f"The task '{task}' is not known; expected {', '.join(known)}.")
    read = read_predictions(path, task=known[task] if task else None, threshold=threshold)
    refuse_threshold(read.answers.task, threshold)
    notes = read.notes
    said = [column for column in UNCERTAINTY_COLUMNS if column in read.table.columns]
    if said:
        notes = (*notes, f"Prediction outputs, not used as patient attributes: {', '.join(said)}.")
    assessment = assess(read.answers, threshold=read.threshold, groups=read.groups, notes=notes, **options)
    return replace(assessment, table=read.table.drop(columns=said))


def _report(assessment: Assessment, confidence: float) -> None:
    from rich.table import Table

    from hounsfield.evaluation.metrics import METRICS

    table = Table("", "value", f"{confidence:.0%} interval", "n", "")
    for name, estimate in assessment.estimates.items():
        title = METRICS[name].title if name in METRICS else name
        table.add_row(title, _value(estimate), _interval(estimate) or "–", f"{estimate.n:,}", estimate.note)
    out.print(table)


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" if math.isfinite(estimate.value) else "undefined"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.3f} to {estimate.high:.3f}" if math.isfinite(estimate.low) else ""


def _short(estimate: Estimate) -> str:
    ends = f" ({estimate.low:.2f}–{estimate.high:.2f})" if math.isfinite(estimate.low) else ""
    return f"{_value(estimate)}{ends}"


def _report_bias(bias: BiasReport) -> None:
    """The figures of each group that one attribute makes, and what was found; nothing where there is no attribute."""
    audit = bias.audit
    if audit.attributes and "auc" in audit.overall.figures:
        from rich.table import Table

        table = Table("group", "patients", "AUC", "sensitivity", "specificity", title="Subgroups", title_justify="left")
        for group in (audit.overall, *(each for each in audit.groups if len(each.parts) == 1)):
            cells = [group.figures[name] for name in ("auc", "sensitivity", "specificity")]
            told = [_short(cell) if not cell.note else "too small" for cell in cells]
            table.add_row(group.group, f"{group.patients:,}", *told)
        out.print(table)
    if bias.says_anything:
        for line in bias.lines():
            out.print(line)


def _write(assessment: Assessment, bias: BiasReport, folder: Path) -> None:
    from hounsfield.reports.assessment import write_assessment

    for path in write_assessment(assessment, folder):
        say(f"wrote {path}")
    _write_bias(bias, folder, folder)


def _keep_bias(bias: BiasReport, run: Path, *, as_planned: bool) -> None:
    """Let the run keep its groups, which its report shows beside figures of its own threshold with 95 % intervals."""
    if as_planned:
        _write_bias(bias, run, run / "figures")
    else:
        say("The run's own groups stay as they are: at its own threshold, with 95 % intervals.")


def _write_bias(bias: BiasReport, folder: Path, figures: Path) -> None:
    if bias.says_anything:
        from hounsfield.reports.subgroups import write_bias

        for path in write_bias(bias, folder, figures):
            say(f"wrote {path}")
