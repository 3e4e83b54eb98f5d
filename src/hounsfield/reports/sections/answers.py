"""What a run can answer of the questions that reporting guidelines ask: a table of templates, and what fills them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Literal

from hounsfield.cohorts.public import public_set
from hounsfield.errors import UsageError
from hounsfield.reports.base import Answer, Cases, Page, Reply
from hounsfield.reports.robustness import shown_figures
from hounsfield.reports.sections.content import listed, lowered, number
from hounsfield.reports.sections.data import attributes, pipeline_steps, shape_text, shared_patients
from hounsfield.reports.sections.summary import limitations
from hounsfield.reports.sections.wording import network_text, test_use, tested_where
from hounsfield.runs import RunRecord
from hounsfield.runs.base import SPLITS

# Of a guideline: number -> topic, and the key of its answer in ``ANSWERS``, or what the author must fill in.
Items = Mapping[str, tuple[str, str | Reply]]
ACQUISITION = {"scanner", "manufacturer", "view", "modality", "site", "position", "kernel"}
# What CLAIM 2024 calls the splits: "validation" is also used for a test elsewhere.
GUIDELINE_NAMES = {"train": "training", "validation": "tuning (validation)", "test": "internal test"}
DEMOGRAPHICS = {"sex", "gender", "age"}
SOFTWARE = "The software is Hounsfield (Apache-2.0), the model is the run's bundle, and the plan repeats the training."


@dataclass(frozen=True, eq=False)
class Facts:
    """What answers are made from: a run, its family's entry, and the cases of the report."""

    run: RunRecord
    page: Page[Any]
    cases: Cases

    @cached_property
    def words(self) -> dict[str, str]:
        """What stands for the names in braces."""
        return {**_words(self.run, self.page), **self.page.words(self.run)}


def author(missing: str, *about: str, text: str = "") -> Reply:
    """An item that a run cannot know; the author may answer it in ``about.yaml``."""
    return Reply("author", text, missing, about)


def filled(text: str) -> Reply:
    """An item that the run answers."""
    return Reply("filled", text)


def partly(text: str, missing: str, *about: str) -> Reply:
    """An item of which the author must add a part."""
    return Reply("partly", text, missing, about)


def answer(found: str | Reply, facts: Facts) -> Reply:
    """The answer to an item, given as the key of ``ANSWERS`` or as it is: its template filled, with the author's part.

    What the author says in ``about.yaml`` fills an item where every entry that it needs is there, else a part of it.
    """
    entry: Answer = (facts.page.answers.get(found) or ANSWERS[found]) if isinstance(found, str) else found
    reply = entry if isinstance(entry, Reply) else entry(facts.run, facts.cases)
    text = reply.text.format_map(facts.words) if isinstance(entry, Reply) else reply.text
    if reply.status == "filled":
        return Reply("filled", text)
    said = facts.run.about.answers(reply.about)
    complete = bool(reply.about) and all(getattr(facts.run.about, name) for name in reply.about)
    parts = [text, f"The author: {said}" if said else ""]
    if not complete:
        parts.append(f"To be {'added' if text or said else 'filled in'} by the author: {reply.missing}")
    status: Literal["filled", "partly", "author"] = reply.status
    status = "filled" if complete else "partly" if said else status
    return Reply(status, " ".join(filter(None, parts)))


