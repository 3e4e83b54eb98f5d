"""Writes ``report.html`` and ``MODEL_CARD.md`` into a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hounsfield.atomic import write_text
from hounsfield.errors import require
from hounsfield.progress import Progress, silent
from hounsfield.reports.run_report.answers import Facts
from hounsfield.reports.run_report.certainty import calibration_section, uncertainty_section
from hounsfield.reports.run_report.content import Callout, Checklist, Points, Section, number
from hounsfield.reports.run_report.data import data_section, split_section
from hounsfield.reports.run_report.detector_cases import cases_section
from hounsfield.reports.run_report.detector_results import (
    counting_section,
    detection_results_section,
    left_out_section,
    score_section,
)
from hounsfield.reports.run_report.evidence import evidence_section
from hounsfield.reports.run_report.groups import robustness_section, subgroup_section
from hounsfield.reports.run_report.guidelines import CLAIM, TRIPOD_AI, checklist
from hounsfield.reports.run_report.model_card import model_card
from hounsfield.reports.run_report.operating import operating_section
from hounsfield.reports.run_report.privacy import Scrubber
from hounsfield.reports.run_report.results import results_section
from hounsfield.reports.run_report.summary import limitations, summary_section
from hounsfield.reports.run_report.training import environment_section, resources_section, training_section
from hounsfield.runs.record import DetectorRun, Run, read_run
from hounsfield.version import __version__

CLASSIFIER_TILES = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}
DETECTOR_TILES = {
    "ap50": "AP50",
    "recall": "objects found",
    "precision": "findings that are true",
    "count_mae": "counting error, objects an image",
}
TEMPLATES = Path(__file__).parent.parent / "templates"


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
    """Write the report and the model card of a finished run, in place of older ones.

    Neither a patient nor a file is named in them.

    Args:
        run: the run folder.
        evidence: whether to explain typical and worst cases, which needs the run's data.
        progress: told of the explained images.

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
        subtitle=f"Report of the run '{record.folder.resolve().name}', made {_date(record)}",
        tiles=_tiles(record),
        sections=sections,
        version=__version__,
    )
    clean = Scrubber.of(record)
    report = Report(record.folder / "report.html", record.folder / "MODEL_CARD.md", sections)
    write_text(report.card, clean(model_card(record)))
    write_text(report.page, clean(page))
    return report


def _sections(run: Run, evidence: bool, progress: Progress) -> tuple[Section, ...]:
    if isinstance(run, DetectorRun):
        shown = cases_section(run, wanted=evidence, progress=progress)
        middle: tuple[Section, ...] = (
            detection_results_section(run),
            counting_section(run),
            score_section(run),
            shown.section,
            left_out_section(),
        )
    else:
        shown = evidence_section(run, wanted=evidence, progress=progress)
        middle = (
            results_section(run),
            calibration_section(run),
            operating_section(run),
            uncertainty_section(run),
            subgroup_section(run),
            robustness_section(run),
            shown.section,
        )
    return (
        summary_section(run),
        data_section(run),
        split_section(run),
        *middle,
        training_section(run),
        Section("limitations", "Limitations", (Points(tuple(limitations(run))),)),
        resources_section(run),
        environment_section(run),
        _checklists(Facts(run, shown.made, shown.validated)),
    )


def _checklists(facts: Facts) -> Section:
    caution = Callout(
        "note",
        "What a program can fill",
        "Items are named in short words; the published lists hold. What is filled here is read from the run, and is to "
        "be checked by the author like everything else.",
    )
    lists = (checklist("CLAIM 2024", CLAIM, facts), checklist("TRIPOD+AI", TRIPOD_AI, facts))
    return Section("checklists", "Checklists", (caution, *lists))


def _title(run: Run) -> str:
    """The labels, as far as they fit in a heading."""
    labels = [label[:1].upper() + label[1:] for label in run.bundle.labels[:1]] + list(run.bundle.labels[1:4])
    more = len(run.bundle.labels) - len(labels)
    joined = " or " if run.bundle.task == "binary" else ", "
    return joined.join(labels) + (f" and {more} more" if more > 0 else "")


def _date(run: Run) -> str:
    """When the training ended."""
    return str(run.event("finished").get("time", "at an unknown time"))[:10]


def _tiles(run: Run) -> list[tuple[str, str, str]]:
    """Name, value and interval of the figures that stand at the top."""
    tiles = []
    for name, title in (DETECTOR_TILES if isinstance(run, DetectorRun) else CLASSIFIER_TILES).items():
        found = run.estimates[name]
        ends = "" if found["low"] is None else f"{found['low']:.3f} to {found['high']:.3f}"
        tiles.append((title, number(found["value"]), ends))
    patients = "" if run.num_patients is None else f"{run.num_patients:,} patients"
    return [*tiles, (f"{run.split} images", f"{run.num_cases:,}", patients)]
