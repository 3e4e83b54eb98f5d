"""``hounsfield evaluate``: metrics with intervals of a run, or of anyone's table of predictions or findings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.cli.backend import announce_engine
from hounsfield.cli.console import check_folder, out, print_json, progress_bars, say
from hounsfield.cli.data_options import OtherData, require_data, with_request
from hounsfield.cli.options import chosen, flag, plural
from hounsfield.cli.workers import RayAddress, crew_for_calls, delegated
from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hounsfield.cohorts.request import DataRequest
    from hounsfield.evaluation.classification import Estimate
    from hounsfield.images import Image
    from hounsfield.testing import Tested
    from hounsfield.testing.base import Assessed, Audit
    from hounsfield.testing.clinical import ClinicalValue


# Of the intervals that a run keeps.
CONFIDENCE = 0.95


@with_request(data=OtherData)
def command(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_TABLE", help="A run folder, or a table of predictions, findings or compared masks."
        ),
    ],
    *,
    request: DataRequest | None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for metrics.json and the figures.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Decision threshold: a label is predicted when its probability is above this. For detectors, the "
            "lowest score of a finding that counts.",
            min=0,
            max=1,
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="The task of a table: binary, multi-class, multi-label, regression or ordinal.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The true boxes for a table of findings: a table or a COCO JSON file.")
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="Detection: what counts as a hit, iou or centre (as in LUNA16).", show_default="iou"),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Detection: the IoU from which a finding hits an object.", min=0.01, max=0.99, show_default="0.5"
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Segmentation: the distance in mm within which surfaces agree, for surface Dice.",
            min=0,
            show_default="1",
        ),
    ] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 2000,
    confidence: Annotated[
        float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)
    ] = CONFIDENCE,
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.", min=0)] = 0,
    interventions: Annotated[
        bool,
        typer.Option(
            help="Classifiers: also test whether masking the corners or the border, or another exposure, changes "
            "predictions."
        ),
    ] = False,
    attributes: Annotated[
        str | None,
        typer.Option(
            help="Classifiers: compare groups by these columns only, such as sex,site, fixed before the data was seen: "
            "at .05, without pairs."
        ),
    ] = None,
    clinical: Annotated[
        str | None,
        typer.Option(
            help="Runs of classifiers and regressors: what the image adds to clinical columns such as age,sex, and "
            "they to it; models fitted on validation, judged on the test."
        ),
    ] = None,
    open_seal: Annotated[
        bool,
        typer.Option(
            "--open-seal",
            help="Open the test images of a run that was trained with --seal, once; the run keeps date and figures.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Runs: read and predict the images in so many processes.")
    ] = None,
    ray: RayAddress = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure a run on its test split or on other data, or evaluate a table of predictions or of findings with boxes.

    Where the data has columns such as sex, age, site or scanner, the groups that they make are compared.
    """
    _check_output(output)
    require_data(request)
    common = {"num_replicates": replicates, "confidence": confidence, "seed": seed}
    given: dict[str, Any] = {"threshold": threshold, "criterion": criterion, "overlap": overlap, "tolerance": tolerance}
    if attributes is not None:
        given["attributes"] = _names(attributes)
    of_runs = {"interventions": interventions or None, "clinical": _names(clinical)}
    of_tables = {"task": task, "truth": truth}
    if open_seal:
        changed = {name: value for name, value in given.items() if name != "attributes"} | {"DATA": request}
        changed["confidence"] = confidence if confidence != CONFIDENCE else None
        _refuse_changes(target, changed)
    if target.is_dir():
        _refuse(target, "a run", "tables", of_tables)
        with delegated(crew_for_calls(workers, ray)):
            found = _test_run(target, request, given | of_runs, common, opens=open_seal)
    else:
        others = {"open_seal": open_seal or None, "workers": workers, "ray": ray}
        _refuse(target, "a table", "runs", {"DATA": request, **others, **of_runs})
        found = _test_table(target, given | of_tables, common)
    for note in found.assessment.notes:
        say(note)
    if as_json:
        parts = {"bias": found.audit, "clinical": found.clinical}
        told = {name: part.to_dict() for name, part in parts.items() if part is not None}
        print_json({**found.assessment.to_dict(), **told})
    else:
        _print(found, confidence)
    if target.is_dir() and request is None:
        _keep_clinical(found, target, as_planned=confidence == CONFIDENCE)
        _keep_audit(found, target, as_planned=threshold is None and confidence == CONFIDENCE and attributes is None)
    if output is not None:
        _write(found, output)