def _words(run: RunRecord, page: Page[Any]) -> dict[str, str]:
    plan, environment = run.plan, run.environment
    patients = f" of {run.cohort['patient'].nunique():,} patients" if run.patients_known else ""
    excluded = [
        note for note in run.notes if any(word in note.lower() for word in ("left out", "cannot be read", "unreadable"))
    ]
    counts = [f"{len(rows):,} {GUIDELINE_NAMES[split]}" for split in SPLITS if len(rows := run.rows(split))]
    return {
        "what": page.what_it_does(run),
        "how_well": " ".join(page.how_well(run)),
        "split": run.split,
        "images": f"{len(run.cohort):,}",
        "patients": patients,
        "excluded": " ".join(excluded) or "None were excluded.",
        "steps": listed(pipeline_steps(run)),
        "counts": listed(counts),
        "how_split": " ".join(note for note in run.notes if "plit" in note) or "The splits came with the data.",
        "disjoint": _disjoint(run),
        "input": shape_text(run.bundle.input_shape),
        "network": network_text(run),
        "weights": (
            f"Pretrained weights: {plan.weights}."
            if plan.weights
            else f"Random (He et al. 2015), seed {plan.seed}; no transfer learning."
        ),
        "optimiser": (
            f"AdamW, peak learning rate {plan.learning_rate:g} with warm-up and cosine decay, weight decay "
            f"{plan.weight_decay:g}, batch size {plan.batch_size}, at most {plan.epochs} epochs; augmentation and all "
            "other settings are in the plan"
        ),
        "versions": (
            f"Hounsfield {environment['hounsfield']}, Python {environment['python']}, Keras on {environment['backend']}"
        ),
        "intervals": "by patient" if run.num_patients is not None else "by image, since patients are unknown",
        "metrics": listed(lowered(title) for name, title in page.titles.items() if name in run.estimates),
        "engine": str(run.event("engine").get("name", "an inference engine")),
        "limits": " ".join(limitations(run, page)),
        "where_tested": tested_where(run),
        "test_use": test_use(run),
        "cross": "Truth beside output in Results.",
        "indeterminate": "Every image has an output.",
        "share": "" if run.prevalence is None else f"Prevalence in the {run.split} images: {number(run.prevalence)}.",
        "metrics_told": f"{listed(lowered(title) for name, title in page.titles.items() if name in run.estimates)}.",
    }


def across_splits(run: RunRecord, metric: str) -> str:
    """A metric on each split that has it: "0.950 on validation and 0.930 on test"."""
    found = {split: figures.get(metric, {}).get("value") for split, figures in run.metrics.items()}
    return listed(f"{value:.3f} on {GUIDELINE_NAMES[split]}" for split, value in found.items() if value is not None)


def half_width(run: RunRecord, metric: str, title: str) -> str:
    """A sentence on how precise the size of the test makes a metric; empty where it has no interval."""
    found = run.estimates[metric]
    return "" if found["low"] is None else f" That gives an {title} to ±{(found['high'] - found['low']) / 2:.3f}."


def _disjoint(run: RunRecord) -> str:
    if not run.patients_known:
        return "Disjoint by image; patients are not known for all images, so not by patient."
    shared = shared_patients(run.cohort)
    return "Disjoint by patient." if not shared else f"Not disjoint by patient: {shared:,} are in more than one split."


def public_data(run: RunRecord) -> str | None:
    """How anyone can get the data, where its name says that it is public."""
    name = str(run.environment["data"]["data"])
    if run.environment["data"].get("extend"):
        return None
    if name.startswith("phantom:"):
        return f"simulated images, made by the name '{name}'"
    plain = name.removeprefix("medmnist:").partition(":")[0]
    stem = PurePosixPath(plain.replace("\\", "/")).stem.partition("_")[0]
    if not name.startswith("medmnist:") and not name.endswith(".npz"):
        return None
    try:
        known = public_set(stem)
    except UsageError:
        return None
    if known.labels != run.bundle.labels:
        return None
    return f"the public set MedMNIST '{stem}' ({known.license}, medmnist.com), judging by its name"


def _source(run: RunRecord, _: Cases) -> Reply:
    public = public_data(run)
    if public:
        return filled(f"{public[0].upper()}{public[1:]}. See Data.")
    return partly("See Data for what was read.", "institutions, dates, links, permissions.", "data_sources", "dates")


def _availability(run: RunRecord, _: Cases) -> Reply:
    public = public_data(run)
    if public:
        return filled(f"{SOFTWARE} The data is {public}.")
    return partly(SOFTWARE, "whether model and data are available, and on which terms.", "availability")


def _acquisition(run: RunRecord, _: Cases) -> Reply:
    known = [name for name in attributes(run.cohort) if name.lower() in ACQUISITION]
    modality = run.bundle.modality or listed(run.bundle.source_range.modalities)
    if modality and known:
        return partly(f"Modality {modality}; {listed(known)} by split in Data.", "protocols.", "acquisition")
    missing = "scanners, protocols, acquired resolution."
    if modality:
        return partly(f"Modality {modality}.", missing, "acquisition")
    return author(missing, "acquisition", text="Modality unknown.")


