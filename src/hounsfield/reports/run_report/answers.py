"""What a run can answer of the questions that reporting guidelines ask; each answer is a sentence and a status."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from hounsfield.cohorts.public import public_set
from hounsfield.errors import UsageError
from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.scaling import Unscaled
from hounsfield.reports.run_report.content import listed
from hounsfield.reports.run_report.data import NAMES, attributes, shared_patients
from hounsfield.reports.run_report.summary import limitations, what_it_does
from hounsfield.runs.record import SPLITS, Run, RunRecord

Status = Literal["filled", "partly", "author"]
ACQUISITION = {"scanner", "manufacturer", "view", "modality", "site", "position", "kernel"}


@dataclass(frozen=True)
class Facts:
    """What an answer is made from: the run, and whether its report has evidence that was checked."""

    run: Run
    evidence: bool
    validated: bool


@dataclass(frozen=True)
class Reply:
    """An answer, or what is left to the author."""

    status: Status
    text: str


Answer = Callable[[Facts], Reply]


def author(task: str) -> Answer:
    """An item that a run cannot know."""
    return lambda _: Reply("author", f"The author's to fill: {task}")


def filled(text: str) -> Reply:
    """An item that the run answers."""
    return Reply("filled", text)


def title(facts: Facts) -> Reply:
    """What kind of study this is."""
    plan = facts.run.plan
    kind = (
        "convolutional neural network"
        if plan["network"] == "simple_cnn"
        else f"deep neural network ({plan['network']})"
    )
    return filled(
        f"Development and test of a {kind} for {facts.run.bundle.task} classification of images as "
        f"{listed(facts.run.bundle.labels)}."
    )


def goal(facts: Facts) -> Reply:
    """What the model is for."""
    return filled(f"Model creation and {facts.run.split} on data of the same source. {what_it_does(facts.run)}")


def public_data(run: RunRecord) -> str | None:
    """How anyone can get the data, where it is public by its name."""
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
    return f"the public set MedMNIST '{stem}' ({known.license}, medmnist.com), by the name of what was read"


def source(facts: Facts) -> Reply:
    """Where the data is from."""
    public = public_data(facts.run)
    if public:
        return filled(f"{public[0].upper()}{public[1:]}. See Data.")
    return Reply("partly", "See Data for what was read. The author's to add: institutions, dates, links, permissions.")


def exclusions(facts: Facts) -> Reply:
    """What was left out."""
    return Reply(
        "partly",
        f"Every row with a label and a readable image was used ({len(facts.run.cohort):,}); see Split and leaks for "
        "what was left out. The author's to add: by which criteria patients came into the data.",
    )


def preprocessing(facts: Facts) -> Reply:
    """What happens to an image before the network."""
    steps = listed(str(step["name"]).replace("_", " ") for step in facts.run.plan["pipeline"]["steps"])
    return filled(
        f"{steps}; every parameter stands in the plan (Environment and plan), what is learned from training images."
    )


def subsets(facts: Facts) -> Reply:
    """Whether all of the data was used."""
    share = float(facts.run.plan.get("train_share", 1))
    told = "all training patients" if share == 1 else f"{share:.0%} of the training patients, drawn within each label"
    return filled(f"Whole images were used, of {told}; no part of an image was chosen by hand.")


def missing(facts: Facts) -> Reply:
    """What was done where something is missing."""
    known = attributes(facts.run.cohort)
    gaps = {name: int(facts.run.cohort[name].isna().sum()) for name in known}
    told = listed(f"{name} in {count:,} rows" for name, count in gaps.items() if count)
    attribute = f" Attributes are missing: {told}; they are a level of their own." if told else ""
    return filled(
        "Rows without a readable image or without a label are left out and counted; nothing is imputed, and the "
        f"network sees the image alone.{attribute}"
    )


def acquisition(facts: Facts) -> Reply:
    """How the images were taken."""
    run = facts.run
    known = [name for name in attributes(run.cohort) if name.lower() in ACQUISITION]
    modality = run.bundle.modality or listed(run.bundle.source_range.modalities)
    if modality and known:
        return filled(f"Modality {modality}; {listed(known)} of the images by split in Data.")
    return Reply(
        "partly" if modality else "author",
        f"Modality {modality or 'unknown'}. The author's to add: machines, protocols, resolution at acquisition.",
    )


def partition(facts: Facts) -> Reply:
    """How rows came to their split."""
    run = facts.run
    counts = listed(f"{len(rows):,} {NAMES[split]}" for split in SPLITS if len(rows := run.rows(split)))
    made = [note for note in run.notes if "plit" in note]
    return filled(f"{counts} images. {' '.join(made) or 'The splits came with the data.'}")


def disjoint(facts: Facts) -> Reply:
    """At which level the splits are disjoint."""
    run = facts.run
    if run.cohort["patient"].isna().any():
        return filled("Disjoint by image; patients are not known for all images, so not by patient.")
    shared = shared_patients(run.cohort)
    return filled("Disjoint by patient." if not shared else f"Not disjoint by patient: {shared:,} are in two splits.")


def sample_size(facts: Facts) -> Reply:
    """How many cases, and how sure that makes the figures."""
    run = facts.run
    auc = run.estimates["auc"]
    width = "" if auc["low"] is None else f" That gives an AUC to ±{(auc['high'] - auc['low']) / 2:.3f}."
    return filled(
        f"No calculation was made beforehand: the size is that of the data ({run.estimates['accuracy']['n']:,} "
        f"{run.split} images).{width}"
    )


def network(facts: Facts) -> Reply:
    """The network's structure."""
    run = facts.run
    width = f", width {run.plan['width']}" if run.plan.get("width") else ""
    return filled(
        f"{run.plan['network']}{width} on input {'×'.join(map(str, run.bundle.input_shape))}, "
        f"{run.bundle.num_outputs} output(s); layer by layer in bundle/model.keras, which Keras opens."
    )


