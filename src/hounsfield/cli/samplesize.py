"""``hounsfield samplesize``: how many patients a test or a training needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hounsfield.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARES = ("sensitivity", "specificity", "accuracy")
FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def command(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run with a forecast: how many patients to train on.")
    ] = None,
    *,
    metric: Annotated[str, typer.Option(help=f"What is to be measured: auc, {', '.join(SHARES)}.")] = "sensitivity",
    value: Annotated[float, typer.Option(help="The value that is expected.", min=0, max=1)] = 0.9,
    width: Annotated[float | None, typer.Option(help="Wanted width of the whole interval.", min=0.001, max=1)] = None,
    prevalence: Annotated[
        float | None, typer.Option(help="Share of patients with the label; needed unless for accuracy.", min=0, max=1)
    ] = None,
    gap: Annotated[
        float | None,
        typer.Option(help="How much lower the value of a group is that is to be found.", min=0.001, max=1),
    ] = None,
    group: Annotated[float, typer.Option(help="Share of the patients in that group.", min=0.001, max=0.999)] = 0.5,
    comparisons: Annotated[int, typer.Option(help="How many groups are compared.", min=1)] = 1,
    significance: Annotated[float, typer.Option(help="Of all comparisons together.", min=0.0001, max=0.5)] = 0.05,
    power: Annotated[float, typer.Option(help="Chance to find the gap.", min=0.5, max=0.999)] = 0.8,
    per_patient: Annotated[float, typer.Option(help="Images of a patient.", min=1)] = 1.0,
    correlation: Annotated[float, typer.Option(help="Correlation of a patient's images.", min=0, max=1)] = 0.5,
    error: Annotated[
        float | None, typer.Option(help="With RUN: the error to reach, such as 0.03.", min=0.0001, max=1)
    ] = None,
    confidence: Annotated[float, typer.Option(help="Nominal coverage of the interval.", min=0.5, max=0.999)] = 0.95,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Test patients for an interval of a wanted width or to find a gap between groups; training patients by RUN."""
    from hounsfield.cli.console import out, print_json

    if metric not in ("auc", *SHARES):
        raise UsageError(f"The metric '{metric}' is not known; expected one of auc, {', '.join(SHARES)}.")
    if (width is None) == (gap is None) and run is None:
        raise UsageError("Say what is wanted: --width of an interval or --gap between groups, or a RUN with --error.")
    if run is not None:
        if error is None or width is not None or gap is not None:
            raise UsageError("With RUN give --error, the error to reach, and neither --width nor --gap.")
        facts, lines = _training(run, error, confidence)
    else:
        share = _share(metric, prevalence)
        facts = (
            _for_width(metric, value, float(width), share, confidence)
            if width is not None
            else _for_gap(metric, value, float(gap or 0), share, (group, significance, power, comparisons))
        )
        facts |= _by_patient(int(facts["independent_patients"]), per_patient, correlation)
        lines = [str(facts.pop("told")), *_told_clusters(facts, per_patient, correlation)]
    if as_json:
        print_json(facts)
        return
    for line in lines:
        out.print(line)


def _a(metric: str) -> str:
    return f"an {metric}" if metric == "accuracy" else f"a {metric}"


def _share(metric: str, prevalence: float | None) -> float:
    """Of the patients, those that the figure rests on; of an AUC the prevalence itself."""
    if metric == "accuracy":
        return 1.0
    if prevalence is None or not 0 < prevalence < 1:
        raise UsageError(f"{metric} rests on patients of one kind: give --prevalence, strictly between 0 and 1.")
    return 1 - prevalence if metric == "specificity" else prevalence


def _for_width(metric: str, value: float, width: float, share: float, confidence: float) -> dict[str, Any]:
    from math import ceil

    from hounsfield.evaluation.sample_size import cases_for_proportion, patients_for_auc

    if metric == "auc":
        patients = patients_for_auc(value, width, share, confidence=confidence)
        told = (
            f"For an AUC near {value:g} with a {confidence:.0%} interval no wider than {width:g}: {patients:,} patients"
        )
        return {"independent_patients": patients, "told": f"{told} at a prevalence of {share:g} (Hanley, McNeil)."}
    cases = cases_for_proportion(value, width, confidence=confidence)
    patients = ceil(cases / share)
    told = (
        f"For {_a(metric)} near {value:g} with a {confidence:.0%} interval no wider than {width:g}: {cases:,} patients"
    )
    return {
        "cases_of_the_kind": cases,
        "independent_patients": patients,
        "told": f"{told} of its kind, {patients:,} in all (Wilson).",
    }


