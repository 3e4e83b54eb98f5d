"""What the run of a regressor answers of what reporting guidelines ask."""

from __future__ import annotations

from hounsfield.evaluation.values import TITLES
from hounsfield.reports.base import Answer, Cases, Reply
from hounsfield.reports.sections.answers import across_splits, author, filled, half_width
from hounsfield.reports.sections.content import listed, lowered, with_interval
from hounsfield.reports.sections.wording import network_text
from hounsfield.runs.values import ValueRun

HEADLINES = ("r2", "mae", "loa_low", "loa_high", "kappa_quadratic", "accuracy", "within_one")


def words(run: ValueRun) -> dict[str, str]:
    """What the templates of the answers need of this family."""
    bundle, plan = run.bundle, run.plan
    main = "kappa_quadratic" if run.ordered else "r2"
    what = f"the grades {listed(bundle.labels)}" if run.ordered else bundle.labels[0]
    return {
        "model": f"a deep neural network ({plan.network}) that predicts {what} from images ({plan.task})",
        "used": "All rows with a value and a readable image were used",
        "unusable": "rows without a value",
        "tested": f"{run.num_cases:,} {run.split} images",
        "precision": half_width(run, main, TITLES[main]),
        "architecture": f"{network_text(run)} with {_head(run)}",
        "loss": "Binary cross-entropy of each threshold between grades" if run.ordered else "Huber loss",
        "selected": "The averaged weights of the epoch with the lowest validation loss",
        "ensemble": (
            "The mean of the last layers of two networks, one that started from the weights and one from scratch."
            if run.has_companions and run.num_networks == 1
            else "None: one network."
            if run.num_networks == 1
            else f"The mean of the last layers of {run.num_networks} networks, each trained without another part of "
            "the data."
        ),
        "where": "Results",
        "methods": "BCa bootstrap; Wilson for shares of images",
        "main": (
            f"{TITLES[main]} {across_splits(run, main)}; the gap between training and validation in Training and "
            "overfitting"
        ),
        "strata": "by group where known",
        "headlines": listed(
            f"{lowered(TITLES[name])} {with_interval(run.estimates[name])}"
            for name in HEADLINES
            if name in run.estimates
        ),
        "balance": (
            "Grades or tenths of the range of values are weighted to count the same in the loss."
            if plan.balance_values
            else "None was used: each image counts the same."
        ),
        "output": (
            "The most probable grade with the probability of each."
            if run.ordered
            else f"The predicted {bundle.labels[0]}."
        )
        + " With --sets a range that holds the true value with a given probability.",
        "updating": "None: predictions are the network's own; ranges are derived from validation images.",
        "flagged": (
            ", and images unlike the training images are flagged; see Prediction ranges"
            if bundle.novelty is not None
            else ""
        ),
    }


def _head(run: ValueRun) -> str:
    if run.ordered:
        return f"one score and {run.bundle.num_outputs} thresholds between the grades (cumulative logits)"
    return "one linear output, the standardised value"


def _explainability(_: ValueRun, cases: Cases) -> Reply:
    if not cases.made:
        return author("what explains its predictions.", text="No heat maps were made; Evidence gives the reason.")
    return filled("Heat maps of typical cases and of the largest errors; see Evidence.")


def _failures(run: ValueRun, cases: Cases) -> Reply:
    shown = "; the largest errors with pictures in Evidence" if cases.made else ""
    where = "Confusion matrix" if run.ordered else "Errors by quarter of the true values"
    return filled(f"{where} in Results{shown}.")


ANSWERS: dict[str, Answer] = {"explainability": _explainability, "failures": _failures}