def _demographics(run: RunRecord, _: Cases) -> Reply:
    known = [name for name in attributes(run.cohort) if name.lower() in DEMOGRAPHICS]
    if known:
        missing = "what else describes the patients, and how the splits differ."
        return partly(f"{listed(known)} and other attributes in each split: see Data.", missing, "demographics")
    text = "The data has neither sex nor age."
    return author("age, sex and other characteristics by split.", "demographics", text=text)


def _groups(run: RunRecord, _: Cases) -> Reply:
    bias = run.additions.get("bias")
    if bias is None or not bias["attributes"]:
        return author("how groups differ.", text="Groups have not been compared, or the data has none; see Subgroups.")
    return filled(f"Groups by {listed(bias['attributes'])} compared, corrected for multiple testing; see Subgroups.")


def _fairness(run: RunRecord, cases: Cases) -> Reply:
    found = _groups(run, cases)
    if found.status == "author":
        return author("how fairness was addressed; no groups were compared.", "fairness")
    return partly(found.text, "which groups matter here, and why.", "fairness")


def _devices(run: RunRecord, cases: Cases) -> Reply:
    found, environment = _acquisition(run, cases), run.environment
    software = f"The model was made with Hounsfield {environment['hounsfield']}, Keras on {environment['backend']}."
    return Reply("partly", f"{found.text} {software}".strip(), found.missing, found.about)


def _variability(run: RunRecord, cases: Cases) -> Reply:
    parts = [found.text for find in (_groups, _robustness) if (found := find(run, cases)).status == "filled"]
    if not parts:
        return author("an analysis of how accuracy varies.", text="Neither groups nor image quality were examined.")
    return partly(" ".join(parts), "which of these were planned beforehand.")


def _error_analysis(run: RunRecord, cases: Cases) -> Reply:
    groups = _groups(run, cases)
    worst = "The worst cases are shown." if cases.made else ""
    known = groups.text if groups.status == "filled" else ""
    if not worst and not known:
        return author("an analysis of errors and of fairness.", "fairness")
    return partly(f"{worst} {known}".strip(), "what was done about fairness beyond it.", "fairness")


def _overfitting(run: RunRecord, _: Cases) -> Reply:
    found = run.event("diagnosis").get("verdict")
    told = f" Found: {found}." if found else ""
    return filled(
        "Weight decay, augmentation, averaged weights and the best epoch on validation images; see Training and "
        f"overfitting.{told}"
    )


def _not_apparent(run: RunRecord, _: Cases) -> Reply:
    if run.split == "test":
        return filled("Yes: figures are of images that took no part in the training.")
    return filled("No: figures are of validation images, which chose the epoch; there is no test.")


def _leakage(run: RunRecord, _: Cases) -> Reply:
    if not run.patients_known:
        return partly("Split by image; patients are not known for all images.", "whether patients are shared.")
    shared = shared_patients(run.cohort)
    if shared:
        return filled(f"No: {shared:,} patients are in more than one split.")
    return filled(f"No patient is in more than one split. {test_use(run)}")


def _robustness(run: RunRecord, _: Cases) -> Reply:
    if "robustness" not in run.additions:
        return author("an analysis of robustness.", text="Not measured yet; the section Robustness names the command.")
    found = run.additions["robustness"]
    kinds, titles = len(found["corruptions"]), listed(lowered(title) for title in shown_figures(found).values())
    return filled(
        f"{titles[0].upper()}{titles[1:]} under {kinds} kinds of image degradation at five severities; see Robustness."
    )