def _for_gap(
    metric: str, value: float, gap: float, share: float, test: tuple[float, float, float, int]
) -> dict[str, Any]:
    from math import ceil

    from hounsfield.evaluation.sample_size import cases_for_gap

    if metric == "auc":
        raise UsageError("--gap is for shares such as sensitivity; a gap of AUC has no such formula. Choose another.")
    group, significance, power, comparisons = test
    cases = cases_for_gap(value, gap, group, significance=significance, power=power, comparisons=comparisons)
    patients = ceil(cases / share)
    many = f"{comparisons:,} comparisons" if comparisons > 1 else "one comparison"
    told = (
        f"To find {_a(metric)} of {value - gap:g} in {100 * group:g} % of the patients against {value:g} in the "
        f"others, at {significance:g} over {many} with a power of {power:g}: {cases:,} patients of its kind, "
        f"{patients:,} in all."
    )
    return {"cases_of_the_kind": cases, "independent_patients": patients, "told": told}


def _by_patient(patients: int, per_patient: float, correlation: float) -> dict[str, int]:
    from hounsfield.evaluation.sample_size import for_clusters

    images, needed = for_clusters(patients, per_patient, correlation)
    return {"images": images, "patients": needed}


def _told_clusters(facts: Mapping[str, Any], per_patient: float, correlation: float) -> list[str]:
    if per_patient == 1:
        return []
    told = f"With {per_patient:g} images of a patient that correlate by {correlation:g}: {facts['images']:,} images"
    return [f"{told} of {facts['patients']:,} patients."]


def _training(run: Path, error: float, confidence: float) -> tuple[dict[str, Any], list[str]]:
    """From the learning curve that ``forecast`` left in a run, how many times as many patients reach an error."""
    import numpy as np
    from scipy import stats

    from hounsfield.errors import RunError
    from hounsfield.evaluation.learning_curve import extrapolate
    from hounsfield.runs import read_addition

    curve = read_addition(run, "learning_curve")
    if curve is None:
        raise RunError(f"{run} has no forecast: make it with 'hounsfield forecast {run}', then ask again.")
    try:
        z = float(stats.norm.ppf((1 + curve["confidence"]) / 2))
        deviation = (np.array(curve["highs"], float) - np.array(curve["lows"], float)) / (2 * z)
        title, unit, largest = str(curve["title"]), str(curve["unit"]), int(max(curve["sizes"]))
        forecasts, now = extrapolate(
            curve["sizes"], curve["errors"], np.diag(deviation**2), factors=FACTORS, confidence=confidence
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise RunError(
            f"The forecast of {run} is damaged ({type(fault).__name__}: {fault}). Make it again with 'hounsfield "
            f"forecast {run}'."
        ) from fault
    reached = next((each for each in forecasts if each.error <= error), None)
    surely = next((each for each in forecasts if each.high <= error), None)
    most = forecasts[-1]
    if now <= error:
        told = f"{title} of {error:g}: the curve is there already."
    elif reached:
        told = (
            f"{title} of {error:g}: expected with {reached.size:,} training {unit} ({reached.factor:g} times as many; "
            f"{reached.error:.3f}, {reached.low:.3f} to {reached.high:.3f})."
        )
    else:
        told = (
            f"{title} of {error:g}: not expected with {most.size:,} training {unit} ({most.factor:g} times as many; "
            f"{most.error:.3f}, {most.low:.3f} to {most.high:.3f})."
        )
    safe = f" The whole interval lies below it with {surely.size:,}." if surely else ""
    expected = largest if now <= error else reached.size if reached else None
    facts = {
        "error": error,
        "now": now,
        "size_now": largest,
        "expected_with": expected,
        "interval_below_with": surely.size if surely else None,
    }
    return facts, [f"The curve gives {now:.3f} at {largest:,} {unit}.", told + safe]
