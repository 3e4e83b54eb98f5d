"""What the run of a network for labels of whole images answers of what reporting guidelines ask."""

from __future__ import annotations

from hounsfield.evaluation.metrics import METRICS
from hounsfield.evaluation.scaling import Unscaled
from hounsfield.reports.base import Answer, Cases, Reply
from hounsfield.reports.sections.answers import across_splits, author, filled, half_width
from hounsfield.reports.sections.content import listed, lowered, of_hundred
from hounsfield.reports.sections.data import attributes
from hounsfield.reports.sections.wording import network_text
from hounsfield.runs import LabelRun
from hounsfield.tasks import threshold_text, thresholds

HEADLINES = ("auc", "sensitivity", "specificity")


def words(run: LabelRun) -> dict[str, str]:
    """What the templates of the answers need of this family."""
    bundle, plan = run.bundle, run.plan
    kind = "convolutional neural network" if plan.network == "simple_cnn" else f"deep neural network ({plan.network})"
    threshold = (
        f"; decision threshold {threshold_text(bundle.threshold, bundle.labels)}, see Operating point"
        if thresholds(bundle.threshold, bundle.labels, bundle.task)
        else ""
    )
    scaled = not isinstance(bundle.scaling, Unscaled)
    return {
        "model": f"a {kind} for {bundle.task} classification of images as {listed(bundle.labels)}",
        "used": "All rows with a label and a readable image were used",
        "unusable": "rows without a label",
        "tested": f"{run.estimates['accuracy']['n']:,} {run.split} images",
        "precision": half_width(run, "auc", "AUC"),
        "architecture": f"{network_text(run)} with {bundle.num_outputs} output{'s' * (bundle.num_outputs > 1)}",
        "loss": "Cross-entropy",
        "selected": (
            "The averaged weights of the epoch with the lowest validation loss; calibration and threshold on "
            "validation images too"
        ),
        "ensemble": _ensemble(run),
        "where": "Results",
        "cross": "Confusion matrix in Results.",
        "indeterminate": "Every image has an output unless abstention is asked for; see Uncertainty.",
        "metrics_told": "Discrimination in Results, calibration in Calibration, net benefit in Operating point.",
        "methods": "DeLong for AUC, Wilson for shares, BCa bootstrap for the others",
        "main": f"AUC {across_splits(run, 'auc')}; the gap between training and validation in Training and overfitting",
        "strata": "by label, and by group where known",
        "headlines": listed(
            f"{lowered(METRICS[name].title)} {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
            for name in HEADLINES
            if (found := run.estimates.get(name, {})).get("value") is not None and found["low"] is not None
        )
        + "; predictive values in Operating point",
        "balance": (
            "Labels are weighted to count the same in the loss; probabilities are then calibrated on validation images."
            if plan.balance_classes
            else "None was used: labels are nearly balanced, or independent of each other."
        ),
        "output": f"A calibrated probability for each label ({bundle.scaling.name} scaling){threshold}."
        if scaled
        else f"A probability for each label, as the network gives it{threshold}.",
        "updating": (
            f"Calibration on validation images: {bundle.scaling.name} scaling; see Calibration."
            if scaled
            else "None: probabilities are the network's own; see Calibration."
        ),
        "flagged": (
            ", and images unlike the training images are flagged; see Uncertainty" if bundle.novelty is not None else ""
        ),
    }


def _ensemble(run: LabelRun) -> str:
    networks, planned, flips = run.num_networks, run.plan.folds, run.plan.test_time_flips
    cut = f" The plan has {planned} networks, but the training was interrupted." if networks < planned else ""
    if run.has_companions and networks == 1:
        return "The mean of the logits of two networks, one that started from the weights and one from scratch."
    if networks == 1:
        told = "One network: the mean of the logits of the image and of its mirror images."
        return (told if flips else "None: one network, one view.") + cut
    views = ", on the image and its mirror images" if flips else ""
    return f"The mean of the logits of {networks} networks, each trained without another part of the data{views}.{cut}"


def _subsets(run: LabelRun, _: Cases) -> Reply:
    share = run.plan.train_share
    patients = (
        "all training patients" if share == 1 else f"{of_hundred(share)} % of the training patients, drawn by label"
    )
    return filled(f"Whole images of {patients}; no region of an image was selected by hand.")


def _missing(run: LabelRun, _: Cases) -> Reply:
    gaps = {name: int(run.cohort[name].isna().sum()) for name in attributes(run.cohort)}
    known = listed(f"{name} in {count:,} rows" for name, count in gaps.items() if count)
    attribute = f" Missing attributes ({known}) are a level of their own." if known else ""
    return filled(
        "Rows without a readable image or a label are excluded and counted. Nothing is imputed: the network sees the "
        f"image alone.{attribute}"
    )


def _explainability(_: LabelRun, cases: Cases) -> Reply:
    if not cases.made:
        return author("what explains its predictions.", text="No heat maps were made; Evidence gives the reason.")
    checked = ", checked by deletion and insertion and by randomised weights" if cases.validated else ""
    return filled(f"Heat maps of typical and worst cases{checked}; see Evidence.")


def _failures(_: LabelRun, cases: Cases) -> Reply:
    shown = "; the worst cases with pictures in Evidence" if cases.made else ""
    return filled(f"Confusion matrix in Results{shown}.")


ANSWERS: dict[str, Answer] = {
    "subsets": _subsets,
    "missing": _missing,
    "explainability": _explainability,
    "failures": _failures,
}
