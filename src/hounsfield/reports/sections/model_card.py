"""``MODEL_CARD.md``: the report on one page of plain text, to lie beside the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hounsfield.reports.base import Page
from hounsfield.reports.sections.content import with_interval
from hounsfield.reports.sections.data import NAMES, shape_text
from hounsfield.reports.sections.summary import intended_use, limitations, where_not
from hounsfield.reports.sections.wording import network_text
from hounsfield.runs import RunRecord
from hounsfield.safe_text import markdown
from hounsfield.version import __version__

# Entries of about.yaml -> their words on the card.
DATA = {
    "population": "Population",
    "setting": "Setting",
    "dates": "Dates",
    "inclusion": "Inclusion",
    "data_sources": "Sources",
    "acquisition": "Acquisition",
    "reference_standard": "Reference standard",
    "annotators": "Annotators",
    "agreement": "Agreement of annotators",
}
STUDY = {
    "contact": "Contact",
    "ethics": "Ethics",
    "fairness": "Fairness",
    "funding": "Funding",
    "conflicts": "Conflicts of interest",
    "registration": "Registration",
    "availability": "Availability",
}


def model_card(run: RunRecord, page: Page[Any]) -> str:
    """The card as Markdown, after Mitchell et al., "Model cards for model reporting" (2019)."""
    return "\n".join(map(markdown, _lines(run, page))) + "\n"


def _lines(run: RunRecord, page: Page[Any]) -> Iterator[str]:
    *first, last = run.bundle.labels
    yield f"# Model card: {', '.join(first)}{page.joined if first else ''}{last}"
    yield from ("", "Not a medical device. Not for diagnosis or treatment.", "")
    yield from ("## Model", "", page.what_it_does(run), "", *(f"- {fact}" for fact in _facts(run, page)), "")
    yield from ("## Intended use", "", intended_use(run), "")
    yield from ("## Performance", "", " ".join(page.how_well(run)), "", *_figures(run, page), "")
    yield from ("## Where it should not be used", "", " ".join(where_not(run, page)), "")
    yield from (f"## {page.distrust}", "", " ".join(page.when_not(run)), "")
    yield from ("## Data", "", *_data(run), *_said(run, DATA), "")
    yield from ("## Limitations", "", *(f"- {line}" for line in limitations(run, page)), "")
    if told := list(_said(run, STUDY)):
        yield from ("## Study", "", *told, "")
    yield from ("## Use", "", "```sh", "hounsfield predict RUN images/ -o predictions.csv", "```", "")
    yield f"Made by Hounsfield {__version__}; the full report is report.html."


def _said(run: RunRecord, entries: Mapping[str, str]) -> Iterator[str]:
    """What the author says, one point for each entry."""
    for name, words in entries.items():
        if text := run.about.answers((name,)):
            yield f"- {words}: {text}"


def _facts(run: RunRecord, page: Page[Any]) -> Iterator[str]:
    facts = run.environment
    yield f"Network: {network_text(run)}, input {shape_text(run.bundle.input_shape)}"
    if origin := run.bundle.settings.get("origin"):
        yield (
            f"Weights: {origin['weights']}, adapted by {origin['adapt']}; licence {origin['licence']}, SHA-256 "
            f"{origin['sha256'][:16]}…"
        )
    yield from page.card_facts(run)
    yield f"Made with Hounsfield {facts['hounsfield']}, Keras on {facts['backend']}, seed {run.plan.seed}"


def _figures(run: RunRecord, page: Page[Any]) -> Iterator[str]:
    yield f"| metric | {run.split}, 95 % interval | n |"
    yield "| --- | --- | --- |"
    for name in page.card:
        if name in run.estimates:
            found = run.estimates[name]
            yield f"| {page.titles[name]} | {with_interval(found)} | {found['n']:,} |"


def _data(run: RunRecord) -> Iterator[str]:
    for split, name in NAMES.items():
        rows = run.rows(split)
        if rows.empty:
            continue
        patients = f" of {rows['patient'].nunique():,} patients" if rows["patient"].notna().all() else ""
        yield f"- {name}: {len(rows):,} images{patients}"
