"""The model facts: one page for those who use a model, after Sendak et al. 2020 (npj Digital Medicine 3:41)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hounsfield.reports.base import Page
from hounsfield.reports.sections.content import number, with_interval
from hounsfield.reports.sections.summary import intended_use, where_not
from hounsfield.reports.sections.wording import image_kind, of_patients
from hounsfield.runs import RunRecord

Part = tuple[str, tuple[tuple[str, str], ...]]
# Of the metrics, as many fit on the page.
MOST_FIGURES = 9
UNSTATED = "not stated"


def model_facts(run: RunRecord, page: Page[Any]) -> tuple[Part, ...]:
    """The parts of the page, each with its names and texts."""
    about = run.about
    model = (
        ("Name", about.name or run.folder.resolve().name),
        ("Identity", run.bundle.identity[:16]),
        ("Contact", about.contact or UNSTATED),
    )
    mechanism = (
        ("Output", page.what_it_does(run)),
        ("Input", f"{image_kind(run.bundle)} images".strip()),
        ("Population", about.answers(("population", "setting")) or UNSTATED),
        ("Images taken", about.dates or UNSTATED),
        ("Reference standard", about.answers(("reference_standard", "annotators")) or UNSTATED),
    )
    use = (("Intended use", intended_use(run)), ("Not to be used", about.answers(("not_for",)) or UNSTATED))
    return (
        ("Model", model),
        ("Use", use),
        ("Mechanism", mechanism),
        (f"Performance on {run.num_cases:,} {run.split} images{of_patients(run)}", tuple(_figures(run, page))),
        ("Warnings", tuple(_warnings(run, page))),
    )


def _figures(run: RunRecord, page: Page[Any]) -> Iterator[tuple[str, str]]:
    if run.prevalence is not None:
        yield "Prevalence", number(run.prevalence)
    names = [name for name in page.card if name in run.estimates]
    for name in names[:MOST_FIGURES]:
        yield page.titles[name], with_interval(run.estimates[name])


def _warnings(run: RunRecord, page: Page[Any]) -> Iterator[tuple[str, str]]:
    if run.cautions:
        yield "Found in the test", " ".join(run.cautions)
    yield "Where not", " ".join(where_not(run, page))
    yield page.distrust, " ".join(page.when_not(run))
    yield "In general", "Tested on the images named here alone; a study at the place of use has to follow."
