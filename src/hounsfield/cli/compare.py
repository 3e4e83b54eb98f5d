"""``hounsfield compare``: two models on the same cases, or readers with and without one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from hounsfield.evaluation.mrmc import ReaderStudy
    from hounsfield.evaluation.pairing import Comparison
    from hounsfield.evaluation.predictions import Predictions
    from hounsfield.evaluation.readers import Readings
    from hounsfield.runs import LabelRun
    from hounsfield.tasks import Family

FAMILIES: tuple[Family, ...] = ("labels",)
COVARIANCES = ("unbiased", "jackknife", "delong")


def command(
    first: Annotated[
        Path, typer.Argument(metavar="RUN_OR_TABLE", help="A run, a table of predictions, or a table of readers.")
    ],
    second: Annotated[
        Path | None, typer.Argument(metavar="RUN_OR_TABLE", help="The other run or table of predictions.")
    ] = None,
    *,
    margin: Annotated[
        float | None, typer.Option(help="Margin of non-inferiority, such as 0.05.", min=0.0001, max=0.5)
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Readers: the test that the others are compared with, such as 'without'.")
    ] = None,
    positive: Annotated[str | None, typer.Option(help="Readers: the truth that is the disease.")] = None,
    covariance: Annotated[
        str | None,
        typer.Option(help="Readers: estimator of the covariances.", show_default=f"{COVARIANCES[0]}; {COVARIANCES[2]}"),
    ] = None,
    fixed_readers: Annotated[
        bool, typer.Option("--fixed-readers", help="Readers: conclude for these readers only.")
    ] = False,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.", min=100)] = 2000,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the intervals.", min=0.5, max=0.999)] = 0.95,
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.", min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Compare two models on the same images, paired by patient; or the AUC of readers by test (multi-reader).

    A table of readers has the columns reader, case, truth, rating and, for several ways of reading, test.
    """
    from hounsfield.evaluation.comparison import Bootstrap

    if second is None:
        _check_covariance(covariance)
        study, readings = _study(first, positive, reference, covariance, fixed_readers, confidence)
        _tell_study(study, readings, margin, as_json=as_json)
        return
    wrong = [
        name
        for name, given in (("--reference", reference), ("--positive", positive), ("--covariance", covariance))
        if given is not None
    ]
    if wrong or fixed_readers:
        named = " and ".join([*wrong, *(["--fixed-readers"] if fixed_readers else [])])
        raise UsageError(f"{named} are for one table of readers; two targets were given. Leave one of them out.")
    options = Bootstrap(replicates, seed, confidence)
    if first.is_dir() and second.is_dir():
        from hounsfield.testing.comparing import compare_runs

        found = compare_runs(first, second, options=options)
    else:
        from hounsfield.evaluation.pairing import compare_predictions

        found = compare_predictions(_predictions(first), _predictions(second), **options._asdict())
    _tell_comparison(found, (first, second), margin, as_json=as_json)


def _check_covariance(covariance: str | None) -> None:
    if covariance is not None and covariance not in COVARIANCES:
        raise UsageError(f"The covariance '{covariance}' is not known; expected one of {', '.join(COVARIANCES)}.")


def _predictions(path: Path) -> Predictions:
    """The test rows of a run's or anyone's table of predictions."""
    from hounsfield.evaluation.predictions import read_predictions

    if not path.is_dir():
        return read_predictions(path)
    from hounsfield.bundle import Bundle
    from hounsfield.cli.options import require_family
    from hounsfield.runs import read_run
    from hounsfield.runs.test_use import record_test_use, refuse_sealed

    require_family("compare", path, Bundle.load(path).family, FAMILIES)
    refuse_sealed(path)
    run = cast("LabelRun", read_run(path))
    if run.split == "test":
        record_test_use(path, "compare")
    return run.shown


def _study(
    path: Path,
    positive: str | None,
    reference: str | None,
    covariance: Any,
    fixed_readers: bool,
    confidence: float,
) -> tuple[ReaderStudy, Readings]:
    from hounsfield.evaluation.mrmc import analyse_readers
    from hounsfield.evaluation.predictions import read_rows
    from hounsfield.evaluation.readers import is_readers_table, readings_of

    if path.is_dir():
        raise UsageError(f"{path} is a run: give a second run or table to compare it with.")
    table = read_rows(path)[0]
    if not is_readers_table(table.columns):
        raise UsageError(
            f"{path} has the columns {', '.join(map(str, table.columns))}: give a second table to compare it with, or "
            "one of readers, with the columns reader, case, truth and rating."
        )
    readings = readings_of(table, positive=positive, reference=reference)
    study = analyse_readers(
        readings.truth,
        readings.ratings,
        tests=readings.tests,
        readers=readings.readers,
        groups=readings.groups,
        covariance=covariance,
        fixed_readers=fixed_readers,
        confidence=confidence,
    )
    return study, readings