def software(facts: Facts) -> Reply:
    """Libraries and versions."""
    facts_of = facts.run.environment
    return filled(
        f"Hounsfield {facts_of['hounsfield']}, Python {facts_of['python']}, Keras on {facts_of['backend']}; all "
        "versions in Environment and plan."
    )


def initialisation(facts: Facts) -> Reply:
    """Where the weights began."""
    if facts.run.plan.get("weights") or facts.run.plan.get("pretrained"):
        return filled("ImageNet weights of keras.applications.")
    return filled(f"Random (He et al. 2015), by the seed {facts.run.plan['seed']}; no transfer learning.")


def training(facts: Facts) -> Reply:
    """How it was trained."""
    plan = facts.run.plan
    return filled(
        f"AdamW, peak rate {plan['learning_rate']:g} with warm-up and cosine, weight decay {plan['weight_decay']:g}, "
        f"batches of {plan['batch_size']}, at most {plan['epochs']} epochs; augmentation and all else in the plan."
    )


def selection(_: Facts) -> Reply:
    """How the final weights were chosen."""
    return filled(
        "The averaged weights of the epoch with the least validation loss; calibration and threshold on validation "
        "images too. Test images were used once, at the end."
    )


def ensembling(facts: Facts) -> Reply:
    """Whether several networks answer."""
    run = facts.run
    networks, planned = run.num_networks, int(run.plan["folds"])
    flips = run.plan["test_time_flips"]
    cut = f" The plan has {planned} networks, but the training was interrupted." if networks < planned else ""
    if networks == 1:
        told = "One network, the mean of the logits of the image and of its mirrored views."
        return filled((told if flips else "None: one network, one view.") + cut)
    views = ", on the image and on its mirrored views" if flips else ""
    return filled(
        f"The mean of the logits of {networks} networks, each trained without another part of the data{views}.{cut}"
    )


def metrics(facts: Facts) -> Reply:
    """Which figures are given."""
    return filled(f"{listed(METRICS[name].title for name in METRICS if name in facts.run.estimates)}; see Results.")


def uncertainty(facts: Facts) -> Reply:
    """How intervals are made."""
    by = "by patient" if facts.run.num_patients is not None else "by image, since patients are unknown"
    return filled(f"95 % intervals {by}: DeLong for AUC, Wilson for shares, BCa bootstrap elsewhere; see Results.")


def robustness(facts: Facts) -> Reply:
    """What worse images do."""
    if "robustness" in facts.run.additions:
        kinds = len(facts.run.additions["robustness"]["corruptions"])
        return filled(f"AUC and accuracy under {kinds} kinds of worse images at five severities; see Robustness.")
    return Reply("author", "Not measured yet; the section Robustness names the command that does it.")


def explainability(facts: Facts) -> Reply:
    """How the model's evidence is shown, and checked."""
    if not facts.evidence:
        return Reply("author", "No evidence was made; the section Evidence says why.")
    checked = ", checked by hiding places and by shuffled weights" if facts.validated else ""
    return filled(f"Heat maps of typical and worst cases{checked}; see Evidence.")


def internal(facts: Facts) -> Reply:
    """The test on data of the same source."""
    run = facts.run
    auc = {split: found["auc"]["value"] for split, found in run.metrics.items() if found["auc"]["value"] is not None}
    told = listed(f"{value:.3f} on {NAMES[split]}" for split, value in auc.items())
    return filled(f"AUC {told}; the gap between training and validation in Training and overfitting.")


def external(_: Facts) -> Reply:
    """The test on other data."""
    return filled("None is part of this report, and that is a limitation. It is made by: hounsfield evaluate RUN DATA.")


