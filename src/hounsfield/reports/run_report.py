"""Writes the report of a run for a board or a reviewer, its checklists, the model facts and a model card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hounsfield.atomic import write_text
from hounsfield.errors import require
from hounsfield.progress import Progress, silent
from hounsfield.reports.base import Cases, Page
from hounsfield.reports.sections.answers import Facts
from hounsfield.reports.sections.cases import show_cases
from hounsfield.reports.sections.content import Callout, Checklist, Points, Section, interval, number, unreliable
from hounsfield.reports.sections.data import data_section, split_section
from hounsfield.reports.sections.guidelines import GUIDELINES, checklist
from hounsfield.reports.sections.model_card import model_card
from hounsfield.reports.sections.model_facts import model_facts
from hounsfield.reports.sections.privacy import Scrubber
from hounsfield.reports.sections.resources import environment_section, resources_section
from hounsfield.reports.sections.summary import limitations, summary_section
from hounsfield.reports.table import page_of
from hounsfield.runs import RunRecord, read_run
from hounsfield.runs.manifest import adding
from hounsfield.version import __version__

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: the report.
        lists: the page of the checklists.
        facts: the model facts, one page for those who use the model.
        card: the model card.
        sections: what the report holds, in order.
        checklists: CLAIM, TRIPOD+AI, STARD-AI and PROBAST+AI, answered.
    """

    page: Path
    lists: Path
    facts: Path
    card: Path
    sections: tuple[Section, ...]
    checklists: tuple[Checklist, ...]


def write_report(run: Path | str, *, evidence: bool = True, progress: Progress = silent) -> Report:
    """Write the report, checklists, model facts and model card of a finished run, replacing older ones.

    Neither a patient nor a file is named in them.

    Args:
        run: the run folder.
        evidence: whether to show typical and worst cases, which needs the run's data.
        progress: called for each case.

    Raises:
        RunError: there is no finished run, or a file of it is damaged.
        BundleError: its bundle cannot be read.
        MissingDependency: Jinja2 is not installed.
    """
    jinja2 = require("jinja2", "the HTML report of a run")
    record = read_run(Path(run))
    page = page_of(record)
    cases = show_cases(record, page, wanted=evidence, progress=progress)
    lists = checklists(Facts(record, page, cases))
    folder = record.folder
    paths = (folder / "report.html", folder / "checklists.html", folder / "model_facts.html", folder / "MODEL_CARD.md")
    report = Report(*paths, _sections(record, page, cases, lists), lists)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    common = {"subtitle": f"Run '{folder.resolve().name}' of {_date(record)}", "version": __version__}
    draw = environment.get_template("report.html").render
    texts = {
        report.card: model_card(record, page),
        report.facts: environment.get_template("model_facts.html").render(
            title=title(record), parts=model_facts(record, page), **common
        ),
        report.lists: draw(title="Reporting checklists", sections=_list_sections(lists), **common),
        report.page: draw(title=title(record), tiles=_tiles(record), sections=report.sections, **common),
    }
    clean = Scrubber.of(record)
    with adding(folder, list(texts)):
        for path, text in texts.items():
            write_text(path, clean(text))
    return report


def _sections(run: RunRecord, page: Page[Any], cases: Cases, lists: tuple[Checklist, ...]) -> tuple[Section, ...]:
    return (
        summary_section(run, page),
        data_section(run, page),
        split_section(run),
        *page.results(run),
        Section("evidence", page.cases_title, cases.blocks),
        page.training(run),
        Section("limitations", "Limitations", (Points(tuple(limitations(run, page))),)),
        resources_section(run),
        environment_section(run),
        Section("checklists", "Checklists", (_counts(lists),)),
    )


def checklists(facts: Facts) -> tuple[Checklist, ...]:
    """Every guideline, answered."""
    return tuple(checklist(name, items, facts) for name, items in GUIDELINES.items())


def _counts(lists: tuple[Checklist, ...]) -> Points:
    stands = "Item by item in checklists.html beside this page; hounsfield about RUN asks the author for the rest."
    return Points((*(found.title for found in lists), stands))


def _list_sections(lists: tuple[Checklist, ...]) -> tuple[Section, ...]:
    caution = Callout(
        "note",
        "What a program can fill in",
        "Items are named in short words of our own; the published lists are authoritative. What is filled in was read "
        "from the run, or stands in about.yaml as the author's word (The author: …), and must be checked like "
        "everything else. PROBAST+AI is a tool for readers: its questions have what the run knows, not a judgment.",
    )
    first, *rest = [Section(f"list-{number}", found.name, (found,)) for number, found in enumerate(lists)]
    return (replace(first, blocks=(caution, *first.blocks)), *rest)


def title(run: RunRecord) -> str:
    """The labels, as far as they fit in a heading."""
    labels = [label[:1].upper() + label[1:] for label in run.bundle.labels[:1]] + list(run.bundle.labels[1:4])
    more = len(run.bundle.labels) - len(labels)
    joined = page_of(run).joined if not more and len(labels) == 2 else ", "
    return joined.join(labels) + (f" and {more} more" if more > 0 else "")


def _date(run: RunRecord) -> str:
    """When the training ended."""
    return str(run.event("finished").get("time", "an unknown date"))[:10]


def _tiles(run: RunRecord) -> list[tuple[str, str, str]]:
    """Name, value and interval of the figures at the top."""
    tiles = []
    for name, title in page_of(run).tiles.items():
        if name not in run.estimates:
            continue
        found = run.estimates[name]
        ends = "" if found["low"] is None else f"{interval(found['low'], found['high'])}{unreliable(found)}"
        tiles.append((title, number(found["value"]), ends))
    patients = "" if run.num_patients is None else f"{run.num_patients:,} patients"
    if run.prevalence is not None:
        tiles.append(("Prevalence", number(run.prevalence), "of these images; PPV and NPV change with it"))
    return [*tiles, (f"{run.split.capitalize()} images", f"{run.num_cases:,}", patients)]
