"""What the run of a detector answers of what reporting guidelines ask."""

from __future__ import annotations

from hounsfield.evaluation.detection_titles import detection_title
from hounsfield.evaluation.detection_uncertainty import DetectionUncertainty
from hounsfield.reports.base import Answer, Cases, Reply
from hounsfield.reports.sections.answers import across_splits, author, filled, half_width
from hounsfield.reports.sections.content import listed, lowered, with_interval
from hounsfield.runs import BoxRun

HEADLINES = ("ap", "ap50", "recall", "precision", "luna16", "count_mae")


def words(run: BoxRun) -> dict[str, str]:
    """What the templates of the answers need of this family."""
    bundle, estimates = run.bundle, run.estimates
    counting = bundle.kept(DetectionUncertainty)
    return {
        "model": (
            f"a deep neural network (Faster R-CNN on {run.plan.network}) that finds and counts {listed(bundle.labels)} "
            "in images"
        ),
        "used": "All readable images were used, those without objects as negatives, and boxes that are valid",
        "unusable": "boxes without size, class or position",
        "tested": f"{run.num_cases:,} {run.split} images with {estimates['ap50']['n']:,} objects",
        "precision": half_width(run, "ap50", "AP50"),
        "architecture": (
            "Faster R-CNN (Ren et al. 2015) with a feature pyramid (Lin et al. 2017) and RoI align (He et al. 2017) on "
            f"{run.plan.network} for {len(bundle.labels)} classes of objects (anchors in Training and anchors)"
        ),
        "loss": "Both stages together, with cross-entropy for objects and classes and generalised IoU for boxes",
        "selected": (
            "The averaged weights of the epoch with the highest average precision on validation images, and the score "
            "threshold with the best F1 there"
        ),
        "ensemble": "None: one network, one view; images larger than its input are predicted in overlapping windows.",
        "where": "Results and Counting",
        "methods": "BCa bootstrap",
        "main": f"AP50 {across_splits(run, 'ap50')}",
        "strata": "by class and by size",
        "headlines": listed(
            f"{lowered(detection_title(name, ()))} {with_interval(estimates[name])}"
            for name in HEADLINES
            if name in estimates
        ),
        "balance": "Anchors and regions are sampled with a fixed share of objects; classes are not weighted.",
        "output": (
            "Boxes in pixels of the image, each with a class and a score; those with a score of at least "
            f"{bundle.threshold:.3g} are reported, see Score threshold."
        ),
        "updating": "None: scores are the network's own.",
        "flagged": (
            ", and images unlike the training images are flagged"
            if counting is not None and counting.novelty is not None
            else ""
        ),
    }


def _explainability(_: BoxRun, cases: Cases) -> Reply:
    shown = "; typical and worst cases with their boxes in Cases" if cases.made else ""
    return filled(f"A finding is a box with a score, so its location is part of the answer{shown}.")


def _failures(_: BoxRun, cases: Cases) -> Reply:
    shown = "; the worst cases with pictures in Cases" if cases.made else ""
    return filled(f"By class and size in Results, by number of objects in Counting{shown}.")


ANSWERS: dict[str, Answer] = {
    "robustness": author("how findings change with image quality was not measured."),
    "explainability": _explainability,
    "failures": _failures,
    "groups": author("patient groups are not compared for detectors."),
}