def flow(facts: Facts) -> Reply:
    """How many were included and excluded."""
    run = facts.run
    patients = f" of {run.cohort['patient'].nunique():,} patients" if run.cohort["patient"].notna().all() else ""
    left = [
        note for note in run.notes if any(word in note.lower() for word in ("left out", "cannot be read", "unreadable"))
    ]
    return filled(f"{len(run.cohort):,} images{patients} included. {' '.join(left) or 'None was left out.'}")


def demographics(facts: Facts) -> Reply:
    """Who is in each split."""
    known = [name for name in attributes(facts.run.cohort) if name.lower() in {"sex", "gender", "age"}]
    if known:
        return filled(f"{listed(known)} and other attributes in each split: see Data.")
    return Reply("author", "The author's to fill: the data names neither sex nor age.")


def performance(_: Facts) -> Reply:
    """The figures."""
    return filled(
        "Every metric on validation and test with its interval, by label and by group where known: see Results."
    )


def accuracy(facts: Facts) -> Reply:
    """Diagnostic accuracy."""
    found = facts.run.estimates
    told = listed(
        f"{METRICS[name].title} {found[name]['value']:.3f} ({found[name]['low']:.3f} to {found[name]['high']:.3f})"
        for name in ("auc", "sensitivity", "specificity")
        if name in found and found[name]["value"] is not None and found[name]["low"] is not None
    )
    return filled(f"{told}; curves in Results, predictive values in Operating point.")


def failures(facts: Facts) -> Reply:
    """What went wrong where."""
    shown = "; the worst cases with pictures in Evidence" if facts.evidence else ""
    return filled(f"Confusion matrix in Results{shown}.")


def limits(facts: Facts) -> Reply:
    """What limits the study."""
    return filled(" ".join(limitations(facts.run)))


def availability(facts: Facts) -> Reply:
    """Where software, model and data are."""
    public = public_data(facts.run)
    software_ = (
        "The software is Hounsfield (Apache-2.0), the model is the run's bundle, and the plan repeats the training."
    )
    if public:
        return filled(f"{software_} The data is {public}.")
    return Reply("partly", f"{software_} The author's to add: whether model and data can be had, and on which terms.")


def protocol(_: Facts) -> Reply:
    """The full technical details."""
    return filled(
        "plan.yaml has every decision with its reason, and environment.json every version; both are in the run."
    )


def groups(facts: Facts) -> Reply:
    """Whether groups of patients are served alike."""
    bias = facts.run.additions.get("bias")
    if bias is None or not bias["attributes"]:
        return Reply("author", "Groups have not been compared, or the data names none; see Subgroups.")
    return filled(
        f"Groups by {listed(bias['attributes'])} compared, with correction for many comparisons; see Subgroups."
    )


def imbalance(facts: Facts) -> Reply:
    """Whether labels were weighted."""
    if facts.run.plan["balance_classes"]:
        return filled(
            "Each label counts the same in the loss, by weights; probabilities are then calibrated on validation."
        )
    return filled("None was used: labels are near enough to balance, or independent of each other.")


def output(facts: Facts) -> Reply:
    """What the model puts out."""
    run = facts.run
    threshold = (
        "" if run.bundle.task == "multi-class" else f"; a yes above {run.bundle.threshold:.3g}, see Operating point"
    )
    return filled(f"A calibrated probability for each label ({run.bundle.scaling.name} scaling){threshold}.")


def updating(facts: Facts) -> Reply:
    """Whether probabilities were made anew."""
    scaling = facts.run.bundle.scaling
    if isinstance(scaling, Unscaled):
        return filled("None: probabilities are the network's own; see Calibration.")
    return filled(f"Calibration on validation images: {scaling.name} scaling; see Calibration.")


def specification(_: Facts) -> Reply:
    """Where the whole model is."""
    return filled(
        "The bundle holds network, preprocessing, calibration and threshold; hounsfield predict RUN INPUT uses it."
    )


def poor_input(facts: Facts) -> Reply:
    """What happens with bad images."""
    kept = facts.run.bundle.uncertainty
    flagged = (
        " and images unlike those of training are flagged" if kept is not None and kept.novelty is not None else ""
    )
    return filled(f"Files that cannot be read or do not fit are refused with a reason{flagged}; see Uncertainty.")


def interaction(_: Facts) -> Reply:
    """What users have to do."""
    return filled(
        "None but giving the image file: preprocessing is part of the bundle. Reading the answer needs a clinician."
    )


def prediction(facts: Facts) -> Reply:
    """How predictions are computed."""
    return filled(
        f"By the bundle on {facts.run.event('engine').get('name', 'an engine')}: hounsfield predict, or Python."
    )