def _tell_study(study: ReaderStudy, readings: Readings, margin: float | None, *, as_json: bool) -> None:
    from hounsfield.cli.console import out, print_json

    agreement = readings.agreement()
    if as_json:
        facts = study.to_dict()
        if margin is not None:
            for each, difference in zip(facts["differences"], study.differences, strict=True):
                each.update(margin=margin, not_inferior=difference.low > -margin)
        print_json(facts | {"agreement": agreement})
        return
    from rich.table import Table

    by_reader = Table("reader", *study.tests, title="AUC", title_justify="left")
    for index, reader in enumerate(study.readers):
        by_reader.add_row(reader, *(f"{value:.3f}" for value in study.auc[:, index]))
    by_reader.add_row("mean", *(f"{mean.value:.3f} ({mean.low:.3f} to {mean.high:.3f})" for mean in study.means))
    out.print(by_reader)
    for gap in study.differences:
        degrees = f", {gap.degrees:.1f} degrees of freedom" if math.isfinite(gap.degrees) else ""
        out.print(
            f"{gap.first} − {gap.second}: {gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}), p {gap.p_value:.4f}"
            f"{degrees}.{_inferiority(gap.low, margin, gap.first, gap.second)}"
        )
    for test, kappa in agreement.items():
        out.print(f"Agreement of readers, {test}: mean quadratic kappa of all pairs {kappa:.3f}.")
    kind = "for these readers only" if study.fixed_readers else "for readers and cases like these"
    out.print(
        f"{study.cases[0]:,} diseased cases and {study.cases[1]:,} others; Obuchowski-Rockette analysis, "
        f"{study.covariance} covariance, {kind}."
    )


def _inferiority(low: float, margin: float | None, first: object, second: object) -> str:
    if margin is None:
        return ""
    verdict = "is not inferior to" if low > -margin else "may be inferior to"
    return f" {first} {verdict} {second} by the margin of {margin:g}."


def _tell_comparison(found: Comparison, names: tuple[Path, Path], margin: float | None, *, as_json: bool) -> None:
    from hounsfield.cli.console import out, print_json, say

    for note in found.notes:
        say(note)
    if as_json:
        print_json(_plain(found, margin))
        return
    from rich.table import Column, Table

    # No word is cut off where the terminal is narrow: it goes on in the next line.
    titles = ("", *map(str, names), "difference", f"{found.confidence:.0%} interval", "p", "adjusted p")
    table = Table(*(Column(title, overflow="fold") for title in titles))
    for name, gap in found.differences.items():
        if math.isfinite(gap.value):
            ends = f"{gap.low:+.3f} to {gap.high:+.3f}" if math.isfinite(gap.low) else "–"
            p_values = [f"{p:.4f}" if math.isfinite(p) else "–" for p in (gap.p_value, found.adjusted[name])]
            values = (f"{found.first[name]:.3f}", f"{found.second[name]:.3f}", f"{gap.value:+.3f}")
            table.add_row(found.titles[name], *values, ends, *p_values)
    out.print(table)
    told = _inferiority(found.gain.low, margin, names[1], names[0])
    if told:
        out.print(f"{found.titles[found.main]}:{told}")
    out.print("Difference: the second minus the first. P-values are adjusted by Holm over the rows.")


def _plain(found: Comparison, margin: float | None) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    rows = {
        name: {
            "first": number(found.first[name]),
            "second": number(found.second[name]),
            "difference": number(gap.value),
            "low": number(gap.low),
            "high": number(gap.high),
            "p": number(gap.p_value),
            "adjusted_p": number(found.adjusted[name]),
        }
        for name, gap in found.differences.items()
    }
    facts: dict[str, Any] = {"cases": found.cases, "patients": found.patients, "metrics": rows}
    facts |= {"main": found.main, "verdict": found.verdict}
    if margin is not None:
        facts |= {"margin": margin, f"{found.main}_not_inferior": found.gain.low > -margin}
    return facts
