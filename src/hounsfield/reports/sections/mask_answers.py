"""What the run of a segmenter answers of what reporting guidelines ask."""

from __future__ import annotations

from hounsfield.evaluation.segmentation_figures import TITLES
from hounsfield.reports.base import Answer, Cases, Reply
from hounsfield.reports.sections.answers import across_splits, author, filled, half_width
from hounsfield.reports.sections.content import listed, lowered, with_interval
from hounsfield.runs.masks import MaskRun

HEADLINES = ("dice", "nsd", "hd95", "missed", "lesion_f1")


def words(run: MaskRun) -> dict[str, str]:
    """What the templates of the answers need of this family."""
    bundle = run.bundle
    return {
        "model": f"a deep neural network (a residual-encoder U-Net) that outlines {listed(bundle.labels)} in images",
        "used": "All readable images with a mask were used, those without a structure too",
        "unusable": "masks that do not lie on their image",
        "tested": f"{run.num_cases:,} {run.split} images",
        "precision": half_width(run, "dice", "mean Dice"),
        "architecture": (
            f"A residual-encoder U-Net (Isensee et al. 2021, 2024) of width {run.plan.width} with "
            f"{len(run.plan.strides) + 1} stages and {run.plan.num_outputs} outputs per pixel"
            + (
                "; its encoder is a residual network (He et al. 2016) that was trained before"
                if run.plan.encoder
                else ""
            )
        ),
        "loss": "Soft Dice and cross-entropy together, at several resolutions (deep supervision)",
        "selected": "The averaged weights of the epoch with the highest Dice on validation images",
        "ensemble": (
            "None: one network; images larger than its input are predicted in overlapping windows."
            if run.num_networks == 1
            else f"The mean of the probabilities of {run.num_networks} networks, each trained without another part of "
            "the data."
        ),
        "where": "Results",
        "methods": "BCa bootstrap; percentiles for medians; Wilson for shares of images",
        "main": f"Dice {across_splits(run, 'dice')}",
        "strata": "by label",
        "headlines": listed(
            f"{lowered(TITLES[name])} {with_interval(run.estimates[name])}"
            for name in HEADLINES
            if name in run.estimates
        ),
        "balance": (
            f"{run.plan.foreground_share:.0%} of the patches are drawn around a pixel of some label, each label alike."
        ),
        "output": (
            "A mask on the grid of the image as read, with the size of each structure, its interval, and the Dice that "
            "it is predicted to have."
        ),
        "updating": "None: masks are the network's own; intervals are derived from validation images.",
        "flagged": (", and images unlike the training images are flagged" if bundle.novelty is not None else ""),
    }


def _explainability(_: MaskRun, cases: Cases) -> Reply:
    if not cases.made:
        return author("what explains its predictions.", text="No pictures were made; Cases gives the reason.")
    return filled("The outlines themselves show what was found; typical and worst ones in Cases.")


def _failures(_: MaskRun, cases: Cases) -> Reply:
    shown = "; the images with the lowest Dice with pictures in Cases" if cases.made else ""
    return filled(f"Structures that were missed or drawn where there are none are counted in Results{shown}.")


ANSWERS: dict[str, Answer] = {
    "robustness": author("how masks change with image quality was not measured."),
    "explainability": _explainability,
    "failures": _failures,
}
