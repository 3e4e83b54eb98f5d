"""Writes ``report.html`` and ``MODEL_CARD.md`` into a run: one page for a board or a reviewer, and a model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hounsfield.atomic import write_text
from hounsfield.errors import require
from hounsfield.progress import Progress, silent
from hounsfield.reports.sections.answers import Facts
from hounsfield.reports.sections.cases import show_cases
from hounsfield.reports.sections.content import Callout, Checklist, Points, Section, number
from hounsfield.reports.sections.data import data_section, split_section
from hounsfield.reports.sections.guidelines import CLAIM, TRIPOD_AI, checklist
from hounsfield.reports.sections.model_card import model_card
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
        card: the model card.
        sections: what the page holds, in order.
    """

    page: Path
    card: Path
    sections: tuple[Section, ...]

    @property
    def checklists(self) -> tuple[Checklist, ...]:
        """CLAIM and TRIPOD+AI, answered."""
        blocks = [block for section in self.sections for block in section.blocks]
        return tuple(block for block in blocks if isinstance(block, Checklist))


def write_report(run: Path | str, *, evidence: bool = True, progress: Progress = silent) -> Report:
    """Write the report and the model card of a finished run, replacing older ones.

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
    sections = _sections(record, evidence, progress)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html").render(
        title=_title(record),
        subtitle=f"Report on the run '{record.folder.resolve().name}' of {_date(record)}",
        tiles=_tiles(record),
        sections=sections,
        version=__version__,
    )
    clean = Scrubber.of(record)
    report = Report(record.folder / "report.html", record.folder / "MODEL_CARD.md", sections)
    with adding(record.folder, [report.card, report.page]):
        write_text(report.card, clean(model_card(record, page_of(record))))
        write_text(report.page, clean(page))
    return report


def _sections(run: RunRecord, evidence: bool, progress: Progress) -> tuple[Section, ...]:
    page = page_of(run)
    cases = show_cases(run, page, wanted=evidence, progress=progress)
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
        _checklists(Facts(run, page, cases)),
    )


def _checklists(facts: Facts) -> Section:
    caution = Callout(
        "note",
        "What a program can fill in",
        "Items are named in short words of our own; the published lists are authoritative. What is filled in here was "
        "read from the run, and the author must check it like everything else.",
    )
    lists = (checklist("CLAIM 2024", CLAIM, facts), checklist("TRIPOD+AI", TRIPOD_AI, facts))
    return Section("checklists", "Checklists", (caution, *lists))


def _title(run: RunRecord) -> str:
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
        ends = "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        tiles.append((title, number(found["value"]), ends))
    patients = "" if run.num_patients is None else f"{run.num_patients:,} patients"
    if run.prevalence is not None:
        tiles.append(("Prevalence", number(run.prevalence), "of these images; PPV and NPV change with it"))
    return [*tiles, (f"{run.split.capitalize()} images", f"{run.num_cases:,}", patients)]