@dataclass(frozen=True)
class Found:
    """The ``Assessed`` of a test, its ``Audit`` or ``None``, what reads the image of a number, clinical columns."""

    assessment: Any
    audit: Any
    read: Callable[[int], Image] | None = None
    clinical: ClinicalValue | None = None


def _names(text: str | None) -> tuple[str, ...] | None:
    """The columns that an option lists."""
    return None if text is None else tuple(filter(None, (name.strip() for name in text.split(","))))


def _check_output(output: Path | None) -> None:
    check_folder(output)
    if output is not None and (output / "plan.yaml").is_file():
        raise UsageError(
            f"{output} is a run, whose own metrics.json would be lost. Name another folder with --out; without it the "
            "figures are printed."
        )


def _refuse(target: Path, kind: str, others: str, given: Mapping[str, Any]) -> None:
    """Refuse what makes sense only for a run, or only for a table."""
    wrong = [name if name.isupper() else flag(name) for name, value in given.items() if value is not None]
    if wrong:
        verb, them = plural(wrong)
        raise UsageError(f"{' and '.join(wrong)} {verb} for {others}; {target} is {kind}. Remove {them}.")


def _refuse_changes(target: Path, changed: Mapping[str, Any]) -> None:
    """A seal is opened for the test as it was planned, not for another."""
    wrong = [name if name.isupper() else flag(name) for name, value in changed.items() if value is not None]
    if wrong:
        raise UsageError(
            f"--open-seal tests {target} as its training would have done it, without {' and '.join(wrong)}. Remove "
            f"{plural(wrong)[1]}; when the seal is open, further tests take any option."
        )


def _test_run(
    run: Path, data: DataRequest | None, given: Mapping[str, Any], common: dict[str, Any], *, opens: bool
) -> Found:
    from hounsfield.bundle import Bundle
    from hounsfield.tasks import MODEL_NAMES
    from hounsfield.testing import TESTS, evaluate_run
    from hounsfield.testing.base import COMMON_OPTIONS, TestSource
    from hounsfield.testing.clinical import FAMILIES as CLINICAL_FAMILIES
    from hounsfield.testing.clinical import clinical_value
    from hounsfield.testing.seal import open_test

    family = Bundle.load(run).family
    takes = {each: COMMON_OPTIONS | test.OPTIONS | test.AUDIT_OPTIONS for each, test in TESTS.items()}
    takes |= {each: takes[each] | {"clinical"} for each in CLINICAL_FAMILIES}
    options = chosen(run, family, takes, given, MODEL_NAMES)
    columns = options.pop("clinical", None)
    audited = {name: options.pop(name) for name in TESTS[family].AUDIT_OPTIONS & options.keys()}
    announce_engine("auto")
    with progress_bars() as progress:
        if opens:
            tested = open_test(run, progress=progress)
            _keep_figures(tested, run)
        else:
            tested = evaluate_run(run, data, progress=progress, **options, **common)
        source = TestSource(run, data, options.get("threshold"), progress)
        audit = _audit(tested.assessment, common, audited, source)
        added = clinical_value(run, tested, columns, **common) if columns else None
    return Found(tested.assessment, audit, tested.read, added)


def _keep_figures(tested: Tested, run: Path) -> None:
    """The figures of a test that was sealed, beside those of the training."""
    from hounsfield.reports.figures import save_figure
    from hounsfield.reports.table import PAGES
    from hounsfield.runs.manifest import adding

    drawn = PAGES[tested.bundle.family].figures(tested.assessment, tested.read)
    paths = {name: run / "figures" / f"{name}_test.png" for name in drawn}
    with adding(run, list(paths.values())):
        for name, figure in drawn.items():
            save_figure(figure, paths[name])