# Item -> its answer; what families answer otherwise is in their entries of ``table.PAGES``.
ANSWERS: dict[str, Answer] = {
    "title": partly("Development and test of {model}.", "the target population and setting.", "population", "setting"),
    "abstract": partly(
        "{what} {how_well}",
        "the design, the population and the conclusions.",
        *("design", "population", "interpretation"),
    ),
    "retrospective": partly(
        "The images existed before the model.", "whether they were collected for this study.", "design"
    ),
    "goal": partly(
        "Model development and internal test. {where_tested} {what}", "the goal of the study.", "objectives"
    ),
    "source": _source,
    "exclusions": partly(
        "{used} ({images}); see Split and leaks for what was excluded.",
        "the criteria by which patients were included.",
        "inclusion",
    ),
    "preprocessing": filled(
        "In order: {steps}. All parameters are in the plan (Environment and plan); what is learned from images is "
        "learned from training images alone."
    ),
    "prepared": partly(
        "In order: {steps}; the same for all images.", "what was done to the images before.", "earlier_processing"
    ),
    "subsets": filled("Whole images of all training patients; no region of an image was selected by hand."),
    "missing": filled(
        "Images that cannot be read and {unusable} are excluded and counted. Nothing is imputed: the network sees the "
        "image alone."
    ),
    "acquisition": _acquisition,
    "partition": filled("{counts} images. {how_split}"),
    "disjoint": filled("{disjoint}"),
    "sample_size": partly(
        "The size is that of the data ({tested}).{precision}",
        "a calculation made beforehand, or that there was none; hounsfield samplesize makes one.",
        "sample_size",
    ),
    "network": filled("{architecture} on input {input}; layer by layer in bundle/model.keras, which Keras opens."),
    "software": filled("{versions}; all versions in Environment and plan."),
    "initialisation": filled("{weights}"),
    "training": filled("{loss}; {optimiser}."),
    "selection": partly(
        "{selected}. {test_use}", "whether results on test images led to another training.", "test_use"
    ),
    "ensembling": filled("{ensemble}"),
    "metrics": filled("Metrics: {metrics}; see {where}."),
    "uncertainty": filled("95 % intervals {intervals}: {methods}; see Results."),
    "robustness": _robustness,
    "internal": filled("{main}. {test_use}"),
    "external": author("an external test, or that there was none; hounsfield evaluate RUN DATA makes one."),
    "flow": partly(
        "{images} images{patients} included. {excluded}", "how they were chosen from all patients.", "inclusion"
    ),
    "participants": partly(
        "{counts} images. {how_split}",
        "patients with the outcome in each analysis, where they are not in Data.",
    ),
    "demographics": _demographics,
    "performance": filled(
        "All metrics on tuning (validation) and internal test images with intervals, {strata}: see {where}."
    ),
    "accuracy": filled("{headlines}; curves in Results."),
    "limits": filled("{limits}"),
    "availability": _availability,
    "protocol": filled(
        "plan.yaml holds every decision with its reason, and environment.json every version; both are in the run."
    ),
    "groups": _groups,
    "fairness": _fairness,
    "predictors": filled("The image alone; nothing was selected beforehand."),
    "readers": filled("None: images are read as files."),
    "imbalance": filled("{balance}"),
    "output": partly("{output}", "why this threshold suits its use.", "threshold_reason"),
    "updating": filled("{updating}"),
    "specification": filled(
        "The bundle holds the network, preprocessing, calibration and threshold; hounsfield predict RUN INPUT uses it."
    ),
    "poor_input": filled("Files that cannot be read or do not fit are refused with a reason{flagged}."),
    "interaction": filled(
        "Nothing but the image file is needed: preprocessing is part of the bundle. A clinician must read the result."
    ),
    "prediction": filled("By the bundle on {engine}: hounsfield predict, or Python."),
    # Of STARD-AI and PROBAST+AI alone.
    "devices": _devices,
    "cross_tabulation": filled("{cross}"),
    "blind_index": filled("The model saw the image alone: neither clinical information nor the truth."),
    "indeterminate": filled("{indeterminate}"),
    "variability": _variability,
    "error_analysis": _error_analysis,
    "representative": author(
        "whether the test images are like those of the intended use.", "population", text="{share}"
    ),
    "audit_trail": filled("predictions.csv holds every output; a service keeps them with an audit trail."),
    "same_reading": filled("All images were read and prepared by the same steps: {steps}."),
    "unseen_truth": filled("Yes: the network is given the image alone."),
    "available": filled("Yes: the image is all that it needs."),
    "same_definition": author("whether each label was determined alike for all patients.", "reference_standard"),
    "enough": filled("Tested on {tested}.{precision} Whether that is enough is for the reader to judge."),
    "handled": filled("The only predictor is the image: {steps}."),
    "recalibrated": filled("{balance} {updating}"),
    "overfitting": _overfitting,
    "not_apparent": _not_apparent,
    "evaluation_prevalence": filled("Yes: weights apply to training alone; test images are as they came."),
    "leakage": _leakage,
    "resampling": filled("No resampling: one split. {disjoint}"),
    "measures": filled("{metrics_told}"),
}
