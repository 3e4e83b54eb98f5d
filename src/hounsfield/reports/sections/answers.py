"""What a run can answer of the questions that reporting guidelines ask: a table of templates, and what fills them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from hounsfield.cohorts.public import public_set
from hounsfield.errors import UsageError
from hounsfield.reports.base import Answer, Cases, Page, Reply
from hounsfield.reports.sections.content import listed, lowered
from hounsfield.reports.sections.data import NAMES, attributes, pipeline_steps, shape_text, shared_patients
from hounsfield.reports.sections.summary import limitations
from hounsfield.reports.sections.wording import tested_where
from hounsfield.runs import RunRecord
from hounsfield.runs.base import SPLITS

ACQUISITION = {"scanner", "manufacturer", "view", "modality", "site", "position", "kernel"}
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


def author(task: str) -> Reply:
    """An item that a run cannot know."""
    return Reply("author", f"To be filled in by the author: {task}")


def filled(text: str) -> Reply:
    """An item that the run answers."""
    return Reply("filled", text)


def partly(text: str) -> Reply:
    """An item of which the author must add a part."""
    return Reply("partly", text)


def answer(key: str, facts: Facts) -> Reply:
    """The answer to an item, its template filled."""
    found = facts.page.answers.get(key) or ANSWERS[key]
    if not isinstance(found, Reply):
        return found(facts.run, facts.cases)
    return Reply(found.status, found.text.format_map(facts.words))


def _words(run: RunRecord, page: Page[Any]) -> dict[str, str]:
    plan, environment = run.plan, run.environment
    patients = f" of {run.cohort['patient'].nunique():,} patients" if run.patients_known else ""
    excluded = [
        note for note in run.notes if any(word in note.lower() for word in ("left out", "cannot be read", "unreadable"))
    ]
    counts = [f"{len(rows):,} {NAMES[split]}" for split in SPLITS if len(rows := run.rows(split))]
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
        "network": plan.network + (f", width {plan.width}" if plan.width else ""),
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
    }


def across_splits(run: RunRecord, metric: str) -> str:
    """A metric on each split that has it: "0.950 on validation and 0.930 on test"."""
    found = {split: figures.get(metric, {}).get("value") for split, figures in run.metrics.items()}
    return listed(f"{value:.3f} on {NAMES[split]}" for split, value in found.items() if value is not None)


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
    return partly("See Data for what was read. To be added by the author: institutions, dates, links, permissions.")


def _availability(run: RunRecord, _: Cases) -> Reply:
    public = public_data(run)
    if public:
        return filled(f"{SOFTWARE} The data is {public}.")
    return partly(f"{SOFTWARE} To be added by the author: whether model and data are available, and on which terms.")


def _acquisition(run: RunRecord, _: Cases) -> Reply:
    known = [name for name in attributes(run.cohort) if name.lower() in ACQUISITION]
    modality = run.bundle.modality or listed(run.bundle.source_range.modalities)
    if modality and known:
        return partly(
            f"Modality {modality}; {listed(known)} of the images by split in Data. To be added by the author: "
            "protocols."
        )
    return Reply(
        "partly" if modality else "author",
        f"Modality {modality or 'unknown'}. To be added by the author: scanners, protocols, acquired resolution.",
    )


def _demographics(run: RunRecord, _: Cases) -> Reply:
    known = [name for name in attributes(run.cohort) if name.lower() in DEMOGRAPHICS]
    if known:
        return partly(
            f"{listed(known)} and other attributes in each split: see Data. To be added by the author: what else "
            "describes the patients, and how the splits differ."
        )
    return author("age, sex and other characteristics by split; the data has neither sex nor age.")


def _groups(run: RunRecord, _: Cases) -> Reply:
    bias = run.additions.get("bias")
    if bias is None or not bias["attributes"]:
        return Reply("author", "Groups have not been compared, or the data has none; see Subgroups.")
    return filled(f"Groups by {listed(bias['attributes'])} compared, corrected for multiple testing; see Subgroups.")


def _fairness(run: RunRecord, cases: Cases) -> Reply:
    found = _groups(run, cases)
    if found.status == "author":
        return author("how fairness was addressed; no groups were compared.")
    return partly(f"{found.text} To be added by the author: which groups matter here, and why.")


def _robustness(run: RunRecord, _: Cases) -> Reply:
    if "robustness" not in run.additions:
        return Reply("author", "Not measured yet; the section Robustness names the command.")
    kinds = len(run.additions["robustness"]["corruptions"])
    return filled(f"AUC and accuracy under {kinds} kinds of image degradation at five severities; see Robustness.")


# Item -> its answer; what families answer otherwise is in their entries of ``table.PAGES``.
ANSWERS: dict[str, Answer] = {
    "title": partly("Development and test of {model}. To be added by the author: the target population and setting."),
    "abstract": partly("{what} {how_well} To be added by the author: the design, the population and the conclusions."),
    "retrospective": partly(
        "The images existed before the model. To be added by the author: whether they were collected for this study."
    ),
    "goal": filled("Model development and {split}. {where_tested} {what}"),
    "source": _source,
    "exclusions": partly(
        "{used} ({images}); see Split and leaks for what was excluded. To be added by the author: the criteria by "
        "which patients were included."
    ),
    "preprocessing": filled(
        "In order: {steps}. All parameters are in the plan (Environment and plan); what is learned from images is "
        "learned from training images alone."
    ),
    "prepared": partly(
        "In order: {steps}; the same for all images. To be added by the author: what was done to the images before."
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
        "The size is that of the data ({tested}).{precision} To be added by the author: a calculation made beforehand, "
        "or that there was none; hounsfield samplesize makes one."
    ),
    "network": filled("{architecture} on input {input}; layer by layer in bundle/model.keras, which Keras opens."),
    "software": filled("{versions}; all versions in Environment and plan."),
    "initialisation": filled("{weights}"),
    "training": filled("{loss}; {optimiser}."),
    "selection": partly(
        "{selected}. The training used test images at its end alone. To be added by the author: whether results on "
        "them were seen before, or led to another training."
    ),
    "ensembling": filled("{ensemble}"),
    "metrics": filled("Metrics: {metrics}; see {where}."),
    "uncertainty": filled("95 % intervals {intervals}: {methods}; see Results."),
    "robustness": _robustness,
    "internal": filled("{main}."),
    "external": author("an external test, or that there was none; hounsfield evaluate RUN DATA makes one."),
    "flow": partly(
        "{images} images{patients} included. {excluded} To be added by the author: how they were chosen from "
        "all patients."
    ),
    "participants": partly(
        "{counts} images. {how_split} To be added by the author: patients with the outcome in each analysis, where "
        "they are not in Data."
    ),
    "demographics": _demographics,
    "performance": filled("All metrics on validation and test images with intervals, {strata}: see {where}."),
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
    "output": partly("{output} To be added by the author: why this threshold suits its use."),
    "updating": filled("{updating}"),
    "specification": filled(
        "The bundle holds the network, preprocessing, calibration and threshold; hounsfield predict RUN INPUT uses it."
    ),
    "poor_input": filled("Files that cannot be read or do not fit are refused with a reason{flagged}."),
    "interaction": filled(
        "Nothing but the image file is needed: preprocessing is part of the bundle. A clinician must read the result."
    ),
    "prediction": filled("By the bundle on {engine}: hounsfield predict, or Python."),
}