def _test_table(path: Path, given: Mapping[str, Any], common: dict[str, Any]) -> Found:
    from hounsfield.testing import TESTS, evaluate_table, table_family
    from hounsfield.testing.base import COMMON_OPTIONS, TABLE_AUDIT_OPTIONS

    family = table_family(path, {name: value for name, value in given.items() if value is not None})
    audits = {each: test.AUDIT_OPTIONS & TABLE_AUDIT_OPTIONS for each, test in TESTS.items()}
    takes = {each: COMMON_OPTIONS | test.TABLE_OPTIONS | audits[each] for each, test in TESTS.items()}
    options = chosen(path, family, takes, given, {each: test.TABLE for each, test in TESTS.items()})
    audited = {name: options.pop(name) for name in audits[family] & options.keys()}
    assessment = evaluate_table(path, **options, **common)
    return Found(assessment, _audit(assessment, common, audited, None))


def _audit(assessment: Assessed, common: dict[str, Any], given: dict[str, Any], source: Any) -> Audit | None:
    from hounsfield.testing import TESTS

    audit = TESTS[assessment.family].audit(
        assessment, seed=common["seed"], confidence=common["confidence"], given=given, source=source
    )
    return audit if audit is not None and audit.says_anything else None


def _print(found: Found, confidence: float) -> None:
    from rich.table import Table

    table = Table("", "value", f"{confidence:.0%} interval", "n", "")
    table.columns[0].no_wrap = True
    estimates = found.assessment.estimates
    # Below the table, since a column of them would leave a terminal's other columns no room.
    notes = list(dict.fromkeys(estimate.note for estimate in estimates.values() if estimate.note))
    for name, estimate in estimates.items():
        title, note = found.assessment.title(name), f"({notes.index(estimate.note) + 1})" if estimate.note else ""
        table.add_row(title, _value(estimate), _interval(estimate), f"{estimate.n:,}", note)
    out.print(table)
    for number, note in enumerate(notes, start=1):
        out.print(f"({number}) {note}")
    if found.clinical is not None:
        cells = found.clinical.cells()
        added = Table(*cells[0], title=f"Image and {', '.join(found.clinical.columns)}", title_justify="left")
        for row in cells[1:]:
            added.add_row(*row)
        out.print(added)
    if found.audit is None:
        return
    if cells := found.audit.cells():
        groups = Table(*cells[0], title="Subgroups", title_justify="left")
        for row in cells[1:]:
            groups.add_row(*row)
        out.print(groups)
    for line in found.audit.lines():
        out.print(line)


def _value(estimate: Estimate) -> str:
    from hounsfield.evaluation.rounding import rounded

    return rounded(estimate.value) if math.isfinite(estimate.value) else "undefined"


def _interval(estimate: Estimate) -> str:
    from hounsfield.evaluation.rounding import rounded

    return f"{rounded(estimate.low)} to {rounded(estimate.high)}" if math.isfinite(estimate.low) else "–"


def _write(found: Found, folder: Path) -> None:
    from hounsfield.reports.assessment import write_assessment

    for path in write_assessment(found.assessment, folder, read=found.read):
        say(f"wrote {path}")
    _write_audit(found, folder, folder)


def _keep_clinical(found: Found, run: Path, *, as_planned: bool) -> None:
    """Let the run keep what the image adds, with 95 % intervals, for its report."""
    if found.clinical is None or not as_planned:
        return
    from hounsfield.atomic import write_json
    from hounsfield.runs.manifest import adding

    path = run / "clinical.json"
    with adding(run, [path]):
        write_json(path, found.clinical.to_dict())
    say(f"wrote {path}")


def _keep_audit(found: Found, run: Path, *, as_planned: bool) -> None:
    """Let the run keep its groups, which its report shows beside figures of its own threshold with 95 % intervals."""
    if as_planned:
        _write_audit(found, run, run / "figures")
    elif found.audit is not None:
        say("The run keeps its own subgroup figures: of all columns, at its own threshold, with 95 % intervals.")


def _write_audit(found: Found, folder: Path, figures: Path) -> None:
    if found.audit is not None:
        from hounsfield.reports.subgroups import write_bias

        for path in write_bias(found.audit, folder, figures):
            say(f"wrote {path}")
